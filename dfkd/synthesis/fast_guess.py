"""Amortised guessing: AS-DFD from a start that is learned over the batches, so that few steps do the work of many.

Shapes: B samples, L positions, D embedding width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

import torch
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import require
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, Start
from dfkd.synthesis._inversion import diversity
from dfkd.synthesis._self_supervision import SelfSupervision, SelfSupervisionOptions, guess_against
from dfkd.synthesis._snap import require_shared_embeddings
from dfkd.synthesis.base import Context

SMALLEST_TARGET = 0.01  # the logarithm of hard targets has no bound
RIDGE = 1.0


@dataclass(frozen=True)
class Options(SelfSupervisionOptions):
    """AS-DFD from a learned start; see ``SelfSupervisionOptions`` and ``GuessOptions`` for the rest.

    Args:
        meta_rate: share of the way that the learned start goes towards where a batch has ended; 0: nothing is
            learned.
        max_shift: most that the learned start moves a batch, root mean square, as a multiple of the embeddings'
            deviation sigma. Larger: lower L_INPUT, and samples that are more alike.
    """

    guess_steps: int = 3
    guess_rate: float = 0.1
    rate_falls: bool = False
    meta_rate: float = 0.5
    max_shift: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.meta_rate <= 1, "strategy.meta_rate", "in [0, 1]", self.meta_rate)
        require(self.max_shift > 0, "strategy.max_shift", "above 0", self.max_shift)


class LearnedStart:
    """A shift of the start by the target, the same at all positions: ``e_0 = start + x(y) A``.

    ``x(y) = (1, log y - mean log y)`` has C + 1 entries: logits answer to shifts roughly linearly, and these are the
    logits asked for. A, (C + 1, D), is all that is learned.

    Args:
        classes: C.
        width: D.
        rate: ``meta_rate``.
        limit: the largest root mean square of a batch's shifts.
        device: where the embeddings are.

    Source: the step to where the inner loop has ended is Reptile's (Nichol et al., arXiv:1803.02999), which
    Fast-Datafree uses (Fang et al., AAAI 2022, arXiv:2112.06253, section 3); there it moves a generator's weights, here
    A, by ridge regression of the batch's moves on x(y). The limit is ours: Adam's steps do not shrink with the loss,
    so that with hard targets A would grow for ever, and samples become their shift.
    """

    def __init__(self, classes: int, width: int, rate: float, limit: float, device: torch.device) -> None:
        self.rate, self.limit = rate, limit
        self.weight = torch.zeros(classes + 1, width, device=device)

    def shift(self, targets: Tensor) -> Tensor:
        """What is added to the start of samples with these targets (B, C): (B, D)."""
        return _features(targets) @ self.weight

    def apply(self, start: Start, targets: Tensor) -> Start:
        """The start with its movable positions shifted."""
        with torch.autocast(self.weight.device.type, enabled=False):
            shifted = start.embeddings + self.shift(targets).unsqueeze(1) * start.movable.unsqueeze(-1)
        return start._replace(embeddings=shifted)

    def learn(self, start: Start, embeddings: Tensor, targets: Tensor) -> None:
        """Go from the start, as :meth:`apply` gave it, towards the embeddings (B, L, D) where the loop ended."""
        with torch.autocast(self.weight.device.type, enabled=False):
            # positions that do not move count nothing
            moved = (embeddings - start.embeddings).sum(dim=1) / start.movable.sum(dim=1, keepdim=True)
            features = _features(targets)
            gram = features.T @ features + RIDGE * torch.eye(len(self.weight), device=self.weight.device)
            self.weight = self.weight + self.rate * torch.linalg.solve(gram, features.T @ moved)
            size = float(self.shift(targets).square().mean().sqrt())
            self.weight = self.weight * min(1.0, self.limit / max(size, 1e-12))


def _features(targets: Tensor) -> Tensor:
    """``x(y)`` of (B, C) targets: (B, C + 1)."""
    logs = targets.float().clamp_min(SMALLEST_TARGET).log()
    return torch.cat([torch.ones_like(logs[:, :1]), logs - logs.mean(dim=1, keepdim=True)], dim=1)


class FastGuess:
    """AS-DFD whose first stage starts where earlier batches ended, and so gets by with few steps.

    Args:
        teacher: frozen.
        student: its parameters get no gradient here.
        supervision: L_MASK and its map W.
        options: all switches.
        generator: CPU generator.

    Source: the objective is that of Ma et al., EMNLP 2020 (AS-DFD); to share a learned start between batches is the
    idea of Fang et al., AAAI 2022 (Fast-Datafree). There a generator and its input are adapted in few steps; here e
    is, from a shift in the place of a generator.
    """

    def __init__(
        self, teacher: Teacher, student: Student, supervision: SelfSupervision, options: Options,
        generator: torch.Generator,
    ) -> None:
        self.student, self.supervision, self.generator = student, supervision, generator
        self.guesser = Guesser(teacher, options, generator)
        limit = options.max_shift * self.guesser.sigma
        self.learned = LearnedStart(len(teacher.labels), teacher.width, options.meta_rate, limit, teacher.device)

    def synthesize(self, n: int) -> PseudoBatch:
        """Guess ``n`` samples against the student as it is now, and learn from where they ended."""
        plain, targets = self.guesser.start(n), self.guesser.targets(n)
        start = self.learned.apply(plain, targets)
        info = {"start_shift": float(self.learned.shift(targets).square().mean().sqrt()) / self.guesser.sigma}
        embeddings, facts = guess_against(self.student, self.supervision, self.guesser, start, targets)
        self.learned.learn(start, embeddings, targets)
        info = {**info, **facts, **diversity(embeddings)}
        return PseudoBatch(embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info)

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """L_MASK of the batch, times its weight."""
        return self.supervision.student_losses(student, batch)

    def observe(self, feedback: Feedback) -> None:
        """The adversary looks at the live student; it needs no report."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The map W."""
        return self.supervision.parameters()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, W, what the start has learned, and the rate's."""
        learned = {"map": dict(self.supervision.state_dict()), "start": self.learned.weight}
        return {"generator": self.generator.get_state(), "rate": self.guesser.rate.state_dict(), **learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.supervision.load_state_dict(state["map"])
        self.learned.weight = state["start"].to(self.learned.weight.device)
        self.guesser.rate.load_state_dict(state.get("rate", {}))


def build(options: Options, context: Context) -> FastGuess:
    """Amortised guessing between the context's teacher and student.

    Raises:
        ConfigError: adversary or L_MASK is asked of a student that does not share the teacher's embedding block, or
            trains it.
    """
    student: Any = context.student
    require_shared_embeddings(student, context.teacher, options)
    supervision = SelfSupervision(context.teacher, student.hidden_width, options, context.generator)
    return FastGuess(context.teacher, context.student, supervision, options, context.generator)
