"""How often tests at 5 % see a difference between strategies that do not differ: by seeds, and how seeds vary.

    python benchmarks/false_positives.py --times 1500 --items 2000

Made-up runs: an item is right where it is easier than the run is able; how hard it is for a run is in part the same for
all runs, in part the run's own. Two strategies whose seeds are able to the same degree on the mean are compared by
``dfkd.report.statistics``, as tables do, and once with the normal distribution in place of Student's t.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy
import typer
from numpy.typing import NDArray
from rich.table import Table
from scipy import stats

from dfkd.console import console, guarded, quiet_libraries
from dfkd.report.statistics import Correct, Drawn, combined, difference, draw, spread

COMMON = 0.7  # share of an item's hardness that is the same for all runs
SEEDS = ((2, 2), (3, 3), (3, 5), (1, 3), (1, 5))
DEVIATIONS = ((0.0, 0.0), (0.01, 0.01), (0.03, 0.03), (0.03, 0.002))
Numbers = NDArray[numpy.float64]


class Shares(NamedTuple):
    """In which share of the cases a difference was seen: by the project's test, and by the normal distribution."""

    students: float
    normal: float


def hardness(easy: Numbers, own: Numbers) -> Numbers:
    """How hard items (N,) are for a run, or for S runs (S, N): in part for all of them, in part for each."""
    return numpy.asarray(COMMON * easy + (1 - COMMON) * own)


HARDNESS = hardness(numpy.random.default_rng(9).random(100_000), numpy.random.default_rng(8).random(100_000))


def runs(seeds: int, deviation: float, drawn: numpy.random.Generator, easy: Numbers, mean: float = 0.8) -> Correct:
    """Runs whose accuracies differ by chance, on the same items: (S, N).

    Args:
        seeds: S.
        deviation: of the accuracies that the runs would have on all items there are.
        drawn: makes the runs.
        easy: (N,), what the items' hardness has in common.
        mean: of those accuracies.
    """
    able = numpy.quantile(HARDNESS, numpy.clip(mean + drawn.normal(0, deviation, seeds), 0, 1))
    return numpy.asarray(hardness(easy, drawn.random((seeds, len(easy)))) < able[:, None])


def false_positives(
    seeds: tuple[int, int], deviations: tuple[float, float], times: int, items: int, rounds: int = 300
) -> Shares:
    """How often two strategies differ at the level of 5 % that do not.

    Args:
        seeds: of each strategy.
        deviations: of each one's seeds.
        times: cases.
        items: N, in each.
        rounds: of the bootstrap.
    """
    drawn, found = numpy.random.default_rng(0), numpy.zeros(2)
    for number in range(times):
        easy = drawn.random(items)
        groups = {str(side): runs(seeds[side], deviations[side], drawn, easy) for side in (0, 1)}
        pair = draw(groups, rounds, seed=number)
        found += difference(pair["0"], pair["1"]).p < 0.05, by_normal(pair["0"], pair["1"]) < 0.05
    return Shares(*(found / times))


def by_normal(first: Drawn, second: Drawn) -> float:
    """The p value of a difference, were the seeds' variance known."""
    both = combined([(1, first), (-1, second)])
    varies = spread(both)
    return float(2 * stats.norm.sf(abs(both.mean) / math.sqrt(varies.items + varies.seeds)))


def main(
    times: int = typer.Option(1500, help="Cases of each kind."),
    items: int = typer.Option(2000, help="Test items in each."),
) -> None:
    """Print a line for each pair of deviations, a column for each pair of numbers of seeds."""
    quiet_libraries()
    table = Table("deviation of the seeds, points", *(f"{first} and {second}" for first, second in SEEDS))
    for deviations in DEVIATIONS:
        found = [false_positives(seeds, deviations, times, items) for seeds in SEEDS]
        name = " and ".join(f"{100 * own:g}" for own in deviations)
        table.add_row(name, *(f"{one.students:.0%}" for one in found))
        table.add_row(f"{name}, by the normal distribution", *(f"{one.normal:.0%}" for one in found))
    console.print(table)


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
