"""Embeddings back to tokens: the nearest entry of the vocabulary at each position.

Shapes: B samples, L positions, D embedding width, V vocabulary entries.
"""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.models.classifier import TextClassifier

RESERVED = re.compile(r"\[unused\d+\]|<unused\d+>")  # entries that BERT's kin keep for later, never trained
WORD_STARTS = ("Ġ", "▁")


def token_table(classifier: TextClassifier) -> Tensor:
    """The embedding block's output for each vocabulary entry, without a position: (V, D)."""
    block: Any = classifier.embedding_block
    with torch.no_grad():
        table: Tensor = classifier.model.get_input_embeddings().weight
        types = getattr(block, "token_type_embeddings", None)
        if types is not None:
            table = table + types.weight[0]
        norm: Tensor = block.LayerNorm(table)
    return norm


def pieces(tokenizer: Any) -> list[int]:
    """The ids of all vocabulary pieces that texts are made of, in order: no special and no reserved ones."""
    special = set(tokenizer.all_special_ids)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [index for piece, index in vocabulary if index not in special and not RESERVED.fullmatch(piece)]


def whole_word_pieces(tokenizer: Any) -> list[tuple[str, int]]:
    """Whole alphabetic words of two letters or more, lower-cased, with their ids, in the vocabulary's order.

    Word starts are told by a leading ``Ġ`` (byte-level BPE) or ``▁`` (sentencepiece); without either, every piece
    without ``##`` is one. A word that the vocabulary has in several cases comes several times.
    """
    entries = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    start = next((mark for mark in WORD_STARTS if any(piece.startswith(mark) for piece, _ in entries)), "")
    special = set(tokenizer.all_special_tokens)
    words = [(p.removeprefix(start).lower(), i) for p, i in entries if p.startswith(start) and p not in special]
    return [(word, index) for word, index in words if len(word) > 1 and word.isalpha()]


class NearestTokens:
    """Decodes embeddings by cosine similarity with :func:`token_table`.

    Args:
        classifier: whose embedding block the embeddings live above.
        only_pieces: never decode to a special or a reserved entry.
    """

    def __init__(self, classifier: TextClassifier, only_pieces: bool = False) -> None:
        self.tokenizer = classifier.tokenizer
        table = F.normalize(token_table(classifier), dim=-1)
        entries = torch.arange(len(table))
        if only_pieces:
            entries = torch.tensor(pieces(self.tokenizer))
        self.entries = entries.to(table.device)
        self.table = table[self.entries]

    def ids(self, embeddings: Tensor) -> Tensor:
        """The nearest entry for each of (B, L, D) embeddings: (B, L); in float32, as bf16 mistakes one in seventy."""
        with torch.autocast(self.table.device.type, enabled=False):
            similarity = F.normalize(embeddings.to(self.table.device).float(), dim=-1) @ self.table.T
            return self.entries[similarity.argmax(dim=-1)]

    def texts(self, embeddings: Tensor, attention_mask: Tensor) -> list[str]:
        """The nearest tokens of each sample, joined; masked positions and special tokens are left out."""
        nearest, mask = self.ids(embeddings).cpu(), attention_mask.cpu().bool()
        rows = [ids[kept].tolist() for ids, kept in zip(nearest, mask)]
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]


def without_ends(attention_mask: Tensor) -> Tensor:
    """A mask (B, L) without each sample's first and last position, where [CLS] and [SEP] stand."""
    inner = attention_mask.clone()
    inner[:, 0] = 0
    inner.scatter_(1, attention_mask.sum(dim=1, keepdim=True) - 1, 0)
    return inner
