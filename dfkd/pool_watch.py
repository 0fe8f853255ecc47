"""What the batches of a pool look like while it is made: ``metrics.jsonl`` and ``alarms.jsonl`` in its folder.

Shapes: B samples, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Mapping

import torch
from torch import Tensor

from dfkd import runs
from dfkd.batch import Feedback, PseudoBatch
from dfkd.models.teacher import Teacher
from dfkd.quality.alarms import Alarms
from dfkd.quality.diagnostics import Diagnostics, distinct_pairs, empty_share
from dfkd.quality.rules import Maker

LOGS = ("metrics", "alarms")


class PoolWatch:
    """Measures the batches of a pool, and raises alarms; nothing learns from what it sees, the teacher is not asked.

    Args:
        folder: of the pool.
        teacher: its tokenizer tells which texts it sees cut.
        makers: who makes the samples, see :func:`dfkd.quality.rules.makers_of`.
        alarm: hears of each alarm, as a line of text.
    """

    def __init__(
        self, folder: Path, teacher: Teacher, makers: Mapping[str | None, Maker], alarm: Callable[[str], None]
    ) -> None:
        self.folder, self.alarm = folder, alarm
        self.diagnostics = Diagnostics(teacher)
        self.alarms = Alarms(len(teacher.labels), lambda: runs.read_jsonl(self._path("metrics")), makers)

    def rewind(self, batches: int) -> None:
        """Forget what came after the first ``batches``, as they will be made again."""
        for log in LOGS:
            runs.rewind_jsonl(self._path(log), batches)

    def look(
        self, number: int, batch: PseudoBatch, kept: PseudoBatch | None, logits: Tensor | None, known: int
    ) -> None:
        """Log a batch, and the alarms that rise with it.

        Args:
            number: of the batch, from 0.
            batch: of B texts, as it was made.
            kept: what of it went into the pool; ``None``: nothing.
            logits: the teacher's, of those, (B or fewer, C).
            known: how many of the batch were dropped as they were there already, word for word or nearly.
        """
        record = {"step": number, "fresh": True, **self._facts(batch, known)}
        if kept is not None and logits is not None:
            record |= self.diagnostics.measure(Feedback(number, kept, logits, logits, {}))
            record["classes"] = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).tolist()
        record["empty"] = empty_share(batch.texts or ())
        runs.append_jsonl(self._path("metrics"), record)
        for risen in self.alarms.see(record):
            runs.append_jsonl(self._path("alarms"), vars(risen))
            self.alarm(str(risen))

    @staticmethod
    def _facts(batch: PseudoBatch, known: int) -> dict[str, Any]:
        """What can be told without the teacher."""
        facts: dict[str, Any] = {**batch.info, "not_new": known / len(batch)}
        facts |= {"strategy": batch.strategy} if batch.strategy is not None else {}
        return facts | ({"prompt_distinct_2": distinct_pairs(batch.prompts)} if batch.prompts is not None else {})

    def _path(self, log: str) -> Path:
        return self.folder / f"{log}.jsonl"
