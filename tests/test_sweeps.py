"""Sweeps: what is searched, what drives the search, early ends, resume after a kill, several objectives."""

from __future__ import annotations

import math
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import pytest
from omegaconf import OmegaConf
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState

from dfkd import cli, config, console, judge, pipeline, runs, workers
from dfkd.config import RunConfig
from dfkd.errors import Alarmed, Busy, ConfigError, DfkdError, TrainingDiverged
from dfkd.pipeline import Listeners
from dfkd.report.front import draw_front
from dfkd.sweeping import outcome, spec, study, work
from dfkd.sweeping.space import Range

STEPS = 6
SETTINGS = {
    "data": "toy", "student.layers": 1, "strategy": "random_tokens", "train.steps": STEPS, "train.batch_size": 4,
    "train.heldout": 20, "train.evaluate_every": 2, "train.checkpoint_every": 2, "evaluate.latency_rounds": 0,
    "threads": 1, "device": "cpu", "precision": "float32", "seed": 5,
}
RATE = {"low": 1e-5, "high": 1e-1, "log": True}
BEST_RATE = 3e-2
Write = Callable[..., str]


class Killed(BaseException):
    """Ends the work as a kill would."""


@pytest.fixture
def yaml(toy_teacher: Path, tmp_path: Path) -> Write:
    """Writes a sweep's YAML, the given parts in place of the usual ones; gives its path."""

    def write(settings: dict[str, Any] = {}, **parts: Any) -> str:
        usual = {"search": {"train.learning_rate": RATE}, "trials": 4}
        values = {"settings": {**SETTINGS, "teacher": str(toy_teacher), **settings}, **usual, **parts}
        OmegaConf.save(OmegaConf.create(values), tmp_path / "small.yaml")
        return str(tmp_path / "small.yaml")

    return write


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[RunConfig]]:
    """Puts a formula in the place of the runs, and memory in that of SQLite; gives the configurations asked about."""
    kept: dict[Path, InMemoryStorage] = {}

    def storage(database: Path) -> InMemoryStorage:
        database.touch()
        return kept.setdefault(database, InMemoryStorage())

    def replace(score: Callable[[RunConfig], float], size: Callable[[RunConfig], float] = lambda _: 1.0) -> Any:
        asked: list[RunConfig] = []

        def run(given: RunConfig, listeners: Listeners, scored: bool) -> dict[str, Any]:
            assert not scored
            asked.append(given)
            folder = runs.open_run(Path(given.runs), given.run_name(), {})
            folder.log("metrics", {"step": 0})
            folder.save_checkpoint(0, {"step": 0})
            for step in range(STEPS):
                listeners.step({"step": step, "heldout_agreement": score(given) * step / STEPS}, STEPS)
            result = {"fidelity": {"agreement": score(given)}, "student": {"cost": {"parameters": size(given)}}}
            folder.finish(result)
            return result

        monkeypatch.setattr(pipeline, "run", run)
        monkeypatch.setattr(study, "_storage", storage)
        return asked

    return replace


def closeness(given: RunConfig) -> float:
    """1 at the best learning rate, less on both sides."""
    return 1 - abs(math.log10(given.train.learning_rate / BEST_RATE)) / 4


def load(yaml: str, tmp_path: Path, *overrides: str, trials: int | None = None) -> spec.Sweep:
    return spec.load(yaml, overrides, trials, tmp_path / "out")


def work_off(sweep: spec.Sweep, begun: Sequence[int] = ()) -> Any:
    """Do the trials in this process; the study."""
    work.work_off(sweep, begun, lambda text: None)
    return study.open_study(sweep)


def parameters(sweep: spec.Sweep) -> list[float]:
    return [trial.params["train.learning_rate"] for trial in study.trials(study.open_study(sweep))]


# what is searched


def test_ranges_take_the_type_of_their_setting(yaml: Write, tmp_path: Path) -> None:
    searched = {
        "strategy.max_length": {"low": 3, "high": 9}, "train.warmup": {"low": 0, "high": 0.5},
        "train.temperature": {"low": 1, "high": 4}, "student.keep": {"choices": ["spread", [0], "last"]},
    }
    sweep = load(yaml(search=searched), tmp_path)
    kinds = {key: value.kind for key, value in sweep.space.items() if isinstance(value, Range)}
    assert kinds == {"strategy.max_length": int, "train.warmup": float, "train.temperature": float}
    assert sweep.first.strategy.options["max_length"] == 3 and sweep.first.train.warmup == 0
    drawn = study.open_study(sweep).ask()
    values = {key: dimension.suggest(drawn, key) for key, dimension in sweep.space.items()}
    assert type(values["strategy.max_length"]) is int and values["train.temperature"] % 1 != 0
    assert values["student.keep"] in ("spread", [0], "last")
    assert sweep.config(0, {**values, "student.keep": [0]}).student.options["keep"] == [0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"search": {}}, "'search' is out of range"),
        ({"serach": {}}, "unknown key 'serach'.*did you mean 'search'"),
        ({"trials": 0}, "'trials' is out of range"),
        ({"search": {"train.learning_rat": RATE}}, "unknown key 'train.learning_rat'.*'learning_rate'"),
        ({"search": {"strategy.max_lenght": {"low": 1, "high": 3}}}, "strategy.max_lenght.*'max_length'"),
        ({"search": {"train.clip": {"low": 2, "high": 1}}}, "'train.clip' has a wrong range.*low < high"),
        ({"search": {"train.clip": {"low": 0, "high": 1, "log": True}}}, "wrong range.*0 < low < high"),
        ({"search": {"train.clip": {"low": 0, "high": "x"}}}, "wrong end.*'x'"),
        ({"search": {"train.clip": {"low": 1, "high": float("inf")}}}, "wrong end.*a finite number.*inf"),
        ({"search": {"train.clip": {"low": 0, "high": 1, "logg": True}}}, "unknown key 'logg'.*did you mean 'log'"),
        ({"search": {"train.clip": {"low": 0, "high": 1, "log": 3}}}, "wrong log"),
        ({"search": {"train.clip": [1, 2]}}, "'train.clip' has no values"),
        ({"search": {"train.clip": {"choices": [1]}}}, "wrong choices.*two different values"),
        ({"search": {"train.clip": {"choices": [1, -1]}}}, "'train.clip' is out of range"),
        ({"search": {"train.warmup": {"low": 0, "high": 2}}}, "'train.warmup' is out of range"),
        ({"search": {"strategy.max_length": {"low": 1.5, "high": 3}}}, "'strategy.max_length' has a wrong value"),
        ({"search": {"train.select": {"low": 1, "high": 3}}}, "'train.select' has a wrong value"),
        ({"settings": {"strategy": "real_text"}}, "strategy 'real_text' sees the task's own texts.*data-free"),
        (
            {"settings": {"strategy": "mixture"}, "search": {"strategy.parts": {"choices": [
                [{"strategy": "random_tokens"}], [{"strategy": "random_tokens"}, {"strategy": "real_text"}]]}}},
            "'mixture' sees the task's own texts",
        ),
        ({"search": {"seed": {"low": 0, "high": 9}}}, "'seed' is not searched: the luckiest seed would win"),
        ({"search": {"train.heldout": {"low": 1, "high": 9}}}, "'train.heldout' is not searched: it is what"),
        ({"search": {"data.max_length": {"low": 9, "high": 20}}}, "'data.max_length' is not searched: another task"),
        ({"search": {"train.steps": {"low": 3, "high": 5}}}, "'train.steps' is set, and searched"),
        ({"settings": {"run": "x"}}, "gives its trials their 'run'"),
        ({"objectives": []}, "'objectives' is empty"),
        ({"objectives": ["agreement", "agreement"]}, "'objectives' has one twice"),
        ({"objectives": ["agrement"]}, "unknown objective 'agrement'.*did you mean 'agreement'"),
        ({"objectives": {"agreement": "up"}}, "wrong direction.*maximize or minimize"),
        ({"objectives": ["latency"]}, "'latency' needs timed passes.*multiply_adds"),
        ({"settings": {"train.heldout": 0}}, "'agreement' needs held-out samples"),
        ({"pruner": "mean"}, "'pruner' has a wrong value"),
    ],
)
def test_a_wrong_sweep_is_refused_before_work(yaml: Write, tmp_path: Path, parts: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        load(yaml(**parts), tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_choice_that_sees_real_text_is_refused(yaml: Write, tmp_path: Path) -> None:
    path = Path(yaml(search={"strategy": {"choices": ["random_tokens", "real_text"]}}))
    path.write_text(path.read_text().replace("  strategy: random_tokens\n", ""))
    with pytest.raises(ConfigError, match="strategy 'real_text' sees the task's own texts"):
        load(str(path), tmp_path)
    path.write_text(path.read_text().replace("real_text", "embedding_guess"))
    assert load(str(path), tmp_path).probes[1].strategy.name == "embedding_guess"


@pytest.mark.parametrize("name", ["accuracy", "student.scores.accuracy", "student.agreement", "test_f1", "gap"])
def test_objectives_that_read_the_test_split_are_refused(yaml: Write, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="(?s)reads the test split.*has trained on real data.*take 'agreement'"):
        load(yaml(objectives=["parameters", name]), tmp_path)


def test_own_samples_are_warned_of_where_settings_can_make_them_easy(
    yaml: Write, tmp_path: Path, toy_pool: Path
) -> None:
    lengths = {"strategy.max_length": {"low": 3, "high": 9}}
    assert "strategy.max_length may make easier" in str(load(yaml(search=lengths), tmp_path).caution())
    assert load(yaml(search=lengths, judge=str(toy_pool)), tmp_path).caution() is None
    assert load(yaml(search=lengths), tmp_path, f"judge={toy_pool}").first.judge == str(toy_pool)


def test_optuna_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[sweep\]'"):
        spec.require_optuna()


@pytest.mark.parametrize("name", config.available(spec.SWEEPS))
def test_every_sweep_of_ours_loads(name: str) -> None:
    sweep = spec.load(name)
    assert sweep.out == Path("sweeps") / name and sweep.prunes


# what drives it


@pytest.mark.parametrize("direction", ["maximize", pytest.param("minimize", marks=pytest.mark.slow)])
def test_the_objective_drives_the_search(yaml: Write, tmp_path: Path, rig: Any, direction: str) -> None:
    asked = rig(closeness)
    work_off(load(yaml(objectives={"agreement": direction}, trials=14, startup=6, pruner="none"), tmp_path))
    later = statistics.mean(closeness(given) for given in asked[6:])
    assert len(asked) == 14 and (later > 0.75 if direction == "maximize" else later < 0.45)  # by chance it is 0.61


def test_a_seed_gives_the_same_trials_whoever_does_them(yaml: Write, tmp_path: Path, rig: Any) -> None:
    rig(closeness)
    path = yaml(trials=4, startup=2)
    whole = spec.load(path, out=tmp_path / "whole")
    work_off(whole)
    for trials in (2, 4):  # in two sittings: what is finished is not repeated
        work_off(spec.load(path, trials=trials, out=tmp_path / "parts"))
    assert parameters(spec.load(path, out=tmp_path / "parts")) == parameters(whole)
    other = spec.load(yaml(trials=4, startup=2, seed=1), out=tmp_path / "other")
    work_off(other)
    assert not set(parameters(other)) & set(parameters(whole))


def test_there_is_never_a_trial_too_many(yaml: Write, tmp_path: Path) -> None:
    sweep = load(yaml(trials=2), tmp_path)
    first, second = study.open_study(sweep), study.open_study(sweep)  # as two processes have it
    found = [study.next_trial(sweep, opened) for opened in (first, second, first)]
    assert [trial and trial.number for trial in found] == [0, 1, None]


def test_poor_trials_end_early(yaml: Write, tmp_path: Path, rig: Any) -> None:
    rig(closeness)
    sweep = load(yaml(trials=12, prune_after=3, startup=12), tmp_path)
    found = outcome.outcome(sweep, work_off(sweep))
    assert found.pruned and found.complete and not found.failed
    for trial in found.pruned:
        folder = work.folder(sweep, trial.number)
        aside = folder.final.with_name(f"{trial.number:04d}.pruned")
        assert not folder.work.exists() and not list(aside.glob("checkpoint*"))
        assert 0 < max(trial.intermediate_values) < STEPS - 1  # never after the first step, nor for the last one
        better = [t.intermediate_values[max(trial.intermediate_values)] for t in found.complete]
        assert statistics.median(better) > trial.intermediate_values[max(trial.intermediate_values)]
    earliest = min(max(trial.intermediate_values) for trial in found.pruned)
    assert earliest == sweep.prune_from == STEPS // 2  # not before
    assert load(yaml(prune_from=4), tmp_path).prune_from == 4
    assert not load(yaml(pruner="none"), tmp_path).prunes
    assert not load(yaml(objectives=["agreement", "parameters"]), tmp_path).prunes


def test_divergence_ends_a_trial_and_a_failure_is_named(yaml: Write, tmp_path: Path, rig: Any) -> None:
    def breaks(given: RunConfig) -> float:
        if given.run_name().endswith("0001"):
            raise TrainingDiverged("training diverged at step 3")
        if given.run_name().endswith("0002"):
            raise DfkdError("the strategy broke\n  what to do: mend it")
        if given.run_name().endswith("0003"):
            raise Alarmed("stopped by an alarm, as train.on_alarm=stop asks")
        return 0.5

    rig(breaks)
    sweep = load(yaml(), tmp_path)
    opened = work_off(sweep)
    found = outcome.outcome(sweep, opened)
    assert [len(found.complete), len(found.pruned), len(found.failed)] == [1, 2, 1]
    text = "\n".join(outcome.lines(sweep, opened, found))
    assert "2 ended early (1 of them diverged, 1 of them stopped by an alarm), 1 failed, 0 to do" in text
    assert re.search(r"failed: trial 2 \(train.learning_rate=.*\): the strategy broke \(see .*failure.txt\)", text)
    assert "mend it" in (work.folder(sweep, 2).work / work.FAILURE).read_text()


# several objectives


def test_several_objectives_give_a_front(yaml: Write, tmp_path: Path, rig: Any) -> None:
    """One is best at one rate, the other at another: between them trials are good at one or the other."""
    rig(closeness, lambda given: 1e6 * (1 + abs(math.log10(given.train.learning_rate / 1e-3))))
    sweep = load(yaml(objectives=["agreement", "parameters"], trials=6), tmp_path)
    opened = work_off(sweep)
    found = outcome.outcome(sweep, opened)
    values = {t.number: t.values for t in found.complete}
    beaten = {
        n for n, (a, p) in values.items() if any(b >= a and q <= p and (b, q) != (a, p) for b, q in values.values())
    }
    front = {trial.number for trial in found.best}
    assert len(values) == 6 and front == set(values) - beaten and beaten and len(front) > 1
    stale = tmp_path / "out" / "front" / "9999.yaml"  # of a trial that is beaten meanwhile
    stale.parent.mkdir()
    stale.write_text("")
    written = outcome.write(sweep, found)
    assert not stale.exists() and {path.stem for path in written} == {*(f"{number:04d}" for number in front), "pareto"}
    svg = written[-1].read_text()
    assert all(re.search(rf">{number}</text>", svg) for number in front) and "agreement with the teacher" in svg
    assert outcome.table(sweep, found).row_count == len(front)


def test_three_objectives_are_drawn_in_two_panels(tmp_path: Path) -> None:
    points = {0: (0.9, 5.0, 1.0), 1: (0.8, 4.0, 2.0), 2: (0.7, 6.0, 3.0)}
    draw_front(points, {0, 1}, ["a", "b", "c"], tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    assert svg.count(">a</text>") == 2 and svg.count(">b</text>") == 1 and svg.count(">c</text>") == 1


def test_trials_at_one_place_share_a_label(tmp_path: Path) -> None:
    points = {0: (0.9, 5.0), 1: (0.9, 5.0), 2: (0.8, 4.0), 3: (0.9, 5.0)}
    draw_front(points, {0, 1, 2, 3}, ["a", "b"], tmp_path / "x.svg")
    svg = (tmp_path / "x.svg").read_text()
    assert ">0, 1, 3</text>" in svg and ">1</text>" not in svg


# the command


@pytest.fixture
def dfkd(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs ``dfkd sweep`` with its workers inside this process; exit code and output."""
    monkeypatch.setattr(console.console, "_width", 200)

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["dfkd", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    def share(commands: Sequence[Sequence[str]], logs: Any, tell: Callable[[], None], held: int) -> None:
        for command in commands:
            assert call(*command) == 0
        tell()

    monkeypatch.setattr(workers, "share", share)

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = call("sweep", *arguments)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(
    yaml: Write, tmp_path: Path, toy_pool: Path, dfkd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out, real = yaml(trials=2, judge=str(toy_pool)), tmp_path / "out", work.Reporter.step
    steps: list[tuple[int, int]] = []

    def killing(self: work.Reporter, record: dict[str, Any], total: int) -> None:
        steps.append((self.trial.number, record["step"]))
        real(self, record, total)
        if steps[-1] == (0, 4) and steps.count((0, 4)) == 1:
            raise Killed

    monkeypatch.setattr(work.Reporter, "step", killing)
    with pytest.raises(Killed):
        dfkd(path, f"--out={out}")
    drawn = parameters(spec.load(path, out=out))
    code, printed = dfkd(path, f"--out={out}", "--workers=2")
    assert code == 0 and "2 trials with a result" in printed and "best.yaml" in printed
    share, label = judge.largest_class(spec.load(path, out=out).first)
    assert 1 / 3 <= share <= 1 and f"always answers '{label}' agrees with the teacher on {share:.4f}" in printed
    # trial 0 goes on under its number, from the checkpoint of step 4
    assert steps == [(0, s) for s in (0, 1, 2, 3, 4)] + [(0, 4), (0, 5)] + [(1, s) for s in range(STEPS)]
    ended = study.trials(study.open_study(spec.load(path, out=out)))
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * 2
    assert drawn == [ended[0].params["train.learning_rate"]]
    assert all(set(trial.intermediate_values) == {2, 4, 5} for trial in ended)
    # ordinary runs, judged on the common pool and not on the test split
    results = [runs.RunFolder(out / "trials" / f"{number:04d}").result() for number in range(2)]
    assert all(result["test_items"] == 0 and result["fidelity"]["samples"] == 20 for result in results)
    assert [trial.values for trial in ended] == [[result["fidelity"]["agreement"]] for result in results]
    best = max(results, key=lambda result: result["fidelity"]["agreement"])
    chosen = pipeline.load_config([f"config={out / 'best.yaml'}"])
    assert chosen.train.learning_rate == best["config"]["train"]["learning_rate"] and chosen.judge == str(toy_pool)
    assert chosen.run is None and chosen.runs == "runs"
    code, printed = dfkd(path, f"--out={out}")
    assert code == 0 and "2 trials with a result" in printed and len(steps) == 7 + STEPS  # nothing is left to do


def test_failures_make_the_exit_code_and_show_runs_nothing(yaml: Write, tmp_path: Path, dfkd: Any, rig: Any) -> None:
    def breaks(given: RunConfig) -> float:
        raise ValueError("a defect")

    asked = rig(breaks)
    arguments = (yaml(trials=1), f"--out={tmp_path / 'out'}")
    code, printed = dfkd(*arguments, "--show")
    assert code == 2 and "no sweep in" in printed
    code, printed = dfkd(*arguments)
    assert code == 1 and "ValueError: a defect" in printed and len(asked) == 1
    code, printed = dfkd(*arguments, "--show")
    assert code == 0 and "1 failed, 0 to do" in printed and len(asked) == 1


def test_another_plan_another_folder_and_a_second_process_are_refused(
    yaml: Write, tmp_path: Path, rig: Any, toy_teacher: Path
) -> None:
    rig(closeness)
    work_off(load(yaml(trials=1), tmp_path))
    for parts in ({"search": {"train.learning_rate": {**RATE, "low": 1e-6}}}, {"seed": 1}, {"startup": 3}):
        with pytest.raises(ConfigError, match="(?s)begun with another plan.* there, .* now.*--out"):
            study.open_study(load(yaml(**parts), tmp_path))
    sweep = load(yaml(settings={"tracking": "tensorboard"}, trials=9), tmp_path)
    study.open_study(sweep)  # neither the number of trials nor who is told makes another sweep
    held = runs.lock(sweep.out, "it", "wait")
    with pytest.raises(Busy, match="another process is working on the sweep"):
        work.supervise(sweep, [], 1, None)  # type: ignore[arg-type]
    held.close()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="(?s)is no sweep.*thesis.txt"):
        study.open_study(spec.load(yaml(), out=tmp_path / "strange"))


def test_a_setting_that_fails_every_trial_is_told_before_the_first(yaml: Write, tmp_path: Path) -> None:
    sweep = load(yaml(settings={"student.layers": 9, "device": "cpu", "tracking": "nobody"}), tmp_path)
    with pytest.raises(ConfigError, match="(?s)more layers than its source.*unknown tracking"):
        work.supervise(sweep, [], 1, None)  # type: ignore[arg-type]
    assert study.trials(study.open_study(sweep)) == []


def test_what_fails_names_the_searched_key_and_where_it_stands(yaml: Write, tmp_path: Path) -> None:
    path = Path(yaml(search={"student.layers": {"choices": [1, 9]}}))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "  student.layers: 1" not in line))
    sweep = load(str(path), tmp_path)
    with pytest.raises(ConfigError, match="(?s)more layers than its source.*searched: student.layers: change what"):
        work.supervise(sweep, [], 1, None)  # type: ignore[arg-type]


def test_a_choice_that_fails_all_its_trials_is_told_before_the_first(yaml: Write, tmp_path: Path) -> None:
    path = Path(yaml(search={"strategy": {"choices": ["random_tokens", "pool"]}, "train.learning_rate": RATE}))
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "  strategy: random" not in line))
    sweep = load(str(path), tmp_path)
    with pytest.raises(ConfigError, match="no pool is given") as told:
        work.supervise(sweep, [], 1, None)  # type: ignore[arg-type]
    assert str(told.value).count("no pool is given") == 1 and study.trials(study.open_study(sweep)) == []


@pytest.mark.parametrize(("looks", "begun"), [(3, True), (1, False)])  # it went while the trial ran, or before
def test_a_worker_whose_sweep_is_gone_leaves_its_trial(
    looks: int, begun: bool, yaml: Write, tmp_path: Path, rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = iter([10] * looks + [1])
    monkeypatch.setattr(work.os, "getppid", lambda: next(parents))
    rig(closeness)
    sweep = load(yaml(), tmp_path)
    with pytest.raises(work.Abandoned):
        work_off(sweep)
    trial, = study.trials(study.open_study(sweep))
    assert trial.state == TrialState.RUNNING
    assert (work.folder(sweep, 0).work / "metrics.jsonl").is_file() is begun


@pytest.mark.slow
def test_processes_share_a_sweep(yaml: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [yaml(trials=4), f"--out={tmp_path / 'out'}", "--workers=2"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["dfkd", "sweep", *given])
        cli.main()
    assert "4 trials with a result" in capsys.readouterr().out
    logs = [(tmp_path / "out" / f"worker{number}.log").read_text() for number in range(2)]
    begun = sorted(re.findall(r"begin trial (\d+)", "".join(logs)))
    assert begun == ["0", "1", "2", "3"] and all("begin trial" in log for log in logs)


@pytest.mark.slow
def test_a_sweep_whose_first_process_is_killed_goes_on(yaml: Write, tmp_path: Path) -> None:
    path, out = yaml(settings={"train.steps": 200}, trials=2, pruner="none"), tmp_path / "out"
    command = [sys.executable, "-m", "dfkd.cli", "sweep", path, f"--out={out}"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    log = out / "trials" / "0000.partial" / "metrics.jsonl"
    wait_until(lambda: log.is_file() and log.stat().st_size > 10_000)
    first.kill()  # its worker notices, and leaves trial 0 as it is
    first.wait()
    wait_until(lambda: "the sweep was ended" in (out / "worker0.log").read_text())
    done = len(runs.read_jsonl(log))
    assert done < 200
    assert "2 trials with a result" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    both = study.trials(study.open_study(spec.load(path, out=out)))
    assert [(trial.number, trial.state) for trial in both] == [(0, TrialState.COMPLETE), (1, TrialState.COMPLETE)]


def wait_until(ready: Callable[[], bool], seconds: float = 180) -> None:
    """Look again and again, and fail when it takes too long."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.2)
