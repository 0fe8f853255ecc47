"""Grids of runs, their intervals and tests, and the tables made of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import numpy
import pytest
import torch
from omegaconf import OmegaConf

from dfkd import cli, compare, config, console, distill, grids, pipeline, ray_engine, runs, workers
from dfkd.errors import Busy, ConfigError, DfkdError
from dfkd.evaluate.scores import packed, unpacked
from dfkd.pipeline import Listeners
from dfkd.report import comparison, results
from dfkd.report.pictures import album

QUICK = {
    "train.steps": 3, "train.batch_size": 4, "train.heldout": 8, "evaluate.latency_rounds": 0, "threads": 1,
    "device": "cpu", "precision": "float32",
}


@contextmanager
def silent(job: grids.Job) -> Iterator[Listeners]:
    yield Listeners()


@pytest.fixture
def grid(toy_teacher: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a table's YAML, the given parts in place of the usual ones."""

    def write(**parts: Any) -> Path:
        values = {
            "settings": {**QUICK, "runs": str(tmp_path / "runs")},
            "data": {"toy": {"teacher": str(toy_teacher)}},
            "students": {"one layer": {"student": "truncated", "student.layers": 1}},
            "strategies": {"random_tokens": None, "real_text": None},
            **parts,
        }
        path = tmp_path / "small.yaml"
        OmegaConf.save(OmegaConf.create(values), path)
        return path

    return write


# what a table asks for


@pytest.mark.parametrize("text", ["Text ", "a: ", "123", "a #b", "[INST]", "", "null", "\n", 'say "it"', "é"])
def test_text_in_a_table_stays_the_text_that_it_is(text: str) -> None:
    assert config.parse_overrides([grids.setting("strategy.opening", text)])["strategy.opening"] == text


@pytest.mark.parametrize("parts", [
    {"strategies": {"mine": {"strategy": "random_tokens", "pool": "there"}}},
    {"settings": {**QUICK, "pool": "there"}},
])
def test_a_pool_takes_the_place_of_no_strategy(grid: Callable[..., Path], parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="pool"):
        grids.load(str(grid(**parts)))


def test_overrides_may_name_the_data_set(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid()), ["judge=null", "runs=mine/{data}"])
    assert {job.config.runs for job in jobs} == {"mine/toy"}


def test_every_combination_is_a_run(grid: Callable[..., Path]) -> None:
    variant = {"strategy": "random_tokens", "strategy.source": "pieces", "seeds": 3}
    jobs = grids.load(str(grid(seeds=2, strategies={"random_tokens": None, "pieces": variant})))
    named = [(job.cell.strategy, job.cell.seed) for job in jobs]
    assert sorted(named) == [(s, n) for s, count in (("pieces", 3), ("random_tokens", 2)) for n in range(count)]
    assert [seed for _, seed in named] == sorted(seed for _, seed in named)  # the whole table early on
    job = next(job for job in jobs if job.cell.strategy == "pieces" and job.cell.seed == 2)
    assert job.config.strategy.options["source"] == "pieces" and job.config.seed == 2
    assert job.config.student.options["layers"] == 1 and job.config.train.steps == 3
    assert job.config.run_name() == "small/toy/one_layer/pieces/seed2"


def test_overrides_come_last_and_only_chooses(grid: Callable[..., Path]) -> None:
    path = str(grid())
    jobs = grids.load(path, ["train.steps=5"], ["real_text"])
    assert [job.cell.strategy for job in jobs] == ["real_text"] and jobs[0].config.train.steps == 5
    assert len(grids.load(path, [], ["toy", "one layer"])) == 2
    with pytest.raises(ConfigError, match="did you mean 'real_text'"):
        grids.load(path, [], ["real_txt"])


@pytest.mark.parametrize("given", ["seed=3", "run=mine"])
def test_seeds_and_names_are_the_tables_own(grid: Callable[..., Path], given: str) -> None:
    with pytest.raises(ConfigError, match=f"gives its runs their '{given.split('=')[0]}'"):
        grids.load(str(grid()), [given])


def test_a_table_that_takes_them_away_or_has_no_settings_is_refused(grid: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="settings: a table gives its runs their 'seed'(?s:.*)'seeds: N'"):
        grids.load(str(grid(settings={**QUICK, "seed": 3})))
    with pytest.raises(ConfigError, match="strategies.random_tokens: a table gives its runs their 'run'"):
        grids.load(str(grid(strategies={"random_tokens": {"run": "mine"}})))
    with pytest.raises(ConfigError, match="settings(?s:.*)expected: a mapping of settings"):
        grids.load(str(grid(settings="threads")))
    with pytest.raises(ConfigError, match="about(?s:.*)expected: a sentence"):
        grids.load(str(grid(about=3)))


def test_unequal_budgets_are_refused(grid: Callable[..., Path]) -> None:
    longer = {"strategy": "random_tokens", "train.steps": 6}
    with pytest.raises(ConfigError, match="unequal budgets.*real_text.*longer") as caught:
        grids.load(str(grid(strategies={"real_text": None, "longer": longer})))
    assert "'steps': 3" in str(caught.value) and "'steps': 6" in str(caught.value)


def test_a_declared_budget_is_every_runs(grid: Callable[..., Path], toy_teacher: Path) -> None:
    settings = {key: value for key, value in QUICK.items() if key not in ("train.steps", "train.batch_size")}
    path = grid(
        settings=settings, budget={"steps": 4, "batch_size": 8},
        data={"toy": {"teacher": str(toy_teacher), "budget": {"steps": 5, "generated_tokens": 90}}},
        students={"one": {"student.layers": 1}, "two": {"student.layers": 2, "budget": {"steps": 6}}},
    )
    budgets = {
        (job.cell.student, train.steps, train.batch_size, train.generated_tokens)
        for job in grids.load(str(path)) for train in [job.config.train]
    }
    assert budgets == {("one", 5, 8, 90), ("two", 6, 8, 90)}


def test_a_students_row_is_of_the_kind_that_it_is_called_unless_it_says_otherwise(grid: Callable[..., Path]) -> None:
    rows = {"bilstm": None, "textcnn": {"student": "bilstm"}, "small": {"student.layers": 1}}
    kinds = {job.cell.student: job.config.student.name for job in grids.load(str(grid(students=rows)))}
    assert kinds == {"bilstm": "bilstm", "textcnn": "bilstm", "small": "truncated"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"budget": {"stps": 3}}, "unknown key 'stps'.*did you mean 'steps'"),
        ({"budget": 3}, "steps, batch_size, teacher_queries, generated_tokens"),
        ({"budget": {"batch_size": 4}}, "settings: the table declares its budget.*train.steps"),
        ({"students": {"a": {"student.layers": 1, "train.steps": 9, "budget": {"steps": 3}}}}, "students.a: the table"),
        ({"strategies": {"real_text": {"budget": {"steps": 3}}}}, "real_text: a strategy has no budget of its own"),
    ],
)
def test_budgets_that_are_none_are_refused(grid: Callable[..., Path], parts: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        grids.load(str(grid(**parts)))


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"strategy": {}}, "unknown key 'strategy'.*did you mean 'strategies'"),
        ({"data": {}}, "no data"),
        ({"students": {"one": 3}}, "students.one"),
        ({"seeds": "many"}, "seeds.*expected: how many, 1 or more.*found: many"),
        ({"seeds": 0}, "seeds.*1 or more"),
        ({"strategies": {"real_text": {"seeds": 1.5}}}, "strategies.real_text.seeds.*1 or more.*found: 1.5"),
        ({"students": {"a b": None, "a_b": None}}, "students: runs need a folder.*differ in.*'a b' and 'a_b'"),
        ({"strategies": {"a/b": {"strategy": "real_text"}, "a b": {"strategy": "real_text"}}}, "'a/b' and 'a b'"),
        ({"students": {"é": None}}, "students: runs need a folder of their own.*found: 'é'"),
        ({"strategies": {"random_tokns": None}}, "unknown strategy 'random_tokns'"),
        ({"students": {"one": {"student.layer": 1}}}, "toy, one, random_tokens, seed 0"),
    ],
)
def test_a_wrong_table_is_refused_before_work(grid: Callable[..., Path], parts: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        grids.load(str(grid(**parts)))


@pytest.mark.slow
@pytest.mark.parametrize("table", config.available("experiments/tables"))
def test_every_table_of_ours_loads(table: str) -> None:
    jobs = grids.load(table)
    assert len({job.config.run_name() for job in jobs}) == len(jobs) > 0
    assert {"random_tokens", "real_text"} <= {job.cell.strategy for job in jobs}  # floor and ceiling


def test_the_table_of_budgets_gives_the_picture_over_samples(toy_teacher: Path, tmp_path: Path) -> None:
    """Our table, of toy size: the made-up task, a step for fifty, one seed, without the strategy that guesses."""
    values = config.read_yaml(config.find_yaml(grids.TABLES, "budgets"))
    assert [row["budget"]["steps"] for row in values["students"].values()] == [50, 100, 200, 400]
    for row in values["students"].values():
        row["budget"] = {"steps": row["budget"]["steps"] // 50, "batch_size": 4}
    values |= {"data": {"toy": {"teacher": str(toy_teacher)}}, "seeds": 1}
    values["settings"] |= {"train.heldout": 8, "runs": str(tmp_path / "runs"), "device": "cpu"}
    OmegaConf.save(OmegaConf.create(values), tmp_path / "small.yaml")
    jobs = [job for job in grids.load(str(tmp_path / "small.yaml"), [], ["random_tokens", "real_text"])
            if job.config.train.steps < 8]
    compare.work_off(jobs, silent)
    found, missing = compare.outcome(jobs)
    pictures = [picture for chapter in album.album(found) for picture in chapter.pictures]
    (picture,) = [picture for picture in pictures if picture.name == "accuracy_by_samples"]
    assert not missing and picture.title == "toy, student 2 fresh layers"
    assert [list(line.get_xdata()) for line in picture.figure.axes[0].lines[:2]] == [[4, 8, 16]] * 2
    assert "Student: 2 fresh layers, 50 steps" in comparison.markdown(found)


# the work


def test_the_grid_is_worked_off_once(grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = grids.load(str(grid()))
    _, missing = compare.outcome(jobs)
    assert [entry.reason for entry in missing] == ["not run yet"] * 2
    compare.work_off(jobs, silent)
    found, missing = compare.outcome(jobs)
    assert len(found) == 2 and not missing
    assert {result.strategy for result in found} == {"random_tokens", "real_text"}
    assert {result.setting[2] for result in found} == {"one layer"}

    compare.keep_results(found, Path(jobs[0].config.runs).parent / "kept")
    kept = results.collect([Path(jobs[0].config.runs).parent / "kept"])
    assert len(kept) == 2 and all(str(jobs[0].config.data.folder) not in str(run.content) for run in kept)
    # some samples go with them, and none of the task's own texts
    samples, whole = {run.strategy: run.log("samples") for run in kept}, found[0].log("samples")
    assert samples["real_text"] == [] and 0 < len(samples["random_tokens"]) <= compare.KEPT_SAMPLES
    assert all(sample in whole for sample in samples["random_tokens"] if found[0].strategy == "random_tokens")

    def run_again(*_: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(pipeline, "run", run_again)
    compare.work_off(jobs, silent)


def test_results_are_kept_as_runs_finish(grid: Callable[..., Path], tmp_path: Path) -> None:
    jobs, heard = grids.load(str(grid())), Recorder()
    watcher = compare.Keeping(heard, jobs, tmp_path / "kept")
    outlook = compare.Outlook(jobs, 1)
    for done in range(len(jobs)):
        outlook.tell(watcher)
        assert len(results.collect([tmp_path / "kept"]) if done else []) == done
        compare.work_off(jobs[done : done + 1], silent)
    outlook.tell(watcher)
    kept = [path.read_bytes() for path in sorted((tmp_path / "kept").rglob("result.json"))]
    compare.keep_results(compare.outcome(jobs)[0], tmp_path / "at the end")
    assert kept == [path.read_bytes() for path in sorted((tmp_path / "at the end").rglob("result.json"))]
    assert [finished for finished, *_ in heard.heard] == [0, 1, 2]


def test_failures_are_kept_until_their_run_has_finished(
    grid: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, kept = grids.load(str(grid())), tmp_path / "kept"
    watcher, outlook = compare.Keeping(Recorder(), jobs, kept), compare.Outlook(jobs, 1)
    whole = distill.Distiller.fit
    with monkeypatch.context() as patched:
        patched.setattr(distill.Distiller, "fit", fails_for("random_tokens", whole))
        compare.work_off(jobs, silent)
    outlook.tell(watcher)
    (failure,) = kept.rglob("failure.txt")
    assert failure.parent.name.endswith(".partial") and "Traceback" not in failure.read_text()
    (missing,) = results.unfinished([kept])
    there = next(job.failure for job in jobs if job.failure.is_file())
    assert missing.failed and missing.reason.endswith(results.why(there))
    assert [run.strategy for run in results.collect([kept])] == ["real_text"]
    compare.forget_failures(jobs)
    outlook.tell(watcher)
    assert failure.is_file()  # tried again, and not done
    compare.work_off(jobs, silent)
    outlook.tell(watcher)
    assert not list(kept.rglob("*.partial")) and len(results.collect([kept])) == 2


def test_a_copy_that_fails_ends_no_work_and_is_tried_again(
    grid: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    jobs, heard = grids.load(str(grid())), Recorder()
    with pytest.raises(ConfigError, match="nothing can be kept in(?s:.*)name another folder"):
        (tmp_path / "file").touch()
        compare.Keeping(heard, jobs, tmp_path / "file")
    watcher = compare.Keeping(heard, jobs, tmp_path / "kept")
    compare.work_off(jobs, silent)
    with monkeypatch.context() as patched:
        patched.setattr(compare, "keep_results", full)
        watcher.update(2, 0, [], None)
    assert len(heard.heard) == 1 and not results.collect([tmp_path / "kept"])
    watcher.update(2, 0, [], None)
    assert len(results.collect([tmp_path / "kept"])) == 2


def test_the_command_keeps_results_while_it_runs(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watchers: list[Any] = []
    monkeypatch.setattr(compare, "supervise", lambda *given: watchers.append(given[-1]))
    monkeypatch.setattr("sys.argv", ["dfkd", "compare", str(grid()), "--keep", str(tmp_path / "kept")])
    with pytest.raises(SystemExit):  # nothing was run
        cli.main()
    assert [type(watcher) for watcher in watchers] == [compare.Keeping] and (tmp_path / "kept").is_dir()


def test_runs_that_were_finished_with_other_settings_stand_in_no_table(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid()))
    compare.work_off(jobs, silent)
    changed = grids.load(str(grid()), ["train.learning_rate=0.5"])
    compare.work_off(changed, silent)  # what is there is not written over
    found, missing = compare.outcome(changed)
    assert not found and len(missing) == 2 and all(entry.failed for entry in missing)
    assert "train.learning_rate: 0.0003 there, 0.5 now" in missing[0].reason
    assert len(compare.outcome(jobs)[0]) == 2


def test_a_run_that_another_process_has_is_not_prepared(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = grids.load(str(grid()), [], ["random_tokens"])
    other = runs.open_run(Path(job.config.runs), job.config.run_name(), {})
    assert job.folder.busy
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            other.finish({"steps": 1})

    monkeypatch.setattr(compare.time, "sleep", wait)
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("the run was prepared"))
    compare.work_off([job], silent)
    assert len(waits) == 2 and not job.folder.busy


def test_a_failure_is_named_and_the_rest_goes_on(grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = grids.load(str(grid()))
    whole = distill.Distiller.fit
    monkeypatch.setattr(distill.Distiller, "fit", fails_for("random_tokens", whole))
    compare.work_off(jobs, silent)
    found, missing = compare.outcome(jobs)
    assert [result.strategy for result in found] == ["real_text"]
    assert missing[0].run == "toy, one layer, random_tokens, seed 0"
    assert "failed: the strategy broke" in missing[0].reason
    monkeypatch.setattr(distill.Distiller, "fit", whole)
    compare.work_off(jobs, silent)  # as a second worker would: what failed is not tried at once again
    assert len(compare.outcome(jobs)[0]) == 1
    compare.forget_failures(jobs)
    compare.work_off(jobs, silent)
    assert len(compare.outcome(jobs)[0]) == 2
    assert not list(jobs[0].folder.final.parent.rglob("failure.txt"))


def test_runs_that_cannot_begin_are_told_before_any_does(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = {"random_tokens": None, "of a pool": {"pool": "no/such/pool"}}
    students = {"one": {"student.layers": 1}, "nine": {"student.layers": 9}}
    jobs = grids.load(str(grid(strategies=strategies, students=students, seeds=2)))
    asked, whole = list[Any](), pipeline.preflight

    def preflight(config: Any, **rest: Any) -> Any:
        asked.append(config)
        return whole(config, **rest)

    monkeypatch.setattr(pipeline, "preflight", preflight)
    problems = compare.check_ahead(jobs)
    rows = {frozenset(f"{job.cell.student}, {job.cell.strategy}" for job in runs) for runs in problems.values()}
    assert rows == {frozenset({row}) for row in ("one, of a pool", "nine, of a pool", "nine, random_tokens")}
    assert all(len(runs) == 2 for runs in problems.values()) and len(asked) == 4  # seeds are alike
    both, = (text for text, runs in problems.items() if (runs[0].cell.student, runs[0].cell.strategy) == (
        "nine", "of a pool"))
    assert "no pool in 'no/such/pool'" in both and "the student has more layers" in both
    monkeypatch.setattr(pipeline, "preflight", whole)
    compare.work_off(jobs, silent)
    found, missing = compare.outcome(jobs)
    assert len(found) == 2 and len(missing) == 6 and all("failed: " in absent.reason for absent in missing)
    assert "no pool in 'no/such/pool'" in next(absent.reason for absent in missing if "one, of a pool" in absent.run)


def fails_for(strategy: str, whole: Any) -> Any:
    def fit(self: distill.Distiller) -> Any:
        if type(self.synthesizer).__module__.endswith(strategy):
            raise DfkdError("the strategy broke")
        return whole(self)

    return fit


def test_a_run_of_another_process_is_waited_for(grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = grids.load(str(grid()), [], ["random_tokens"])
    attempts: list[str] = []
    whole = pipeline.run

    def busy_at_first(config: Any, listeners: Any) -> Any:
        attempts.append(config.run_name())
        if len(attempts) == 1:
            raise Busy("another process is working on it")
        return whole(config, listeners)

    monkeypatch.setattr(pipeline, "run", busy_at_first)
    monkeypatch.setattr(workers, "WAIT_SECONDS", 0)
    compare.work_off(jobs, silent)
    assert len(attempts) == 2 and len(compare.outcome(jobs)[0]) == 1


def test_a_run_that_ends_while_it_is_opened_is_not_begun_again(tmp_path: Path) -> None:
    first = runs.open_run(tmp_path, "a", {"x": 1})
    with pytest.raises(Busy):
        runs.open_run(tmp_path, "a", {"x": 1})
    first.finish({"steps": 1})
    second = runs.open_run(tmp_path, "a", {"x": 1})
    assert second.finished and not second.work.exists()
    assert sorted(path.name for path in second.final.iterdir()) == ["config.yaml", "result.json"]


@pytest.mark.slow
def test_the_command_shares_the_runs_among_processes_and_names_what_failed(
    grid: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # the second student fails only where its run is prepared: it has more layers than the teacher
    path = grid(students={"one layer": {"student.layers": 1}, "too many": {"student.layers": 9}})
    arguments = ["dfkd", "compare", str(path), "--workers", "2", "--keep", str(tmp_path / "kept")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr().out
    assert stop.value.code == 1 and "2 of 4 runs" in printed
    assert "cannot begin (2 runs): toy, too many, random_tokens; toy, too many, real_text\nthe student has" in printed
    assert "Student: one layer" in printed and "| real_text † | 1 |" in printed
    assert "missing: toy, too many, random_tokens, seed 0: failed: the student has more layers" in printed
    assert "Student: too many\n\nNothing finished: 2 runs, 2 of them failed." in printed
    tables = sorted(path.name for path in (tmp_path / "runs" / "small").glob("comparison.*"))
    assert tables == ["comparison.csv", "comparison.md", "comparison.tex"]
    kept = sorted((tmp_path / "kept").rglob("*.json"))
    assert len(kept) == 2 and all(path.stat().st_size < 10_000 for path in kept)
    assert json.loads(kept[0].read_text())["config"]["student"]["label"] == "one layer"
    monkeypatch.setattr("sys.argv", ["dfkd", "compare", str(path), "--show", "--only", "one layer"])
    cli.main()
    assert "2 of 2 runs" in (shown := capsys.readouterr().out) and "too many" not in shown
    written = (tmp_path / "runs" / "small" / "comparison.md").read_text()  # a part does not take the whole's place
    assert "Student: one layer" in written and "Student: too many" in written
    # nor where the other rows do not know an option
    only = ["--only", "one layer", "--only", "random_tokens"]
    arguments = ["dfkd", "compare", str(path), *only, "strategy.source=pieces"]
    monkeypatch.setattr("sys.argv", [*arguments, "--show"])
    cli.main()
    assert "failed: finished with other settings" in (shown := capsys.readouterr().out) and "real_text" not in shown
    assert (tmp_path / "runs" / "small" / "comparison.md").read_text() == written  # a look changes nothing
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit):
        cli.main()
    written = (tmp_path / "runs" / "small" / "comparison.md").read_text()
    assert "| real_text † | 1 |" in written and "other settings" in written


class Recorder:
    """A watcher that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, list[str], float | None]] = []

    def update(self, finished: int, failed: int, running: Any, left: float | None) -> None:
        self.heard.append((finished, failed, list(running), left))


def test_the_time_left_is_that_of_the_runs_most_like_those_to_do(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid(seeds=2, students={"one": {"student.layers": 1}, "two": {"student.layers": 2}})))
    outlook, watcher = compare.Outlook(jobs, workers=2), Recorder()
    outlook.tell(watcher)
    assert watcher.heard == [(0, 0, [], None)]
    cells = [job.cell for job in jobs]
    outlook.took = {cell: 10.0 if cell.strategy == "real_text" else 30.0 for cell in cells if cell.seed == 0}
    second = [cell for cell in cells if cell.seed == 1]
    assert outlook.left({cell: 1.0 for cell in second}) == (10 + 30 + 10 + 30) / 2
    assert outlook.left({second[0]: 0.5}) == 15.0  # one run cannot be shared
    outlook.took = {cells[0]: 30.0}
    assert outlook.left({cells[1]: 1.0}) == 30.0  # nothing more alike is known
    assert outlook.left({}) == 0.0
    shown = [console.time_left(seconds) for seconds in (None, 40, 600, 9000)]
    assert shown == ["", "about 40 s left", "about 10 min left", "about 2.5 h left"]


def test_runs_and_failures_and_steps_are_told(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid(seeds=2)))
    compare.work_off(jobs[:1], silent)
    compare.note_failure(jobs[1], DfkdError("broken"))
    begun = runs.open_run(Path(jobs[2].config.runs), jobs[2].config.run_name(), {})
    begun.log("metrics", {"step": 0})
    watcher = Recorder()
    compare.Outlook(jobs, 1).tell(watcher)
    (finished, failed, running, left), = watcher.heard
    assert (finished, failed) == (1, 1) and running == [f"{jobs[2].cell}: step 1 of 3"]
    took = sum(jobs[0].folder.result()["seconds"].values())
    assert left == pytest.approx(took * (2 / 3 + 1))


def test_the_time_left_is_guessed_before_the_first_run_has_finished(grid: Callable[..., Path]) -> None:
    jobs, watcher = grids.load(str(grid(seeds=2))), Recorder()
    begun = runs.open_run(Path(jobs[0].config.runs), jobs[0].config.run_name(), {})
    begun.log("metrics", {"step": 0, "seconds": 4.0})
    compare.Outlook(jobs, 1).tell(watcher)
    assert watcher.heard[-1][-1] == pytest.approx(12.0 * (2 / 3 + 3))  # three steps a run, four runs


def test_long_names_of_runs_leave_the_bar_its_room(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = console.Console(width=80, record=True, force_terminal=True)
    monkeypatch.setattr(console, "console", shown)
    progress = console.GridProgress(728)
    line = "dbpedia14, 2 fresh layers, keyword_prompt, random words, seed 0: step 100 of 200"
    progress.update(40, 2, [line], 9000)
    shown.print(progress._shown())
    first, second = shown.export_text().splitlines()[:2]
    assert "runs (2 failed)" in first and "40/728" in first and "about 2.5 h left" in first
    assert second.startswith("  dbpedia14, 2 fresh layers") and len(second.rstrip()) <= 80


def test_a_run_that_spent_its_queries_before_its_steps_is_named(grid: Callable[..., Path]) -> None:
    table = grid(strategies={"random_tokens": None})
    jobs = grids.load(str(table), ["train.steps=4", "train.batch_size=8", "train.teacher_queries=20"])
    compare.work_off(jobs, silent)
    found, missing = compare.outcome(jobs)
    assert not missing and "random_tokens on toy: " in (text := comparison.markdown(found)) and " of 4." in text


@pytest.mark.slow
def test_two_workers_of_ray_do_the_runs_and_name_what_failed(
    grid: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = grid(students={"one layer": {"student.layers": 1}, "too many": {"student.layers": 9}})
    monkeypatch.setattr("sys.argv", ["dfkd", "compare", str(path), "--workers", "2", "--engine", "ray"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr().out
    assert stop.value.code == 1 and "2 of 4 runs" in printed
    assert "cannot begin (2 runs): toy, too many, random_tokens; toy, too many, real_text\nthe student has" in printed
    assert "missing: toy, too many, random_tokens, seed 0: failed: the student has more layers" in printed
    assert len(list((tmp_path / "runs").rglob("result.json"))) == 2


@pytest.mark.slow
def test_a_process_of_ray_that_dies_is_a_failure_with_a_name(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_engine, "_work", dies)
    jobs, watcher = grids.load(str(grid(strategies={"random_tokens": None}))), Recorder()
    ray_engine.supervise(jobs, 1, watcher)
    assert watcher.heard[-1][:2] == (0, 1)
    _, missing = compare.outcome(jobs)
    assert "failed: " in missing[0].reason and "died" in missing[0].reason and "Traceback" not in missing[0].reason


def dies(*_: Any) -> None:
    """In place of a run, in a process of its own."""
    os._exit(3)


def test_an_engine_that_is_not_there_is_told_before_work(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["dfkd", "compare", str(grid()), "--engine", "slurm"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "expected: processes or ray" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"needs Ray(?s:.*)pip install '\.\[ray\]'"):
        ray_engine.check()


# intervals and tests


def test_packed_answers_come_back() -> None:
    logits = torch.tensor([[2.0, 1], [0, 1], [3, 1], [0, 3], [1, 0], [0, 1], [0, 1], [4, 1], [1, 2]])
    labels = [0, 0, 0, 1, 1, 1, 1, 0, 1]
    bits = unpacked(packed(logits, labels), len(labels))
    assert bits.tolist() == [True, False, True, True, False, True, True, True, True]
    with pytest.raises(ValueError, match="2 bytes for 17 items"):
        unpacked(packed(logits, labels), 17)


def test_the_table_says_gap_and_significance(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid(strategies={"random_tokens": None, "real_text": None, "as_dfd": None})))
    compare.work_off(jobs, silent)
    found, _ = compare.outcome(jobs)
    floor, ceiling, middle = (
        next(result for result in found if result.strategy == name) for name in ("random_tokens", "real_text", "as_dfd")
    )
    items = floor.content["test_items"]
    set_correct(floor, 0.25)
    set_correct(ceiling, 0.75)
    set_correct(middle, 0.65)
    made = comparison.entries(found)
    entry = made["one layer", "toy", "as_dfd"]
    assert entry.gap is not None and entry.gap.mean == pytest.approx(0.8, abs=2 / items)
    assert entry.score.mean == pytest.approx(0.65, abs=1 / items)
    assert entry.difference is not None and entry.difference.mean > 0.3
    assert entry.difference.p < 0.05 and entry.p is None  # one seed on each side
    assert made["one layer", "toy", "random_tokens"].difference is None
    text = comparison.markdown(found)
    line = next(line for line in text.splitlines() if line.startswith("| as_dfd"))
    gap, score = f"{100 * entry.gap.mean:.0f}", f"{100 * entry.score.mean:.1f} ±"
    assert f"| {gap} ({gap}) |" in line and score in line and "*" not in line  # one seed: no interval of the share


def set_correct(result: Any, share: float) -> None:
    """Make the result's student right about the first ``share`` of the test items."""
    items = result.content["test_items"]
    bits = numpy.arange(items) < round(share * items)
    result.content["student"]["correct"] = numpy.packbits(bits).tobytes().hex()


def test_runs_of_several_settings_are_not_averaged(grid: Callable[..., Path]) -> None:
    jobs = grids.load(str(grid()))
    compare.work_off(jobs, silent)
    found, _ = compare.outcome(jobs)
    found[0].content["config"]["train"] = {**found[0].content["config"]["train"], "steps": 99}
    with pytest.raises(ConfigError, match="several settings"):
        comparison.entries(found)
    for result in found:
        result.content["config"]["train"]["steps"] = 3
        result.content["student"]["correct"] = None  # as without test data
    with pytest.raises(ConfigError, match="which test items its student gets right(?s:.*)dfkd report"):
        comparison.entries(found)


def test_an_unknown_table_is_called_one() -> None:
    with pytest.raises(ConfigError, match="unknown table 'tinyy'(?s:.*)did you mean 'tiny'"):
        grids.load("tinyy")


KILLED = """
import os, pathlib, signal, sys
for work in map(pathlib.Path, sys.argv[1:]):
    if not (work / "failure.txt").exists():
        work.mkdir(parents=True, exist_ok=True)
        (work / "lock").write_text(str(os.getpid()))
        if "random_tokens" in str(work):
            os.kill(os.getpid(), signal.SIGKILL)
        (work / "done").touch()
"""


def test_the_run_of_a_process_that_was_killed_is_named_and_the_rest_goes_on(
    grid: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, begun = grids.load(str(grid())), []
    works = [str(job.folder.work) for job in jobs]

    def start(command: Any, log: Path, held: Any) -> Any:
        log.touch()
        begun.append(subprocess.Popen([sys.executable, "-c", KILLED, *works]))
        return begun[-1]

    monkeypatch.setattr(workers, "_start", start)
    monkeypatch.setattr(workers, "WAIT_SECONDS", 0.05)
    compare.supervise(jobs, [], 1, Recorder())
    assert [process.returncode for process in begun] == [-signal.SIGKILL, 0]
    assert [(job.folder.work / "done").is_file() for job in jobs] == [job.cell.strategy == "real_text" for job in jobs]
    (named,) = [entry for entry in compare.outcome(jobs)[1] if entry.failed]
    assert named.strategy == "random_tokens" and "ended by signal 9 (SIGKILL)" in named.reason
    assert "repeat the command" in named.reason
    compare.forget_failures(jobs)  # as the next command does
    with pytest.raises(DfkdError, match="a worker ended with exit code -9"):
        monkeypatch.setattr(compare, "blame", lambda *end: False)  # as where it ended before it had a run
        compare.supervise(jobs, [], 1, Recorder())
    assert len(begun) == 4  # it was tried once more, and not for ever


def test_a_lock_tells_who_has_it_and_looking_changes_nothing(tmp_path: Path) -> None:
    folder = runs.open_run(tmp_path, "a", {"x": 1})
    assert folder.locked_by == os.getpid() and runs.RunFolder(folder.final).busy and folder.locked_by == os.getpid()
    assert folder._lock is not None
    folder._lock.close()  # as where its process is killed
    assert not runs.RunFolder(folder.final).busy and folder.locked_by == os.getpid()
    assert runs.RunFolder(tmp_path / "b").locked_by is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_processes_end_with_the_one_that_began_them(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = threading.Timer(0.5, os.kill, (os.getpid(), number))
    begun: list[Any] = []

    def asleep(command: Any, log: Path, held: Any) -> Any:
        begun.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return begun[-1]

    monkeypatch.setattr(workers, "_start", asleep)
    before = signal.getsignal(number)
    monitor.start()
    with pytest.raises(SystemExit):
        workers.share([[], []], [tmp_path / "a", tmp_path / "b"], lambda: None)
    assert [process.poll() for process in begun] == [-signal.SIGTERM] * 2 and signal.getsignal(number) == before
