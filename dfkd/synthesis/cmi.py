"""CMI: inversion with a contrastive memory, so that samples differ from each other and from earlier ones.

Shapes: B samples, L positions, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.losses import soft_cross_entropy
from dfkd.models.teacher import Teacher
from dfkd.synthesis._contrast import Contrast
from dfkd.synthesis._guess import Guesser, GuessOptions, Start
from dfkd.synthesis._hidden_moments import HiddenMoments, hidden_states, moment_loss, reference_moments
from dfkd.synthesis._inversion import diversity, first_and_last, inner_positions, still
from dfkd.synthesis._snap import require_shared_embeddings
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(GuessOptions):
    """Contrastive inversion; see :class:`~dfkd.synthesis._guess.GuessOptions` for the guessing.

    Args:
        input_weight: of L_INPUT, the cross-entropy with the targets.
        moment_weight: of the distance between the hidden states' moments and those of random tokens.
        moment_samples: sequences of random tokens, from which those are measured once.
        adversary_weight: how strongly e is pushed to raise KL(T || S).
        contrast_weight: of the contrast with other and earlier samples.
        contrast_temperature: of its softmax.
        represent: what stands for a sample: the teacher's last hidden state at [CLS] (``cls``), or their ``mean``.
        view_noise: deviation of the noise on a view, as a multiple of the embeddings' deviation sigma.
        view_drop: share of inner positions that a view leaves out.
        projection_width: of the projection that the contrast looks at.
        projection_rate: Adam's learning rate of the projection.
        bank_size: most representations of earlier samples that are remembered.
    """

    asks_student: ClassVar[tuple[str, ...]] = ("adversary_weight",)

    input_weight: float = 1.0
    moment_weight: float = 1.0
    moment_samples: int = 256
    adversary_weight: float = 0.5
    contrast_weight: float = 0.8
    contrast_temperature: float = 0.2
    represent: Literal["cls", "mean"] = "cls"
    view_noise: float = 0.1
    view_drop: float = 0.1
    projection_width: int = 64
    projection_rate: float = 1e-3
    bank_size: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("input_weight", "moment_weight", "adversary_weight", "contrast_weight", "view_noise"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        for name in ("contrast_temperature", "projection_rate"):
            require(getattr(self, name) > 0, f"strategy.{name}", "above 0", getattr(self, name))
        for name in ("projection_width", "bank_size", "moment_samples"):
            require(getattr(self, name) >= 1, f"strategy.{name}", "1 or more", getattr(self, name))
        require(0 <= self.view_drop < 1, "strategy.view_drop", "a share in [0, 1)", self.view_drop)

    @property
    def learns_from_student(self) -> bool:
        """Whether the student is the adversary."""
        return self.adversary_weight > 0


class Seen(NamedTuple):
    """The teacher's view of samples: logits (B, C), representations (B, H), and its layers' states (B, L, H)."""

    logits: Tensor
    representation: Tensor
    states: list[Tensor]


class Cmi(Silent):
    """Minimises CE + moments - KL(T || S) + contrast over e, K steps a batch, and remembers what it made.

    Args:
        teacher: frozen.
        student: a module; its parameters get no gradient.
        options: weights, views, bank.
        generator: CPU generator.

    Source: Fang et al., IJCAI 2021 (arXiv:2105.08584), section 3, and the authors' code for what the paper leaves
    open (weights 1, 1, 0.5, 0.8 and temperature 0.2; KL only where both models choose one class). Not as there: e is
    optimised itself, in the place of a generator re-initialised for each batch; one of the two views is the sample
    as it is, which saves a pass; views leave positions out and add noise, in the place of crops; and moments of
    random tokens stand for batch norm's statistics, see :mod:`dfkd.synthesis._hidden_moments`. Targets are one-hot
    there (``targets=hard``).
    """

    def __init__(self, teacher: Teacher, student: Any, options: Options, generator: torch.Generator) -> None:
        self.teacher, self.student, self.options, self.generator = teacher, student, options, generator
        self.guesser = Guesser(teacher, options, generator)
        self.contrast = Contrast(
            teacher.classifier.hidden_width, options.projection_width, options.projection_rate,
            options.contrast_temperature, options.bank_size, teacher.device, generator,
        )
        self.reference = self._reference() if options.moment_weight > 0 else None

    def _reference(self) -> HiddenMoments:
        """Moments of random tokens, in sequences of the middle length."""
        length = (self.guesser.shortest + self.guesser.longest) // 2
        return reference_moments(self.teacher, self.generator, self.options.moment_samples, length)

    def synthesize(self, n: int) -> PseudoBatch:
        """Guess ``n`` samples unlike each other and those remembered, and remember them."""
        start, targets = self.guesser.start(n), self.guesser.targets(n)
        parts: list[dict[str, Tensor]] = []
        last: list[Tensor] = []

        def objective(embeddings: Tensor) -> Tensor:
            seen = self._look(embeddings, start.attention_mask)
            terms = self._terms(embeddings, start, targets, seen)
            parts.append({name: term.detach() for name, term in terms.items()})
            last[:] = [seen.representation.detach()]
            return torch.stack([self._weight(name) * term for name, term in terms.items()]).sum() * n

        with still(self.student) if self.options.adversary_weight > 0 else nullcontext():
            embeddings, _ = self.guesser.move(start, objective)
        info = first_and_last(parts)
        if last:  # as before the last step: to look once more would cost a pass
            info |= diversity(last[0], "hidden_cosine")
            self._remember(last[0])
        return PseudoBatch(embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info)

    def _weight(self, name: str) -> float:
        options = self.options
        return {
            "input_loss": options.input_weight, "moment_loss": options.moment_weight,
            "adversary_kl": -options.adversary_weight, "contrast_loss": options.contrast_weight,
        }[name]

    def _terms(self, embeddings: Tensor, start: Start, targets: Tensor, seen: Seen) -> dict[str, Tensor]:
        """The loss terms by name; those of weight 0 are not computed."""
        terms = {"input_loss": soft_cross_entropy(seen.logits, targets)}
        if self.reference is not None:
            terms["moment_loss"] = moment_loss(seen.states, start.attention_mask, self.reference)
        if self.options.adversary_weight > 0:
            student_logits = self.student.from_embeddings(embeddings, start.attention_mask).logits
            terms["adversary_kl"] = kl_where_agreed(seen.logits, student_logits)
        if self.options.contrast_weight > 0:
            view = self._view(embeddings, start)
            self.contrast.train_head(view, seen.representation)
            terms["contrast_loss"] = self.contrast.loss(view, seen.representation)
        return terms

    def _look(self, embeddings: Tensor, attention_mask: Tensor) -> Seen:
        """One pass through the teacher; the layers' states are kept only for their moments."""
        if self.reference is None:
            output, states = self.teacher.from_embeddings(embeddings, attention_mask), []
        else:
            with hidden_states(self.teacher) as states:
                output = self.teacher.from_embeddings(embeddings, attention_mask)
        return Seen(output.logits, represent(output.hidden, attention_mask, self.options.represent), states)

    def _view(self, embeddings: Tensor, start: Start) -> Tensor:
        """The representation (B, H) of the samples with noise on them and some inner positions left out."""
        noise = torch.randn(embeddings.shape, generator=self.generator).to(embeddings.device)
        drawn = torch.rand(start.attention_mask.shape, generator=self.generator).to(embeddings.device)
        noisy = embeddings + self.options.view_noise * self.guesser.sigma * noise
        mask = start.attention_mask * ~((drawn < self.options.view_drop) & inner_positions(start.attention_mask))
        return represent(self.teacher.from_embeddings(noisy, mask).hidden, mask, self.options.represent)

    def _remember(self, representation: Tensor) -> None:
        if self.options.contrast_weight > 0:
            self.contrast.bank.add(representation)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, bank, projection, and the moments aimed at."""
        reference = None if self.reference is None else tuple(self.reference)
        state = {"generator": self.generator.get_state(), "reference": reference}
        return {**state, "contrast": self.contrast.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.contrast.load_state_dict(state["contrast"])
        if state["reference"] is not None:
            self.reference = HiddenMoments(*(part.to(self.teacher.device) for part in state["reference"]))


def represent(hidden: Tensor, attention_mask: Tensor, how: str) -> Tensor:
    """What stands for samples with hidden states (B, L, H) and a mask (B, L): (B, H)."""
    if how == "cls":
        return hidden[:, 0].float()
    mask = attention_mask.unsqueeze(-1)
    return (hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)


def kl_where_agreed(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """KL(T || S) of logits (B, C), of samples on which both choose one class, over B; gradient flows into both.

    Source: "decision adversarial distillation" of the authors' code. Where the models disagree already there is
    nothing to gain, and KL has no bound.
    """
    teacher, student = teacher_logits.float().log_softmax(dim=1), student_logits.float().log_softmax(dim=1)
    agreed = teacher.argmax(dim=1) == student.argmax(dim=1)
    return (F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1) * agreed).mean()


def build(options: Options, context: Context) -> Cmi:
    """Contrastive inversion of the context's teacher.

    Raises:
        ConfigError: the adversary is asked of a student that does not share the teacher's embedding block, or that
            trains it.
    """
    require_shared_embeddings(context.student, context.teacher, options)
    return Cmi(context.teacher, context.student, options, context.generator)
