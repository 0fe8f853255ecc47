"""Intervals and tests for accuracies over seeds and test items.

scipy's bootstrap and its paired tests know one thing that varies, the items; here seeds vary as well, and differ in
number. With one seed both say the same (a test holds it). Of S seeds S - 1 are drawn, so that the rounds' means vary as
much as means of S seeds do: with S of S the spread between two seeds would count half (Rao and Wu, "Resampling
inference with complex survey data", JASA 83, 1988, section 2).

Shapes: S seeds (runs), N test items, K kinds of them, R rounds of the bootstrap.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

import numpy
from numpy.typing import NDArray

ROUNDS = 4000
AT_ONCE = 500  # rounds; a bound on the memory that large test sets take
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


class Drawn(NamedTuple):
    """What a bootstrap made of one strategy: its mean accuracy, and that of each round (R,)."""

    mean: float
    rounds: NDArray[numpy.float64]


def draw(groups: Mapping[str, Correct], rounds: int = ROUNDS, seed: int = 0) -> dict[str, Drawn]:
    """A bootstrap over the test items, which all groups share in each round, and over each group's own seeds.

    Args:
        groups: name -> (S, N), which run classifies which item correctly; the same N items in the same order for all.
        rounds: R.
        seed: of the resampling; another one for other items, or their rounds go up and down together.

    Raises:
        ValueError: the numbers of items differ.
    """
    sizes = list(dict.fromkeys(correct.shape[1] for correct in groups.values()))
    if len(sizes) > 1:
        raise ValueError(f"{' and '.join(map(str, sizes))} items")
    if not groups:
        return {}
    generator = numpy.random.default_rng(seed)
    kinds, counts = _kinds(groups)
    parts: dict[str, list[NDArray[numpy.float64]]] = {name: [] for name in groups}
    for begin in range(0, rounds, AT_ONCE):
        items = _items(counts, min(AT_ONCE, rounds - begin), generator)
        for name, correct in kinds.items():
            parts[name].append(_means(correct, items, generator))
    return {name: Drawn(float(correct.mean()), numpy.concatenate(parts[name])) for name, correct in groups.items()}


def average(drawn: Sequence[Drawn]) -> Drawn:
    """The mean over several data sets, each drawn with a seed of its own."""
    rounds = numpy.asarray(numpy.mean([one.rounds for one in drawn], axis=0), dtype=numpy.float64)
    return Drawn(float(numpy.mean([one.mean for one in drawn])), rounds)


def interval(drawn: Drawn) -> Interval:
    """The mean with its 95 % interval: percentiles of the rounds."""
    return Interval(drawn.mean, *_bounds(drawn.rounds))


def difference(first: Drawn, second: Drawn) -> Difference:
    """``first - second`` of one bootstrap, with a two-sided p value."""
    drawn = first.rounds - second.rounds
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (int(beyond) + 1) / (len(drawn) + 1))
    return Difference(first.mean - second.mean, *_bounds(drawn), p)


def share(part: Drawn, floor: Drawn, ceiling: Drawn) -> Interval:
    """``(part - floor) / (ceiling - floor)`` with its 95 % interval.

    Args:
        part: between the two, or beyond them.
        floor: 0.
        ceiling: 1; above the floor in nearly all rounds: those where it is not have no share, and count as the worst.
    """
    gap = ceiling.rounds - floor.rounds
    drawn = numpy.where(gap > 0, (part.rounds - floor.rounds) / numpy.where(gap > 0, gap, 1), -numpy.inf)
    low, high = numpy.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], method="nearest")
    return Interval((part.mean - floor.mean) / (ceiling.mean - floor.mean), float(low), float(high))


def accuracy(correct: Correct, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Mean accuracy with its 95 % interval, by a bootstrap over items and seeds together.

    Args:
        correct: (S, N), which run classifies which item correctly.
        rounds: R.
        seed: of the resampling.
    """
    return interval(draw({"": correct}, rounds, seed)[""])


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
    drawn = draw({"first": first, "second": second}, rounds, seed)
    return difference(drawn["first"], drawn["second"])


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


def _kinds(groups: Mapping[str, Correct]) -> tuple[dict[str, Correct], NDArray[numpy.int64]]:
    """The items' kinds, K of them, and how many items each has: name -> (S, K), and (K,).

    Items that the same runs get right are of one kind: drawing kinds by their share is drawing items, only faster.
    """
    kinds, counts = numpy.unique(numpy.concatenate(list(groups.values())), axis=1, return_counts=True)
    ends = numpy.cumsum([len(correct) for correct in groups.values()])
    return dict(zip(groups, numpy.split(kinds, ends[:-1]))), counts


def _items(counts: NDArray[numpy.int64], rounds: int, generator: numpy.random.Generator) -> NDArray[numpy.float32]:
    """How often items of each kind are drawn in each round, N in all: (K, R).

    Whole numbers, which float32 adds up exactly: where two strategies get as many right, their means are the same.
    """
    drawn = generator.multinomial(counts.sum(), counts / counts.sum(), size=rounds)
    return drawn.T.astype(numpy.float32)


def _means(
    correct: Correct, items: NDArray[numpy.float32], generator: numpy.random.Generator
) -> NDArray[numpy.float64]:
    """Mean accuracy of each round (R,) of correct answers (S, K) to the items drawn (K, R); S - 1 runs are drawn."""
    drawn = max(1, len(correct) - 1)
    right = (correct.astype(numpy.float32) @ items).astype(numpy.int64)
    times = generator.multinomial(drawn, numpy.full(len(correct), 1 / len(correct)), size=items.shape[1])
    total = int(items[:, 0].sum()) * drawn
    return numpy.asarray((times.T * right).sum(axis=0) / total, dtype=numpy.float64)


def _bounds(drawn: NDArray[numpy.float64]) -> tuple[float, float]:
    tail = 100 * (1 - LEVEL) / 2
    low, high = numpy.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)
