"""Embeddings back to tokens: the nearest entry of the vocabulary at each position.

Shapes: B samples, L positions, D embedding width, V vocabulary entries.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.models.classifier import TextClassifier


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


class NearestTokens:
    """Decodes embeddings by cosine similarity with :func:`token_table`.

    Args:
        classifier: whose embedding block the embeddings live above.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        self.tokenizer = classifier.tokenizer
        self.table = F.normalize(token_table(classifier), dim=-1)

    def ids(self, embeddings: Tensor) -> Tensor:
        """The nearest entry for each of (B, L, D) embeddings: (B, L)."""
        similarity = F.normalize(embeddings.to(self.table.device).float(), dim=-1) @ self.table.T
        return similarity.argmax(dim=-1)

    def texts(self, embeddings: Tensor, attention_mask: Tensor) -> list[str]:
        """The nearest tokens of each sample, joined; masked positions and special tokens are left out."""
        nearest, mask = self.ids(embeddings).cpu(), attention_mask.cpu().bool()
        rows = [ids[kept].tolist() for ids, kept in zip(nearest, mask)]
        return [self.tokenizer.decode(row, skip_special_tokens=True) for row in rows]
