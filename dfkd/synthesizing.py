"""Pools of pseudo texts: made by a strategy and labelled by the teacher, once, for many students."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from accelerate import Accelerator

from dfkd import config as configs
from dfkd import identity, pipeline, runs, seeding, tasks, teaching, text_pool
from dfkd.batch import PseudoBatch
from dfkd.config import RunConfig, require
from dfkd.doors import Parts, synthesis_context, teacher_fingerprint
from dfkd.duplicates import Duplicates
from dfkd.errors import ConfigError, DfkdError, noting, refuse, suggestion
from dfkd.models import device
from dfkd.models.teacher import Teacher
from dfkd.pool_watch import LOGS, PoolWatch
from dfkd.quality.rules import makers_of
from dfkd.synthesis import registry
from dfkd.synthesis.base import Synthesizer, learns_from_student, pool_cost

Progress = Callable[[int, int], None]
PATIENCE = 20  # batches in a row without a new text
NO_STUDENT = ("student", "train", "evaluate", "run", "runs", "judge", "tracking")


@dataclass(frozen=True)
class PoolSettings:
    """How a pool is made.

    Args:
        out: folder of the pool.
        samples: texts to make; more can be added later by the same command.
        batch_size: texts at a time.
        near_duplicates: drop a text whose Jaccard similarity with an earlier one is estimated at this or more; 0:
            drop only those that are the same.
        checkpoint_every: batches between checkpoints.
    """

    out: str = ""
    samples: int = 0
    batch_size: int = 64
    near_duplicates: float = 0.8
    checkpoint_every: int = 5

    def __post_init__(self) -> None:
        require(bool(self.out), "out", "the folder of the pool", "nothing")
        for name in ("samples", "batch_size", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        in_range = 0 <= self.near_duplicates <= 1
        require(in_range, "near_duplicates", "a similarity in [0, 1]", self.near_duplicates)


def load_config(overrides: Sequence[str]) -> tuple[PoolSettings, RunConfig]:
    """The settings of a pool, and what they share with those of a run: data, teacher, strategy, seed, device.

    Raises:
        ConfigError: lists every problem found.
    """
    given = configs.parse_overrides(overrides)
    own = {field.name for field in dataclasses.fields(PoolSettings)}
    shared = {field.name for field in dataclasses.fields(configs.Settings)} - set(NO_STUDENT) | {"data", "strategy"}
    problems = [
        ConfigError(f"unknown key '{key}'", fix=suggestion(key, own | shared))
        for key in given if key.partition(".")[0] not in own | shared
    ]
    settings, found = configs.typed(PoolSettings, {key: value for key, value in given.items() if key in own})
    config: RunConfig | None = None
    with noting(problems):
        rest = [text for text in overrides if text.partition("=")[0].partition(".")[0] in shared]
        config = pipeline.load_config(rest)
    refuse(problems + found)
    assert settings is not None and config is not None
    return settings, config


def synthesize(
    settings: PoolSettings, config: RunConfig, progress: Progress = lambda done, total: None,
    alarm: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Make what of the pool is not there yet; a finished one is only read.

    Args:
        settings: of the pool.
        config: data, teacher, strategy, seed and device; what it says of a student is not read.
        progress: called with (samples stored, samples wanted).
        alarm: called with a line of text when something goes wrong with the texts.

    Returns:
        The content of ``pool.json``.

    Raises:
        ConfigError: something is wrong, the folder holds something else, or the strategy needs a student or makes
            embeddings.
        DfkdError: the strategy gives no new texts any more.
    """
    folder = Path(settings.out).expanduser()
    wanted = _wanted(settings, config)
    there = _there(folder, wanted)
    if there is not None and there["finished"] and there["samples"] >= settings.samples:
        return there
    _require_checkpoint(folder, there)
    log = tasks.access_log(folder)
    parts = pipeline.preflight(config, log, with_student=False)
    _refuse(parts)
    folder.mkdir(parents=True, exist_ok=True)
    with runs.full_disk_reported(folder):
        held = runs.lock(folder, f"the pool '{folder}'", "choose another folder with out=FOLDER")
        try:
            return Maker(settings, parts, folder, wanted, alarm).make(progress)
        finally:
            held.close()


def _wanted(settings: PoolSettings, config: RunConfig) -> dict[str, Any]:
    """What decides over a pool's content, but for how much of it there is."""
    kept = configs.to_dict(config)
    for name in (*NO_STUDENT, "threads"):
        kept.pop(name)
    made = {name: getattr(settings, name) for name in ("batch_size", "near_duplicates")}
    return {**kept, **made, "teacher_sha256": teacher_fingerprint(config)}


def _there(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The facts of a pool that was begun in the folder with this very config; ``None`` where there is nothing."""
    facts = text_pool.read_facts(folder)
    if facts is None:
        if folder.exists() and (not folder.is_dir() or any(not _ours(path) for path in folder.iterdir())):
            fix = "choose another with out=FOLDER"
            raise ConfigError(f"'{folder}' is there already and is no pool", expected="a new folder", fix=fix)
        return None
    changes = runs.changes_between(identity.with_defaults(facts["config"]), wanted)
    if changes:
        fix = "choose another folder with out=FOLDER, or remove that one"
        raise ConfigError(f"the pool '{folder}' was made with another config", found=changes, fix=fix)
    return facts


def _require_checkpoint(folder: Path, facts: Mapping[str, Any] | None) -> None:
    """Without a checkpoint a pool would begin anew, over the samples that its facts speak of."""
    if facts is not None and facts["samples"] and not any(folder.glob("checkpoint-*")):
        keep = f"take the {facts['samples']} samples (samples={facts['samples']}), " if facts["finished"] else ""
        raise ConfigError(
            f"the pool '{folder}' cannot be continued", expected="a checkpoint-* folder in it",
            found=f"{facts['samples']} samples and no checkpoint, as in a copy without it",
            fix=f"copy the checkpoint as well, {keep}or choose another folder with out=FOLDER",
        )


def _ours(path: Path) -> bool:
    """Whether a file may be there before the first facts are: a kill may come early."""
    logs = [f"{log}.jsonl" for log in ("access", *LOGS)]
    early = ("lock", *logs, *(f"{log}.tmp" for log in logs), text_pool.SAMPLES, f"{text_pool.FACTS}.tmp")
    return path.name in early or path.name.startswith("checkpoint")


def _refuse(parts: Parts) -> None:
    name, options = parts.config.strategy.name, parts.strategy_options
    if options.injects == "embeddings":
        remedy = registry.remedy(options)
        snap = f"add {remedy}, or " if remedy else ""
        if getattr(options, "learns_from_student", False):  # then snapping alone leads to the next refusal
            snap = "take strategy=embedding_guess strategy.snap=true, or "
        fix = f"{snap}take a strategy that makes texts ('dfkd strategies')"
        raise ConfigError(f"strategy '{name}' makes embeddings", expected="texts", found="embeddings", fix=fix)
    if options.uses_real_text:
        fix = "run it directly: dfkd run strategy=real_text"
        raise ConfigError(f"strategy '{name}' hands out the task's own texts, which are no pseudo data", fix=fix)
    if getattr(options, "labels_itself", False):
        raise _labels_itself(_preset(parts))
    if getattr(options, "learns_from_student", False):
        raise _needs_student(_preset(parts))


class NoStudent:
    """Stands where a strategy expects the student.

    Args:
        strategy: its name, for the message.
    """

    def __init__(self, strategy: str) -> None:
        self._strategy = strategy

    def __getattr__(self, name: str) -> Any:
        raise _needs_student(self._strategy)


def _preset(parts: Parts) -> str:
    """What the strategy was called, such as prompt_rl/unbalanced."""
    return parts.config.strategy.label.partition(",")[0]


def _needs_student(strategy: str) -> ConfigError:
    return ConfigError(
        f"strategy '{strategy}' learns from the student, and a pool is made without one",
        expected="a strategy whose samples do not depend on a student",
        fix=f"run it directly: dfkd run strategy={strategy}, then make a pool of what it wrote: dfkd export RUN FOLDER",
    )


def _labels_itself(strategy: str) -> ConfigError:
    mixed = strategy.partition("/")[0] == "mixture"
    option = "options: {label: teacher} of the part that does" if mixed else "strategy.label=teacher"
    fix = f"leave it to the teacher: {option}; or run it directly: dfkd run strategy={strategy}"
    return ConfigError(
        f"strategy '{strategy}' labels its samples itself, and a pool holds the teacher's labels", fix=fix
    )


class Maker:
    """Makes a pool, from its last checkpoint if there is one.

    Args:
        settings: of the pool.
        parts: what was checked.
        folder: of the pool, locked.
        wanted: what ``pool.json`` says of how the pool is made.
        alarm: hears of alarms.
    """

    def __init__(
        self, settings: PoolSettings, parts: Parts, folder: Path, wanted: dict[str, Any], alarm: Callable[[str], None]
    ) -> None:
        self.settings, self.parts, self.folder, self.wanted = settings, parts, folder, wanted
        config = parts.config
        self.duplicates = Duplicates(settings.near_duplicates)
        self.accelerator: Accelerator = device.accelerator(config.device, config.precision, config.threads)
        self.teacher: Teacher = teaching.load_teacher(config)
        self.teacher.classifier.to(self.accelerator.device)
        seeding.seed_globals(config.seed)
        context = synthesis_context(parts, self.teacher, NoStudent(_preset(parts)), steps=None)
        self.synthesizer: Synthesizer = registry.build(config.strategy.name, parts.strategy_options, context)
        if learns_from_student(self.synthesizer):
            raise _needs_student(_preset(parts))
        makers = makers_of(config.strategy.name, parts.strategy_options)
        self.watch = PoolWatch(folder, self.teacher, makers, alarm)
        self.samples = text_pool.samples_of(folder)
        self.batches = self.stale = 0
        self.seconds = 0.0

    def make(self, progress: Progress) -> dict[str, Any]:
        """Fill the pool.

        Raises:
            DfkdError: no new texts come any more; what is there is kept.
        """
        self._restore()
        started = time.perf_counter() - self.seconds
        progress(len(self.samples), self.settings.samples)
        while len(self.samples) < self.settings.samples:
            self._one_batch()
            self.seconds = time.perf_counter() - started
            progress(len(self.samples), self.settings.samples)
            done = len(self.samples) >= self.settings.samples
            if done or self.batches % self.settings.checkpoint_every == 0 or self.stale >= PATIENCE:
                self._checkpoint()
            self._refuse_standstill()
        facts = self._facts(finished=True)
        text_pool.write_facts(self.folder, facts)
        return facts

    def _one_batch(self) -> None:
        """Make a batch, and store what is new in it with the teacher's predictions."""
        before, logits = self._known(), None
        with self.accelerator.autocast():
            batch = self.synthesizer.synthesize(self.settings.batch_size)
            self._refuse_own_labels(batch)
            kept = self._new(batch)
            if kept is not None:
                logits = self.teacher.label(kept).float()
                self.samples.append(kept, logits, self.batches)
        self.watch.look(self.batches, batch, kept, logits, self._known() - before)
        self.stale = 0 if kept is not None else self.stale + 1
        self.batches += 1

    def _known(self) -> int:
        """How many texts were dropped so far because they were there already."""
        return self.duplicates.exact + self.duplicates.near

    def _refuse_own_labels(self, batch: PseudoBatch) -> None:
        if batch.label_logits is not None:
            raise _labels_itself(_preset(self.parts))

    def _new(self, batch: PseudoBatch) -> PseudoBatch | None:
        """The samples of a batch that are new, and still wanted; ``None`` without any."""
        missing = self.settings.samples - len(self.samples)
        places = self.duplicates.new(batch.texts or ())[:missing]
        if not places:
            return None
        return replace(batch.rows(places), strategy=batch.strategy or self.parts.config.strategy.name)

    def _refuse_standstill(self) -> None:
        if self.stale >= PATIENCE:
            count = len(self.samples)
            raise DfkdError(
                f"strategy '{self.parts.config.strategy.name}' gives no new texts any more: {PATIENCE} batches of "
                f"duplicates after {count} samples\n  kept: {count} samples in {self.folder}\n  what to do: "
                f"samples={count} takes the pool as it is; near_duplicates=0 or other options of the strategy give more"
            )

    def _checkpoint(self) -> None:
        runs.save_checkpoint(self.folder, self.batches, {
            "samples": self.samples.state_dict(), "synthesizer": self.synthesizer.state_dict(),
            "queries": dict(self.teacher.queries), "dropped": self.duplicates.counts(), "batches": self.batches,
            "generators": seeding.global_state(), "seconds": self.seconds, "stale": self.stale,
        })
        text_pool.write_facts(self.folder, self._facts(finished=False))

    def _restore(self) -> None:
        """Go back to the last checkpoint, or to the very start: what was written after it is dropped."""
        content = runs.load_checkpoint(self.folder)
        self.watch.rewind(content["batches"] if content is not None else 0)
        if content is None:
            self.samples.load_state_dict({"sizes": []})
            return
        self.samples.load_state_dict(content["samples"])
        self.batches, self.seconds = content["batches"], content["seconds"]
        self.stale = content.get("stale", 0) % PATIENCE  # whoever repeats the command after a standstill tries again
        self.synthesizer.load_state_dict(content["synthesizer"])
        self.teacher.queries.update(content["queries"])
        self.duplicates.restore(content["dropped"])
        for batch, _ in self.samples.batches():
            self.duplicates.remember(batch.texts or ())
        seeding.restore_global_state(content["generators"])

    def _facts(self, finished: bool) -> dict[str, Any]:
        """The content of ``pool.json``."""
        notes = getattr(self.synthesizer, "notes", None)
        config, queries, bought = self.parts.config, dict(self.teacher.queries), pool_cost(self.synthesizer)
        queries["train"] += bought.queries  # what a pool among the parts has cost counts as well
        tokens = getattr(self.synthesizer, "generated_tokens", None) or 0
        return {
            "finished": finished, "samples": len(self.samples), "strategy": config.strategy.label,
            "labels": list(config.data.labels), "max_length": config.data.max_length,
            "pair": len(config.data.text) == 2, "teacher_sha256": self.wanted["teacher_sha256"],
            "queries": queries, "dropped": self.duplicates.counts(), "batches": self.batches,
            "generated_tokens": tokens + bought.tokens, "seconds": self.seconds + bought.seconds,
            "notes": notes() if notes is not None else None, "config": self.wanted,
            "files": self.samples.state_dict(),
        }
