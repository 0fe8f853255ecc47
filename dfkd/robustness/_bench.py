"""Teacher and student side by side under one attack: texts made against each, numbers, and what carries over.

Shapes: N items.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from dfkd import state
from dfkd.batch import Text
from dfkd.robustness import registry
from dfkd.robustness._measures import measures, transfer
from dfkd.robustness._records import Unfinished
from dfkd.robustness.base import Context, Perturbed, Victim

AT_ONCE = 32  # texts that are attacked side by side, and kept together
OTHER = {"teacher": "student", "student": "teacher"}
Made = Mapping[str, Sequence[Perturbed]]


class Bench:
    """Two victims and the items, for any number of attacks.

    Args:
        victims: ``teacher`` and ``student``.
        items: N numbers of the texts in their data set.
        texts: N texts.
        labels: their true classes.
        names: of the classes.
        seed: of the attacks.
        column: of pairs, which text is changed: 0 or 1.
    """

    def __init__(
        self, victims: Mapping[str, Victim], items: Sequence[int], texts: Sequence[Text], labels: Sequence[int],
        names: Sequence[str], seed: int = 0, column: int = 0,
    ) -> None:
        self.victims, self.names, self.seed, self.column = victims, names, seed, column
        self.items, self.texts, self.labels = items, texts, labels

    def run(self, name: str, options: Any, examples: Path, progress: Callable[[int], None]) -> dict[str, Any]:
        """One attack on both victims, from where it was interrupted.

        Args:
            name: of the attack.
            options: of its module.
            examples: the file for the texts that it makes.
            progress: called with the texts done, of 2 N.

        Returns:
            What ``robustness.json`` says of the outcome.
        """
        kept = Unfinished(examples, self.texts, self.labels)
        for number, against in enumerate(OTHER):
            self._perturb(name, options, against, kept, lambda done: progress(number * len(self.texts) + done))
        made = {against: kept.made(against) for against in OTHER}
        seen = {against: self._seen_by_other(against, made) for against in OTHER}
        lines = [line for against in OTHER for line in self._examples(against, made, seen[against])]
        state.write_text(examples, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        before = {against: [one.before for one in made[against]] for against in OTHER}
        return {
            "finished": datetime.now().isoformat(timespec="seconds"),
            "results": {a: {**measures(made[a]), "seconds": kept.seconds(a)} for a in OTHER},
            "transfer": {f"{a}_to_{b}": transfer(made[a], before[b], seen[a]) for a, b in OTHER.items()},
        }

    def _perturb(
        self, name: str, options: Any, against: str, kept: Unfinished, progress: Callable[[int], None]
    ) -> None:
        """Attack the items that were not attacked yet, some at a time."""
        victim = self.victims[against]
        context = Context(victim, self.victims["teacher"].classifier, self.seed, self.column)
        attack = registry.build(name, options, context)
        for start in range(len(kept.made(against)), len(self.texts), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            started = time.perf_counter()
            made = attack.perturb(victim, self.texts[some], self.labels[some])
            kept.append(against, made, time.perf_counter() - started)
            progress(start + len(made))

    def _seen_by_other(self, against: str, made: Made) -> list[int]:
        """The classes that the other victim predicts for the texts made against this one."""
        texts = [one.text for one in made[against]]
        classes: list[int] = self.victims[OTHER[against]].probabilities(texts).argmax(dim=1).tolist()
        return classes

    def _examples(self, against: str, made: Made, seen: Sequence[int]) -> list[dict[str, Any]]:
        """A line for each text that was attacked."""
        other = OTHER[against]
        return [
            {
                "against": against, "item": item, "succeeded": one.succeeded, "label": self.names[one.label],
                "original": one.original, "perturbed": one.text, "words_changed": one.changed, "queries": one.queries,
                "predictions": {
                    against: {"original": self.names[one.before], "perturbed": self.names[one.after]},
                    other: {"original": self.names[elsewhere.before], "perturbed": self.names[after]},
                },
            }
            for item, one, elsewhere, after in zip(self.items, made[against], made[other], seen) if one.attacked
        ]
