"""Tables and page, from made-up and from real result files."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dfkd import pipeline
from dfkd.errors import ConfigError
from dfkd.report import page, results, table
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
    assert table.gap_closed(0.79, 0.80, 0.88) == pytest.approx(-0.125)
    assert table.gap_closed(0.9, 0.8, 0.8) is None and table.gap_closed(0.9, None, 0.8) is None


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
    plain = table.rows([result("random_tokens", 0.5), result("as_dfd", 0.7), result("real_text", 0.9)])
    assert not any("measured by" in note for note in table.notes(plain))


def test_a_terminal_of_80_columns_shows_every_column() -> None:
    student = "truncated,dropout=0,layers=2"
    wide = result("random_tokens", 0.5, student=student)
    wide.content["seconds"]["train"], wide.content["queries"]["train"] = 12345.0, 1_234_567
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.rich_table(table.rows([wide, result("real_text", 0.9, student=student)])))
    shown = console.export_text()
    assert "12345" in shown and "1235k" in shown and max(map(len, shown.splitlines())) <= 80


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


def logged(folder: Path, *records: dict[str, Any], label: str = "as_dfd", data: str = "sst2") -> Result:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    sample = {"step": 0, "text": "a", "teacher_class": "a", "confidence": 0.5, "target": None}
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    return Result(folder, result(label, 0.8, data={"name": data}).content)


def test_a_single_look_at_the_held_out_samples_is_visible(tmp_path: Path) -> None:
    run = logged(tmp_path / "a", {"step": 5, "kd": 0.5}, {"step": 5, "heldout_agreement": 0.5})
    for picture in page.curves([run])[0]["pictures"]:
        # once in the legend, once at the point
        assert picture.count(f"fill: {page.COLOURS[0].lower()}; stroke: {page.COLOURS[0].lower()}") >= 2


def test_dollar_signs_in_labels_are_no_formulas(tmp_path: Path) -> None:
    run = logged(tmp_path / "a", {"step": 5, "kd": 0.5, "heldout_agreement": 0.5}, label=r"a=$\nosuch$")
    assert r"$\nosuch$" in page.curves([run])[0]["pictures"][0]


def test_samples_of_two_data_sets_can_be_told_apart(tmp_path: Path) -> None:
    runs = [logged(tmp_path / data, data=data) for data in ("sst2", "ag_news")]
    assert len({sample["run"] for sample in page.samples(runs)}) == 2


def test_unfinished_runs_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result("as_dfd", 0.8).content))
    assert [found.folder.name for found in results.collect([tmp_path, tmp_path / "a"])] == ["a"]
    with pytest.raises(ConfigError, match="no folder"):
        results.collect([tmp_path / "gone"])


def test_the_page_escapes_what_data_and_models_made(tmp_path: Path) -> None:
    folder, evil = tmp_path / "run", "<script>alert(1)</script>"
    folder.mkdir()
    content = copy.deepcopy(result(f"as_dfd{evil}", 0.8).content)
    content["config"]["data"]["name"] = evil
    content["environment"]["cpu"] = evil
    sample = {"step": 0, "text": evil, "teacher_class": evil, "confidence": 0.5, "target": None}
    (folder / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    metrics = {"step": 0, "kd": 0.5, "heldout_agreement": 0.5}
    (folder / "metrics.jsonl").write_text(json.dumps(metrics) + "\n")
    page.write_page([Result(folder, content)], [Missing(evil, evil)], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert evil not in html and "&lt;script&gt;alert(1)" in html
    assert html.count("<script>") == 1  # our own
    assert "http://" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_ids_of_pictures_do_not_collide(tmp_path: Path) -> None:
    import re

    runs = [result("as_dfd", 0.8), result("as_dfd", 0.8, student="other")]
    page.write_page(runs, [], tmp_path / "report.html")
    ids = re.findall(r'\bid="([^"]+)"', (tmp_path / "report.html").read_text())
    assert len(ids) == len(set(ids)) > 10


def test_a_real_run_gives_a_page_with_samples_early_and_late(toy_teacher: Path, tmp_path: Path) -> None:
    base = ["data=toy", f"teacher={toy_teacher}", f"runs={tmp_path}", "student.layers=1", "evaluate.latency_rounds=2"]
    base.append("train.heldout=8")
    for strategy in ("random_tokens", "as_dfd"):
        more = [f"strategy={strategy}", "train.steps=7", "train.evaluate_every=3", "train.batch_size=8"]
        pipeline.run(pipeline.load_config(base + more))
    found = results.collect([tmp_path])
    page.write_page(found, [], tmp_path / "report.html")
    shown = page.samples(found)
    assert {sample["step"] for sample in shown} == {0, 6} and len(shown) == 32
    html = (tmp_path / "report.html").read_text()
    assert html.count("<svg") == 2 and "teacher_sha256" not in html and "random_tokens" in html
    assert cells(table.rows(found), "as_dfd")["time"] != "-/-"
