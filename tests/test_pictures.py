"""Pictures: what is drawn of what, and that it can be read."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from matplotlib.figure import Figure

from dfkd.evaluate.scores import calibration_error, packed, reliability
from dfkd.report import overview
from dfkd.report.pictures import album, classes, outcomes, pareto, series, style, training
from dfkd.report.pictures.outcomes import Scored
from dfkd.report.pictures.pareto import Student, front
from dfkd.report.pictures.series import Run
from dfkd.report.results import Result
from dfkd.report.gap import CEILING, FLOOR

ITEMS = 40


def run(
    strategy: str, right: float = 0.5, seed: int = 0, records: list[dict[str, Any]] | None = None, **more: Any
) -> Run:
    """A run whose student gets the first ``right`` of the test items right."""
    logits = torch.zeros(ITEMS, 2)
    logits[: round(right * ITEMS), 0], logits[round(right * ITEMS) :, 1] = 1.0, 1.0
    labels = [0] * ITEMS
    scores = {"accuracy": right, "macro_f1": right / 2, "calibration_error": 0.1}
    cost = {"parameters": 1, "multiply_adds": more.get("cost", 50), "latency": {}}
    metric = more.get("metric", "accuracy")
    content = {
        "run": f"{strategy}-{seed}", "steps": 10, "test_items": ITEMS, "environment": {}, "seconds": {"train": 1.0},
        "config": {
            "seed": seed, "data": {"name": more.get("data", "toy"), "metric": metric, "labels": ["a", "b"]},
            "student": {"name": "truncated", "label": more.get("student", "t")}, "train": more.get("train", {}),
        },
        "strategy": {"name": strategy, "uses_real_text": strategy == CEILING},
        "teacher": {"sha256": "f", "scores": {**scores, "accuracy": 0.9}, "cost": {**cost, "multiply_adds": 100}},
        "student": {"scores": scores, "agreement": right, "correct": packed(logits, labels), "cost": cost},
        "latency_ratio": more.get("latency", {}), "queries": {"train": 1, "heldout": 0},
    }
    if more.get("bins", True):
        content["teacher"]["reliability"] = content["student"]["reliability"] = reliability(logits, labels)
    return Run(Result(Path("nowhere"), content), records or [])


def results(*runs: Run) -> list[Result]:
    return [one.result for one in runs]


def log(steps: int = 4, **facts: Any) -> list[dict[str, Any]]:
    made = [{"step": step, "classes": [1, 3], "fresh": True, "kd": 1.0, **facts} for step in range(steps)]
    made[-1]["heldout_agreement"] = 0.5
    return made


def test_strategies_of_one_picture_are_told_apart_whatever_else_is_on_the_page() -> None:
    page = style.looks(f"s{number:02}" for number in range(40))
    first = page["s00"]
    alike = [name for name, look in page.items() if (look.colour, look.style) == (first.colour, first.style)]
    assert len(alike) > 1
    for lines, names in ((True, alike[:2]), (False, ["s00", "s06"])):
        own = style.told_apart(page, names, lines)
        assert len({look.colour for look in own.values()}) == len(own)
    assert style.told_apart(page, ["s00", "s01"]) == {name: page[name] for name in ("s00", "s01")}
    assert style.told_apart(page, ["s00", "s06"]) == {name: page[name] for name in ("s00", "s06")}  # by line style


def test_rows_of_the_gap_are_sorted_whatever_the_order_of_sets() -> None:
    gaps = {"data": {name: (mean, mean, mean) for name, mean in (("b", -9.0), ("a", -9.0), ("c", -5.0), ("d", 0.5))}}
    assert sorted("dcab", key=lambda name: outcomes._order(name, gaps)) == ["a", "b", "c", "d"]


def test_long_names_of_classes_have_room() -> None:
    labels = ["card payment fee charged twice abroad", "exchange rate that is wrong for a cash withdrawal", "top up"]
    heights = []
    for names in (["a", "b", "c"], labels):
        one = run("a", records=log())
        one.result.content["config"]["data"]["labels"] = names
        figure = classes.histograms([one])
        assert figure is not None
        heights.append(figure.get_size_inches()[1])
    assert heights[1] > 1.3 * heights[0]


def looks_of(*runs: Run) -> dict[str, style.Look]:
    return style.looks(one.strategy for one in runs)


def texts(figure: Figure) -> list[str]:
    """What stands in a picture."""
    return [text for text in re.findall(r"<text[^>]*>([^<]*)</text>", style.svg(figure, "p-", "title")) if text]


# how pictures look

def test_strategies_look_different_and_the_same_everywhere() -> None:
    names = [f"s{number}" for number in range(84)]
    looks = style.looks([*names, FLOOR, CEILING])
    assert len(set(looks.values())) == 86
    assert looks[FLOOR] == style.looks([FLOOR])[FLOOR] and looks == style.looks([CEILING, FLOOR, *reversed(names)])


def test_colours_are_told_apart_by_the_colour_blind() -> None:
    """Okabe and Ito's palette: whatever two look alike to the colour-blind differ in style or marker as well."""
    assert set(style.COLOURS) <= {"#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"}
    first = list(style.looks(f"s{number}" for number in range(6)).values())
    assert len({(look.style, look.marker) for look in first}) == 6


def test_many_strategies_are_spread_over_axes_with_floor_and_ceiling_in_each() -> None:
    groups = style.crowds([CEILING, *(f"s{number:02}" for number in range(17)), FLOOR])
    assert max(map(len, groups)) <= style.CROWDED and {name for group in groups for name in group} >= {"s00", "s16"}
    assert all(group[0] == FLOOR and group[-1] == CEILING for group in groups)
    assert style.crowds([FLOOR]) == [[FLOOR]] and style.crowds(["a", "b"]) == [["a", "b"]]


def test_no_text_is_smaller_than_8_points() -> None:
    runs = [run("a,with=a,long=list,of=settings,on=it", records=log()), run(FLOOR, records=log())]
    for figure in (classes.histograms(runs), training.loss(runs, looks_of(*runs))):  # the loss has a scale of powers
        assert figure is not None
        sizes = re.findall(r"font(?:-size)?: ([\d.]+)px", style.svg(figure, "p-", ""))
        assert sizes and min(map(float, sizes)) >= 8


@pytest.mark.slow
def test_nothing_is_cut_off() -> None:
    name = "mixture,parts=keywords_and_words,schedule=embeddings_come_late,weights=1_2"
    runs = [run(f"{name}{number}", records=log()) for number in range(3)]
    looks, scores = looks_of(*runs), {name: Scored(s, s, s, (s, s, s)) for name, s in ((FLOOR, 0.0), (CEILING, 1.0))}
    scores |= {one.strategy: Scored(0.5, 0.4, 0.6, (0.5, 0.4, 0.6)) for one in runs}
    pictures = (
        training.loss(runs, looks), classes.reliability(results(*runs)), outcomes.gaps({"a data set": scores}, looks)
    )
    for figure in pictures:
        assert figure is not None
        style.drawn(figure, "svg")
        bounds, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert bounds.x0 > -0.01 and bounds.y0 > -0.01 and bounds.x1 < width + 0.01 and bounds.y1 < height + 0.01


@pytest.mark.slow
def test_dollar_signs_in_names_are_no_formulas() -> None:
    runs = [run(r"a=$\nosuch$", records=log())]
    runs[0].result.content["config"]["data"]["labels"] = [r"$\frac$", "b"]
    looks = looks_of(*runs)
    loss, histograms, curves = training.loss(runs, looks), classes.histograms(runs), classes.reliability(results(*runs))
    for figure, name in ((loss, r"a=$\nosuch$"), (histograms, r"$\frac$"), (curves, r"a=$\nosuch$")):
        assert figure is not None and name in texts(figure)
    scores = {name: Scored(s, s, s, (s, s, s)) for name, s in ((FLOOR, 0.0), ("a$_", 0.5), (CEILING, 1.0))}
    gaps = outcomes.gaps({"$x^$": scores}, style.looks(["a$_"]))
    assert gaps is not None and {"$x^$", "a$_"} <= set(texts(gaps))


def test_names_in_pictures_are_escaped() -> None:
    evil = '<script>alert(1)</script>'
    figure = training.loss([run(evil, records=log())], style.looks([evil]))
    assert figure is not None
    made = style.svg(figure, "p-", f'{evil}" onload="alert(1)')
    assert "<script>" not in made and 'onload="' not in made and "&lt;script&gt;" in made


def test_the_same_picture_gives_the_same_bytes() -> None:
    figure = training.loss([run("a", records=log())], style.looks(["a"]))
    assert figure is not None
    assert style.drawn(figure, "svg") == style.drawn(figure, "svg")


@pytest.mark.parametrize(("first", "shown"), [(1.2, {"1.1"}), (20.0, {"2", "5", "10"}), (2000.0, {"10", "100"})])
def test_a_scale_of_powers_has_numbers(first: float, shown: set[str]) -> None:
    records = [{"step": 0, "kd": 1.0}, *({"step": step, "kd": first} for step in range(1, 60))]
    figure = training.loss([run("a", records=records)], style.looks(["a"]))
    assert figure is not None and shown <= set(texts(figure))


# the course of a training

def test_curves_are_means_with_the_range_of_the_seeds() -> None:
    runs = [run("a", seed=seed, records=log(kd=kd)) for seed, kd in enumerate((1.0, 3.0))]
    curve = series.course(runs, series.fact("kd"))
    assert curve.mean == [2.0] * 4 and curve.low == [1.0] * 4 and curve.high == [3.0] * 4 and curve.x == [0, 1, 2, 3]


def test_a_curve_ends_with_the_shortest_seed() -> None:
    runs = [run("a", records=log(steps=4)), run("a", seed=1, records=log(steps=2)), run("a", seed=2)]
    assert series.course(runs, series.fact("kd")).x == [0, 1]
    assert series.course(runs, series.fact("nothing")).x == []


def test_seeds_that_log_at_steps_of_their_own_have_a_curve() -> None:
    """As those of a mixture's part, whose turns are drawn: where they have no step in common, too."""
    values = [[(0, 0.0), (4, 4.0), (8, 8.0)], [(1, 3.0), (5, 7.0), (9, 11.0)]]
    runs = [run("a", seed=seed, records=[{"step": s, "kd": v} for s, v in own]) for seed, own in enumerate(values)]
    curve = series.course(runs, series.fact("kd"))
    assert curve.x == [1, 4, 5, 8]
    assert curve.low == [1.0, 4.0, 5.0, 8.0] and curve.high == [3.0, 6.0, 7.0, 10.0] and curve.mean[1] == 5.0
    smooth = series.course(runs, series.fact("kd"), smooth=True)
    assert smooth.x == curve.x and all(0.0 <= low <= 8.0 for low in smooth.low)
    apart = [run("a", seed=seed, records=[{"step": seed, "kd": 1.0}]) for seed in range(2)]
    assert series.course(apart, series.fact("kd")).x == []


def test_what_is_no_number_is_not_drawn() -> None:
    records = [{"step": 0, "kd": math.nan}, {"step": 1, "kd": None}, {"step": 2, "kd": 2.0}, {"step": 3, "kd": True}]
    assert series.course([run("a", records=records)], series.fact("kd")).x == [2]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    steps = series.thinned(list(range(5000)))
    assert len(steps) == series.POINTS and (steps[0], steps[-1]) == (0, 4999)


def test_samples_are_counted_without_those_that_are_replayed() -> None:
    records = [{"step": step, "classes": [2, 2], "fresh": step % 2 == 0} for step in range(4)]
    replayed = run("a", records=records, train={"batch_size": 4, "replay_share": 0.5})
    assert [series.samples_by(replayed, step) for step in range(4)] == [4, 4, 8, 8]
    replayed.result.content["steps"] = 4
    assert series.samples_of(replayed.result) == 8 and series.samples_of(run("a").result) is None
    saving = run("a", train={"batch_size": 4, "replay_share": 0.5, "generated_tokens": 100})
    saving.result.content.update(steps=4, generated_tokens=90)
    assert series.samples_of(saving.result) is None  # how many steps saved tokens is not in such a file
    saving.result.content["fresh_samples"] = 12
    assert series.samples_of(saving.result) == 12


def test_agreement_is_drawn_over_samples_and_called_what_it_is() -> None:
    runs = [run("a", records=log()), run("b", records=[{"step": 0, "kd": 1.0}])]
    figure = training.agreement(runs, looks_of(*runs))
    assert figure is not None
    (line,) = figure.axes[0].lines
    assert list(line.get_xdata()) == [16] and list(line.get_ydata()) == [50.0] and line.get_marker() == "o"
    assert "held-out" in figure.axes[0].get_ylabel() and "accuracy" not in figure.axes[0].get_ylabel()
    assert training.agreement([run("a")], looks_of(run("a"))) is None


def test_the_prompter_has_reward_entropy_and_kl() -> None:
    facts = {"reward": 0.5, "policy_entropy": 2.0, "policy_kl": 0.25}
    runs = [run("prompt_rl", records=log(**facts)), run("a", records=log(reward=9.0))]
    figure = training.prompter(runs, looks_of(*runs))
    assert figure is not None
    assert [float(axes.lines[0].get_ydata()[0]) for axes in figure.axes] == [0.5, 2.0, 0.25]
    assert [len(axes.lines) for axes in figure.axes] == [1, 1, 1] and training.prompter(runs[1:], {}) is None


def test_the_adversary_is_drawn_before_and_after() -> None:
    facts = {"mask_loss_first": 1.0, "mask_loss_last": 2.0, "teacher_confidence": 0.9}
    runs = [run("as_dfd", records=log(**facts)), run("a", records=log(teacher_confidence=0.1))]
    figure = training.adversary(runs, looks_of(*runs))
    assert figure is not None
    assert [[float(line.get_ydata()[0]) for line in axes.lines] for axes in figure.axes] == [[1.0, 2.0], [0.9]]
    assert training.adversary(runs[1:], {}) is None


def test_an_adversary_that_was_off_has_no_curve() -> None:
    on, off = log(kl_first=1.0, kl_last=2.0, teacher_confidence=0.9), log(mask=0.5, teacher_confidence=0.8)
    runs = [run("as_dfd", records=on), run("lambda 0", records=off)]
    figure = training.adversary(runs, looks_of(*runs))
    assert figure is not None
    found = {axes.get_ylabel(): [float(line.get_ydata()[0]) for line in axes.lines] for axes in figure.axes}
    assert found[training.ADVERSARY["kl"]] == [1.0, 2.0] and found[training.ADVERSARY["mask"]] == [0.5]
    assert found[training.ADVERSARY["teacher_confidence"]] == [0.9, 0.8]


# classes and confidence

def test_class_shares_leave_replayed_batches_out() -> None:
    records = [{"step": step, "classes": [step, 10 - step], "fresh": True} for step in range(10)]
    replayed = {"classes": [99, 0], "fresh": False}
    whole, early, late = classes.class_shares([run("a", records=[*records, replayed])]) or ()
    assert whole.tolist() == pytest.approx([0.45, 0.55]) and early.tolist() == [0, 1]
    assert late.tolist() == pytest.approx([0.9, 0.1])


def test_no_bar_is_cut_off() -> None:
    runs = [run("a", records=log(classes=[4, 0])), run("b", records=log(classes=[2, 2]))]
    figure = classes.histograms(runs)
    assert figure is not None and all(axes.get_xlim()[1] > 100 for axes in figure.axes)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 150])
def test_many_classes_are_not_named(count: int) -> None:
    one = run("a", records=log(classes=[1] * count))
    one.result.content["config"]["data"]["labels"] = [f"class {number}" for number in range(count)]
    figure = classes.histograms([one])
    assert figure is not None and ("class 1" in texts(figure)) is (count == 2) and figure.get_figheight() < 10


def test_reliability_bins_by_hand() -> None:
    logits = torch.tensor([[0.95, 0.05], [0.95, 0.05], [0.65, 0.35]]).log()
    found = reliability(logits, [0, 1, 0], bins=10)
    assert found["count"] == [0, 0, 0, 0, 0, 0, 1, 0, 0, 2]
    assert found["confidence"][6] == pytest.approx(0.65) and found["accuracy"][9] == 0.5
    assert found["confidence"][0] is None and json.loads(json.dumps(found)) == found


def test_pooled_bins_say_what_all_items_together_say() -> None:
    logits = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    labels = [index % 4 for index in range(90)]
    parts = [reliability(logits[half], labels[half]) for half in (slice(0, 30), slice(30, 90))]
    pooled = classes.pooled(parts)
    assert sum(count for count, _, _ in pooled) == 90
    assert classes.expected_error(pooled) == pytest.approx(calibration_error(logits, labels))


def test_reliability_is_left_out_where_older_results_do_not_hold_it() -> None:
    assert classes.reliability(results(run("a", bins=False))) is None
    figure = classes.reliability(results(run("a", bins=False), run("b", 0.6)))
    assert figure is not None and len(figure.axes) == 1


# what came out

def test_the_interval_of_the_gap_is_that_of_the_difference_from_the_floor() -> None:
    runs = [run(FLOOR, 0.25), run("a", 0.5), run(CEILING, 0.75), run("b", 0.5, data="other")]
    found = outcomes.scored(results(*runs))
    (own,) = [entries for setting, entries in found.items() if setting[0] == "toy"]
    gap = own["a"].gap
    assert own["a"].low < own["a"].mean == 0.5 < own["a"].high
    assert gap is not None and gap[0] == 0.5 and 0 < gap[1] < 0.5 < gap[2] < 1
    (alone,) = [entries for setting, entries in found.items() if setting[0] == "other"]
    assert own[FLOOR].gap is None and alone["b"].gap is None


@pytest.mark.parametrize("change", [{"metric": "macro_f1"}, {"correct": None}])
def test_without_items_there_are_means_and_no_intervals(change: dict[str, Any]) -> None:
    runs = [run(name, right, metric=change.get("metric", "accuracy")) for name, right in
            ((FLOOR, 0.25), ("a", 0.5), (CEILING, 0.75))]
    if "correct" in change:
        runs[1].result.content["student"]["correct"] = None
    (found,) = outcomes.scored(results(*runs)).values()
    assert found["a"].low == found["a"].mean == found["a"].high and found["a"].gap == (0.5, 0.5, 0.5)


def test_runs_without_test_data_are_not_scored() -> None:
    untested = run("a")
    untested.result.content["student"]["scores"] = None
    assert outcomes.scored(results(untested)) == {}


def test_a_share_beyond_the_scale_is_told_as_a_number() -> None:
    scores = {"toy": {name: Scored(s, s, s, gap) for name, s, gap in
                      ((FLOOR, 0.5, (0, 0, 0)), (CEILING, 0.51, (1, 1, 1)), ("a", 0.1, (-40.0, -50.0, -30.0)))}}
    figure = outcomes.gaps(scores, style.looks(["a"]))
    assert figure is not None and "-4,000" in texts(figure) and "(1.0 points)" in texts(figure)
    low, high = figure.axes[0].get_xlim()
    assert low >= outcomes.SCALE[0] and high <= outcomes.SCALE[1] and outcomes.gaps({}, {}) is None


def test_an_interval_that_goes_on_beyond_the_scale_is_marked() -> None:
    scores = {"toy": {name: Scored(s, s, s, gap) for name, s, gap in
                      ((FLOOR, 0.5, (0, 0, 0)), (CEILING, 0.51, (1, 1, 1)), ("a", 0.5, (0.5, -3.0, 4.0)))}}
    figure = outcomes.gaps(scores, style.looks(["a"]))
    assert figure is not None
    ends = {line.get_marker(): list(line.get_xdata()) for line in figure.axes[0].lines}
    assert ends["<"] == [outcomes.SCALE[0]] and ends[">"] == [outcomes.SCALE[1]]


def test_labels_of_many_budgets_do_not_overlap() -> None:
    assert outcomes.apart([100, 110, 1000, 9500, 10000]) == [100, 1000, 10000]
    assert outcomes.apart([40, 400]) == [40, 400] and outcomes.apart([40]) == [40]
    counts = sorted({*range(100, 10000, 300), 10000})
    curves = {"a": [(count, Scored(0.5, 0.4, 0.6)) for count in counts]}
    figure = outcomes.by_samples(curves, style.looks(["a"]), "accuracy")
    assert figure is not None
    style.drawn(figure, "svg")
    boxes = [text.get_window_extent() for text in figure.axes[0].get_xticklabels()]
    assert len(boxes) > 3 and all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_one_batch_of_a_prompter_is_no_picture() -> None:
    facts = {"reward_mean": 1.0, "policy_entropy": 1.0, "policy_kl": 0.1}
    one, two = (run("prompt_rl", records=log(steps, **facts)) for steps in (1, 2))
    assert training.prompter([one], looks_of(one)) is None and training.prompter([two], looks_of(two)) is not None


def test_accuracy_by_samples_needs_two_budgets() -> None:
    budgets = [{"steps": steps, "batch_size": 4} for steps in (10, 100)]
    runs = [run(name, right, train=train) for train in budgets for name, right in (("a", 0.5), ("b", 0.7))]
    for one, train in zip(runs, (budgets[0], budgets[0], budgets[1], budgets[1])):
        one.result.content["steps"] = train["steps"]
    found = results(*runs)
    ((data, student, curves),) = outcomes.budgets(found, outcomes.scored(found))
    assert (data, student) == ("toy", "t")
    assert {name: sorted(count for count, _ in curve) for name, curve in curves.items()} == {
        "a": [40, 400], "b": [40, 400],
    }
    figure = outcomes.by_samples(curves, looks_of(*runs), "accuracy")
    assert figure is not None and list(figure.axes[0].lines[0].get_xdata()) == [40, 400]
    assert "test accuracy (%)" in texts(figure) and {"40", "400"} <= set(texts(figure))
    assert outcomes.by_samples({"a": [curves["a"][0]] * 2}, looks_of(*runs), "accuracy") is None


def test_budgets_of_one_student_under_several_names_are_one_curve() -> None:
    made = []
    for label, steps, layers in (("two, 10 steps", 10, 2), ("two, 15 steps", 15, 2), ("one, 10 steps", 10, 1)):
        made.append(run("a", 0.5, student=label, train={"steps": steps, "batch_size": 4}))
        made[-1].result.content.update({"steps": steps, "run": f"g/toy/{label}/a/seed0"})
        made[-1].result.content["config"]["student"]["options"] = {"layers": layers}
    found = results(*made)
    curves = {student: own["a"] for _, student, own in outcomes.budgets(found, outcomes.scored(found))}
    assert {student: sorted(count for count, _ in curve) for student, curve in curves.items()} == {
        "two": [40, 60], "one, 10 steps": [40],
    }
    found[1].content["run"] = "another/toy/two, 15 steps/a/seed0"
    assert len(outcomes.budgets(found, outcomes.scored(found))) == 3  # of another table


def test_the_front_leaves_out_what_is_beaten() -> None:
    assert front([(0.5, 0.8), (0.2, 0.7), (0.6, 0.75), (0.2, 0.6), (0.9, 0.9)]) == [(0.2, 0.7), (0.5, 0.8), (0.9, 0.9)]


def test_cost_is_time_where_it_was_measured_and_multiply_adds_where_not() -> None:
    timed = results(run("a", latency={"1": 0.5}), run("a", student="u", latency={"1": 0.25}, cost=10))
    scores = outcomes.scored(timed)
    kind, students = pareto.students_of(timed, scores)
    assert kind == "time" and {one.name: one.cost for one in students} == {"t": 0.5, "u": 0.25}
    for result in timed:
        result.content["latency_ratio"] = {}
    kind, students = pareto.students_of(timed, scores)
    assert kind == "multiply_adds" and {one.name: one.cost for one in students} == {"t": 0.5, "u": 0.1}
    assert pareto.students_of(timed[:1], scores) == ("", [])


def test_students_are_numbered_and_real_text_is_not_on_the_front() -> None:
    score = Scored(0.5, 0.4, 0.6)
    students = [Student("one", "a", 0.2, score), Student("two", CEILING, 0.21, Scored(0.9, 0.9, 0.9), real=True)]
    figure = pareto.pareto(students, 0.95, "time", style.looks(["a", CEILING]), "accuracy")
    assert figure is not None and {"one", "two", "teacher", "1", "2"} <= set(texts(figure))
    front_line = next(line for line in figure.axes[0].lines if line.get_drawstyle() == "steps-post")
    assert numpy.asarray(front_line.get_ydata()).tolist() == [50.0]
    heights = [note.get_position()[1] for note in figure.axes[0].texts]
    assert len(set(heights)) == 2  # neighbours stand above each other
    assert pareto.pareto(students[:1], 0.95, "time", {}, "accuracy") is None


def test_numbers_of_students_that_are_far_apart_stand_on_one_line() -> None:
    for costs in ((0.5, 0.7, 0.9), (0.01, 0.1, 0.9)):  # a linear and a logarithmic axis
        students = [Student(str(cost), "a", cost, Scored(0.5, 0.4, 0.6)) for cost in costs]
        figure = pareto.pareto(students, 0.95, "time", style.looks(["a"]), "accuracy")
        assert figure is not None and len({note.get_position()[1] for note in figure.axes[0].texts}) == 1


def test_of_many_strategies_those_are_drawn_that_are_best_for_a_student() -> None:
    means = {FLOOR: (0.1, 0.1), CEILING: (0.9, 0.9), **{f"s{n}": (0.3 + n / 100, 0.7 - n / 100) for n in range(8)}}
    students = [
        Student(name, strategy, cost, Scored(own[place], 0, 1), strategy == CEILING)
        for strategy, own in means.items() for place, (name, cost) in enumerate([("one", 0.2), ("two", 0.4)])
    ]
    kept = [student.strategy for student in pareto.telling(students)]
    assert len(set(kept)) == pareto.MOST and {FLOOR, CEILING, "s0", "s7"} <= set(kept) and kept.count("s7") == 2
    few = students[: 2 * pareto.MOST]
    assert pareto.telling(few) == few


def test_the_overview_has_a_column_for_each_data_set() -> None:
    runs = [run(name, right, data=data, train={"steps": 10}) for data in ("one", "two") for name, right in
            ((FLOOR, 0.25), ("a", 0.5), (CEILING, 0.75))]
    found = results(*runs[:-1])  # the ceiling of the second data set is missing
    (made,) = overview.overviews(found, outcomes.scored(found))
    assert made.columns[1:3] == ["one (accuracy)", "two (accuracy)"]
    assert [row[0] for row in made.rows] == [FLOOR, "a", CEILING] and made.rows[2][2] == overview.NOT_RUN
    assert made.rows[1][3] == "n/a" and re.fullmatch(r"50\.0 \[\d+\.\d, \d+\.\d\]", made.rows[1][1])
    whole = results(*runs)
    assert overview.overviews(whole, outcomes.scored(whole))[0].rows[1][3] == "50"  # one seed: no interval
    twice = [*whole, *results(*(run(one.result.strategy, one.result.score("student") or 0, 1, data=data,
                                    train={"steps": 10}) for one in runs[:3] for data in ("one", "two")))]
    assert overview.overviews(twice, outcomes.scored(twice))[0].rows[1][3].startswith("50 [")
    assert overview.overviews(results(*runs[:3]), outcomes.scored(results(*runs[:3]))) == []


# the album

def logged(folder: Path, one: Run) -> Result:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in one.records))
    return Result(folder, one.result.content)


def test_the_album_holds_a_chapter_over_all_and_one_for_each_setting(tmp_path: Path) -> None:
    runs = [run(name, right, data=data, records=log()) for data in ("one", "two") for name, right in
            ((FLOOR, 0.25), ("a", 0.5), (CEILING, 0.75))]
    found = [logged(tmp_path / str(number), one) for number, one in enumerate(runs)]
    chapters = album.album(found)
    assert [chapter.title for chapter in chapters] == ["Over all settings", "one, student t", "two, student t"]
    assert [picture.name for picture in chapters[0].pictures] == ["gap_closed"]
    assert [picture.name for picture in chapters[1].pictures] == ["agreement", "loss", "classes", "reliability"]
    assert all(picture.caption for chapter in chapters for picture in chapter.pictures)


def test_pictures_are_written_under_names_of_their_own(tmp_path: Path) -> None:
    pictures = [album.Picture("loss", title, Figure()) for title in ("a/b", "a b", "c")]
    written = album.write([album.Chapter("x", pictures)], tmp_path / "new")
    assert [path.name for path in written] == [
        "loss-a_b.svg", "loss-a_b.pdf", "loss-a_b-2.svg", "loss-a_b-2.pdf", "loss-c.svg", "loss-c.pdf",
    ]
    assert {path.suffix: path.read_bytes()[:5] for path in written} == {".svg": b"<?xml", ".pdf": b"%PDF-"}
