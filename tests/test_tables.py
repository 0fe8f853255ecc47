"""Tables in three formats, documents of several grids, and the papers' tables beside ours: from result files alone."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shlex
from pathlib import Path
from typing import Any, Callable

import numpy
import pytest

from dfkd import cli, config, grids, tabling
from dfkd.errors import ConfigError
from dfkd.report import _formats, comparison, document, gap, page, paper, results, table
from dfkd.report.document import Grid
from dfkd.report.layout import sheets
from dfkd.report.results import Missing, Result, collect
from dfkd.report.statistics import Interval

ITEMS = 200
Make = Callable[..., Result]


def made(strategy: str, right: float, seed: int = 0, data: str = "sst2", **more: Any) -> Result:
    """A run of which the student gets the first ``right`` of the test items."""
    bits = numpy.arange(ITEMS) < round(right * ITEMS)
    scores = {"accuracy": right}
    student, name = more.get("student", "small"), more.get("name", strategy)
    content = {
        "run": f"{more.get('grid', 'g')}/{data}/{student}/{strategy}/seed{seed}", "finished": "2026-01-02T03:04:05",
        "steps": 9, "test_items": ITEMS, "test_fingerprint": "abc", "seconds": {"train": 10.0 + seed, "heldout": 2.0},
        "config": {
            "data": {"name": data, "metric": "accuracy", "max_length": 24}, "seed": seed,
            "student": {"name": "truncated", "label": student}, "train": {"steps": 9, "batch_size": 8},
        },
        "environment": {"cpu": "some", "cores": 1, "device": "cpu", "precision": "float32", "torch": "2"},
        "strategy": {"name": name, "label": strategy, "uses_real_text": more.get("real", strategy == "real_text")},
        "teacher": {"sha256": "f" * 9, "scores": {"accuracy": 0.95}, "cost": {"parameters": 10}},
        "student": {
            "scores": scores, "correct": numpy.packbits(bits).tobytes().hex(), "agreement": right,
            "cost": {"parameters": 5},
        },
        "queries": {"train": 100, "heldout": 20}, "generated_tokens": more.get("tokens", 0),
    }
    return Result(Path("nowhere"), content)


def seeds(strategy: str, *rights: float, **more: Any) -> list[Result]:
    """A run for each share."""
    return [made(strategy, right, seed, **more) for seed, right in enumerate(rights)]


def line(text: str, strategy: str) -> str:
    """A strategy's line of a Markdown table."""
    return next(row for row in text.splitlines() if row.startswith(f"| {strategy} "))


# what is said of a cell


def test_rows_that_train_otherwise_than_others_are_told() -> None:
    runs = [*seeds("random_tokens", 0.5, 0.5), made("pooled", 0.6), made("other|s", 0.6)]
    runs.append(made("real_text", 0.7, student="b"))
    runs[2].content["config"]["train"] |= {"replay_share": 0.75, "checkpoint_every": 7}
    runs[3].content["config"]["train"] |= {"replay_share": 0.0}  # an older run does not tell what is the default now
    runs[4].content["config"]["train"] |= {"learning_rate": 1.0}  # another student's
    said = [line for line in document.facts(Grid("g", tuple(runs))) if line.startswith("Training")]
    assert said == [
        "Training, replay_share=0.0: `random_tokens`, `other\\|s`, `real_text`.",
        "Training, replay_share=0.75: `pooled`.",
    ]
    assert not [line for line in document.facts(Grid("g", tuple(runs[:2]))) if line.startswith("Training")]


def test_a_cell_holds_mean_deviation_interval_and_star() -> None:
    runs = [*seeds("random_tokens", 0.5, 0.5), *seeds("as_dfd", 0.80, 0.84), *seeds("real_text", 0.9, 0.9)]
    entry = comparison.entries(runs)["small", "sst2", "as_dfd"]
    assert entry.deviation == pytest.approx(0.04 / 2**0.5) and entry.runs == 2
    cell = line(comparison.markdown(runs), "as_dfd").split("|")[3].strip()
    low, high = (f"{100 * bound:.1f}" for bound in entry.score[1:])
    assert cell == f"82.0 ± 2.8 [{low}, {high}]*" and float(low) < 82 < float(high)
    closed = entry.gap
    assert closed is not None and closed.low < 0.8 < closed.high
    shown = f"80 [{100 * closed.low:.0f}, {100 * closed.high:.0f}]"
    assert line(comparison.markdown(runs), "as_dfd").split("|")[4].strip() == f"{shown} (80)"
    latex = shown.replace("[", "{[}").replace("]", "{]}")  # without those of single data sets, and with n
    assert f"as\\_dfd & 2 & 82.0$^{{*}}\\,\\pm\\,$2.8 & {latex} & " in comparison.latex(runs)


@pytest.mark.parametrize(
    ("rivals", "bold"),
    [
        ({"as_dfd": (0.8,) * 3, "cmi": (0.7,) * 3}, ["as_dfd"]),
        ({"as_dfd": (0.8,) * 3, "cmi": (0.795, 0.8, 0.8)}, []),  # no difference to speak of
        ({"as_dfd": (0.8,) * 3, "cmi": (0.7,) * 3, "dafl": (0.8, 0.795, 0.8)}, []),  # every other one must be worse
        ({"as_dfd": (0.8,) * 3, "cmi": (0.7, 0.7)}, []),  # two seeds know next to nothing of the spread between seeds
        ({"as_dfd": (0.8, 0.8), "cmi": (0.7,) * 3}, []),
        ({"as_dfd": (0.4,) * 3, "cmi": (0.3,) * 3}, ["random_tokens"]),  # the floor is data-free as well
    ],
)
def test_bold_is_what_is_better_than_every_other(rivals: dict[str, tuple[float, ...]], bold: list[str]) -> None:
    runs = [*seeds("random_tokens", *(0.5,) * 3), *seeds("real_text", *(0.95,) * 3)]
    for name, rights in rivals.items():
        runs += seeds(name, *rights)
    (sheet,) = sheets(runs)
    assert re.findall(r"^\| (\w+) .*\*\*\d", _formats.markdown(sheet), re.MULTILINE) == bold
    assert [name for (_, name), entry in sheet.entries.items() if entry.best] == bold
    assert re.findall(r"^(\w+).*textbf", _formats.latex([sheet]).replace(r"\_", "_"), re.MULTILINE) == bold


@pytest.mark.parametrize(("floor", "own", "star"), [(2, 2, True), (1, 3, False), (3, 1, False)])
def test_a_star_needs_two_seeds_on_either_side(floor: int, own: int, star: bool) -> None:
    runs = [*seeds("random_tokens", *[0.5] * floor), *seeds("as_dfd", *[0.8] * own), *seeds("cmi", *[0.8] * 2)]
    assert line(comparison.markdown(runs), "as_dfd").split("|")[3].strip().endswith("*") is star
    entry = comparison.entries(runs)["small", "sst2", "as_dfd"]
    assert (entry.p is not None) is star and entry.difference is not None
    assert ("nothing is tested against it" in comparison.markdown(runs)) is not star


def test_what_sees_real_text_is_marked_and_never_best() -> None:
    runs = [*seeds("random_tokens", *[0.5] * 3), *seeds("as_dfd", *[0.8] * 3)]
    runs += seeds("peeking", *[0.99] * 3, real=True)
    text = comparison.markdown([*runs, *seeds("real_text", 0.9, 0.9)])
    assert "**" not in line(text, "peeking †") and "**80.0**" in line(text, "as_dfd")
    assert "not data-free, and never the best: peeking, real_text." in text
    order = [row.split(" ")[1] for row in text.splitlines() if row.startswith("| ") and "±" in row]
    assert order == ["random_tokens", "as_dfd", "peeking", "real_text"]
    assert r"peeking$^{\dagger}$" in comparison.latex(runs)


def test_many_rivals_need_a_clearer_lead() -> None:
    rival = numpy.arange(ITEMS) < 100
    rival[:11], rival[100:102] = False, True  # 11 of the leader's items lost, 2 others won: p is about 0.01

    def leads(rivals: int) -> tuple[float | None, bool]:
        runs = seeds("lead", 0.5, 0.5, 0.5)
        for number in range(rivals):
            runs += seeds(f"s{number}", 0.4, 0.4, 0.4)
            for run in runs[-3:]:
                run.content["student"]["correct"] = numpy.packbits(rival).tobytes().hex()
        entry = comparison.entries(runs)["small", "sst2", "lead"]
        return entry.lead, entry.best

    (few, first), (many, second) = leads(1), leads(8)
    assert first and not second and few is not None and many is not None
    assert many == pytest.approx(8 * few, rel=0.05)  # but for the chance of 4,000 rounds


def test_a_gap_within_its_interval_is_called_none() -> None:
    runs = []
    for data, ceiling in (("sst2", 0.505), ("ag_news", 0.9)):
        for name, right in (("random_tokens", 0.5), ("as_dfd", 0.5 + (ceiling - 0.5) / 2), ("real_text", ceiling)):
            runs += seeds(name, right, right, data=data)
    assert re.search(r"\| 49 \[\d+, \d+\] \(no gap, 50\) \|", line(comparison.markdown(runs), "as_dfd"))
    without = [run for run in runs if (run.strategy, run.setting[0]) != ("as_dfd", "ag_news")]
    assert "| (no gap" not in line(comparison.markdown(without), "as_dfd")  # no number to be told


def test_the_gap_of_several_data_sets_is_that_of_their_means() -> None:
    runs = []
    for data, ceiling in (("sst2", 0.47), ("ag_news", 0.54)):  # one has a gap, beyond its interval, their mean has none
        for name, right in (("random_tokens", 0.5), ("as_dfd", 0.6), ("real_text", ceiling)):
            runs += seeds(name, right, right, data=data)
    assert "| (no gap, 250) |" in line(comparison.markdown(runs), "as_dfd")


def test_a_line_of_other_data_sets_has_no_mean_costs() -> None:
    runs = [*seeds("random_tokens", 0.5, 0.5), *seeds("random_tokens", 0.5, 0.5, data="ag_news")]
    runs += seeds("as_dfd", 0.8, 0.8)
    assert line(comparison.markdown(runs), "as_dfd").endswith("| – | – | – |")
    assert line(comparison.markdown(runs), "random_tokens").endswith("| 50.0 | 120 | 12 |")


def test_a_table_is_of_accuracies_whatever_the_data_sets_score_is() -> None:
    runs = [*seeds("random_tokens", 0.5, 0.5), *seeds("as_dfd", 0.7, 0.7), *seeds("real_text", 0.9, 0.9)]
    for run in runs:
        run.content["config"]["data"]["metric"] = "macro_f1"
        run.content["student"]["scores"] = {"accuracy": 0.0, "macro_f1": 0.3}
        run.content["teacher"]["scores"]["macro_f1"] = 0.2
    text = comparison.markdown(runs)
    assert "sst2 (teacher 95.0)" in text and re.search(r"\| 50 \[\d+, \d+\] \(50\) \|", line(text, "as_dfd"))


def test_tokens_are_shown_where_any_were_written(tmp_path: Path) -> None:
    plain = [*seeds("random_tokens", 0.5, 0.5), *seeds("as_dfd", 0.8, 0.8)]
    assert "tokens" not in comparison.markdown(plain).splitlines()[2]
    old = Result(tmp_path, made("lm_free", 0.6).content)
    del old.content["generated_tokens"]
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "generated_tokens": 40.0}\n{"step": 1, "loss": 1}\n')
    unknown = made("pool", 0.6)
    del unknown.content["generated_tokens"]
    text = comparison.markdown([*plain, *seeds("prompt_rl", 0.7, 0.7, tokens=12345), old, unknown])
    assert text.splitlines()[2].split("|")[-3].strip() == "tokens"
    shown = {name: line(text, name).split("|")[-3].strip() for name in ("as_dfd", "prompt_rl", "lm_free", "pool")}
    assert shown == {"as_dfd": "0", "prompt_rl": "12,345", "lm_free": "40", "pool": "–"}
    assert "Tokens are – where a run does not tell" in text


def test_seconds_without_the_making_of_a_pool_are_marked() -> None:
    runs = [*seeds("random_tokens", 0.5, 0.5), *seeds("new", 0.8, 0.8), *seeds("old", 0.8, 0.8)]
    for one in runs[2:]:
        one.content["queries"]["synthesis"] = 70
    for one in runs[2:4]:
        one.content["seconds"]["synthesis"] = 100.0
    text = comparison.markdown(runs)
    shown = {name: line(text, name).split("|")[-2].strip() for name in ("random_tokens", "new", "old")}
    assert shown == {"random_tokens": "12", "new": "112", "old": "12+"}
    assert results.MORE_NOTE in text and results.MORE_NOTE not in comparison.markdown(runs[:4])
    assert "12+" in comparison.latex(runs) and results.MORE_NOTE in table.notes(table.rows(runs))
    rows = {row["strategy"]: row for row in csv.DictReader(io.StringIO(comparison.csv_text(runs)))}
    assert [rows[name]["seconds_whole"] for name in ("old", "new")] == ["False", "True"]
    assert rows["old"]["seconds"] == "12.5"


def test_missing_and_failed_cells_are_shown_as_such() -> None:
    def gone(strategy: str, data: str, reason: str = "not run yet") -> Missing:
        return Missing(f"{data}, small, {strategy}", reason, data, "small", strategy)

    runs = [*seeds("random_tokens", 0.5, 0.5), *seeds("as_dfd", 0.8, 0.8)]
    missing = [
        gone("as_dfd", "sst2"), gone("as_dfd", "imdb", "failed: no memory"), gone("as_dfd", "imdb"),
        gone("random_tokens", "imdb"), gone("cmi", "sst2", "failed: <b>"), Missing("x", "y", "sst2", "other", "cmi"),
    ]
    text = comparison.markdown(runs, missing)
    assert "(2 of 3 runs)" in line(text, "as_dfd") and "| failed (1 of 2) |" in line(text, "as_dfd")
    assert line(text, "cmi").split("|")[3].strip() == "failed (1 of 1)"
    assert line(text, "random_tokens").split("|")[4].strip() == "not run" and "| 2, 0 |" in line(text, "as_dfd")
    assert "Student: other\n\nNothing finished: 1 run." in text
    assert "- missing: sst2, small, cmi: failed: &lt;b&gt;" in text
    assert "- missing: sst2, as_dfd: 1 run, not run yet\n" in text and "as_dfd: not run yet" not in text
    assert "- missing: imdb, cmi: 3 runs, not run yet\n" in comparison.markdown(runs, [gone("cmi", "imdb")] * 3)
    latex = comparison.latex(runs, missing)
    assert r"80.0$^{*}\,\pm\,$0.0~(2/3)" in latex
    assert latex.count(r"\begin{table*}") == 1
    assert r"\par\noindent Student: other. Nothing finished: 1 run.\par" in latex
    assert r"\emph{not run}" in latex and r"\emph{failed (1 of 2)}" in latex


# formats


def test_csv_has_one_line_a_cell_with_all_numbers() -> None:
    runs = [*seeds("random_tokens", *[0.5] * 3), *seeds("as_dfd", 0.8, 0.82, 0.84), *seeds("real_text", *[0.9] * 3)]
    gone = Missing("imdb", "failed: x", "imdb", "small", "as_dfd")
    rows = list(csv.DictReader(io.StringIO(comparison.csv_text(runs, [gone]))))
    assert [(row["data"], row["strategy"]) for row in rows] == [
        (data, name) for data in ("sst2", "imdb") for name in ("random_tokens", "as_dfd", "real_text")
    ]
    row = next(row for row in rows if (row["data"], row["strategy"]) == ("sst2", "as_dfd"))
    assert float(row["accuracy"]) == pytest.approx(0.82) and float(row["deviation"]) == pytest.approx(0.02)
    assert float(row["gap_closed"]) == pytest.approx(0.8) and float(row["to_floor"]) == pytest.approx(0.32)
    assert float(row["gap_closed_low"]) < 0.8 < float(row["gap_closed_high"])
    assert float(row["to_floor_low"]) < 0.32 < float(row["to_floor_high"]) and float(row["to_floor_p"]) < 0.01
    costs = [row[name] for name in ("queries", "tokens", "seconds", "teacher", "seeds", "best", "data_free")]
    assert costs == ["120.0", "0.0", "13.0", "0.95", "3", "True", "True"] and float(row["lead_p"]) < 0.05
    absent = next(row for row in rows if (row["data"], row["strategy"]) == ("imdb", "as_dfd"))
    assert (absent["seeds"], absent["missing"], absent["failed"], absent["accuracy"]) == ("0", "1", "1", "")


def test_latex_escapes_what_others_named() -> None:
    evil = r"[50%] \input{x} & a_b #1 $y$ ~^ <s> |*"
    runs = [one for name in (evil, "random_tokens") for one in seeds(name, 0.8, 0.8, student=r"_\{}", data="d&d")]
    text = comparison.latex(runs)
    assert r"{[}50\%{]} \textbackslash{}input\{x\} \& a\_b \#1 \$y\$ \textasciitilde{}\textasciicircum{}" in text
    assert r"\textless{}s\textgreater{} \textbar{}{*}" in text and r"d\&d" in text
    bare = re.sub(r"\\[\\{}&%#$_]", "", text)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])  # type: ignore[index]
    rows = [row for row in text.splitlines() if row.endswith(r"\\")]
    assert len(rows) == 4 and all(len(re.findall(r"(?<!\\)&", row)) == columns - 1 for row in rows)
    assert text.startswith("% needs \\usepackage{booktabs,graphicx}") and text.count(r"\toprule") == 1
    assert text.count(r"\label{tab:") == 1 and text.count(r"\resizebox{\ifdim\width>\textwidth") == 1


def test_markdown_shows_names_as_they_are() -> None:
    runs = [*seeds("a|b\n<script>", 0.8, 0.8), *seeds("random_tokens", 0.5, 0.5)]
    text = comparison.markdown(runs)
    assert r"| a\|b &lt;script&gt; |" in text and "<script>" not in text


# grids and documents


TABLE = """
data: {sst2: {teacher: x}, imdb: {teacher: x}}
students: {small: }
strategies: {real_text: , as_dfd: , random_tokens: }
seeds: 2
"""


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of kept results of the table ``g``, some missing, and of runs of no table, ``other``."""
    (tmp_path / "experiments" / "tables").mkdir(parents=True)
    (tmp_path / "experiments" / "tables" / "g.yaml").write_text(TABLE)
    monkeypatch.chdir(tmp_path)
    runs = [*seeds("as_dfd", 0.8, 0.8), *seeds("random_tokens", 0.5), *seeds("as_dfd", 0.7, grid="other")]
    for run in runs:
        plain = {**run.content, "strategy": {**run.content["strategy"], "label": "called otherwise"}}
        keep(tmp_path / "results", plain if run.grid == "g" else run.content)
    broken = tmp_path / "results" / "g" / "imdb" / "small" / "as_dfd" / "seed1.partial"
    broken.mkdir(parents=True)
    (broken / "failure.txt").write_text("no memory\nmore\n")
    return tmp_path / "results"


def keep(folder: Path, content: dict[str, Any]) -> None:
    path = folder / content["run"] / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_results_meet_the_table_that_asked_for_them(kept: Path) -> None:
    ours, other = tabling.grids([kept])
    assert (ours.name, ours.known, other.name, other.known, other.missing) == ("g", True, "other", False, ())
    assert [(run.strategy, run.seed) for run in ours.results] == [("as_dfd", 0), ("random_tokens", 0), ("as_dfd", 1)]
    assert len(ours.missing) == 12 - 3 and len(grids.planned("g")) == 12
    assert [entry.run for entry in ours.missing if entry.failed] == ["imdb, small, as_dfd, seed 1"]
    assert ours.sheets()[0].datas == ("sst2", "imdb")
    assert ours.sheets()[0].strategies == ("random_tokens", "as_dfd", "real_text")


def test_a_document_says_how_its_tables_were_made_and_what_is_missing(kept: Path) -> None:
    text = document.write(tabling.grids([kept]), "markdown", "dfkd table results")
    assert "by `dfkd table results`: change nothing here" in text and text.count("\n## ") == 2
    first, second = text.split("\n## ")[1:]
    for said in (
        "Made by `dfkd compare g`.", "Teachers: sst2 95.0 % (ffffffff).", "Budget: steps=9, batch_size=8.",
        "Test: sst2, 200 test items of 24 tokens (abc).", "Machine: some, 1 thread, cpu, float32, torch 2.",
        "Runs finished on 2026-01-02.", "imdb, small, as_dfd, seed 1: failed: no memory",
        "**Incomplete: 9 of 12 runs are missing** (real_text: 4; as_dfd: 2; random_tokens: 3).",
    ):
        assert said in first
    assert "what may be missing is not known" in second and "Incomplete" not in second
    rows = list(csv.DictReader(io.StringIO(document.write(tabling.grids([kept]), "csv", "x"))))
    assert [row["grid"] for row in rows] == ["g"] * 6 + ["other"]
    assert r"\caption{g, student: small." in document.write(tabling.grids([kept]), "latex", "x")


def test_runs_are_called_as_their_table_calls_them() -> None:
    pooled = made("pool=p", 0.5, grid="smoke")
    pooled.content["run"] = "smoke/sst2/1_layer/keyword_prompt/seed0"
    stranger = made("pool=p", 0.5, grid="mine")
    called = tabling.called([pooled, stranger])
    assert [(run.strategy, run.setting[2]) for run in called] == [("keyword_prompt", "1 layer"), ("pool=p", "small")]


@pytest.mark.parametrize(("strategy", "told"), [("as_dfd", True), ("mine", False)])
def test_the_page_shows_claims_that_its_runs_tell_something_of(
    strategy: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in ("ag_news", "dbpedia14", "imdb"):
        for name, right in (("random_tokens", 0.5), ("real_text", 0.9), (strategy, 0.8)):
            for result in seeds(name, right, right, right, data=data):
                keep(tmp_path / "kept", result.content)
    run(monkeypatch, "report", str(tmp_path / "kept"), "--out", str(tmp_path / "page.html"))
    assert ('id="claims"' in (tmp_path / "page.html").read_text(encoding="utf-8")) is told
    for result in (made("random_tokens", 0.5), made("random_tokens", 0.6, seed=1)):  # single runs of two budgets
        result.content["run"] = f"sst2/{result.seed}"
        result.content["config"]["train"]["steps"] += result.seed
        keep(tmp_path / "kept", result.content)
    run(monkeypatch, "report", str(tmp_path / "kept"), "--out", str(tmp_path / "page.html"))


def test_the_page_compares_the_runs_of_tables(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in [*seeds("as_dfd", 0.82, 0.83), *seeds("random_tokens", *[0.5] * 3)]:
        one.content["run"] = one.content["run"].replace("/seed", "/seed1")  # more seeds, on sst2 of another table
        keep(kept, {**one.content, "run": one.content["run"].replace("g/", "mine/", 1)})
    single = made("lm_free", 0.6).content
    keep(kept, {**single, "run": "sst2/lm_free-truncated-seed0"})
    run(monkeypatch, "report", "results", "--out", "page.html")
    assert "failed: no memory" in capsys.readouterr().out.replace("\n", " ")
    html = Path("page.html").read_text(encoding="utf-8")
    own = html[html.index('id="comparisons"'):html.index('id="samples"')]
    assert re.findall(r"<h3>(.*?)</h3>", own) == ["mine", "g", "other"]  # whole tables first; none of single runs
    assert "9 of 12 runs are missing." in own and "imdb, small, as_dfd, seed 1: failed: no memory" in own
    assert "failed (1 of 2)" in own and 'aria-label="Comparison, g, student small"' in own
    row = re.search(r'<th scope="row">as_dfd</th><td>2</td><td>(.*?)</td>', own[own.index("<h3>mine"):])
    assert row is not None and re.fullmatch(r'82.5\* ± 0.7 <span class="bounds">\[.*\]</span>', row[1])
    assert "not finished" not in html and "differs from the floor on the same items" in own and "`" not in own
    assert 'href="#comparisons"' in html


def test_a_seed_that_is_there_twice_is_refused() -> None:
    runs = seeds("as_dfd", 0.8, 0.8)
    again = results.Result(Path("elsewhere"), {**runs[0].content, "run": "g/a/b/c/seed9"})
    with pytest.raises(ConfigError, match=r"sst2, small, as_dfd: two runs of seed 0(?s:.*)elsewhere"):
        sheets([*runs, again])


def test_bounds_of_a_share_that_are_far_off_are_infinite() -> None:
    assert gap.told(Interval(0.42, -27.18, math.inf)) == "42 [-∞, ∞]"
    assert gap.told(Interval(0.42, -0.001, 9.99)) == "42 [0, 999]"


def test_a_run_and_its_kept_copy_are_one_seed(tmp_path: Path) -> None:
    one, other = seeds("as_dfd", 0.82, 0.83)
    for folder in ("runs", "copies"):
        keep(tmp_path / folder, one.content)
    keep(tmp_path / "others", {**other.content, "run": one.content["run"]})  # another run of the same name
    found = results.collect([tmp_path / "runs", tmp_path / "copies", tmp_path / "others"])
    assert [result.folder for result in tabling.once(found)] == [found[0].folder, found[2].folder]


def test_a_page_leaves_out_data_sets_of_which_nothing_was_begun(kept: Path) -> None:
    found = [result for result in results.collect([kept]) if result.grid == "g"]
    assert {entry.data for entry in tabling.grids([kept])[0].missing} == {"sst2", "imdb"}
    grid, = tabling.compared(found, [kept / "nothing"])  # where no run has failed
    assert {entry.data for entry in grid.missing} == {"sst2"} and len(grid.results) == len(found)


def test_runs_that_cannot_be_compared_say_why_and_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>x</script>"
    mixed = [made("as_dfd", 0.8), made("random_tokens", 0.8)]
    mixed[1].content["config"]["train"]["steps"] = 10
    odd = [*seeds(evil, 0.8, 0.8, student=evil, data=evil), *seeds("random_tokens", 0.5, 0.5, student=evil, data=evil)]
    gone = Missing(evil, f"failed: {evil}", evil, evil, "cmi")
    shown = [Grid("mixed", tuple(mixed)), Grid(evil, tuple(odd), (gone,))]
    page.write_page([*mixed, *odd], [], tmp_path / "page.html", grids=shown)
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "runs of several settings cannot stand in one table" in html
    assert evil not in html and "&lt;script&gt;x&lt;/script&gt;: failed: " in html


def test_a_run_that_failed_is_not_called_unfinished(tmp_path: Path) -> None:
    for name, files in (("a", ["failure.txt"]), ("b", ["config.yaml"]), ("c", ["config.yaml", "failure.txt"])):
        for file in files:
            (tmp_path / f"{name}.partial").mkdir(exist_ok=True)
            (tmp_path / f"{name}.partial" / file).write_text("no memory\n  what to do: buy some\n")
    reasons = [entry.reason for entry in results.unfinished([tmp_path])]
    assert reasons == ["failed: no memory", "not finished: repeat its command", "failed: no memory"]


def test_a_complete_grid_says_so() -> None:
    assert "Complete: 2 runs." in document.facts(Grid("g", tuple(seeds("as_dfd", 0.8, 0.8)), (), known=True))


def test_a_run_and_its_copy_count_once(kept: Path, tmp_path: Path) -> None:
    keep(tmp_path / "runs", json.loads((kept / "g/sst2/small/as_dfd/seed0/result.json").read_text()))
    assert len(tabling.grids([kept, tmp_path / "runs"])[0].results) == 3
    keep(tmp_path / "runs", made("as_dfd", 0.1).content)
    with pytest.raises(ConfigError, match="two runs are called 'g/sst2/small/as_dfd/seed0'"):
        tabling.grids([kept, tmp_path / "runs"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no finished run(?s:.*)--keep FOLDER"):
        tabling.grids([tmp_path / "empty"])


def test_runs_of_several_settings_name_their_grid(kept: Path) -> None:
    mixed = made("real_text", 0.9)
    mixed.content["config"]["train"]["steps"] = 10
    keep(kept, mixed.content)
    with pytest.raises(ConfigError, match="g: sst2, small: runs of several settings"):
        document.write(tabling.grids([kept]), "markdown", "x")


def test_a_teacher_trained_again_elsewhere_is_the_same_one_if_it_gives_the_same_answers(kept: Path) -> None:
    runs = [made(name, right) for name, right in (("random_tokens", 0.5), ("as_dfd", 0.8), ("real_text", 0.9))]
    for run, weights in zip(runs, "abc"):
        run.content["teacher"] |= {"sha256": weights * 9, "correct": "f0" * 25}
    closed = comparison.entries(runs)["small", "sst2", "as_dfd"].gap
    assert closed is not None and closed.mean == pytest.approx(0.75, abs=0.05)
    facts = document.facts(document.Grid("g", tuple(runs)))
    assert "Teachers: sst2 95.0 % (aaaaaaaa, bbbbbbbb, cccccccc)." in facts
    unsure = {"accuracy": 0.95, "calibration_error": 0.1}
    for other in ({"correct": "f0" * 24 + "f1"}, {"cost": {"parameters": 11}}, {"scores": unsure}):
        unlike = made("as_dfd", 0.8)
        unlike.content["teacher"] = {**runs[0].content["teacher"], **other}
        with pytest.raises(ConfigError, match="runs of several settings"):
            comparison.entries([runs[0], unlike, runs[2]])


@pytest.mark.parametrize(("differing", "less_sure", "parameters", "one"), [
    (2, 0.0, 10, True), (3, 0.0, 10, False), (2, 0.0009, 10, True), (2, 0.002, 10, False), (0, 0.0, 11, False),
])
def test_teachers_that_differ_in_an_answer_of_a_thousand_count_as_one(
    tmp_path: Path, differing: int, less_sure: float, parameters: int, one: bool
) -> None:
    right = numpy.arange(2000) < 1900
    for seed in range(3):
        run = made("as_dfd", 0.8, seed).content
        another = seed == 0
        answers = right ^ (numpy.arange(2000) < differing) if another else right
        run["test_items"] = 2000
        run["teacher"] = {
            "sha256": "ab"[another] * 9, "correct": numpy.packbits(answers).tobytes().hex(),
            "scores": {"accuracy": 0.95, "calibration_error": 0.1 + less_sure * another},
            "cost": {"parameters": parameters if another else 10},
        }
        keep(tmp_path, run)
    collected = collect([tmp_path])
    assert len({run.setting for run in collected}) == 2 - one
    facts = "\n".join(document.facts(document.Grid("g", tuple(collected))))
    shown = "aaaaaaaa, bbbbbbbb, which differ in 2 of 2,000 answers"
    assert (shown in facts) == one


def test_answers_of_another_number_of_items_are_named(tmp_path: Path) -> None:
    for seed in (0, 1):
        content = made("as_dfd", 0.8, seed).content
        content["teacher"]["correct"] = "f0" * (24 + seed)
        keep(tmp_path, content)
    with pytest.raises(ConfigError, match=r"seed0 is damaged(?s:.*)teacher.correct: 24 bytes for 200 items"):
        collect([tmp_path])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """The command line, as a user types it."""
    monkeypatch.setattr("sys.argv", ["dfkd", *arguments])
    cli.main()


def test_the_command_writes_what_the_file_is_called_like(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "table", "results", "--out", "docs/results.md")
    text = Path("docs/results.md").read_text()
    assert "by `dfkd table results --out docs/results.md`" in text and "### Student: small" in text
    for ending, begin in ((".csv", "grid,student"), (".tex", "% made by")):
        run(monkeypatch, "table", "results", "--out", f"made{ending}")
        assert Path(f"made{ending}").read_text().startswith(begin)
    capsys.readouterr()
    run(monkeypatch, "table", "results", "--format", "csv")
    assert capsys.readouterr().out == Path("made.csv").read_text()
    for wrong, said in (
        (["--out", "docs"], "'docs' is there already"), (["--out", "made.csv/x.md"], "'made.csv' is a file"),
        (["--format", "pdf"], "unknown format 'pdf'"), (["--student", "small"], "--student goes with --paper"),
        (["--paper", "as_dfd", "--format", "csv"], "written as Markdown alone"),
    ):
        with pytest.raises(SystemExit):
            run(monkeypatch, "table", "results", *wrong)
        assert said in capsys.readouterr().err


# papers


@pytest.mark.parametrize("name", ["as_dfd", "promptdfd"])
def test_every_paper_table_of_ours_loads(name: str) -> None:
    table = paper.read(config.find_yaml("experiments/paper_tables", name))
    assert len(table.cells) == len(table.data) * len(table.students) * len(table.methods)
    assert all((cell.value is None) == (cell.source is None) for cell in table.cells.values())
    rows = config.read_yaml(config.find_yaml("experiments/tables", "paper"))
    assert set(table.data) <= set(rows["data"])
    assert {ours for names in table.students.values() for ours in names} <= set(rows["students"])
    assert {ours for names in table.methods.values() for ours in names} <= set(rows["strategies"])


PAPER = """
paper: Somebody 2020
teacher: BERT-base
data: {sst2: SST-2}
students: {BERT-6: [small]}
methods: {Vanilla KD: [real_text], Theirs: [as_dfd, as_dfd/paper]}
teachers: {sst2: {value: 93.1, source: "table 1, page 5"}}
cells: {sst2: {BERT-6: {Vanilla KD: {value: 91.5, source: "table 2, page 6"}, Theirs: {value: null, source: null}}}}
"""


def test_published_numbers_stand_beside_ours(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PAPER)
    table = paper.read(tmp_path / "p.yaml")
    runs = [*seeds("real_text", 0.9, 0.92), *seeds("as_dfd", 0.8), *seeds("as_dfd", 0.6, student="other")]
    text = paper.markdown(table, [Grid("g", tuple(runs))])
    assert "| method | SST-2 (teacher 93.1) |" in text
    assert "| Vanilla KD | 91.5 / 91.0 ± 1.4 (n 2, teacher 95.0) |" in text
    assert "| Theirs | n/a / 80.0 (n 1, as_dfd, teacher 95.0) |" in text and "- source: table 2, page 6" in text
    again = paper.markdown(table, [Grid("g", tuple(runs)), Grid("h", tuple(seeds("real_text", 0.5)))])
    assert "91.5 / 91.0 ± 1.4 (n 2, g, teacher 95.0); 50.0 (n 1, h, teacher 95.0)" in again
    other = paper.markdown(table, [Grid("g", tuple(runs))], student="other")
    assert "ours: other, another model: no reproduction" in other and "n/a / 60.0 (n 1, as_dfd, teacher 95.0)" in other
    with pytest.raises(ConfigError, match="no student 'smal'(?s:.*)did you mean 'small'"):
        paper.markdown(table, [Grid("g", tuple(runs))], student="smal")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("teacher:", "teachr:", "unknown key 'teachr'.*did you mean 'teacher'"),
        ("{BERT-6: [small]}", "{BERT-6: small}", "students.BERT-6.*a list of our names"),
        ("value: 91.5", "value: 915", "sst2: BERT-6: Vanilla KD is no published number"),
        ("value: 91.5", "value: 0.915", "sst2: BERT-6: Vanilla KD is no published number"),
        ('source: "table 2, page 6"', "source: null", "sst2: BERT-6: Vanilla KD is no published number.*and page"),
        (", Theirs: {value: null, source: null}", "", "sst2: BERT-6: Theirs is no cell.*value: null, source: null"),
        ("Theirs: {value: null, source", "Thers: {value: null, source", "no place for 'sst2: BERT-6: Thers'"),
        ("teachers: {sst2", "teachers: {sst", "no place for 'sst'"),
        ("cells: {sst2", "cells: [1]\nx: {sst2", "unknown key 'x'"),
        ("data: {sst2: SST-2}", "data: sst2", "'data' is no mapping"),
    ],
)
def test_a_wrong_paper_table_is_refused(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in PAPER
    (tmp_path / "p.yaml").write_text(PAPER.replace(before, after))
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        paper.read(tmp_path / "p.yaml")


def test_the_commands_of_the_page_on_reproduction_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "reproduction.md").read_text()
    found = re.findall(r"^dfkd (?:table|claims) .*", page, re.MULTILINE)
    commands = [shlex.split(line, comments=True) for line in found]
    assert len(commands) >= 6
    for name in ("as_dfd", "random_tokens"):
        for folder in ("results", "my_results"):
            keep(tmp_path / folder, made(name, 0.8, student="2 fresh layers").content)
    monkeypatch.chdir(tmp_path)
    for command in {tuple(words): words for words in commands}.values():
        run(monkeypatch, *command[1:])
    assert "## g" in Path("my_results.md").read_text() and "no reproduction" in capsys.readouterr().out


def test_an_unknown_paper_is_called_one() -> None:
    with pytest.raises(ConfigError, match="unknown paper table 'as_dfdd'(?s:.*)did you mean 'as_dfd'"):
        config.find_yaml("experiments/paper_tables", "as_dfdd")
