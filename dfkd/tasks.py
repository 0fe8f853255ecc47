"""Data sets: found, read, checked, and handed out to those alone who may see them.

"Data-free" is enforced here: the training split goes to teacher training and to strategies on real text, the
test split to evaluation, and every hand-out is logged, refused ones too.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Collection, Container, Mapping, Sequence

from dfkd import packages
from dfkd._reading import FileSource, HubSource, Source
from dfkd._rows import texts_and_labels
from dfkd.batch import Text
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, DataFreeError, noting, refuse, suggestion

Log = Callable[[dict[str, Any]], None]

ALLOWED: Mapping[str, tuple[str, ...]] = {"train": ("teacher_training", "real_text"), "test": ("evaluate", "attack")}
"""Split -> who may have it."""
# of a corpus's texts may be the task's as well, or of a split's texts the corpus's: short phrases are common property
MOST_SHARED = 0.01
FEW_WORDS = 4
FEW_TEXTS = 5  # of a split: so many may be chance, however small it is


@dataclass(frozen=True)
class Split:
    """Texts (or pairs of texts) with their class indices; the texts stay out of its ``repr``."""

    texts: tuple[Text, ...] = field(repr=False)
    labels: tuple[int, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.labels)


class Task:
    """One data set behind a firewall; a split is read when it is first handed out or fingerprinted.

    Args:
        config: the facts of the data set.
        log: is called for each hand-out with a mapping of ``split``, ``to``, ``rows``, ``fingerprint`` and
            ``refused``; ``None``: no log.
        scored: whether the test split may be handed out; else it is as if there were none.

    Raises:
        ConfigError: a file is missing.
    """

    def __init__(self, config: DataConfig, log: Log | None = None, scored: bool = True) -> None:
        self.config = config
        self.labels = tuple(config.labels)
        self._log = log
        self._scored = scored
        self._sources = _sources(config)
        self._splits: dict[str, Split] = {}

    @property
    def has_test(self) -> bool:
        """Whether a test split can be had, its own or a held-out share of the training file; reads nothing."""
        return self._scored and self._test_is_there

    @property
    def _test_is_there(self) -> bool:
        return "test" in self._sources or (self.config.holdout > 0 and "train" in self._sources)

    def check(self) -> None:
        """Look at file types, sizes and columns without reading the rows.

        Raises:
            ConfigError: lists every problem found.
        """
        problems = {}
        for source in self._sources.values():
            try:
                _check_columns(source, self.config)
            except ConfigError as error:
                problems[str(error)] = error  # two splits of one source may share a problem
        refuse(problems.values())

    def fingerprint(self, split: str) -> str:
        """The sha256 of the split's texts and labels; reads and checks the split, and hands nothing out.

        Raises:
            ConfigError: there is no such split, or its data are faulty.
        """
        self._require_split(split)
        held = self._read(split)
        return hashlib.sha256(json.dumps([held.texts, held.labels]).encode()).hexdigest()

    def hand_out(self, split: str, to: str) -> Split:
        """The texts and labels of ``split``, for the reader ``to``; see :data:`ALLOWED`.

        Raises:
            DataFreeError: ``to`` may not see this split.
            ConfigError: there is no such split, or its data are faulty.
        """
        try:
            self._require_permission(split, to)
            self._require_split(split)
        except ConfigError:
            self._record(split, to, None)
            raise
        handed = self._read(split)
        self._record(split, to, handed)
        return handed

    def admit(self, name: str, texts: Sequence[str], to: str, path: Path | None = None, hub: str | None = None) -> None:
        """Let a corpus pass to the reader ``to``, unless it is the task's own; logged either way.

        Args:
            name: what messages call the corpus.
            texts: all of it; compared with the texts of all splits of the task.
            to: who wants it.
            path: its file; ``None``: it has none.
            hub: its name on the hub; ``None``: it has none.

        Raises:
            DataFreeError: it is a file or hub data set of the task, or holds many of its texts.
        """
        same = any(_same(source, path, hub) for source in self._sources.values())
        same = same or (hub is not None and hub == self.config.hub)
        shared, where = (1.0, "") if same else self._shared(texts)
        refused = shared > MOST_SHARED
        if self._log is not None:
            fingerprint = hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()
            facts = {"rows": 0 if refused else len(texts), "fingerprint": fingerprint, "refused": refused}
            self._log({"split": "corpus", "to": to, **facts, "shared": shared})
        if refused:
            problem = f"the corpus {name} is the task's own data set '{self.config.name}'"
            found = "a file or hub data set of the task" if same else f"{shared:.1%} {where}"
            raise DataFreeError(problem, expected="text from elsewhere", found=found, fix="give another corpus")

    def _shared(self, texts: Sequence[str]) -> tuple[float, str]:
        """The share of ``texts`` that stand in the task's splits, or that of a split in ``texts``, whichever is larger.

        A held-out share of the training file counts as well; of a split, its texts of a few words do not, nor do a few
        of its texts. Whole texts are compared: a corpus that holds the task's cut or joined in another way is not known
        by this.
        """
        splits = [split for split in ALLOWED if split in self._sources or (split == "test" and self._test_is_there)]
        given, own = [_plain(text) for text in texts], {split: self._plain_texts(split) for split in splits}
        found, there = [(_share_in(given, set().union(*own.values())), "of its texts are the task's")], set(given)
        for split, known in own.items():
            told = [text for text in known if len(text.split()) >= FEW_WORDS]
            shared = sum(text in there for text in told)
            share = shared / len(told) if shared >= min(FEW_TEXTS, max(len(told), 1)) else 0.0
            found.append((share, f"of the {split} split's texts are in it"))
        return max(found, key=lambda pair: pair[0])

    def _plain_texts(self, split: str) -> set[str]:
        return {
            _plain(part) for text in self._read(split).texts for part in ((text,) if isinstance(text, str) else text)
        }

    def _record(self, split: str, to: str, handed: Split | None) -> None:
        """Log a hand-out; ``None`` was refused."""
        if self._log is not None:
            rows, fingerprint = (0, None) if handed is None else (len(handed), self.fingerprint(split))
            facts = {"rows": rows, "fingerprint": fingerprint, "refused": handed is None}
            self._log({"split": split, "to": to, **facts})

    def _require_permission(self, split: str, to: str) -> None:
        if split in ALLOWED and to not in ALLOWED[split]:
            allowed = " or ".join(ALLOWED[split])
            fix = "between teacher and finished student nothing sees the task's texts: use pseudo data"
            raise DataFreeError(f"the {split} split is not for '{to}'", expected=allowed, found=to, fix=fix)

    def _require_split(self, split: str) -> None:
        if split not in ALLOWED:
            raise ConfigError(f"unknown split '{split}'", fix=suggestion(split, ALLOWED))
        if split == "test" and not self._scored:
            problem = f"the test split of '{self.config.name}' is closed: what is tuned may not see it"
            raise DataFreeError(problem, fix="score the run that was chosen in the end: dfkd evaluate RUN")
        if not (self.has_test if split == "test" else split in self._sources):
            fix = f"give data.files.{split}=FILE" + (", or data.holdout=0.2" if split == "test" else "")
            problem = f"data set '{self.config.name}' has no {split} split"
            raise ConfigError(problem, found=sorted(self._sources), fix=fix)

    def _read(self, split: str) -> Split:
        if split not in self._splits:
            from_train = split == "test" and "test" not in self._sources
            source = self._sources["train" if from_train else split]
            rows = _rows(source, self.config)
            if self.config.holdout > 0 and "test" not in self._sources:
                rows = _share(rows, self.config.holdout, held_out=split == "test")
            self._splits[split] = _checked(rows, split, source.name, self.labels)
        return self._splits[split]


def _same(source: Source, path: Path | None, hub: str | None) -> bool:
    """Whether a source of the task is this file, or this data set of the hub."""
    if isinstance(source, HubSource):
        return source.hub == hub
    return path is not None and source.path.samefile(path)


def _share_in(texts: Collection[str], known: Container[str]) -> float:
    return sum(text in known for text in texts) / max(len(texts), 1)


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def load(config: DataConfig, log: Log | None = None, scored: bool = True) -> Task:
    """The task that ``config`` describes; files, columns and the network are checked, rows are not read yet.

    Args:
        config: the facts of the data set.
        log: see :class:`Task`.
        scored: see :class:`Task`.

    Raises:
        ConfigError: lists every problem found.
    """
    task = Task(config, log, scored)
    task.check()
    return task


def access_log(folder: Path) -> Log:
    """A log that appends to ``access.jsonl`` in ``folder``, which is made when the first hand-out comes."""

    def log(record: dict[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "access.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    return log


def _sources(config: DataConfig) -> dict[str, Source]:
    """Split -> where its rows come from.

    Raises:
        ConfigError: the source that is asked for is not named, or files are missing; lists every one.
    """
    for name, splits in (("files", config.files), ("hub_splits", config.hub_splits)):
        for split in splits:
            if split not in ALLOWED:
                raise ConfigError(f"data.{name}: unknown split '{split}'", fix=suggestion(split, ALLOWED))
    files: dict[str, Source] = {}
    problems: list[ConfigError] = []
    for split, reference in config.files.items():
        with noting(problems):
            files[split] = FileSource(_find(reference, config.folder), split)
    usable = "train" in files and not problems
    if config.hub and (config.source == "hub" or (config.source == "auto" and not usable)):
        splits = config.hub_splits or {split: split for split in (("train",) if config.holdout else ALLOWED)}
        missing = () if usable else tuple(config.files.values())
        return {our: HubSource(config.hub, config.hub_config, name, missing) for our, name in splits.items()}
    refuse(problems)
    if not files and config.source == "auto":
        return {}  # a teacher and nothing else: fidelity alone can be told
    if not files or config.source == "hub":
        fix = "set data.hub=NAME, or data.files.train=FILE with data.source=files"
        raise ConfigError(f"data set '{config.name}' has no source for data.source={config.source}", fix=fix)
    return files


def _find(reference: str, folder: str | None) -> Path:
    """The file or folder that ``reference`` stands for; see ``DataConfig.files``.

    Raises:
        ConfigError: it is nowhere; the message lists the places.
    """
    if packages.is_package_reference(reference):
        return packages.locate(reference)
    roots = [Path(root) for root in (os.environ.get("DFKD_DATA"), folder, ".") if root]
    path = Path(reference).expanduser()
    places = [path] if path.is_absolute() else [root / path for root in roots]
    for place in places:
        if place.exists():
            return place
    fix = "correct data.files, or set DFKD_DATA to the folder of the data"
    raise ConfigError(f"no file '{reference}'", found="nothing at " + ", ".join(map(str, places)), fix=fix)


def _text_columns(source: Source, config: DataConfig) -> list[str]:
    return config.hub_text if isinstance(source, HubSource) and config.hub_text else config.text


def _check_columns(source: Source, config: DataConfig) -> list[str]:
    """The columns wanted, all of which the source has (the hub does not always tell)."""
    wanted = [*_text_columns(source, config), config.label]
    found = source.columns()
    for column in wanted:
        if found and column not in found:
            problem = f"data set '{config.name}': {source.name} has no column '{column}'"
            of_hub = isinstance(source, HubSource) and config.hub_text is not None
            key = "label: COLUMN" if column == config.label else f"{'hub_text' if of_hub else 'text'}: [COLUMN]"
            setting = f"data.{key.replace(': ', '=')}"
            fix = f"set {setting}, or '{key}' in the data set's YAML; {suggestion(column, found)}"
            raise ConfigError(problem, expected=wanted, found=found, fix=fix)
    return wanted


def _rows(source: Source, config: DataConfig) -> Split:
    columns = source.read(_check_columns(source, config), config.labels)
    return Split(*texts_and_labels(columns, _text_columns(source, config), config, source.name))


def _share(rows: Split, holdout: float, held_out: bool) -> Split:
    """The held-out share of the rows, or the rest; a hash of the text decides, so a text is never in both."""
    kept = [i for i, text in enumerate(rows.texts) if (_position(text) < holdout) == held_out]
    return Split(tuple(rows.texts[i] for i in kept), tuple(rows.labels[i] for i in kept))


def _position(text: Text) -> float:
    """A number in [0, 1) that depends on the text alone."""
    joined = text if isinstance(text, str) else "\x1f".join(text)
    return int(hashlib.sha1(joined.encode()).hexdigest()[:8], 16) / 16**8


def _checked(rows: Split, split: str, name: str, labels: Sequence[str]) -> Split:
    """``rows``, unless they cannot serve as ``split``."""
    if len(rows) == 0:
        fix = "give more rows, or change data.holdout, data.ignore_labels or data.drop_empty"
        raise ConfigError(f"{name}: the {split} split has no rows", expected="rows", found="0 rows", fix=fix)
    classes = set(rows.labels)
    if len(classes) == 1:
        found = f"{len(rows)} rows of '{labels[min(classes)]}'"
        problem = f"{name}: only one class in the {split} split"
        fix = "give rows of every class, or correct data.label"
        raise ConfigError(problem, expected=f"rows of {', '.join(labels)}", found=found, fix=fix)
    return rows
