"""Tables and page, from made-up and from real result files."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from dfkd import pipeline
from dfkd.errors import ConfigError
from dfkd.report import browser, comparison, gap, inspect, overview, page, results, sections, table
from dfkd.report.document import Grid
from dfkd.report.pictures import album, outcomes
from dfkd.report.results import Missing, Result

COST = {"parameters": 5_000_000, "parameters_without_embeddings": 1, "multiply_adds": 1, "latency": {}, "file_bytes": 1}


def result(strategy: str, score: float | None, seed: int = 0, **more: Any) -> Result:
    scores = None if score is None else {"accuracy": score, "macro_f1": score / 2, "calibration_error": 0.1}
    data = {"name": "sst2", "metric": "accuracy", "labels": ["a", "b"], **more.get("data", {})}
    content = {
        "run": f"sst2/{strategy}", "steps": 9, "seconds": {"train": 12.0}, "test_items": 10,
        "config": {"data": data, "seed": seed, "student": {"name": "truncated", "label": more.get("student", "t")}},
        "environment": {"torch": "2"},
        "strategy": {"name": strategy.split(",")[0], "label": strategy, "uses_real_text": more.get("real", False)},
        "teacher": {
            "sha256": "f", "scores": scores and {**scores, "accuracy": 0.9}, "cost": {**COST, "parameters": 10**7},
        },
        "student": {"scores": scores, "agreement": score, "cost": COST}, "latency_ratio": {"1": 0.5, "32": 0.25},
        "fidelity": {"agreement": 0.75, "samples": 8}, "queries": {"train": 1000, "heldout": 234},
    }
    return Result(Path("nowhere"), content)


def cells(made: list[table.Row], strategy: str) -> dict[str, str]:
    return dict(next(row.cells for row in made if row.strategy == strategy))


def test_gap_closed_is_measured_between_floor_and_ceiling() -> None:
    made = table.rows([result("real_text", 0.88), result("as_dfd", 0.86), result("random_tokens", 0.80)])
    assert [row.strategy for row in made] == ["random_tokens", "as_dfd", "real_text"]
    assert [row.cells["gap closed"] for row in made] == ["0", "75", "100"]
    assert gap.gap_closed(0.79, 0.80, 0.88) == pytest.approx(-0.125)
    flat = table.rows([result("real_text", 0.80), result("as_dfd", 0.86), result("random_tokens", 0.80)])
    assert {row.cells["gap closed"] for row in flat} == {"no gap"} and gap.NOTE in table.notes(flat)
    alone = table.rows([result("as_dfd", 0.86), result("random_tokens", 0.80)])
    assert {row.cells["gap closed"] for row in alone} == {"n/a"}


def test_a_gap_within_its_interval_is_none_in_every_table() -> None:
    rights = {"random_tokens": 0.5, "as_dfd": 0.7, "real_text": 0.52}
    runs = [result(name, right, data=data) for data in ({"name": "a"}, {"name": "b"}) for name, right in rights.items()]
    for run in runs:
        order = numpy.random.default_rng(round(1000 * (run.score("student") or 0))).permutation(100)
        right = order < 100 * (run.score("student") or 0)
        run.content["test_items"] = 100
        run.content["student"]["correct"] = numpy.packbits(right).tobytes().hex()
    assert {row.cells["gap closed"] for row in table.rows(runs)} == {gap.NO_GAP}
    assert gap.NO_GAP in comparison.markdown(runs) and "1000" not in comparison.markdown(runs)
    scores = outcomes.scored(runs)
    assert {one.gap for found in scores.values() for one in found.values()} == {None}
    (shown,) = overview.overviews(runs, scores)
    assert shown.rows[1][-1] == gap.NO_GAP
    for run in runs:  # the same means of runs that do not say which items they get right: only they can tell
        run.content["student"]["correct"] = None
    assert cells(table.rows(runs), "as_dfd")["gap closed"] == "1000"


def test_cells_are_means_over_seeds() -> None:
    made = table.rows([result("as_dfd", 0.80, seed=0), result("as_dfd", 0.84, seed=1)])
    assert cells(made, "as_dfd") == {
        "strategy": "as_dfd", "seeds": "2", "teacher": "90.0", "student": "82.0 ± 2.8", "agree": "82.0",
        "fidelity": "75.0", "gap closed": "n/a", "params": "5.0M 50%", "time": "0.50/0.25",
        "queries": "1,234", "seconds": "12",
    }


def test_a_floor_of_other_settings_is_named() -> None:
    made = table.rows([result("random_tokens,source=pieces", 0.5), result("as_dfd", 0.7), result("real_text", 0.9)])
    assert cells(made, "as_dfd")["gap closed"] == "50"
    assert "Gap closed of sst2, t, is measured by random_tokens,source=pieces." in table.notes(made)
    without = table.rows([result("random_tokens,source=pieces", 0.5), result("as_dfd", 0.7)])
    assert not any("is measured by" in note for note in table.notes(without))  # there is no share of any gap
    plain = table.rows([result("random_tokens", 0.5), result("as_dfd", 0.7), result("real_text", 0.9)])
    assert not any("measured by" in note for note in table.notes(plain))


def test_a_terminal_of_80_columns_shows_every_column() -> None:
    student = "truncated,dropout=0,layers=2"
    wide = result("random_tokens", 0.5, student=student)
    wide.content["seconds"]["train"], wide.content["queries"]["train"] = 12345.0, 1_234_567
    wide.content["queries"]["synthesis"] = 9
    spread = [wide, result("random_tokens", 0.9, seed=1, student=student), result("real_text", 1.0, student=student)]
    spread += [result("real_text", 0.2, seed=1, student=student), result("a_strategy_with_a_long_name", 0.1)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.rich_table(table.rows(spread)))
    lines = [line for line in console.export_text().splitlines() if line.strip()]
    assert max(map(len, lines)) <= 80
    row = next(number for number, line in enumerate(lines) if line.startswith(" random_tokens"))
    assert lines[row].split()[-1] == "6178+" and lines[row].split()[-2] == "618k"  # the last columns
    assert "70.0" in lines[row] and "±28.3" in lines[row] + lines[row + 1]
    assert lines[row - 2].split()[-3:] == ["time", "ies", "sec."]


def test_only_like_is_compared_with_like() -> None:
    others = [result("random_tokens", 0.5, student="other"), result("real_text", 0.9, student="other")]
    runs = [result("as_dfd", 0.86), *others]
    assert cells(table.rows(runs), "as_dfd")["gap closed"] == "n/a"


def test_runs_with_unlike_budgets_are_neither_pooled_nor_compared() -> None:
    runs = [result("as_dfd", 0.8), result("as_dfd", 0.6), result("random_tokens", 0.5), result("real_text", 0.9)]
    for run, steps in zip(runs, (600, 9, 600, 600)):
        run.content["config"]["train"] = {"steps": steps, "batch_size": 32, "teacher_queries": None}
    made = table.rows(runs)
    assert {row.student: row.cells["gap closed"] for row in made if row.strategy == "as_dfd"} == {
        "t, steps=600, batch_size=32": "75", "t, steps=9, batch_size=32": "n/a",
    }
    assert [row.cells["seeds"] for row in made] == ["1"] * 4


def test_two_teachers_can_be_told_apart() -> None:
    runs = [result("as_dfd", 0.8), result("as_dfd", 0.6)]
    runs[1].content["teacher"] |= {"sha256": "0123456789", "reference": "other"}
    assert {row.student for row in table.rows(runs)} == {"t of teacher (f)", "t of other (01234567)"}
    assert table.rows(runs[:1])[0].student == "t"


def test_one_teacher_under_two_tests_is_not_called_two() -> None:
    runs = [result("as_dfd", 0.8), result("as_dfd", 0.6)]
    for run, items, correct in zip(runs, (8, 16), ("ff", "fffe")):
        run.content["test_items"] = items
        run.content["teacher"]["correct"] = correct
    names = {row.student for row in table.rows(runs)}
    assert len(names) == 2 and not any("of teacher" in name for name in names)


def test_runs_that_differ_in_more_than_the_seed_are_not_called_seeds() -> None:
    made = table.rows([result("as_dfd", 0.8), result("as_dfd", 0.7)])
    assert cells(made, "as_dfd")["seeds"] == "1 (2 runs)"


def test_unfinished_runs_can_be_listed(tmp_path: Path) -> None:
    for name in ("a.partial", "teacher.partial"):
        (tmp_path / "sst2" / name).mkdir(parents=True)
    (tmp_path / "sst2" / "a.partial" / "config.yaml").write_text("seed: 0")
    (entry,) = results.unfinished([tmp_path])
    assert entry.run.endswith("sst2/a") and "not finished" in entry.reason


def test_the_metric_of_the_data_set_is_shown() -> None:
    assert cells(table.rows([result("as_dfd", 0.8, data={"metric": "macro_f1"})]), "as_dfd")["student"] == "40.0"


def test_without_a_test_split_the_table_says_so() -> None:
    made = table.rows([result("as_dfd", None)])
    assert cells(made, "as_dfd")["student"] == "no test data" and cells(made, "as_dfd")["fidelity"] == "75.0"
    assert any("held-out pseudo data" in note for note in table.notes(made))


def test_missing_runs_are_shown_everywhere(tmp_path: Path) -> None:
    made = table.rows([result("as_dfd", 0.8)], [Missing("real_text, seed 3", "failed: no disk")])
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    console.print(table.rich_table(made))
    for text in (console.export_text(), table.markdown(made), table.csv_text(made)):
        assert "real_text, seed 3" in text and "failed: no disk" in text


def test_pipes_do_not_break_the_markdown() -> None:
    made = table.rows([], [Missing("a|b", "c\nd")])
    assert r"a\|b" in table.markdown(made) and "c d" in table.markdown(made)


@pytest.mark.parametrize(
    ("text", "match"), [("{", "damaged"), ("[]", "no result of ours"), ('{"run": 1}', "no environment")]
)
def test_bad_result_files_are_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ConfigError, match=rf"(?s)result\.json.*{match}"):
        results.collect([tmp_path])


@pytest.mark.parametrize(("key", "value"), [
    ("queries.train", None), ("student.agreement", None), ("student.agreement", math.nan), ("teacher.scores", None),
    ("student.scores.accuracy", "0.9"), ("student.correct", 7), ("environment", None), ("config.train", None),
    ("generated_tokens", None), ("test_items", "10"), ("seconds.train", math.inf), ("steps", True),
])
def test_a_result_that_holds_something_else_is_named(tmp_path: Path, key: str, value: object) -> None:
    content = copy.deepcopy(result("as_dfd", 0.8).content)
    content["student"].setdefault("correct", "00")
    *outer, inner = key.split(".")
    place = content
    for name in outer:
        place = place[name]
    place[inner] = value
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"(?s)result\.json is damaged: {'.'.join(key.split('.')[:2])}.*expected"):
        results.collect([tmp_path])


@pytest.mark.parametrize(
    ("outer", "inner"), [("teacher", "sha256"), ("student", "cost"), ("queries", "train"), ("seconds", "train")]
)
def test_a_result_that_lacks_something_inside_is_named(tmp_path: Path, outer: str, inner: str) -> None:
    content = copy.deepcopy(result("as_dfd", 0.8).content)
    del content[outer][inner]
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=rf"(?s)result\.json.*no {outer}\.{inner}"):
        results.collect([tmp_path])


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("{bad\n")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is damaged"):
        Result(tmp_path, {}).log("metrics")


def test_runs_below_a_folder_called_partial_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "x.partial" / "a"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result("as_dfd", 0.8).content))
    assert len(results.collect([tmp_path])) == 1


def test_whatever_sees_real_texts_is_said_to(tmp_path: Path) -> None:
    made = table.rows([result("mine", 0.8, real=True), result("as_dfd", 0.8)])
    assert [note for note in table.notes(made) if "Not data-free" in note and note.endswith(": mine.")]
    assert not [note for note in table.notes(table.rows([result("as_dfd", 0.8)])) if "Not data-free" in note]


def sample(step: int, name: str = "a", text: str = "a", **more: Any) -> dict[str, Any]:
    return {"step": step, "text": text, "teacher_class": name, "confidence": 0.5, "target": None, **more}


def logged(folder: Path, *samples: dict[str, Any], label: str = "as_dfd", seed: int = 0, **more: Any) -> Result:
    """A result whose folder holds two steps of metrics and the samples."""
    folder.mkdir()
    metrics = [{"step": step, "kd": 0.5, "classes": [1, 2], "heldout_agreement": 0.5} for step in range(2)]
    for name, records in (("metrics", metrics), ("samples", samples or (sample(0),))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return Result(folder, result(label, 0.8, seed, **more).content)


def test_a_table_is_one_name_on_all_of_its_data_sets() -> None:
    def runs(grid: str, data: str, budget: int, right: float) -> list[Result]:
        found = []
        for strategy, score in (("random_tokens", 0.2), ("as_dfd", right), ("real_text", 0.9)):
            one = result(strategy, score, data={"name": data})
            one.content["config"]["train"] = {"steps": budget}
            one.content["run"] = f"{grid}/{data}/small/{strategy}/seed0"
            found.append(one)
        return found

    both = [*runs("main", "a", 10, 0.8), *runs("main", "b", 10, 0.5), *runs("parts", "a", 5, 0.3)]
    names = table.student_names(both)
    assert {name for setting, name in names.items() if setting.table == "main"} == {names[both[0].setting]}
    (shown,) = overview.overviews(both, outcomes.scored(both))
    assert shown.columns[1:3] == ["a (accuracy)", "b (accuracy)"] and "main" in shown.title
    assert next(row[1] for row in shown.rows if row[0] == "as_dfd").startswith("80.0")
    # with one budget as well: rows of one name in two tables may be made otherwise, and are no further seeds
    alike = [*runs("main", "a", 10, 0.8), *runs("parts", "a", 10, 0.3)]
    assert [row.cells["seeds"] for row in table.rows(alike)] == ["1"] * 6
    assert sorted(found["as_dfd"].runs for found in outcomes.scored(alike).values()) == [1, 1]


def test_inspect_tells_the_agreement_of_replayed_steps_too(tmp_path: Path) -> None:
    metrics: list[dict[str, Any]] = [{"step": step, "kd": 0.5, "fresh": step % 2 == 0} for step in range(10)]
    for step in (0, 5, 9):
        metrics[step]["heldout_agreement"] = step / 100
    assert inspect.early_and_late(metrics)["heldout_agreement"] == (0.0, 0.09)


# the samples of the page

def test_samples_are_spread_over_steps_and_classes() -> None:
    records = [sample(step, name) for step in range(100) for name in ("a", "a", "a", "b")]
    chosen = browser.chosen(records, 12)
    steps = list(dict.fromkeys(record["step"] for record in chosen))
    assert len(chosen) <= 12 and (steps[0], steps[-1]) == (0, 99) and len(steps) == 3
    assert {record["teacher_class"] for record in chosen if record["step"] == 99} == {"a", "b"}
    assert browser.chosen(records[:8], 12) == records[:8] and len(browser.chosen(records, 1)) == 1


@pytest.mark.slow
def test_hundreds_of_runs_share_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "IN_ALL", 12)
    samples = [sample(step) for step in range(30)]
    runs = [logged(tmp_path / str(seed), *samples, seed=seed) for seed in range(3)]
    assert [len(run.samples) for run in browser.browse(runs)] == [4, 4, 4]
    assert [len(run.samples) for run in browser.browse(runs[:1])] == [12]
    page.write_page(runs, [], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "12 of them" in html and "78 more are in the runs'" in html


def test_long_samples_are_cut(tmp_path: Path) -> None:
    (shown,) = browser.browse([logged(tmp_path / "a", sample(0, text="x" * 5000))])
    assert len(shown.samples[0]["text"]) < 610 and shown.samples[0]["text"].endswith("…")


def test_samples_of_two_data_sets_can_be_told_apart(tmp_path: Path) -> None:
    runs = [logged(tmp_path / data, data={"name": data}) for data in ("sst2", "ag_news")]
    assert [run.data for run in browser.browse(runs)] == ["sst2", "ag_news"]


# the page

def test_rewards_prompts_and_parts_of_a_mixture_stand_with_the_samples(tmp_path: Path) -> None:
    run = logged(tmp_path / "a", sample(0, reward=0.25, prompt="So they said", strategy="part_of_it"))
    page.write_page([run], [], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "reward 0.250" in html and "prompt: So they said" in html and "part_of_it" in html


@pytest.mark.parametrize("numbers", ["0.9 against 0.8", ("0.9 against 0.8",), {"0.9": "against 0.8"}])
def test_claims_are_shown_where_there_are_some(tmp_path: Path, numbers: Any) -> None:
    claims = [
        SimpleNamespace(claim="<b>It works", who="we & you", said=said, numbers=numbers, where=where)
        for said, where in (("fails", "g, <i>small"), ("holds so far (1 seed)", "h, big"))
    ]
    page.write_page([result("as_dfd", 0.8)], [], tmp_path / "with.html", claims=claims)
    page.write_page([result("as_dfd", 0.8)], [], tmp_path / "without.html")
    html = (tmp_path / "with.html").read_text()
    assert "&lt;b&gt;It works" in html and "we &amp; you" in html and ">fails<" in html and "against 0.8" in html
    assert ">g, &lt;i&gt;small<" in html and ">holds so far (1 seed)<" in html and ">h, big<" in html
    assert html.count("&lt;b&gt;It works") == 1  # once, with both verdicts below it
    assert "Claims" not in (tmp_path / "without.html").read_text()


def test_a_page_of_result_files_says_where_curves_and_samples_are(tmp_path: Path) -> None:
    page.write_page([result("as_dfd", 0.8, cost=1)], [], tmp_path / "files.html")
    page.write_page([logged(tmp_path / "run")], [], tmp_path / "runs.html")
    files, whole = ((tmp_path / f"{name}.html").read_text() for name in ("files", "runs"))
    assert "samples are in the folders of the runs, and these are result files alone" in files
    assert "result files alone" not in whole


def test_strategies_that_were_never_run_are_named_below_a_comparison() -> None:
    runs = [result("random_tokens", 0.5), result("real_text", 0.9)]
    for one in runs:
        one.content["student"]["correct"] = "ffc0"
    gone = [Missing(name, "not run yet", "sst2", "t", name) for name in ("cmi", "dafl", "real_text")]
    failed = Missing("dfad", "failed: why", "sst2", "t", "dfad")
    (section,) = sections.sections([Grid("tiny", tuple(runs), (*gone, failed))])
    (shown,) = section.students
    assert [line.strategy for line, _ in shown.lines] == ["random_tokens", "dfad", "real_text"]
    assert shown.notes[-1] == "Not run at all: cmi, dafl."


def test_what_runs_share_of_their_configurations_stands_there_once(tmp_path: Path) -> None:
    runs = [result("as_dfd", 0.8, seed) for seed in range(3)]
    runs[2].content["environment"] = {"torch": "3"}
    runs[0].content["config"]["data"]["note"] = runs[1].content["config"]["data"]["note"] = "only here"
    page.write_page(runs, [], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert html.count("only here") == 1 and html.count('id="machine-') == html.count('id="data-') == 2
    assert html.count('href="#machine-1"') == 2 and html.count('href="#machine-2"') == 1


def test_a_given_album_is_drawn(tmp_path: Path) -> None:
    picture = album.Picture("loss", "a picture of mine", Figure())
    chapters = [album.Chapter("a chapter", [picture])]
    page.write_page([result("as_dfd", 0.8)], [], tmp_path / "report.html", album=chapters)
    html = (tmp_path / "report.html").read_text()
    assert "a picture of mine" in html and html.count("<svg") == 1


def test_unfinished_runs_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result("as_dfd", 0.8).content))
    assert [found.folder.name for found in results.collect([tmp_path, tmp_path / "a"])] == ["a"]
    with pytest.raises(ConfigError, match="no folder"):
        results.collect([tmp_path / "gone"])


def test_the_page_escapes_what_data_and_models_made(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    run = logged(
        tmp_path / "run", sample(0, evil, evil, prompt=evil, strategy=evil), label=f"as_dfd{evil}", student=evil,
        data={"name": evil, "labels": [evil, "b"]},
    )
    run.content["environment"]["cpu"] = evil
    (tmp_path / "run" / "alarms.jsonl").write_text(
        json.dumps({"step": 0, "name": evil, "says": evil, "fact": evil, "value": 1.0, "remedy": evil}) + "\n"
    )
    page.write_page([run], [Missing(evil, evil)], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert evil not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<script>") == html.count("</script>") == 1  # our own


def test_the_page_asks_for_nothing(tmp_path: Path) -> None:
    """No address but those that name formats, and no script but the one whose hash the page gives."""
    page.write_page([logged(tmp_path / "run")], [], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    formats = {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    assert set(re.findall(r"https?://[^\s\"']+", html)) <= formats
    script = re.search("<script>(.*)</script>", html, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_ids_of_pictures_do_not_collide(tmp_path: Path) -> None:
    chapters = []
    for title in ("a", "b"):
        figures = [Figure(), Figure()]
        for figure in figures:
            figure.subplots().plot([1, 2])
        chapters.append(album.Chapter(title, [album.Picture("loss", title, figure) for figure in figures]))
    page.write_page([logged(tmp_path / "run")], [], tmp_path / "report.html", album=chapters)
    html = (tmp_path / "report.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids)) > 100 and html.count("<svg") == 4
    # what a picture refers to is in itself
    assert set(re.findall(r'(?:url\(|href=")#(p[^)"]+)', html)) <= set(ids)


def test_a_real_run_gives_a_page_with_samples_early_and_late(toy_teacher: Path, tmp_path: Path) -> None:
    base = ["data=toy", f"teacher={toy_teacher}", f"runs={tmp_path}", "student.layers=1", "evaluate.latency_rounds=2"]
    base.append("train.heldout=8")
    for strategy in ("random_tokens", "as_dfd"):
        more = [f"strategy={strategy}", "train.steps=7", "train.evaluate_every=3", "train.batch_size=8"]
        pipeline.run(pipeline.load_config(base + more))
    found = results.collect([tmp_path])
    page.write_page(found, [], tmp_path / "report.html")
    shown = [sample for run in browser.browse(found) for sample in run.samples]
    assert {sample["step"] for sample in shown} >= {0, 6} and len(shown) >= 32
    html = (tmp_path / "report.html").read_text()
    # agreement, loss, adversary, classes, reliability: each counted by the bins that the runs hold
    assert html.count("<svg") == 5 and "teacher_sha256" not in html and "random_tokens" in html
    for content in (run.content for run in found):
        counts = [sum(content[whose]["reliability"]["count"]) for whose in ("teacher", "student")]
        assert counts == [content["test_items"]] * 2
    assert cells(table.rows(found), "as_dfd")["time"] != "-/-"
