"""Random-weight tiny models of real architectures, made in milliseconds: for tests and smoke runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Sequence

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerFast,
)

from dfkd.errors import ConfigError, suggestion

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WIDTH, HEADS, POSITIONS = 32, 4, 130
SPREAD = 0.05  # of the initial weights: with the usual 0.02, made for wide models, narrow ones hardly begin to learn

SIZES: dict[str, dict[str, Any]] = {
    "bert": {}, "electra": {"embedding_size": WIDTH}, "roberta": {}, "deberta-v2": {}, "modernbert": {},
    "distilbert": {"dim": WIDTH, "hidden_dim": 2 * WIDTH, "n_heads": HEADS},
    "albert": {"embedding_size": 16},
}

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": WIDTH, "n_head": HEADS, "n_positions": POSITIONS},
    "llama": {"num_key_value_heads": 2}, "qwen2": {"num_key_value_heads": 2},
    "opt": {"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH},
}
END, UNKNOWN = "<|endoftext|>", "<unk>"
PUNCTUATION = '"\'(),-.:;!?'
SHARP = 0.3  # spread of a language model's weights: with less, it finds all tokens nearly alike


def wordpiece(texts: Sequence[str], size: int = 400) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer with BERT's special tokens: the letters of ``texts``, then their most frequent words.

    The library's trainer breaks ties at random; this vocabulary depends on the texts alone.

    Args:
        texts: any text.
        size: entries of the vocabulary, at most.
    """
    normalizer, splitter = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    letters = sorted(set("".join(words)))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    entries = dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *frequent])
    vocabulary = {entry: index for index, entry in enumerate(list(entries)[:size])}
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer  # type: ignore[assignment]
    tokenizer.pre_tokenizer = splitter  # type: ignore[assignment]
    tokenizer.decoder = decoders.WordPiece()  # type: ignore[assignment]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def build(
    folder: Path, texts: Sequence[str], model_type: str = "bert", layers: int = 2, seed: int = 0, masked: bool = False
) -> Path:
    """Write an encoder with random weights and a tokenizer for ``texts``.

    Args:
        folder: is made if need be.
        texts: what the vocabulary comes from.
        model_type: one of ``SIZES``.
        layers: number of layers.
        seed: of the weights.
        masked: with the head of a masked language model, which is otherwise left out.

    Returns:
        ``folder``, which transformers can load.

    Raises:
        ConfigError: unknown architecture.
    """
    if model_type not in SIZES:
        raise ConfigError(f"no tiny '{model_type}'", fix=suggestion(model_type, SIZES))
    tokenizer = wordpiece(texts)
    common = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": HEADS}
    sizes = SIZES[model_type] or common
    sizes = {**common, **sizes} if model_type != "distilbert" else sizes
    depth = {"n_layers": layers} if model_type == "distilbert" else {"num_hidden_layers": layers}
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), max_position_embeddings=POSITIONS,
        pad_token_id=0, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3,
        initializer_range=SPREAD, **sizes, **depth,
    )
    return _saved(AutoModelForMaskedLM if masked else AutoModel, config, tokenizer, folder, seed)


def words(texts: Sequence[str], size: int = 400) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words and punctuation marks, with an end-of-text token that begins texts as well.

    Args:
        texts: any text.
        size: entries of the vocabulary, at most.
    """
    splitter = pre_tokenizers.BertPreTokenizer()
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text.lower()))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    entries = list(dict.fromkeys([END, UNKNOWN, *PUNCTUATION, *frequent]))[:size]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = splitter  # type: ignore[assignment]
    tokenizer.decoder = decoders.WordPiece(cleanup=False)  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=UNKNOWN)


def build_language_model(
    folder: Path, texts: Sequence[str], model_type: str = "gpt2", layers: int = 2, seed: int = 0
) -> Path:
    """Write a causal language model with random weights and a tokenizer of the words of ``texts``.

    Args:
        folder: is made if need be.
        texts: what the vocabulary comes from.
        model_type: one of ``LANGUAGE_MODELS``.
        layers: number of layers.
        seed: of the weights.

    Returns:
        ``folder``, which transformers can load.

    Raises:
        ConfigError: unknown architecture.
    """
    if model_type not in LANGUAGE_MODELS:
        raise ConfigError(f"no tiny '{model_type}'", fix=suggestion(model_type, LANGUAGE_MODELS))
    tokenizer = words(texts)
    common = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": HEADS}
    sizes = LANGUAGE_MODELS[model_type] if model_type == "gpt2" else {**common, **LANGUAGE_MODELS[model_type]}
    spread = "init_std" if model_type == "opt" else "initializer_range"
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), num_hidden_layers=layers, max_position_embeddings=POSITIONS,
        bos_token_id=0, eos_token_id=0, pad_token_id=None, **{spread: SHARP}, **sizes,
    )
    return _saved(AutoModelForCausalLM, config, tokenizer, folder, seed)


def _saved(kind: Any, config: Any, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int) -> Path:
    """A model of random weights, written with its tokenizer; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kind.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)
