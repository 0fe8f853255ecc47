"""AS-DFD: embeddings guessed from the teacher, made harder by a self-supervised adversary in the student.

Shapes: B samples, L positions, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Literal, Mapping

import torch
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.losses import masked_mse, soft_cross_entropy
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, GuessOptions, Start
from dfkd.synthesis._still import still
from dfkd.synthesis.base import Context


@dataclass(frozen=True)
class Options(GuessOptions):
    """AS-DFD; see :class:`~dfkd.synthesis._guess.GuessOptions` for the guessing.

    Args:
        difficulty_weight: lambda, how strongly e is pushed to raise the student's L_MASK.
        mask_weight: weight of L_MASK in the student's loss; the paper has 1.
        mask: ``share``: mask ``mask_share`` of the inner positions; ``one``: exactly one a sample.
        mask_share: share of masked positions, at least one a sample.
        mask_with: what stands at a masked position of the student's input: the embedding of [MASK], or zeros.
    """

    difficulty_weight: float = 0.1
    mask_weight: float = 1.0
    mask: Literal["share", "one"] = "share"
    mask_share: float = 0.15
    mask_with: Literal["token", "zero"] = "token"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("difficulty_weight", "mask_weight"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        require(0 < self.mask_share <= 1, "strategy.mask_share", "a share in (0, 1]", self.mask_share)


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

    def __init__(self, teacher: Teacher, hidden_width: int, options: Options, generator: torch.Generator) -> None:
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
        scores = torch.rand(movable.shape, generator=self.generator).to(movable.device)
        scores = scores.masked_fill(~movable, -1.0)
        counts = torch.ones(len(movable), dtype=torch.long, device=movable.device)
        if self.options.mask == "share":
            counts = (movable.sum(dim=1) * self.options.mask_share).round().long().clamp_min(1)
        ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
        return (ranks < counts.unsqueeze(1)) & movable

    def loss(self, student: Student, embeddings: Tensor, attention_mask: Tensor, positions: Tensor) -> Tensor:
        """L_MASK, a scalar, of embeddings (B, L, D) at the positions (B, L)."""
        masked = torch.where(positions.unsqueeze(-1), self.filler[:, : embeddings.shape[1]], embeddings)
        hidden = student.from_embeddings(masked, attention_mask).hidden
        return masked_mse(self.map(hidden), embeddings, positions)


class AsDfd:
    """Alternates ``e <- e - eta d/de [L_INPUT - lambda L_MASK]`` with ``min L_KD + L_MASK`` over student and W.

    Args:
        teacher: frozen.
        student: its parameters get no gradient here.
        supervision: L_MASK and its map W.
        options: all switches.
        generator: CPU generator.

    Source: Ma et al., EMNLP 2020 (arXiv:2010.04883), section 3, both stages. Stage 2 is the trainer's step, with
    L_MASK from :meth:`student_losses`. The paper's own form is the preset ``as_dfd/paper``; soft targets are ours.
    """

    def __init__(
        self, teacher: Teacher, student: Student, supervision: SelfSupervision, options: Options,
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.student, self.supervision = teacher, student, supervision
        self.options, self.generator = options, generator
        self.guesser = Guesser(teacher, options, generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """Stage 1: guess ``n`` samples against the student as it is now."""
        start, targets = self.guesser.start(n), self.guesser.targets(n)
        parts: list[tuple[Tensor, Tensor]] = []

        def objective(embeddings: Tensor) -> Tensor:
            logits = self.teacher.from_embeddings(embeddings, start.attention_mask).logits
            input_loss = soft_cross_entropy(logits, targets)
            mask_loss = self._difficulty(embeddings, start)
            parts.append((input_loss.detach(), mask_loss.detach()))
            return (input_loss - self.options.difficulty_weight * mask_loss) * n

        with still(self.student):
            embeddings, _ = self.guesser.move(start, objective)
        return PseudoBatch(
            embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=_facts(parts)
        )

    def _difficulty(self, embeddings: Tensor, start: Start) -> Tensor:
        """L_MASK of e on the student; without the adversary its passes through the student are saved."""
        if self.options.difficulty_weight == 0:
            return embeddings.new_zeros(())
        positions = self.supervision.positions(start.movable)
        return self.supervision.loss(self.student, embeddings, start.attention_mask, positions)

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """L_MASK of the batch, times its weight; stage 2 minimises it over student and W."""
        if self.options.mask_weight == 0:
            return {}
        assert batch.embeddings is not None and batch.attention_mask is not None
        device = self.teacher.device
        embeddings, mask = batch.embeddings.to(device), batch.attention_mask.to(device)
        inner = mask.bool()
        inner[:, 0] = False
        inner &= torch.arange(inner.shape[1], device=device) < mask.sum(dim=1, keepdim=True) - 1
        positions = self.supervision.positions(inner)
        return {"mask": self.options.mask_weight * self.supervision.loss(student, embeddings, mask, positions)}

    def observe(self, feedback: Feedback) -> None:
        """The adversary looks at the live student; it needs no report."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The map W."""
        return self.supervision.parameters()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state and W."""
        return {"generator": self.generator.get_state(), "map": dict(self.supervision.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.supervision.load_state_dict(state["map"])


def _facts(parts: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """L_INPUT and L_MASK before the first and before the last step."""
    if not parts:
        return {}
    first, last = parts[0], parts[-1]
    names = ("input_loss_first", "mask_loss_first", "input_loss_last", "mask_loss_last")
    return {name: float(value) for name, value in zip(names, (*first, *last))}


def build(options: Options, context: Context) -> AsDfd:
    """AS-DFD between the context's teacher and student."""
    student: Any = context.student
    supervision = SelfSupervision(context.teacher, student.hidden_width, options, context.generator)
    return AsDfd(context.teacher, context.student, supervision, options, context.generator)
