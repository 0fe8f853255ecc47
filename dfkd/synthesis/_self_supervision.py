"""The self-supervised adversary of AS-DFD: L_MASK, and guessing against it.

Shapes: B samples, L positions, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.losses import entropy, masked_mse, prediction_kl, soft_cross_entropies, soft_cross_entropy
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, Start, StepOptions, drawn_positions
from dfkd.synthesis._inversion import first_and_last, inner_positions, still


LOGGED = {"mask": "mask_loss", "kl": "kl"}


@dataclass(frozen=True)
class SelfSupervisionOptions(StepOptions):
    """The adversary; see :class:`~dfkd.synthesis._guess.StepOptions` for the guessing.

    Args:
        difficulty_weight: lambda, how strongly e is pushed to be hard for the student.
        difficulty: what is raised: KL(T || S) on e (``kl``), or the student's L_MASK (``mask``, the paper's), which
            wants a ``mask_weight`` above 0.
        mask_weight: weight of L_MASK in the student's loss; 0: none is computed; the paper has 1.
        mask: ``share``: mask ``mask_share`` of the inner positions; ``one``: exactly one a sample.
        mask_share: share of masked positions, at least one a sample.
        mask_with: what stands at a masked position of the student's input: the embedding of [MASK], or zeros.
    """

    learns_from_student: ClassVar[bool] = True
    asks_student: ClassVar[tuple[str, ...]] = ("difficulty_weight", "mask_weight")

    difficulty_weight: float = 1.0
    difficulty: Literal["mask", "kl"] = "kl"
    mask_weight: float = 0.0
    mask: Literal["share", "one"] = "share"
    mask_share: float = 0.15
    mask_with: Literal["token", "zero"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("difficulty_weight", "mask_weight"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        require(0 < self.mask_share <= 1, "strategy.mask_share", "a share in (0, 1]", self.mask_share)
        if self.difficulty == "mask" and self.difficulty_weight > 0 and self.mask_weight == 0:
            raise ConfigError(
                "the adversary on L_MASK has no opponent: nothing trains the map W, nor the student to lower L_MASK",
                expected="strategy.mask_weight above 0 with strategy.difficulty=mask", found=self.mask_weight,
                fix="add strategy.mask_weight=1, as in the paper; or take strategy.difficulty=kl",
            )


class SelfSupervision(nn.Module):
    """L_MASK: how badly the student reconstructs embeddings that are masked in its input.

    ``L_MASK = MSE(W h_i, e_i)``, h_i the student's last hidden state at the masked position i.

    Args:
        teacher: gives the embedding of [MASK].
        hidden_width: H.
        options: what is masked, and with what.
        generator: CPU generator of the masks.

    Source: self-supervised module of Ma et al., EMNLP 2020 (AS-DFD), section 3.3. W starts at the identity
    where H = D (ours), so that the first L_MASK compares like with like.
    """

    def __init__(
        self, teacher: Teacher, hidden_width: int, options: SelfSupervisionOptions, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.options, self.generator = options, generator
        self.map = nn.Linear(hidden_width, teacher.width, bias=False).to(teacher.device)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(teacher.width, hidden_width))
        self.filler = self._filler(teacher)

    def _filler(self, teacher: Teacher) -> Tensor:
        """What stands at masked positions, one for each position: (1, longest, D).

        Raises:
            ConfigError: the tokenizer has no mask token.
        """
        if self.options.mask_with == "zero":
            return torch.zeros(1, teacher.max_length, teacher.width, device=teacher.device)
        if teacher.tokenizer.mask_token_id is None:
            raise ConfigError("the teacher's tokenizer has no mask token", fix="add strategy.mask_with=zero")
        ids = torch.full((1, teacher.max_length), int(teacher.tokenizer.mask_token_id), device=teacher.device)
        return teacher.embed(ids).float()

    def positions(self, movable: Tensor) -> Tensor:
        """Draw the positions to mask, (B, L) bool, among the inner ones."""
        share = self.options.mask_share if self.options.mask == "share" else 0.0  # 0: one
        return drawn_positions(movable, share, self.generator)

    def loss(self, student: Student, embeddings: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
        """L_MASK, a scalar, of embeddings (B, L, D) at the positions (B, L)."""
        masked = torch.where(positions.unsqueeze(-1), self.filler[:, : embeddings.shape[1]], embeddings)
        hidden = student.from_embeddings(masked, attention_mask).hidden
        return masked_mse(self.map(hidden), embeddings, positions)

    def difficulty(self, student: Any, embeddings: Tensor, attention_mask: Tensor, teacher_logits: Tensor) -> Tensor:
        """What the adversary raises, a scalar: L_MASK or KL(T || S) of embeddings (B, L, D), logits (B, C)."""
        if self.options.difficulty == "mask":
            positions = self.positions(inner_positions(attention_mask))
            return self.loss(student, embeddings, attention_mask, positions)
        return prediction_kl(teacher_logits, student.from_embeddings(embeddings, attention_mask).logits)

    def student_losses(self, student: Student, batch: PseudoBatch) -> dict[str, Tensor]:
        """L_MASK of a batch of embeddings, times its weight; stage 2 minimises it over student and W."""
        if self.options.mask_weight == 0:
            return {}
        assert batch.embeddings is not None and batch.attention_mask is not None
        device = self.map.weight.device
        embeddings, mask = batch.embeddings.to(device), batch.attention_mask.to(device)
        positions = self.positions(inner_positions(mask))
        return {"mask": self.options.mask_weight * self.loss(student, embeddings, mask, positions)}


def guess_against(
    student: Any, supervision: SelfSupervision, guesser: Guesser, start: Start, targets: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Stage 1: ``e <- e - eta d/de [L_INPUT - lambda L]``, both models as they are now; L is L_MASK or KL(T || S).

    Args:
        student: a module; its parameters get no gradient.
        supervision: L_MASK, and lambda in its options.
        guesser: the teacher and the inner loop.
        start: B starts.
        targets: (B, C).

    Returns:
        The embeddings (B, L, D), and L_INPUT and L (``mask_loss`` or ``kl``) before the first and the last step; no L
        where lambda is 0, as it is not computed then.

    Source: Ma et al., EMNLP 2020 (arXiv:2010.04883), section 3, first stage, with L = L_MASK. KL in its place is the
    adversary of Micaelli & Storkey 2019 (ZSKT).
    """
    guess = _by_polyak if supervision.options.guess_step == "polyak" else _by_adam
    with still(student):  # so that the adversary answers to the student, not to the noise of its dropout
        embeddings, parts = guess(student, supervision, guesser, start, targets)
    ends = first_and_last(parts)
    rate = guesser.rate.observe(ends["input_loss_first"], ends["input_loss_last"]) if parts else {}
    return embeddings, {**ends, **rate}


def _by_adam(
    student: Any, supervision: SelfSupervision, guesser: Guesser, start: Start, targets: Tensor
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """One objective for both sides; also its terms before each step."""
    weight, name = supervision.options.difficulty_weight, LOGGED[supervision.options.difficulty]
    parts: list[dict[str, Tensor]] = []

    def objective(embeddings: Tensor) -> Tensor:
        logits = guesser.teacher.from_embeddings(embeddings, start.attention_mask).logits
        input_loss = soft_cross_entropy(logits, targets)
        parts.append({"input_loss": input_loss.detach()})
        if weight == 0:  # without the adversary its passes through the student are saved, and nothing is logged of it
            return input_loss * len(targets)
        hardness = supervision.difficulty(student, embeddings, start.attention_mask, logits)
        parts[-1][name] = hardness.detach()
        return (input_loss - weight * hardness) * len(targets)

    embeddings, _ = guesser.move(start, objective)
    return embeddings, parts


def _by_polyak(
    student: Any, supervision: SelfSupervision, guesser: Guesser, start: Start, targets: Tensor
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """A step of each side in turn: towards the target, and aside to what is hard; also the terms before each step."""
    weight, name = supervision.options.difficulty_weight, LOGGED[supervision.options.difficulty]
    parts: list[dict[str, Tensor]] = []
    answers: list[Tensor] = []  # the teacher's, held while the student's side is looked at

    def losses(embeddings: Tensor) -> Tensor:
        logits = guesser.teacher.from_embeddings(embeddings, start.attention_mask).logits
        answers[:] = [logits.detach()]
        values = soft_cross_entropies(logits, targets)
        parts.append({"input_loss": values.detach().mean()})
        return values

    def harder(embeddings: Tensor) -> Tensor:
        hardness = supervision.difficulty(student, embeddings, start.attention_mask, answers[0])
        parts[-1][name] = hardness.detach()
        return hardness * len(targets)

    embeddings, _ = guesser.approach(start, losses, entropy(targets), harder if weight else None, weight)
    return embeddings, parts
