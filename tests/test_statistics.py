"""Intervals and tests over test items and seeds: their widths, and how often they see what is not there."""

from __future__ import annotations

import math
import runpy
from pathlib import Path
from typing import Callable

import numpy
import pytest
import scipy.stats
from numpy.typing import NDArray

from dfkd.report.statistics import (
    Correct, accuracy, average, combined, difference, draw, holm, paired_difference, share, spread,
)

ITEMS = 1000
Numbers = NDArray[numpy.float64]
SCRIPT = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks/false_positives.py"))
runs: Callable[..., Correct] = SCRIPT["runs"]


def false_positives(seeds: tuple[int, int], deviations: tuple[float, float], times: int = 200) -> float:
    """How often two strategies differ at the level of 5 % that do not."""
    return float(SCRIPT["false_positives"](seeds, deviations, times, ITEMS).students)


@pytest.mark.parametrize("count", [1, 3])
def test_the_test_and_the_interval_agree(count: int) -> None:
    drawn = numpy.random.default_rng(0)
    for number in range(200):
        easy = drawn.random(ITEMS)
        first, second = (runs(count, 0.02, drawn, easy) for _ in range(2))
        said = paired_difference(first, second, rounds=300, seed=number)
        assert (said.p < 0.05) == (said.low > 0 or said.high < 0)


def test_the_normal_distribution_would_see_more() -> None:
    found = SCRIPT["false_positives"]((2, 2), (0.03, 0.03), 200, ITEMS)
    assert found.normal > 0.1 > found.students


@pytest.mark.parametrize("seeds", [(2, 2), (3, 3), (3, 5)])
@pytest.mark.parametrize("deviations", [(0.01, 0.01), (0.03, 0.03), (0.03, 0.003)])
def test_what_is_not_there_is_seen_one_time_in_twenty_at_most(
    seeds: tuple[int, int], deviations: tuple[float, float]
) -> None:
    assert 0.005 <= false_positives(seeds, deviations) <= 0.09  # 0.05, but for the chance of 200 times


def test_items_alone_are_tested_as_usual() -> None:
    assert 0.02 <= false_positives((1, 1), (0.0, 0.0)) <= 0.09


def test_a_true_difference_is_seen() -> None:
    drawn, seen = numpy.random.default_rng(1), 0
    for number in range(50):
        easy = drawn.random(ITEMS)
        first, second = (runs(3, 0.005, drawn, easy, mean) for mean in (0.8, 0.75))
        seen += paired_difference(first, second, rounds=300, seed=number).p < 0.05
    assert seen >= 45


@pytest.mark.parametrize("count", [2, 3, 5])
def test_without_items_the_interval_is_students(count: int) -> None:
    rights = numpy.linspace(0.5, 0.52, count)
    correct = numpy.arange(200_000)[None] < 200_000 * rights[:, None]  # so many items that they hardly vary
    found = accuracy(correct, rounds=500)
    usual = scipy.stats.t.interval(0.95, count - 1, rights.mean(), scipy.stats.sem(rights))
    assert (found.low, found.high) == pytest.approx(usual, abs=0.003)


def test_without_items_the_test_is_welchs() -> None:
    rights = numpy.array([0.5, 0.51, 0.53]), numpy.array([0.56, 0.565, 0.55, 0.57, 0.561])
    first, second = (numpy.arange(200_000)[None] < 200_000 * own[:, None] for own in rights)
    usual = scipy.stats.ttest_ind(*rights, equal_var=False)
    found = paired_difference(first, second, rounds=500)
    assert found.p == pytest.approx(usual.pvalue, rel=0.05) and 0.001 < found.p < 0.05
    bounds = usual.confidence_interval()
    assert (found.low, found.high) == pytest.approx((bounds.low, bounds.high), abs=0.002)


def test_degrees_of_freedom_add_up_over_data_sets() -> None:
    drawn = numpy.random.default_rng(2)
    groups = [draw({"": runs(3, 0.02, drawn, drawn.random(ITEMS))}, rounds=300, seed=n)[""] for n in range(4)]
    assert spread(groups[0]).freedom == pytest.approx(2) and 2 < spread(average(groups)).freedom <= 8


def test_with_one_seed_the_test_is_scipys() -> None:
    first = numpy.arange(300)[None] < 240
    second = first.copy()
    second[0, :14], second[0, 240:245] = False, True
    ours = paired_difference(first, second)
    resampled = scipy.stats.bootstrap(
        (first[0], second[0]), lambda a, b, axis: a.mean(axis) - b.mean(axis), paired=True, n_resamples=4000,
        method="percentile", rng=numpy.random.default_rng(1),
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(resampled.confidence_interval), abs=0.008)
    tested = scipy.stats.ttest_rel(first[0].astype(float), second[0].astype(float))
    assert 0.01 < tested.pvalue < 0.1 and ours.p == pytest.approx(tested.pvalue, abs=0.015)


def test_rounds_in_which_two_get_as_many_right_are_ties() -> None:
    first = numpy.arange(384)[None] < 200
    second = first.copy()
    second[0, 0], second[0, 383] = False, True  # one item lost, one won
    drawn = draw({"first": first, "second": second}, rounds=2000)
    apart = numpy.round(384 * (drawn["first"].rounds - drawn["second"].rounds), 3)
    assert ((drawn["first"].rounds == drawn["second"].rounds) == (apart == 0)).all() and 400 < (apart == 0).sum() < 800


def test_means_over_data_sets_and_shares_of_gaps() -> None:
    generator = numpy.random.default_rng(0)
    groups = {name: generator.random((3, 300)) < right for name, right in (("f", 0.5), ("s", 0.8), ("c", 0.9))}
    one, other = draw(groups, rounds=2000, seed=1), draw(groups, rounds=2000, seed=2)
    both = average([one["s"], other["s"]])
    assert both.mean == one["s"].mean and both.rounds.std() == pytest.approx(one["s"].rounds.std() / 2**0.5, rel=0.1)
    closed = share(one["s"], one["f"], one["c"])
    assert closed.mean == pytest.approx((groups["s"].mean() - groups["f"].mean()) / (
        groups["c"].mean() - groups["f"].mean()))
    assert closed.low < closed.mean < closed.high < 1
    assert draw({}) == {}
    whole = accuracy(groups["s"], rounds=600)
    assert whole.mean == groups["s"].mean() and whole.low < whole.mean < whole.high


def test_the_interval_of_a_share_holds_it_and_ends_where_it_is_contradicted() -> None:
    drawn, inside = numpy.random.default_rng(3), 0
    for number in range(60):
        easy = drawn.random(ITEMS)
        groups = {name: runs(3, 0.01, drawn, easy, mean) for name, mean in (("f", 0.6), ("s", 0.75), ("c", 0.8))}
        one = draw(groups, rounds=300, seed=number)
        closed = share(one["s"], one["f"], one["c"])
        inside += closed.low <= 0.75 <= closed.high
    assert 53 <= inside <= 60  # 57 expected
    for value in closed[1:]:
        rest = difference(combined([(1, one["s"]), (value - 1, one["f"])]), combined([(value, one["c"])]))
        assert rest.p == pytest.approx(0.05, abs=1e-3)
    without = share(one["s"], one["f"], one["f"]._replace(mean=one["f"].mean + 1e-6))  # no gap: no end
    assert math.isinf(without.low) or math.isinf(without.high)


def test_the_chance_in_the_gap_is_in_the_share() -> None:
    rights = {"f": (0.5, 0.5, 0.5), "s": (0.7, 0.7, 0.7), "c": (0.85, 0.9, 0.95)}
    groups = {name: numpy.arange(ITEMS)[None] < ITEMS * numpy.array(own)[:, None] for name, own in rights.items()}
    one = draw(groups, rounds=300)
    closed, over = share(one["s"], one["f"], one["c"]), difference(one["s"], one["f"])
    fixed = (over.high - over.low) * closed.mean / over.mean  # as a share of the mean gap
    assert closed.high - closed.low > 1.5 * fixed


def test_the_interval_has_the_binomial_width_and_covers_the_truth() -> None:
    draw = numpy.random.default_rng(0)
    inside = 0
    for seed in range(60):
        interval = accuracy(draw.random((1, 400)) < 0.8, rounds=800, seed=seed)
        assert interval.low < interval.mean < interval.high
        assert interval.high - interval.low == pytest.approx(2 * 1.96 * 0.02, rel=0.25)
        inside += interval.low <= 0.8 <= interval.high
    assert 51 <= inside <= 60  # 57 expected


def test_seeds_that_differ_widen_the_interval() -> None:
    draw = numpy.random.default_rng(1)
    alike = numpy.repeat(draw.random((1, 400)) < 0.8, 3, axis=0)
    unlike = numpy.stack([draw.random(400) < p for p in (0.6, 0.8, 1.0)])
    first, second = accuracy(alike), accuracy(unlike)
    assert second.high - second.low > 1.5 * (first.high - first.low)


def test_pairs_see_what_single_intervals_do_not() -> None:
    draw = numpy.random.default_rng(2)
    base = draw.random((3, 500)) < 0.8
    better = base | (draw.random((3, 500)) < 0.15)
    base[:], better[:] = base[:1], better[:1]
    difference = paired_difference(better, base)
    assert difference.low > 0 and difference.p < 0.01
    assert accuracy(better).low < accuracy(base).high  # the single ones overlap
    none = paired_difference(base, base)
    assert none.mean == 0 and none.p == 1.0
    with pytest.raises(ValueError, match="500 and 400 items"):
        paired_difference(base, base[:, :400])


def test_holm_corrects_in_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]
