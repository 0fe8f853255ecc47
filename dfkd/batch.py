"""What flows between synthesis and the trainer: pseudo batches one way, feedback the other.

Shapes: B samples, L positions, D embedding width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence, Union

from torch import Tensor

Text = Union[str, "tuple[str, str]"]
"""One input of a classifier: a text, or a pair of texts for tasks with two text columns."""


@dataclass(frozen=True)
class PseudoBatch:
    """B pseudo samples: either texts or embeddings, never both.

    Args:
        texts: B texts (or pairs); each model tokenizes them for itself.
        embeddings: (B, L, D), to be injected above the embedding block.
        attention_mask: (B, L), 1 for real positions; goes with ``embeddings``.
        prompts: B prompts that the texts were made from; ``None`` where there are none.
        targets: class distribution asked for, (B, C); ``None`` where the strategy asks for none.
        teacher_logits: the teacher's answers, (B, C), where they are known already, as those of stored samples are;
            ``None``: it is asked.
        rewards: (B,), of strategies that learn by reinforcement; ``None`` where there are none.
        strategy: the name of the part that made the batch, where a strategy has several; ``None``: it has not.
        label_logits: labels that the strategy states itself, as logits (B, C): the student learns these, and the
            teacher is not asked; ``None``: the teacher's predictions are the labels.
        info: per-batch facts to log, name -> value.

    Raises:
        ValueError: the parts do not fit each other.
    """

    texts: tuple[Text, ...] | None = None
    embeddings: Tensor | None = None
    attention_mask: Tensor | None = None
    prompts: tuple[str, ...] | None = None
    targets: Tensor | None = None
    teacher_logits: Tensor | None = None
    rewards: Tensor | None = None
    strategy: str | None = None
    label_logits: Tensor | None = None
    info: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.texts is None) == (self.embeddings is None):
            raise ValueError("a PseudoBatch holds either texts or embeddings")
        if self.embeddings is not None:
            self._check_embeddings(self.embeddings)
        if len(self) == 0:
            raise ValueError("a PseudoBatch holds at least one sample")
        for name in ("targets", "teacher_logits", "label_logits"):
            values = getattr(self, name)
            if values is not None and (values.dim() != 2 or len(values) != len(self)):
                raise ValueError(f"{name} must be (B={len(self)}, C), got {tuple(values.shape)}")
        if self.rewards is not None and self.rewards.shape != (len(self),):
            raise ValueError(f"rewards must be (B={len(self)},), got {tuple(self.rewards.shape)}")
        if self.prompts is not None and (self.texts is None or len(self.prompts) != len(self)):
            raise ValueError(f"{len(self.prompts)} prompts for {len(self)} samples; only texts have prompts")

    def _check_embeddings(self, embeddings: Tensor) -> None:
        if embeddings.dim() != 3:
            raise ValueError(f"embeddings must be (B, L, D), got {tuple(embeddings.shape)}")
        mask = self.attention_mask
        if mask is None or mask.shape != embeddings.shape[:2]:
            found = None if mask is None else tuple(mask.shape)
            raise ValueError(f"attention_mask must be {tuple(embeddings.shape[:2])}, got {found}")

    def __len__(self) -> int:
        if self.texts is not None:
            return len(self.texts)
        assert self.embeddings is not None
        return len(self.embeddings)

    def rows(self, indices: Sequence[int]) -> PseudoBatch:
        """The samples at ``indices``, at least one, as a batch of their own."""
        return PseudoBatch(
            texts=_picked(self.texts, indices), embeddings=_picked(self.embeddings, indices),
            attention_mask=_picked(self.attention_mask, indices), prompts=_picked(self.prompts, indices),
            targets=_picked(self.targets, indices), teacher_logits=_picked(self.teacher_logits, indices),
            label_logits=_picked(self.label_logits, indices), rewards=_picked(self.rewards, indices),
            strategy=self.strategy, info=self.info,
        )


def _picked(values: Any, indices: Sequence[int]) -> Any:
    if values is None:
        return None
    return values[list(indices)] if isinstance(values, Tensor) else tuple(values[index] for index in indices)


@dataclass(frozen=True)
class Feedback:
    """What the trainer tells the strategy after a student step.

    Args:
        step: the student step just taken, from 0.
        batch: the batch of that step.
        teacher_logits: (B, C), detached: the labels of the step; a batch's own ``label_logits`` where it has some.
        student_logits: (B, C), detached, from before the step.
        losses: loss terms by name.
        fresh: False when the batch came from the replay pool.
    """

    step: int
    batch: PseudoBatch
    teacher_logits: Tensor
    student_logits: Tensor
    losses: Mapping[str, float]
    fresh: bool = True

    def __post_init__(self) -> None:
        shapes = {tuple(self.teacher_logits.shape), tuple(self.student_logits.shape)}
        if len(shapes) != 1 or len(self.teacher_logits) != len(self.batch):
            raise ValueError(f"logits must both be (B={len(self.batch)}, C), got {sorted(shapes)}")
