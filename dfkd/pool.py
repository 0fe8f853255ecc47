"""Pseudo data on disk: one Arrow file for each batch, with the teacher's predictions beside the samples.

Shapes: B samples, L positions, D embedding width, C classes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, Sequence

import numpy
import pyarrow
import torch
from torch import Tensor

from dfkd.batch import PseudoBatch

SCHEMA = pyarrow.schema(
    [
        ("step", pyarrow.int64()),
        ("text", pyarrow.string()),
        ("text_pair", pyarrow.string()),
        ("embeddings", pyarrow.binary()),  # float32, length x width values
        ("length", pyarrow.int64()),
        ("teacher_logits", pyarrow.list_(pyarrow.float32())),
        ("target", pyarrow.list_(pyarrow.float32())),
        ("prompt", pyarrow.string()),
        ("strategy", pyarrow.string()),  # the part of a strategy that made the sample, where it has several
        ("reward", pyarrow.float32()),
    ]
)


class Pool:
    """A bounded store of pseudo samples that survives a kill.

    Files are numbered ``000000000.arrow`` upwards and written by one rename each. Samples older than ``capacity``
    are no longer drawn; their files go in :meth:`collect_garbage`, which is to be called only after a checkpoint
    that no longer needs them.

    Args:
        folder: is made with the first samples.
        capacity: samples to draw from, at most (rounded up to whole batches).
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self.folder = folder
        self.capacity = capacity
        self.sizes: list[int] = []
        self.makers: list[str] = []  # of each file: PseudoBatch.strategy
        self._open: dict[int, Any] = {}
        self._classes_of: dict[int, numpy.ndarray] = {}

    def __len__(self) -> int:
        return sum(self.sizes[self._first() :])

    def append(self, batch: PseudoBatch, teacher_logits: Tensor, step: int) -> None:
        """Store a batch with the teacher's logits (B, C) for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(len(self.sizes))
        temporary = path.with_suffix(".tmp")
        table = pyarrow.Table.from_pylist(_rows(batch, teacher_logits, step), schema=SCHEMA)
        with pyarrow.OSFile(str(temporary), "wb") as sink, pyarrow.ipc.new_file(sink, SCHEMA) as writer:
            writer.write_table(table)
        os.replace(temporary, path)
        self.sizes.append(len(batch))
        self.makers.append(batch.strategy or "")

    def sample(self, n: int, generator: torch.Generator, balance: bool = False) -> tuple[PseudoBatch, Tensor]:
        """Draw ``n`` samples with replacement, evenly over the newest ``capacity``.

        Args:
            n: how many.
            generator: CPU generator.
            balance: evenly over the classes first that the stored logits put highest, then over each one's samples.

        Where several parts of a strategy have stored samples, the first one drawn decides which part's samples make
        up the batch: texts and embeddings do not go together, and a part hears of its own samples alone.

        Returns:
            The batch, and the teacher's logits (n, C) stored with it.

        Raises:
            ValueError: the pool is empty.
        """
        if not len(self):
            raise ValueError("the pool is empty")
        files = list(range(self._first(), len(self.sizes)))
        if len({self.makers[file] for file in files}) > 1:
            total = sum(self.sizes[file] for file in files)
            (file, _), = self._locate(files, torch.randint(total, (1,), generator=generator).tolist())
            files = [other for other in files if self.makers[other] == self.makers[file]]
        total = sum(self.sizes[file] for file in files)
        drawn = torch.randint(total, (n,), generator=generator).tolist()
        if balance:
            drawn = _balanced(numpy.concatenate([self._classes(file) for file in files]), n, generator)
        return self._read(self._locate(files, drawn))

    def _classes(self, file: int) -> numpy.ndarray:
        """The class with the highest stored logit of each sample of a file."""
        if file not in self._classes_of:
            logits = self._table(file).column("teacher_logits").to_pylist()
            self._classes_of[file] = numpy.asarray(logits).argmax(axis=1)
        return self._classes_of[file]

    def class_counts(self, classes: int) -> list[int]:
        """How many of the samples to draw from have their highest stored logit at each of the ``classes``."""
        files = range(self._first(), len(self.sizes))
        return [int(sum((self._classes(file) == index).sum() for file in files)) for index in range(classes)]

    def rows_of(self, files: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of some files, counted from the first one written, as mappings of the columns."""
        return [row for file in files for row in self._table(file).to_pylist()]

    def take(self, indices: Sequence[int]) -> tuple[PseudoBatch, Tensor]:
        """The samples at ``indices``, counted from the oldest that is still drawn, with the teacher's logits."""
        return self._read(self._locate(range(self._first(), len(self.sizes)), indices))

    def _locate(self, files: Sequence[int], indices: Sequence[int]) -> list[tuple[int, int]]:
        """File and row of the samples at ``indices``, counted over some files."""
        bounds = numpy.cumsum([self.sizes[file] for file in files])
        found = []
        for index in indices:
            chunk = int(numpy.searchsorted(bounds, index, side="right"))
            found.append((files[chunk], index - (int(bounds[chunk - 1]) if chunk else 0)))
        return found

    def _read(self, places: Sequence[tuple[int, int]]) -> tuple[PseudoBatch, Tensor]:
        """The samples at the given files and rows."""
        rows = [self._table(file).slice(row, 1).to_pylist()[0] for file, row in places]
        return _to_batch(rows), torch.tensor([row["teacher_logits"] for row in rows])

    def batches(self) -> Iterator[tuple[PseudoBatch, Tensor]]:
        """Every stored batch with the teacher's logits, in the order of writing."""
        for index in range(self._first(), len(self.sizes)):
            rows = self._table(index).to_pylist()
            yield _to_batch(rows), torch.tensor([row["teacher_logits"] for row in rows])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint stores: how many files there are, how many samples in each, and who made them."""
        return {"sizes": list(self.sizes), "makers": list(self.makers)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a checkpoint: files written after it are removed."""
        sizes = list(state["sizes"])
        self.adopt({"sizes": sizes, "makers": state.get("makers", [""] * len(sizes))})
        for path in self.folder.glob("*.arrow"):
            if int(path.stem) >= len(self.sizes):
                path.unlink()

    def adopt(self, state: dict[str, Any]) -> None:
        """Read the files of a checkpoint and touch none; for those who only read."""
        self.sizes, self.makers = list(state["sizes"]), list(state["makers"])
        self._open.clear()
        self._classes_of.clear()

    def paths(self) -> list[Path]:
        """The files that are drawn from, the oldest first."""
        return [self._path(index) for index in range(self._first(), len(self.sizes))]

    def collect_garbage(self) -> None:
        """Delete the files that are too old to be drawn."""
        for index in range(self._first() - 1, -1, -1):
            self._open.pop(index, None)
            self._classes_of.pop(index, None)
            if not self._path(index).exists():
                break
            self._path(index).unlink()

    def _first(self) -> int:
        """The oldest file that is still drawn from."""
        held, index = 0, len(self.sizes)
        while index > 0 and held < self.capacity:
            index -= 1
            held += self.sizes[index]
        return index

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:09d}.arrow"

    def _table(self, index: int) -> Any:
        """A file's table, mapped into memory and kept open."""
        if index not in self._open:
            with pyarrow.memory_map(str(self._path(index))) as source:
                self._open[index] = pyarrow.ipc.open_file(source).read_all()
        return self._open[index]


def read_folder(folder: Path) -> Iterator[tuple[PseudoBatch, Tensor, int]]:
    """The batches that a folder holds, those too old to be drawn left out if they are gone: with logits and step."""
    for path in sorted(folder.glob("*.arrow")):
        rows = read_file(path)
        yield _to_batch(rows), torch.tensor([row["teacher_logits"] for row in rows]), rows[0]["step"]


def read_file(path: Path) -> list[dict[str, Any]]:
    """The samples of one file, as mappings of the columns."""
    with pyarrow.memory_map(str(path)) as source:
        rows: list[dict[str, Any]] = pyarrow.ipc.open_file(source).read_all().to_pylist()
    return rows


def _balanced(classes: numpy.ndarray, n: int, generator: torch.Generator) -> list[int]:
    """``n`` indices, with replacement: a class that there is, evenly, and a sample of it, evenly."""
    members = [numpy.flatnonzero(classes == index) for index in numpy.unique(classes)]
    chosen = torch.randint(len(members), (n,), generator=generator).tolist()
    places = torch.rand(n, generator=generator, dtype=torch.float64).tolist()
    return [int(members[own][int(place * len(members[own]))]) for own, place in zip(chosen, places)]


def _rows(batch: PseudoBatch, teacher_logits: Tensor, step: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    logits = teacher_logits.detach().float().cpu().tolist()
    targets = batch.targets.float().cpu().tolist() if batch.targets is not None else [None] * len(batch)
    rewards = batch.rewards.float().cpu().tolist() if batch.rewards is not None else [None] * len(batch)
    for index in range(len(batch)):
        row: dict[str, Any] = {"step": step, "teacher_logits": logits[index], "target": targets[index]}
        row |= {"prompt": batch.prompts[index] if batch.prompts else None, "reward": rewards[index]}
        rows.append({**row, "strategy": batch.strategy, **_content(batch, index)})
    return rows


def _content(batch: PseudoBatch, index: int) -> dict[str, Any]:
    """The columns of one sample that hold its text, or its embeddings without padding."""
    if batch.texts is not None:
        text = batch.texts[index]
        first, second = (text, None) if isinstance(text, str) else text
        return {"text": first, "text_pair": second}
    assert batch.embeddings is not None and batch.attention_mask is not None
    length = int(batch.attention_mask[index].sum())
    embeddings = batch.embeddings[index, :length].detach().float().cpu().numpy()
    return {"embeddings": embeddings.tobytes(), "length": length}


def _to_batch(rows: Sequence[dict[str, Any]]) -> PseudoBatch:
    targets = _tensor([row["target"] for row in rows])
    facts: dict[str, Any] = {"targets": targets, "rewards": _tensor([row["reward"] for row in rows])}
    makers = {row["strategy"] for row in rows}
    facts["strategy"] = makers.pop() if len(makers) == 1 else None
    if rows[0]["embeddings"] is None:
        texts = tuple(r["text"] if r["text_pair"] is None else (r["text"], r["text_pair"]) for r in rows)
        prompts = tuple(row["prompt"] or "" for row in rows) if any(row["prompt"] for row in rows) else None
        return PseudoBatch(texts=texts, prompts=prompts, **facts)
    longest = max(row["length"] for row in rows)
    width = len(rows[0]["embeddings"]) // 4 // rows[0]["length"]
    embeddings, mask = torch.zeros(len(rows), longest, width), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        values = numpy.frombuffer(row["embeddings"], dtype=numpy.float32).copy()
        embeddings[index, : row["length"]] = torch.from_numpy(values).view(row["length"], width)
        mask[index, : row["length"]] = 1
    return PseudoBatch(embeddings=embeddings, attention_mask=mask, **facts)


def _tensor(values: Sequence[Any]) -> Tensor | None:
    """The values of a column as a tensor; ``None`` where one is missing."""
    return None if any(value is None for value in values) else torch.tensor(values)
