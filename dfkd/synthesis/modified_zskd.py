"""Modified ZSKD: soft targets from the similarity of the teacher's classes, then inversion; no adversary.

Shapes: B samples, L positions, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.losses import entropy, soft_cross_entropy
from dfkd.models.teacher import Teacher
from dfkd.synthesis._classes import dirichlet, even_classes
from dfkd.synthesis._guess import Guesser, MoveOptions
from dfkd.synthesis._inversion import diversity, first_and_last
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(MoveOptions):
    """Class-similarity targets; see :class:`~dfkd.synthesis._guess.MoveOptions` for how embeddings start and move.

    Args:
        betas: scales of the Dirichlet's concentration, one sample after the other; small ones give targets that are
            nearly one-hot, but not always of the class drawn.
        similarity: how cosines become concentrations: ``min_max``: stretched to [0, 1] in each row (the paper);
            ``affine``: (1 + cosine) / 2; ``auto``: ``affine`` with two classes, else ``min_max``.
        floor: added to every concentration; it keeps the least similar class possible.
        target_temperature: divides the teacher's logits in L_INPUT; the paper has 20.
    """

    betas: list[float] = field(default_factory=lambda: [1.0, 0.1])
    similarity: Literal["auto", "min_max", "affine"] = "auto"
    floor: float = 1e-4
    target_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = len(self.betas) > 0 and all(beta > 0 for beta in self.betas)
        require(positive, "strategy.betas", "a list of numbers above 0", self.betas)
        for name in ("floor", "target_temperature"):
            require(getattr(self, name) > 0, f"strategy.{name}", "above 0", getattr(self, name))


def class_similarity(weight: Tensor, form: str = "auto") -> Tensor:
    """How alike the teacher holds its classes to be: alpha (C, C), row c for class c, in [0, 1].

    Two rows say little: stretched to [0, 1], any two classes are as unlike as can be (alpha is the identity, targets
    are one-hot but for ``floor``). ``auto`` then keeps the cosine itself: orthogonal rows give 1 and 0.5.

    Args:
        weight: (C, H), the rows of the teacher's last linear layer.
        form: see ``similarity`` in :class:`Options`.

    Source: Nayak et al., ICML 2019 (arXiv:1905.08114), section 3.2; ``affine`` is ours.
    """
    rows = F.normalize(weight.detach().float(), dim=1)
    cosine = (rows @ rows.T).clamp(-1, 1)
    if form == "affine" or (form == "auto" and len(weight) == 2):
        return (1 + cosine) / 2
    low, high = cosine.min(dim=1, keepdim=True).values, cosine.max(dim=1, keepdim=True).values
    # rows that are all alike have no range: then all classes are equally similar
    return torch.where(high - low > 1e-6, (cosine - low) / (high - low).clamp_min(1e-6), torch.ones_like(cosine))


class ModifiedZskd(Silent):
    """Draws ``y ~ Dirichlet(beta alpha_c)``, then minimises ``CE(T'(e) / temperature, y)`` over e, K steps.

    Args:
        teacher: frozen.
        options: targets, and how to move embeddings.
        generator: CPU generator.

    Source: Nayak et al., ICML 2019 (arXiv:1905.08114), sections 3.2 and 3.3, in the form in which Ma et al.,
    EMNLP 2020, compare with it: embeddings in the place of pixels. Cross-entropy and KL differ by the targets'
    entropy, which e cannot change. The paper's temperature of 20 is made for logits without bound; here the head sits
    on tanh or LayerNorm, logits stay within about 10, and softened by 20 no e reaches a confident target: all would
    be pushed to the extremes. So the default is 1. The paper has half of the samples at each beta, 1500 steps.
    """

    def __init__(self, teacher: Teacher, options: Options, generator: torch.Generator) -> None:
        self.teacher, self.options, self.generator = teacher, options, generator
        self.guesser = Guesser(teacher, options, generator)
        self.alpha = class_similarity(teacher.output_layer().weight, options.similarity).cpu()

    def targets(self, n: int) -> Tensor:
        """Draw ``n`` class distributions (n, C): classes evenly, the betas in turn."""
        # the classes are in a random order, so that each meets every beta
        betas = torch.tensor(self.options.betas)[torch.arange(n) % len(self.options.betas)]
        concentration = betas.unsqueeze(1) * self.alpha[self.classes(n)] + self.options.floor
        return dirichlet(concentration.double(), self.generator).to(self.teacher.device)

    def classes(self, n: int) -> Tensor:
        """Draw ``n`` classes (n,), as many of each as can be; which ones get one more is drawn too."""
        count = len(self.alpha)
        if n % count == 0:  # drawn as ever, so that runs of older versions can be repeated
            return torch.randperm(n, generator=self.generator) % count
        return torch.tensor(even_classes(n, count, self.generator))

    def synthesize(self, n: int) -> PseudoBatch:
        """Guess ``n`` samples."""
        start, targets = self.guesser.start(n), self.targets(n)
        parts: list[dict[str, Tensor]] = []

        def objective(embeddings: Tensor) -> Tensor:
            logits = self.teacher.from_embeddings(embeddings, start.attention_mask).logits
            loss = soft_cross_entropy(logits / self.options.target_temperature, targets)
            parts.append({"input_loss": loss.detach()})
            return loss * n

        embeddings, _ = self.guesser.move(start, objective)
        least = float(entropy(targets).mean())  # L_INPUT cannot fall below it
        info = {**first_and_last(parts), "target_entropy": least, **diversity(embeddings)}
        return PseudoBatch(embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info)

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])


def build(options: Options, context: Context) -> ModifiedZskd:
    """Class-similarity targets and inversion on the context's teacher."""
    return ModifiedZskd(context.teacher, options, context.generator)
