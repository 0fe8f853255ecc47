"""Trackers: who is told of a run's numbers beside ``metrics.jsonl``, which is always there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Mapping, Protocol, Sequence

from dfkd.errors import ConfigError, suggestion

BUILT_IN = {"tensorboard": "dfkd._tensorboard:TensorBoard"}
METHODS = ("start", "log", "end")
Numbers = Mapping[str, float]


class Tracker(Protocol):
    """Shows a run's numbers elsewhere. It is made without arguments, once for each sitting of a run.

    What it raises costs no run: it is left out from then on, with a warning.
    """

    def start(self, name: str, config: Mapping[str, Any], folder: Path, step: int) -> None:
        """A run begins or goes on.

        Args:
            name: of the run.
            config: nested plain values, as ``config.yaml`` has them.
            folder: of the run, for files, such as one with the id under which to go on; after a kill they are there
                again.
            step: the first that will be logged. What an earlier sitting logged from this step on is void: it comes
                again.
        """

    def log(self, step: int, numbers: Numbers) -> None:
        """The numbers of one student step by name; the samples of each class as ``classes/LABEL``."""

    def end(self, scores: Numbers | None) -> None:
        """The run has its scores, or stops before that: ``None``, and the same command goes on later."""


def find(reference: str) -> Tracker:
    """The tracker that ``tracking=`` names: a built-in one, or a class in a module or file of the user's own.

    Raises:
        ConfigError: there is none, what it needs is not installed, or it lacks a method.
    """
    module, colon, name = BUILT_IN.get(reference, reference).rpartition(":")
    if not colon:
        expected = f"{' or '.join(BUILT_IN)}, or a class of yours: module:Name or FILE.py:Name"
        problem = f"unknown tracking '{reference}'"
        raise ConfigError(problem, expected=expected, fix=suggestion(reference, BUILT_IN))
    try:
        tracker: Tracker = getattr(_module(module), name)()
    except Exception as error:  # whatever a user's module may raise
        found = f"{type(error).__name__}: {error}"
        raise ConfigError(f"tracking={reference} cannot be loaded", found=found, fix=_remedy(reference)) from error
    missing = [method for method in METHODS if not callable(getattr(tracker, method, None))]
    if missing:
        expected = ", ".join(METHODS)
        raise ConfigError(f"tracking={reference} is no tracker", expected=expected, found=f"no {', '.join(missing)}")
    return tracker


def _module(name: str) -> ModuleType:
    """A module by its name, or from its file: the folder of a command is not where Python looks for modules."""
    if not name.endswith(".py"):
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(f"dfkd_tracking_{Path(name).stem}", name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # where dataclasses look for the names in their annotations
    spec.loader.exec_module(module)
    return module


def _remedy(reference: str) -> str:
    if reference in BUILT_IN:
        return "in dfkd's checkout: pip install '.[tracking]', or leave tracking out: metrics.jsonl is always written"
    return "a module must be installed or on PYTHONPATH; a file is named by its path: tracking=FILE.py:Name"


class Following:
    """A run's tracker, started with the first step that it hears of and dropped when it fails.

    As a context it tells the tracker when the run stops before its end.

    Args:
        reference: as ``tracking=`` has it; ``None``: nobody is told.
        name: of the run.
        config: nested plain values.
        folder: of the run.
        warn: called with one line when the tracker fails.

    Raises:
        ConfigError: there is no such tracker.
    """

    def __init__(
        self, reference: str | None, name: str, config: Mapping[str, Any], folder: Path, warn: Callable[[str], None]
    ) -> None:
        self.reference, self.warn = reference, warn
        self.run = (name, config, folder)
        self.tracker = find(reference) if reference else None
        self.begun = False

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        if self.begun:
            self._tell("end", None)

    def step(self, record: Mapping[str, Any]) -> None:
        """Tell of a step, as it stands in ``metrics.jsonl``."""
        self._begin(record["step"])
        self._tell("log", record["step"], step_numbers(record, self.run[1]["data"]["labels"]))

    def before(self, heard: Callable[[dict[str, Any], int], None]) -> Callable[[dict[str, Any], int], None]:
        """A listener of steps that tells the tracker first: ``heard`` may end the run."""

        def step(record: dict[str, Any], steps: int) -> None:
            self.step(record)
            heard(record, steps)

        return step

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tell the scores of ``result.json``."""
        self._begin(result["steps"])  # after a kill between training and judging no step comes any more
        self._tell("end", final_scores(result))
        self.tracker = None

    def _begin(self, step: int) -> None:
        if not self.begun:
            self.begun = True
            self._tell("start", *self.run, step)

    def _tell(self, method: str, *arguments: object) -> None:
        if self.tracker is None:
            return
        try:
            getattr(self.tracker, method)(*arguments)
        except Exception as error:  # a tracker of the user's own must not cost a run
            self.tracker = None
            self.warn(f"tracking={self.reference} failed and is left out: {type(error).__name__}: {error}")


def step_numbers(record: Mapping[str, Any], labels: Sequence[str]) -> dict[str, float]:
    """The numbers in a record of ``metrics.jsonl``; the class histogram as one for each label."""
    numbers = {
        name: float(value) for name, value in record.items() if isinstance(value, (int, float)) and name != "step"
    }
    return numbers | {f"classes/{label}": float(count) for label, count in zip(labels, record.get("classes", ()))}


def final_scores(result: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of ``result.json`` that are worth a place in a tracker's table, as ``final/...``."""
    student, ratio = result["student"], result["latency_ratio"]
    found = {
        **(student["scores"] or {}), "agreement": student["agreement"],
        "heldout_agreement": (result["fidelity"] or {}).get("agreement"),
        "parameters": student["cost"]["parameters"], "train_seconds": result["seconds"]["train"],
        **{f"latency_ratio_batch{size}": value for size, value in ratio.items()},
        **{f"queries_{purpose}": count for purpose, count in result["queries"].items()},
    }
    return {f"final/{name}": float(value) for name, value in found.items() if value is not None}
