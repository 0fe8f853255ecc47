"""The gap between floor and ceiling, and the share of it that a strategy closes: one definition for all that is shown.

Where the two differ by no more than the interval of their difference there is no gap, and a share of it means nothing.
The share over several data sets is that of the means: a mean of their own shares would be ruled by those with hardly
a gap.
"""

from __future__ import annotations

import statistics
from typing import Mapping, Sequence

from dfkd.report.results import Result, correct_items
from dfkd.report.statistics import Drawn, Interval, average, difference, paired_difference, share

FLOOR, CEILING = "random_tokens", "real_text"
UNKNOWN, NO_GAP = "n/a", "no gap"
BOUNDED = 10.0  # ten gaps away, an interval says no more than that it has no end
NOTE = (
    f"Gap closed is '{NO_GAP}' where floor and ceiling differ by no more than the 95 % interval of their difference, "
    f"and {UNKNOWN} where one of them was not run."
)


def is_gap(floor: Sequence[Result], ceiling: Sequence[Result]) -> bool:
    """Whether the ceiling is above the floor by more than the 95 % interval of their difference.

    The interval needs accuracy as the data set's score, and runs that say which items they get right; without it the
    means alone tell.

    Args:
        floor: the floor's runs, one or more, in one setting.
        ceiling: the ceiling's, on the same test items.
    """
    accuracy = floor[0].content["config"]["data"]["metric"] == "accuracy"
    if accuracy and all(run.content["student"].get("correct") for run in (*floor, *ceiling)):
        return paired_difference(correct_items(ceiling), correct_items(floor)).low > 0
    low, high = mean_score(floor), mean_score(ceiling)
    return low is not None and high is not None and high > low


def is_drawn_gap(floor: Drawn, ceiling: Drawn) -> bool:
    """The same of accuracies on one data set, or of their means over several."""
    return difference(ceiling, floor).low > 0


def shares(drawn: Mapping[str, Drawn]) -> dict[str, Interval]:
    """The share of a data set's gap that each strategy closes, with its interval; empty: there is no gap.

    Args:
        drawn: strategy -> its accuracy.
    """
    if not (FLOOR in drawn and CEILING in drawn and is_drawn_gap(drawn[FLOOR], drawn[CEILING])):
        return {}
    ends = {FLOOR: Interval(0.0, 0.0, 0.0), CEILING: Interval(1.0, 1.0, 1.0)}  # by definition, whatever they are
    return {name: ends.get(name) or share(one, drawn[FLOOR], drawn[CEILING]) for name, one in drawn.items()}


def mean_gap_closed(own: Sequence[Drawn], floor: Sequence[Drawn], ceiling: Sequence[Drawn]) -> Interval | None:
    """The share that is closed of the gap between the means over data sets; ``None``: there is no gap between them.

    Args:
        own: the strategy's accuracy on each data set.
        floor: the floor's.
        ceiling: the ceiling's.
    """
    score, low, high = average(own), average(floor), average(ceiling)
    return share(score, low, high) if is_drawn_gap(low, high) else None


def told(closed: Interval) -> str:
    """A share in % with its 95 % interval, for people."""
    return f"{percent(closed.mean)} {bounds(closed)}"


def percent(share: float) -> str:
    """A share in whole %; none is "-0"."""
    return str(round(100 * share))


def bounds(closed: Interval) -> str:
    """The ends of a share's interval in %; those too far off to mean anything count as infinite."""
    ends = [percent(end) if abs(end) <= BOUNDED else "∞" if end > 0 else "-∞" for end in (closed.low, closed.high)]
    return f"[{', '.join(ends)}]"


def gap_closed(score: float, floor: float, ceiling: float) -> float:
    """``(score - floor) / (ceiling - floor)``, of scores or of their means over data sets, where there is a gap."""
    return (score - floor) / (ceiling - floor)


def mean_score(results: Sequence[Result] | None) -> float | None:
    """The students' mean score; ``None`` without runs or without a test split."""
    values = [result.score("student") for result in results or ()]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
