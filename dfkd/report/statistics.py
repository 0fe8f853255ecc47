"""Intervals and tests for accuracies over seeds and test items.

Shapes: S seeds (runs), N test items, R rounds of the bootstrap.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy
from numpy.typing import NDArray

ROUNDS = 4000
LEVEL = 0.95

Correct = NDArray[numpy.bool_]


class Interval(NamedTuple):
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference of means with its confidence interval, and the p value of "there is none"."""

    mean: float
    low: float
    high: float
    p: float


def accuracy(correct: Correct, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Mean accuracy with its 95 % interval, by a bootstrap over items and seeds together.

    Args:
        correct: (S, N), which run classifies which item correctly.
        rounds: R.
        seed: of the resampling.
    """
    generator = numpy.random.default_rng(seed)
    drawn = _means(correct, _items(correct.shape[1], rounds, generator), generator)
    low, high = _bounds(drawn)
    return Interval(float(correct.mean()), low, high)


def paired_difference(first: Correct, second: Correct, rounds: int = ROUNDS, seed: int = 0) -> Difference:
    """``accuracy(first) - accuracy(second)`` on the same items, by a bootstrap over items (shared) and seeds (not).

    Args:
        first: (S, N).
        second: (S', N), on the same items in the same order.
        rounds: R.
        seed: of the resampling.

    Raises:
        ValueError: the numbers of items differ.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{first.shape[1]} and {second.shape[1]} items")
    generator = numpy.random.default_rng(seed)
    items = _items(first.shape[1], rounds, generator)
    drawn = _means(first, items, generator) - _means(second, items, generator)
    low, high = _bounds(drawn)
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (int(beyond) + 1) / (rounds + 1))
    return Difference(float(first.mean() - second.mean()), low, high, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number, in their order.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979): the i-th smallest of m times ``m - i``, made monotone.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = largest
    return corrected


def _items(count: int, rounds: int, generator: numpy.random.Generator) -> NDArray[numpy.float32]:
    """How often each item is drawn in each round, as a share: (N, R)."""
    drawn = generator.multinomial(count, numpy.full(count, 1 / count), size=rounds)
    return (drawn.T / count).astype(numpy.float32)


def _means(
    correct: Correct, items: NDArray[numpy.float32], generator: numpy.random.Generator
) -> NDArray[numpy.float64]:
    """Mean accuracy of each round (R,), runs drawn with replacement as well."""
    runs = len(correct)
    by_run = correct.astype(numpy.float32) @ items
    weights = generator.multinomial(runs, numpy.full(runs, 1 / runs), size=items.shape[1]) / runs
    return numpy.asarray((weights.T * by_run).sum(axis=0), dtype=numpy.float64)


def _bounds(drawn: NDArray[numpy.float64]) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = numpy.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
