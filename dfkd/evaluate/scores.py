"""Scores of predictions. Shapes: N items, C classes."""

from __future__ import annotations

from typing import Any, Sequence

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor


def scores(logits: Tensor, labels: Sequence[int], bins: int = 15) -> dict[str, float]:
    """Accuracy, macro-averaged F1 and expected calibration error.

    Args:
        logits: (N, C).
        labels: N class indices.
        bins: of the calibration error.

    Raises:
        ValueError: numbers of items differ, or there are none.
    """
    from sklearn.metrics import accuracy_score, f1_score  # a second to import

    if len(logits) != len(labels) or len(labels) == 0:
        raise ValueError(f"{len(logits)} predictions for {len(labels)} labels")
    predicted, classes = logits.argmax(dim=1).tolist(), list(range(logits.shape[1]))
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)),
        "calibration_error": calibration_error(logits, labels, bins),
    }


def agreement(first: Tensor, second: Tensor) -> float:
    """Share of items for which both (N, C) logits have the same top class.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"logits of different shapes: {tuple(first.shape)} and {tuple(second.shape)}")
    return float((first.argmax(dim=1) == second.argmax(dim=1)).float().mean())


def calibration_error(logits: Tensor, labels: Sequence[int], bins: int = 15) -> float:
    """Expected calibration error: ``sum_b |b| / N * |accuracy(b) - confidence(b)|`` over equal-width bins b.

    Args:
        logits: (N, C).
        labels: N class indices.
        bins: number of equal-width bins of the top probability on (0, 1].

    Source: Guo et al., ICML 2017 (arXiv:1706.04599), equation 3.
    """
    found = reliability(logits, labels, bins)
    columns = zip(found["count"], found["confidence"], found["accuracy"])
    return sum(count / len(labels) * abs(right - sure) for count, sure, right in columns if count)


def reliability(logits: Tensor, labels: Sequence[int], bins: int = 15) -> dict[str, list[Any]]:
    """What a reliability curve is drawn from: how sure a classifier is, and how often it is right.

    Args:
        logits: (N, C).
        labels: N class indices.
        bins: number of equal-width bins of the top probability on (0, 1].

    Returns:
        For each bin ``count``, the number of its items, and their mean ``confidence`` and ``accuracy``, which are
        ``None`` for an empty bin.

    Source: Guo et al., ICML 2017 (arXiv:1706.04599), section 2.
    """
    probabilities = torch.softmax(logits.double(), dim=1)
    confidence, predicted = (part.numpy() for part in probabilities.max(dim=1))
    correct = (predicted == numpy.asarray(labels)).astype(float)
    bin_of = numpy.clip(numpy.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    inside = [bin_of == index for index in range(bins)]
    return {
        "count": [int(chosen.sum()) for chosen in inside],
        "confidence": [float(confidence[chosen].mean()) if chosen.any() else None for chosen in inside],
        "accuracy": [float(correct[chosen].mean()) if chosen.any() else None for chosen in inside],
    }


def packed(logits: Tensor, labels: Sequence[int]) -> str:
    """Which of the items are classified correctly, for tests on pairs: a bit each, as hexadecimal digits.

    Args:
        logits: (N, C).
        labels: N class indices.
    """
    correct = logits.argmax(dim=1).numpy() == numpy.asarray(labels)
    return numpy.packbits(correct).tobytes().hex()


def unpacked(digits: str, items: int) -> NDArray[numpy.bool_]:
    """The ``items`` booleans behind :func:`packed`.

    Raises:
        ValueError: the digits hold another number of items.
    """
    bits = numpy.frombuffer(bytes.fromhex(digits), dtype=numpy.uint8)
    if len(bits) != (items + 7) // 8:
        raise ValueError(f"{len(bits)} bytes for {items} items")
    return numpy.unpackbits(bits)[:items].astype(bool)
