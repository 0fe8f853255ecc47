"""The run folder: working files under ``<run>.partial``, made final by one rename.

``config.yaml``, ``metrics.jsonl``, ``access.jsonl`` (who was handed which texts), ``samples.jsonl`` (pseudo samples to
look at), ``notes.json`` (what the strategy has to tell), ``checkpoint-<step>/`` while working, ``student/`` and
``result.json`` when finished.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Callable, Iterable, Iterator, Mapping

from omegaconf import OmegaConf

from dfkd import state
from dfkd.config import read_yaml
from dfkd.errors import Busy, ConfigError, DfkdError

PARTIAL = ".partial"
NOTES = "notes.json"
RESULT = "result.json"
NOT_COMPARED = ("runs", "data.folder", "tracking", "train.on_alarm", "strategy.label", "student.label")


class RunFolder:
    """One run's folder.

    Args:
        final: where the finished run will stand.

    Use :func:`open_run` to get one that is checked and locked.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.work = final.with_name(final.name + PARTIAL)
        self._lock: IO[str] | None = None

    @property
    def finished(self) -> bool:
        """Whether the finished run is there."""
        return self.final.is_dir()

    @property
    def busy(self) -> bool:
        """Whether another process is working on the run."""
        if not (self.work / "lock").is_file():
            return False
        try:
            lock(self.work, f"the run '{self.final}'", "look again").close()
        except (Busy, FileNotFoundError):  # the other one has it, or has just finished
            return True
        return False

    @property
    def path(self) -> Path:
        """The folder to read from: the finished one, else the working one."""
        return self.final if self.finished else self.work

    def lock(self) -> None:
        """Take the working folder for this process until it ends.

        Raises:
            Busy: another process has it.
        """
        self._lock = lock(self.work, f"the run '{self.final}'", "choose another name with run=NAME")
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    @property
    def locked_by(self) -> int | None:
        """The process that has, or had when it was killed, the working folder; ``None``: none is known."""
        try:
            return int((self.work / "lock").read_text())
        except (OSError, ValueError):
            return None

    def log(self, name: str, record: Mapping[str, Any]) -> None:
        """Append one JSON line to ``<name>.jsonl``."""
        append_jsonl(self.work / f"{name}.jsonl", record)

    def read_log(self, name: str) -> list[dict[str, Any]]:
        """The records of ``<name>.jsonl``; a last line cut short by a kill is left out."""
        return read_jsonl(self.path / f"{name}.jsonl")

    def read_notes(self) -> dict[str, Any]:
        """What the strategy has to tell so far; empty for most."""
        path = self.path / NOTES
        notes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return notes

    def rewind_log(self, name: str, step: int) -> None:
        """Drop the records from ``step`` on: they will be written again after a resume."""
        rewind_jsonl(self.work / f"{name}.jsonl", step)

    def save_checkpoint(self, step: int, content: Any) -> None:
        """Store ``content`` as the state before ``step``; older checkpoints go once it is safely there."""
        save_checkpoint(self.work, step, content)

    def load_checkpoint(self) -> Any | None:
        """The content of the newest checkpoint; ``None`` when there is none."""
        return load_checkpoint(self.work)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, rename the folder to its final name, and clear what only a resume needs."""
        state.write_text(self.work / RESULT, as_json(result))
        os.rename(self.work, self.final)
        (self.final / "lock").unlink(missing_ok=True)  # not before: another process would think the run abandoned
        for checkpoint in sorted(self.final.glob("checkpoint*")):
            shutil.rmtree(checkpoint)  # after the rename: a kill in between costs disk space, not the training

    def drop_embeddings(self) -> None:
        """Delete the stored pseudo samples: megabytes of embeddings that only this run's replay had a use for."""
        for name in ("pool", "heldout"):
            shutil.rmtree(self.work / name, ignore_errors=True)

    def result(self) -> dict[str, Any]:
        """The content of a finished run's ``result.json``."""
        content: dict[str, Any] = json.loads((self.final / RESULT).read_text())
        return content


def as_json(result: Mapping[str, Any]) -> str:
    """A result as its file holds it."""
    return json.dumps(result, indent=1, ensure_ascii=False)


def below(folder: Path) -> list[Path]:
    """The finished runs in or below a folder, sorted by path.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(path.parent for path in folder.rglob(RESULT) if not path.parent.name.endswith(PARTIAL))
    if not found:
        fix = "give the folder of a finished run, or one that holds some"
        raise ConfigError(f"no finished run in '{folder}'", fix=fix)
    return found


def fresh_samples(records: Iterable[Mapping[str, Any]]) -> int:
    """Samples that a strategy made for the training, from the records of its steps; replayed ones count once."""
    return sum(sum(record.get("classes", ())) for record in records if record.get("fresh", True))


def lock(folder: Path, what: str, otherwise: str) -> IO[str]:
    """Take a folder for this process, until it ends or closes what is returned.

    Args:
        folder: exists.
        what: what is worked on, for the message.
        otherwise: what to do instead of waiting.

    Raises:
        Busy: another process has it.
    """
    held = (folder / "lock").open("a")  # what is written there by who has it stays
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        raise Busy(f"another process is working on {what}", fix=f"wait for it, or {otherwise}") from error
    return held


def save_checkpoint(folder: Path, step: int, content: Any) -> None:
    """Store ``content`` in ``folder`` as the state before ``step``; older ones go once it is safely there."""
    target, temporary = folder / f"checkpoint-{step:09d}", folder / "checkpoint.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    state.save(temporary, content)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(temporary, target)
    for older in folder.glob("checkpoint-*"):
        if older != target:
            shutil.rmtree(older)


def load_checkpoint(folder: Path) -> Any | None:
    """The content of a folder's newest checkpoint; ``None`` when there is none."""
    checkpoints = sorted(folder.glob("checkpoint-*"))
    return state.load(checkpoints[-1]) if checkpoints else None


Complete = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Gives a stored configuration the options that came later, at their defaults."""


def open_run(
    root: Path, name: str, config: Mapping[str, Any], complete: Complete = lambda stored: stored
) -> RunFolder:
    """The folder of the run ``name``: finished with this very config, half-done with it, or new.

    Args:
        root: folder of all runs.
        name: may contain slashes.
        config: plain values; compared with those of a run that is there already.
        complete: applied to those first.

    Raises:
        ConfigError: a run of this name has another config, another process works on it, or the folder is no run.
    """
    folder = RunFolder(root / name)
    blocked = next((p for p in (folder.work, *folder.work.parents) if p.exists() and not p.is_dir()), None)
    if blocked is not None:
        raise ConfigError(f"'{blocked}' is a file", expected="a folder for runs", fix="choose another with runs=FOLDER")
    if (folder.path / "config.yaml").is_file():
        _refuse_other_config(folder.path, config, complete)
    elif folder.finished:
        fix = "choose another name with run=NAME, or another folder with runs=FOLDER"
        raise ConfigError(f"the folder '{folder.final}' is there already and is no run", fix=fix)
    if not folder.finished:
        folder.work.mkdir(parents=True, exist_ok=True)
        folder.lock()
        if folder.finished:  # by another process, in this very moment
            shutil.rmtree(folder.work)
            return folder
        state.write_text(folder.work / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
    return folder


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file that may have been cut short; empty when it does not exist."""
    if not path.exists():
        return []
    # not str.splitlines: texts may hold other line breaks, and a kill may cut a character in two
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def append_jsonl(path: Path, record: Mapping[str, Any]) -> None:
    """Append one line to a JSON lines file, which is made if it is not there."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def rewind_jsonl(path: Path, step: int) -> None:
    """Drop the records from ``step`` on, and what a kill cut short; nothing where there is no file."""
    kept = [record for record in read_jsonl(path) if record["step"] < step]
    if path.exists():
        state.write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))


@contextmanager
def full_disk_reported(folder: Path) -> Iterator[None]:
    """Turn a full disk into a message that says what is kept and what to do.

    Raises:
        DfkdError: the disk was full inside the ``with`` block.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DfkdError(
            f"no disk space left while writing {folder}\n"
            "  kept: the last checkpoint; what to do: free some space and repeat the same command"
        ) from error


def require_disk(folder: Path, needed: int) -> None:
    """Refuse to start where the disk is too full.

    Args:
        folder: will be written to; need not exist yet.
        needed: bytes.

    Raises:
        ConfigError: less is free.
    """
    existing = next(p for p in (folder, *folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ConfigError(
            f"too little disk space for {folder}",
            expected=f"{needed / 1e6:.0f} MB free",
            found=f"{free / 1e6:.0f} MB",
            fix="free some space, lower train.replay_capacity, or set runs=FOLDER on another disk",
        )


def _refuse_other_config(path: Path, config: Mapping[str, Any], complete: Complete) -> None:
    there = complete(read_yaml(path / "config.yaml"))
    changes = changes_between(there, config)
    if changes:
        fix = rescoring_command(path, there, config) or "choose another name with run=NAME, or remove that folder"
        raise ConfigError(f"the run '{path}' exists with another config", found=changes, fix=fix)


def rescoring_command(path: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What makes a finished run that was only scored otherwise the one that is wanted; ``None``: it is another run."""
    differing = _differing(there, now)
    if not path.name.endswith(PARTIAL) and all(key.startswith("evaluate.") for key, _, _ in differing):
        settings = " ".join(f"{key}={'null' if new is None else new}" for key, _, new in differing)
        return f"score it again: dfkd rescore '{path}' {settings}"
    return None


def changes_between(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first differences of two configurations that matter for the outcome, for people; empty without any."""
    differing = _differing(there, now)
    keys = {key for key, _, _ in differing}
    # of a teacher of another name the name says it all
    told = [pair for pair in differing if not (pair[0] == "teacher_sha256" and "teacher" in keys)]
    return "; ".join(_change(*pair) for pair in told[:6])


def _change(key: str, there: Any, now: Any) -> str:
    """One difference, for people."""
    if key.endswith("_sha256"):
        what = key.removesuffix("_sha256")
        return f"{what}: other files than there, of the same name (sha256 {str(there)[:8]} there, {str(now)[:8]} now)"
    return f"{key}: {there!r} there, {now!r} now"


def _differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, there, now) of what matters for the outcome and is not the same, sorted by key."""
    old, new = _flat(there), _flat(now)
    pairs = [(key, old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())]
    return [pair for pair in pairs if pair[1] != pair[2] and not _is_timed_already(*pair)]


def _is_timed_already(key: str, there: Any, now: Any) -> bool:
    """Whether no timing is asked for, and one is there: as after a table whose runs were timed when all had ended."""
    return key == "evaluate.latency_rounds" and now == 0 and bool(there)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys, without what does not matter for the outcome."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{name}."))
        elif name not in NOT_COMPARED:
            flat[name] = list(value) if isinstance(value, tuple) else value
    return flat
