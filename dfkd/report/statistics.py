"""Intervals and tests for accuracies over seeds and test items.

Two things vary: the items, of which there are hundreds or thousands, and the seeds, of which there are two to five. The
items are resampled (a bootstrap, the same items for all strategies of a data set). Of so few seeds a bootstrap makes
intervals that are far too narrow; what they add is widened by Student's t, with the degrees of freedom of Welch and
Satterthwaite where several strategies' seeds are in it. Both are put together as Howe does: half the width of the
interval is ``sqrt(z^2 V_items + t^2 V_seeds)``. What single answers differ by from seed to seed is in both parts, and
is counted in that of the seeds alone. Where nothing differs, 2 to 6 of 100 tests say that something does
(``tests/test_statistics.py`` holds it). Of one seed nothing is known but the items: with one seed on each side the
test is the usual paired one.

Source: Welch, "The generalization of 'Student's' problem when several different population variances are involved",
Biometrika 34 (1947); Satterthwaite, Biometrics Bulletin 2 (1946); Howe, "Approximate confidence limits on the mean of
X + Y where X and Y are two tabled independent random variables", JASA 69 (1974). Shares of a gap: Fieller, "Some
problems in interval estimation", JRSS B 16 (1954).

Shapes: S seeds (runs), N test items, K kinds of them, R rounds of the bootstrap.
"""

from __future__ import annotations

import math
from typing import Mapping, NamedTuple, Sequence

import numpy
from numpy.typing import NDArray
from scipy import optimize, special

ROUNDS = 4000
AT_ONCE = 500  # rounds; a bound on the memory that large test sets take
LEVEL = 0.95
SMALLEST = 1e-12  # p values are not told below
FARTHEST = 1e4  # shares of a gap are not looked for beyond

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


class Seeds(NamedTuple):
    """What the seeds of one strategy on one data set add to the variance of a mean.

    Args:
        variance: of the mean over S seeds.
        freedom: S - 1.
        shared: what single answers differ by from seed to seed, which is in the rounds over the items as well.
    """

    variance: float
    freedom: int
    shared: float


class Drawn(NamedTuple):
    """A mean, or a sum of means with weights, and how it varies.

    Args:
        mean: such as an accuracy.
        rounds: (R,) of the bootstrap over the items; those of other strategies on a data set are of the same items.
        seeds: of each strategy and data set in it that has several.
    """

    mean: float
    rounds: NDArray[numpy.float64]
    seeds: tuple[Seeds, ...] = ()


class Spread(NamedTuple):
    """How much of the variance comes from the items, how much from seeds, and the seeds' degrees of freedom."""

    items: float
    seeds: float
    freedom: float

    def half_width(self, tails: float) -> float:
        """Half the width of the interval that leaves out ``tails``, such as 0.05."""
        width = special.ndtri(tails / 2) ** 2 * self.items
        if self.seeds > 0:
            width += special.stdtrit(self.freedom, tails / 2) ** 2 * self.seeds
        return math.sqrt(width)


def draw(groups: Mapping[str, Correct], rounds: int = ROUNDS, seed: int = 0) -> dict[str, Drawn]:
    """The accuracy of each group: a bootstrap over the test items, shared in each round, and how its seeds vary.

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
            parts[name].append(_means(correct, items))
    return {
        name: Drawn(float(correct.mean()), numpy.concatenate(parts[name]), _seeds(correct))
        for name, correct in groups.items()
    }


def combined(terms: Sequence[tuple[float, Drawn]]) -> Drawn:
    """The sum of ``weight * mean`` of strategies or data sets that differ: their seeds are independent."""
    rounds = numpy.asarray(sum(weight * one.rounds for weight, one in terms), dtype=numpy.float64)
    seeds = [
        Seeds(weight**2 * own.variance, own.freedom, weight**2 * own.shared)
        for weight, one in terms for own in one.seeds
    ]
    return Drawn(sum(weight * one.mean for weight, one in terms), rounds, tuple(seeds))


def average(drawn: Sequence[Drawn]) -> Drawn:
    """The mean over several data sets, each drawn with a seed of its own."""
    return combined([(1 / len(drawn), one) for one in drawn])


def spread(drawn: Drawn) -> Spread:
    """Where the variance of a mean comes from."""
    seeds = sum(own.variance for own in drawn.seeds)
    items = max(0.0, float(drawn.rounds.var()) - sum(own.shared for own in drawn.seeds))
    weighed = sum(own.variance**2 / own.freedom for own in drawn.seeds)
    return Spread(items, seeds, seeds**2 / weighed if weighed > 0 else math.inf)


def interval(drawn: Drawn) -> Interval:
    """An accuracy with its 95 % interval, which ends at 0 and 1."""
    half = spread(drawn).half_width(1 - LEVEL)
    return Interval(drawn.mean, max(0.0, drawn.mean - half), min(1.0, drawn.mean + half))


def difference(first: Drawn, second: Drawn) -> Difference:
    """``first - second``, two strategies of one bootstrap, with a two-sided p value."""
    found = combined([(1, first), (-1, second)])
    varies = spread(found)
    half = varies.half_width(1 - LEVEL)
    return Difference(found.mean, found.mean - half, found.mean + half, _p_value(abs(found.mean), varies))


def _p_value(distance: float, varies: Spread) -> float:
    """What an interval leaves out that ends at 0: the level at which half its width is the distance."""
    if distance == 0:
        return 1.0
    if varies.half_width(SMALLEST) <= distance:
        return SMALLEST
    return math.exp(optimize.brentq(lambda log: varies.half_width(math.exp(log)) - distance, math.log(SMALLEST), 0.0))


def share(part: Drawn, floor: Drawn, ceiling: Drawn) -> Interval:
    """``(part - floor) / (ceiling - floor)`` with its 95 % interval: all shares that the three do not contradict.

    A share r is contradicted where ``part - (1 - r) floor - r ceiling`` differs from 0.

    Args:
        part: between the two, or beyond them; neither of them.
        floor: 0.
        ceiling: 1; above the floor by more than the interval of their difference, or the share's has no end.
    """
    def beyond(value: float) -> float:
        rest = combined([(1, part), (value - 1, floor), (-value, ceiling)])
        return abs(rest.mean) - spread(rest).half_width(1 - LEVEL)

    def end(side: int) -> float:
        reach = 0.01
        while beyond(closed + side * reach) < 0:
            reach *= 2
            if reach > FARTHEST:
                return side * math.inf
        return float(optimize.brentq(beyond, closed, closed + side * reach)) if beyond(closed) < 0 else closed

    closed = (part.mean - floor.mean) / (ceiling.mean - floor.mean)
    return Interval(closed, end(-1), end(1))


def accuracy(correct: Correct, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Mean accuracy with its 95 % interval.

    Args:
        correct: (S, N), which run classifies which item correctly.
        rounds: R.
        seed: of the resampling.
    """
    return interval(draw({"": correct}, rounds, seed)[""])


def paired_difference(first: Correct, second: Correct, rounds: int = ROUNDS, seed: int = 0) -> Difference:
    """``accuracy(first) - accuracy(second)`` on the same items.

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


def _means(correct: Correct, items: NDArray[numpy.float32]) -> NDArray[numpy.float64]:
    """Mean accuracy of each round (R,) of correct answers (S, K) to the items drawn (K, R)."""
    right = (correct.sum(axis=0, dtype=numpy.float32) @ items).astype(numpy.int64)
    return numpy.asarray(right / (int(items[:, 0].sum()) * len(correct)), dtype=numpy.float64)


def _seeds(correct: Correct) -> tuple[Seeds, ...]:
    """How the mean accuracy of correct answers (S, N) varies with the seeds; empty: there is one."""
    runs, items = correct.shape
    if runs == 1:
        return ()
    means = correct.mean(axis=1)
    apart = correct - means[:, None] - correct.mean(axis=0) + means.mean()  # what neither run nor item explains
    variance = float(means.var(ddof=1)) / runs
    single = float((apart**2).sum()) / ((runs - 1) * max(1, items - 1) * runs * items)
    return (Seeds(variance, runs - 1, single),)
