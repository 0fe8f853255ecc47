"""The teacher: frozen, and every sequence that goes through it is counted."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor, nn

from dfkd.batch import PseudoBatch, Text
from dfkd.models.classifier import TextClassifier
from dfkd.models.split import Output

PURPOSES = ("train", "heldout", "evaluate", "diagnostics", "gradient")


class Teacher:
    """A frozen classifier that counts its queries.

    A query is one sequence sent through the teacher. ``queries`` has one number for each purpose: ``train``
    (synthesis and distillation), ``heldout`` (pseudo data set aside), ``evaluate`` (real test items),
    ``diagnostics`` (a look at the samples, from which nothing learns), and ``gradient``: those of them whose forward
    pass was also differentiated.

    Args:
        classifier: its parameters are frozen and its dropout switched off.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        self.classifier = classifier.eval().requires_grad_(False)
        self.queries = {purpose: 0 for purpose in PURPOSES}
        self._purpose = "train"

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return self.classifier.labels

    @property
    def tokenizer(self) -> Any:
        """The teacher's tokenizer."""
        return self.classifier.tokenizer

    @property
    def max_length(self) -> int:
        """Tokens per text."""
        return self.classifier.max_length

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.classifier.device

    @property
    def width(self) -> int:
        """D, the width of the embedding block's output."""
        return self.classifier.width

    @contextmanager
    def counting_as(self, purpose: str) -> Iterator[None]:
        """Count the queries inside the ``with`` block under another purpose."""
        before, self._purpose = self._purpose, purpose
        try:
            yield
        finally:
            self._purpose = before

    def from_texts(self, texts: Sequence[Text]) -> Tensor:
        """Logits (B, C) of texts, without gradient."""
        self._count(len(texts))
        with torch.no_grad():
            return self.classifier.from_texts(texts)

    def from_embeddings(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Logits and hidden states of embeddings (B, L, D); gradient flows to the embeddings that want it."""
        differentiated = embeddings.requires_grad and torch.is_grad_enabled()
        self._count(len(embeddings), differentiated)
        return self.classifier.from_embeddings(embeddings, attention_mask)

    def label(self, batch: PseudoBatch) -> Tensor:
        """Logits (B, C) of a pseudo batch, without gradient; those that it brings along cost no query."""
        if batch.teacher_logits is not None:
            return batch.teacher_logits.to(self.device)
        if batch.texts is not None:
            return self.from_texts(batch.texts)
        assert batch.embeddings is not None and batch.attention_mask is not None
        with torch.no_grad():
            return self.from_embeddings(batch.embeddings, batch.attention_mask).logits

    def embed(self, input_ids: Tensor) -> Tensor:
        """The embedding block's output (B, L, D) for token ids (B, L); no query, as nothing is predicted."""
        with torch.no_grad():
            return self.classifier.embed(input_ids)

    def output_layer(self) -> nn.Linear:
        """The last linear layer of the classification head, (C, H)."""
        return find_output_layer(self.classifier.model)

    def _count(self, sequences: int, differentiated: bool = False) -> None:
        self.queries[self._purpose] += sequences
        if differentiated:
            self.queries["gradient"] += sequences


def find_output_layer(model: nn.Module) -> nn.Linear:
    """The last linear layer of a classifier whose output size is the number of classes."""
    classes = int(model.config.num_labels)  # type: ignore[union-attr, arg-type]
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    return linear[-1]


def reorder_outputs(model: Any, order: Sequence[int]) -> None:
    """Put a classifier's outputs into another order: new class ``i`` is the old class ``order[i]``."""
    layer = find_output_layer(model)
    index = torch.tensor(list(order), device=layer.weight.device)
    with torch.no_grad():
        layer.weight.copy_(layer.weight[index])
        if layer.bias is not None:
            layer.bias.copy_(layer.bias[index])
