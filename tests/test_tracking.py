"""Trackers: what they are told, what a failing one costs, and that a resumed run tells no step twice."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable, Iterable, Iterator

import pytest

from dfkd import pipeline, runs, tracking
from dfkd.errors import ConfigError
from dfkd.pipeline import Listeners
from dfkd.runs import RunFolder

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tracking.md"
STEPS = 6
DOUBLE = """
from __future__ import annotations
from dataclasses import dataclass

told = []

@dataclass
class Double:
    count: int = 0
    def start(self, name, config, folder, step):
        told.append(("start", name, config["train"]["steps"], folder.is_dir(), step))
    def log(self, step, numbers):
        told.append(("log", step, dict(numbers)))
    def end(self, scores):
        told.append(("end", scores and dict(scores)))
"""


LABELS = ("weather", "food", "sport")
CONFIGURED = ("one", {"data": {"labels": LABELS}, "train": {"steps": STEPS}, "seed": 0})
RESULT = {
    "steps": STEPS, "student": {"scores": {"accuracy": 0.5}, "agreement": 0.6, "cost": {"parameters": 7}},
    "latency_ratio": {}, "fidelity": None, "seconds": {"train": 1.0}, "queries": {"train": 8},
}


class Killed(BaseException):
    """Ends a run as a kill would, without a chance to tidy up what it wrote."""


@pytest.fixture
def command(toy_teacher: Path, tmp_path: Path) -> list[str]:
    """Settings of a quick run, named ``one``."""
    return [
        "data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", "strategy.max_length=6", "student.layers=1",
        f"train.steps={STEPS}", "train.batch_size=4", "train.heldout=8", "train.evaluate_every=2",
        "train.checkpoint_every=3", "threads=1", "evaluate.latency_rounds=0", "evaluate.limit=20", "device=cpu",
        "precision=float32", f"runs={tmp_path}", "run=one",
    ]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the double in the module ``double_tracker`` was told."""
    (tmp_path / "double_tracker.py").write_text(DOUBLE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "double_tracker", raising=False)
    found: list[Any] = tracking._module("double_tracker").told
    return found


def run(given: list[str], *more: str, kill_after: int | None = None) -> list[str]:
    """Run, killed after a step if one is named; the warnings."""
    said: list[str] = []

    def step(record: dict[str, Any], steps: int) -> None:
        if record["step"] == kill_after:
            raise Killed

    try:
        pipeline.run(pipeline.load_config([*given, *more]), Listeners(step=step, alarm=said.append))
    except Killed:
        pass
    return said


def follow(reference: str, folder: Path, steps: Iterable[int], result: Any = RESULT) -> list[str]:
    """Let a tracker follow some steps, up to the end unless there is no result; the warnings."""
    said: list[str] = []
    with tracking.Following(reference, *CONFIGURED, folder, said.append) as followed:
        for step in steps:
            followed.step({"step": step, "loss": 1.0, "classes": [1, 2, 0]})
        if result is not None:
            followed.finish(result)
    return said


def metrics(tmp_path: Path) -> list[dict[str, Any]]:
    return RunFolder(tmp_path / "one").read_log("metrics")


def test_a_tracker_hears_what_is_logged_and_where_it_goes_on(
    command: list[str], told: list[Any], tmp_path: Path
) -> None:
    run(command, "tracking=double_tracker:Double", kill_after=4)
    assert told[0] == ("start", "one", STEPS, True, 0) and told[-1] == ("end", None)
    assert [entry[1] for entry in told[1:-1]] == [0, 1, 2, 3, 4]
    before = told[1:4]
    told.clear()
    assert run(command, f"tracking={tmp_path / 'double_tracker.py'}:Double") == []  # another name, the same run
    assert told == []  # the file is a module of its own
    again = tracking.Following("double_tracker:Double", *CONFIGURED, tmp_path, print)
    result = RunFolder(tmp_path / "one").result()
    again.finish(result)
    for (_, step, numbers), record in zip(before, metrics(tmp_path)):
        assert step == record["step"] and numbers["loss"] == record["loss"]
        assert numbers["fresh"] == 1.0 and "step" not in numbers
        assert [numbers[f"classes/{label}"] for label in LABELS] == record["classes"]
    assert told[0][4] == STEPS  # nothing but the scores was left to do
    assert told[1][1]["final/accuracy"] == result["student"]["scores"]["accuracy"]
    assert told[1][1]["final/heldout_agreement"] == result["fidelity"]["agreement"]
    assert told[1][1]["final/queries_train"] == result["queries"]["train"]


def test_tracking_is_not_part_of_what_a_run_is(tmp_path: Path) -> None:
    runs.open_run(tmp_path, "one", {"seed": 0, "tracking": None}).finish({"steps": 1})
    assert runs.open_run(tmp_path, "one", {"seed": 0, "tracking": "tensorboard"}).finished
    with pytest.raises(ConfigError, match="another config"):
        runs.open_run(tmp_path, "one", {"seed": 1, "tracking": None})


@pytest.mark.parametrize("method", tracking.METHODS)
def test_a_failing_tracker_is_left_out_with_one_warning(
    method: str, told: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("quota exceeded")

    monkeypatch.setattr(sys.modules["double_tracker"].Double, method, broken)
    assert follow("double_tracker:Double", tmp_path, range(4)) == [
        "tracking=double_tracker:Double failed and is left out: OSError: quota exceeded"
    ]
    assert len([entry for entry in told if entry[0] == "log"]) == {"start": 0, "log": 0, "end": 4}[method]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("tensorbord", "unknown tracking 'tensorbord'.*did you mean 'tensorboard'"),
        ("no_such_module:Name", "cannot be loaded.*no_such_module.*tracking=FILE.py:Name"),
        ("nowhere.py:Name", "cannot be loaded.*nowhere.py"),
        ("pathlib:Nobody", "cannot be loaded.*Nobody"),
        ("collections:OrderedDict", "is no tracker.*start, log, end.*no start, log, end"),
    ],
)
def test_a_wrong_tracker_is_refused_before_work(reference: str, said: str, command: list[str]) -> None:
    config = pipeline.load_config([*command, f"tracking={reference}"])
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        pipeline.preflight(config)


def test_tensorboard_must_be_installed(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "dfkd._tensorboard", raising=False)
    with pytest.raises(ConfigError, match=r"(?s)tracking=tensorboard cannot be loaded.*pip install '\.\[tracking\]'"):
        pipeline.preflight(pipeline.load_config([*command, "tracking=tensorboard"]))


def test_tensorboard_holds_what_metrics_hold(command: list[str], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(command, "tracking=tensorboard", kill_after=4)
    run(command, "tracking=tensorboard")
    events = EventAccumulator(str(tmp_path / "one" / "tensorboard"), {"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    logged = metrics(tmp_path)
    for name in ("loss", "agreement", "seconds", "heldout_agreement"):
        expected = [(record["step"], pytest.approx(record[name])) for record in logged if name in record]
        assert [(event.step, event.value) for event in events.Scalars(name)] == expected
    histograms = events.Histograms("classes")
    assert [event.step for event in histograms] == list(range(STEPS))
    filled = [count for count in histograms[-1].histogram_value.bucket if count]
    assert filled == [count for count in logged[-1]["classes"] if count]
    text, = events.Tensors("config/text_summary")
    assert b"strategy:" in text.tensor_proto.string_val[0]
    result = RunFolder(tmp_path / "one").result()
    final, = events.Scalars("final/accuracy")
    assert (final.step, final.value) == (STEPS, pytest.approx(result["student"]["scores"]["accuracy"]))
    assert b"random_tokens" in events.summary_metadata["_hparams_/session_start_info"].plugin_data.content


# the page's own trackers


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Recorded doubles of wandb and mlflow, as far as the page uses them."""
    seen = SimpleNamespace(init=[], logged=[], summary={}, finished=[], metrics={}, started=[], ended=[])
    wandb, mlflow = ModuleType("wandb"), ModuleType("mlflow")

    def log(numbers: dict[str, float], step: int) -> None:
        seen.logged.append((step, numbers))

    def init(**given: Any) -> SimpleNamespace:
        seen.init.append(given)
        return SimpleNamespace(log=log, summary=seen.summary, finish=lambda exit_code: seen.finished.append(exit_code))

    def start_run(run_id: str | None, run_name: str) -> SimpleNamespace:
        seen.started.append(run_id)
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"), data=SimpleNamespace(metrics=dict(seen.metrics)))

    def log_metrics(numbers: dict[str, float], step: int | None = None) -> None:
        seen.logged.append((step, numbers))
        seen.metrics.update(numbers)

    wandb.__dict__.update(init=init)
    mlflow.__dict__.update(
        start_run=start_run, log_metrics=log_metrics, log_dict=lambda *_: None, end_run=seen.ended.append
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    yield seen


@pytest.fixture
def from_page(tmp_path: Path) -> Callable[[str], str]:
    """Saves the page's class of a name as a user would; gives the reference."""

    def save(name: str) -> str:
        blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
        block, = (block for block in blocks if f"class {name}:" in block)
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
        return f"{tmp_path / name}.py:{name}"

    return save


def test_weights_and_biases_as_on_the_page(libraries: Any, from_page: Callable[[str], str], tmp_path: Path) -> None:
    given = from_page("WeightsAndBiases")
    assert follow(given, tmp_path, range(5), None) == [] and libraries.finished == [1]
    assert follow(given, tmp_path, range(3, STEPS)) == [] and libraries.finished == [1, 0]
    first, second = libraries.init
    assert first["id"] == second["id"] and first["resume"] == "allow" and first["config"]["seed"] == 0
    assert [step for step, _ in libraries.logged] == [0, 1, 2, 3, 4, 3, 4, 5]  # wandb itself drops what comes twice
    assert libraries.summary["final/accuracy"] == 0.5


def test_mlflow_as_on_the_page(libraries: Any, from_page: Callable[[str], str], tmp_path: Path) -> None:
    given = from_page("MLflow")
    assert follow(given, tmp_path, range(5), None) == [] and libraries.ended == ["FAILED"]
    assert follow(given, tmp_path, range(3, STEPS)) == [] and libraries.ended == ["FAILED", "FINISHED"]
    assert libraries.started == [None, "r1"]
    assert [step for step, _ in libraries.logged if step is not None] == list(range(STEPS))  # none doubled
    assert libraries.metrics["final/agreement"] == 0.6
