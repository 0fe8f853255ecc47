"""Synthesis strategies, one public module each; ``registry.available()`` lists them."""
