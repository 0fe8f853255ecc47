"""Left-to-right language models, and the engines that generate with them."""
