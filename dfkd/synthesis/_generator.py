"""A generator network z -> e, and the training of it that the generator strategies share.

Shapes: B samples, L positions (special tokens included), D embedding width, Z latent width, N noise width, H hidden
width of the generator.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Literal, Mapping, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import require
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, GuessOptions, Moments
from dfkd.synthesis._hidden_moments import hidden_states, moment_loss, reference_moments
from dfkd.synthesis._inversion import still
from dfkd.synthesis.base import Silent

KERNEL, EPSILON = 5, 1e-5
REFERENCE_SAMPLES = 256


@dataclass(frozen=True)
class GeneratorOptions:
    """The generator, and how it is trained.

    Args:
        latent_width: Z, width of a sample's code z.
        noise_width: N, width of the further noise that each position gets; 0: none.
        hidden_width: H, width of the generator.
        layers: residual blocks of the generator.
        normalise: what brings the generator's output to mean 0 and deviation 1 before it gets the moments of the
            vocabulary's embeddings: ``batch``: each dimension over samples and positions; ``layer``: each embedding
            over its dimensions.
        generator_rate: Adam's learning rate.
        generator_clip: longest gradient of a generator step; 0: any.
        generator_steps: generator steps in a turn; 0 leaves the generator as it was drawn.
        student_steps: student steps between two turns, replayed batches included; a turn waits for a fresh batch.
        moment_weight: weight of the distance between the moments of the teacher's hidden states on e and on random
            tokens; 0: off.
        diversity_weight: weight of the mean squared cosine between samples, which keeps them apart; 0: off, as in the
            papers.
        min_length: fewest positions, special tokens included.
        max_length: most positions; never above the data set's max length. One length is drawn for each batch.
    """

    injects: ClassVar[str] = "embeddings"
    splits_teacher: ClassVar[bool] = True
    uses_real_text: ClassVar[bool] = False

    latent_width: int = 64
    noise_width: int = 16
    hidden_width: int = 128
    layers: int = 2
    normalise: Literal["batch", "layer"] = "batch"
    generator_rate: float = 1e-3
    generator_clip: float = 5.0
    generator_steps: int = 1
    student_steps: int = 1
    moment_weight: float = 0.0
    diversity_weight: float = 1.0
    min_length: int = 16
    max_length: int = 128

    def __post_init__(self) -> None:
        for name in ("latent_width", "hidden_width", "student_steps"):
            require(getattr(self, name) >= 1, f"strategy.{name}", "1 or more", getattr(self, name))
        not_negative = ("noise_width", "layers", "generator_clip", "generator_steps", "moment_weight")
        for name in (*not_negative, "diversity_weight"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        require(self.generator_rate > 0, "strategy.generator_rate", "above 0", self.generator_rate)
        frame_options(self)  # checks the lengths


def frame_options(options: GeneratorOptions) -> GuessOptions:
    """What a :class:`Guesser` needs to know to draw lengths, special tokens, and random tokens between them."""
    return GuessOptions(start="tokens", min_length=options.min_length, max_length=options.max_length)


class Block(nn.Module):
    """``x + conv(gelu(conv(norm(x))))`` over positions; (B, L, H) in and out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)
        self.outer = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Mix each position with its neighbours."""
        mixed: Tensor = self.outer(F.gelu(self.inner(self.norm(x).transpose(1, 2))))
        return x + mixed.transpose(1, 2)


class Generator(nn.Module):
    """Codes (B, Z) and noise (B, L, N) -> embeddings (B, L, D) on the scale of the teacher's embedding block.

    L counts the positions between [CLS] and [SEP] here.

    Code, noise and a learned position are read into H dimensions and summed, blocks of convolutions mix neighbouring
    positions, and the output is normalised and given the vocabulary's per-dimension mean and deviation.

    Args:
        options: sizes.
        longest: positions, at most.
        moments: of the vocabulary's embeddings, (D,) each.
        generator: CPU generator of the initial weights; torch's global one is left alone.

    Source: stands for the convolutional generators of DAFL, ZSKT and DFAD: noise, convolutions, and a normalised
    output. Their inner batch norms are LayerNorms here; the last one is ``normalise="batch"``. Noise for each position
    is ours.
    """

    def __init__(self, options: GeneratorOptions, longest: int, moments: Moments, generator: torch.Generator) -> None:
        super().__init__()
        self.normalise, width = options.normalise, options.hidden_width
        with torch.random.fork_rng(devices=[]):
            self.read_latent = nn.Linear(options.latent_width, width)
            self.read_noise = nn.Linear(options.noise_width, width, bias=False) if options.noise_width else None
            self.positions = nn.Embedding(longest, width)
            self.blocks = nn.Sequential(*(Block(width) for _ in range(options.layers)))
            self.write = nn.Linear(width, len(moments.mean))
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", moments.mean.cpu(), persistent=False)
        self.register_buffer("deviation", moments.deviation.cpu(), persistent=False)
        self._draw_weights(generator)

    def _draw_weights(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv1d)):
                nn.init.xavier_normal_(module.weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # weak, so that samples differ by their codes more than they are alike by their positions
        nn.init.normal_(self.positions.weight, std=0.1, generator=generator)

    def forward(self, latent: Tensor, noise: Tensor) -> Tensor:
        """Embeddings (B, L, D), float32, for codes (B, Z) and noise (B, L, N)."""
        # the trainer's autocast keeps half-precision copies of weights until its block ends: a turn's later steps
        # would see the weights of its first
        with torch.autocast(latent.device.type, enabled=False):
            x = self.read_latent(latent).unsqueeze(1) + self.positions.weight[: noise.shape[1]]
            if self.read_noise is not None:
                x = x + self.read_noise(noise)
            x = self.write(self.blocks(x))
            return self.mean + self.deviation * self._normalised(x)

    def _normalised(self, x: Tensor) -> Tensor:
        if self.normalise == "layer":
            return F.layer_norm(x, x.shape[-1:])
        variance, mean = torch.var_mean(x, dim=(0, 1), correction=0)
        return (x - mean) * (variance + EPSILON).rsqrt()


class Sample(NamedTuple):
    """Embeddings (B, L, D), the generator's between [CLS] and [SEP], and their mask (B, L), all 1."""

    embeddings: Tensor
    attention_mask: Tensor


Terms = Mapping[str, Tensor]
Objective = Callable[[Sample], Terms]


class GeneratorTraining:
    """Draws samples from a generator, and trains it in turns with the student.

    A turn comes before the first batch and then whenever the student has taken ``student_steps`` steps. Samples that
    the trainer sets aside before the first step thus come from a generator of one turn.

    Against collapse, a turn also lowers the mean *squared* cosine between samples. Without it a generator soon knows
    two samples, e and its mirror image about the vocabulary's mean: the mean cosine stays 0, as a normalised output
    demands, while the squared one nears 1.

    Args:
        teacher: frozen.
        options: sizes and rates.
        objective: sample -> the strategy's loss terms by name.
        weights: the weight of each term in what the generator minimises; negative where it maximises.
        generator: CPU generator of weights, codes, noise, lengths.

    Source: the alternation of Micaelli & Storkey 2019 (algorithm 1) and Fang et al. 2019 (algorithm 1). The penalty on
    likeness is ours.
    """

    def __init__(
        self, teacher: Teacher, options: GeneratorOptions, objective: Objective, weights: Mapping[str, float],
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.options, self.generator = teacher, options, generator
        self.guesser = Guesser(teacher, frame_options(options), generator)
        network = Generator(options, self.guesser.longest, self.guesser.moments, generator)
        self.network = network.to(teacher.device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=options.generator_rate)
        self.objective = objective
        self.weights = {**weights, "moment": options.moment_weight, "likeness": options.diversity_weight}
        self.reference = (
            reference_moments(teacher, generator, REFERENCE_SAMPLES, self.guesser.longest)
            if options.moment_weight else None
        )
        self.waited = options.student_steps

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` samples, after the generator's turn if it is due."""
        info: dict[str, float] = {}
        if self.waited >= self.options.student_steps:
            info, self.waited = self.turn(n), 0
        with torch.no_grad():
            sample = self.draw(n)
        if n > 1:
            cosines = self.cosines(sample)
            info |= {"mean_cosine": float(cosines.mean()), "mean_square_cosine": float(cosines.square().mean())}
        return PseudoBatch(embeddings=sample.embeddings, attention_mask=sample.attention_mask, info=info)

    def draw(self, n: int) -> Sample:
        """``n`` samples between the embedding block's own [CLS] and [SEP]; gradient flows to the generator."""
        frame = self.guesser.start(n)
        latent = torch.randn(n, self.options.latent_width, generator=self.generator)
        size = (n, frame.embeddings.shape[1] - 2, self.options.noise_width)
        noise = torch.randn(size, generator=self.generator)
        made = self.network(latent.to(self.teacher.device), noise.to(self.teacher.device))
        embeddings = torch.cat([frame.embeddings[:, :1], made, frame.embeddings[:, -1:]], dim=1)
        return Sample(embeddings, frame.attention_mask)

    def turn(self, n: int) -> dict[str, float]:
        """Train the generator for ``generator_steps`` on ``n`` new samples each.

        Returns:
            Each loss term before the first and before the last step, without its weight.
        """
        seen = [self._step(n) for _ in range(self.options.generator_steps)]
        ends = {"first": seen[0], "last": seen[-1]} if seen else {}
        return {f"generator_{name}_{end}": value for end, terms in ends.items() for name, value in terms.items()}

    def _step(self, n: int) -> dict[str, float]:
        """One step of Adam; no other model's parameters get a gradient."""
        terms = self.terms(self.draw(n))
        loss = torch.stack([self.weights[name] * value for name, value in terms.items()]).sum()
        parameters = list(self.network.parameters())
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
        if self.options.generator_clip > 0:
            nn.utils.clip_grad_norm_(parameters, self.options.generator_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {name: float(value.detach()) for name, value in terms.items()}

    def terms(self, sample: Sample) -> dict[str, Tensor]:
        """The strategy's loss terms, and those of the moments and of diversity where they are on."""
        if self.reference is None:
            terms = dict(self.objective(sample))
        else:
            with hidden_states(self.teacher) as states:
                terms = dict(self.objective(sample))
            terms["moment"] = moment_loss(states, sample.attention_mask, self.reference)
        if self.options.diversity_weight and len(sample.embeddings) > 1:
            terms["likeness"] = self.cosines(sample).square().mean()
        return terms

    def cosines(self, sample: Sample) -> Tensor:
        """Cosines between different samples' inner positions, flattened: (B, B - 1), all 1 where samples are alike.

        The vocabulary's mean, which all embeddings share, is taken off first.
        """
        n = len(sample.embeddings)
        unit = F.normalize((sample.embeddings[:, 1:-1] - self.guesser.moments.mean).flatten(1), dim=1)
        others = ~torch.eye(n, dtype=torch.bool, device=unit.device)
        return (unit @ unit.T)[others].view(n, n - 1)

    def student_stepped(self) -> None:
        """Count a student step."""
        self.waited += 1

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's state, the generator's state, and the student steps since the last turn."""
        state = {"network": dict(self.network.state_dict()), "optimizer": self.optimizer.state_dict()}
        return {**copy.deepcopy(state), "generator": self.generator.get_state(), "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.generator.set_state(state["generator"])
        self.waited = state["waited"]


class InTurns(Silent):
    """The methods of a strategy that hand over to its ``training``; to mix in, as :class:`Silent` is."""

    training: GeneratorTraining

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` samples, after the generator's turn, against the student as it is now, if a turn is due."""
        return self.training.synthesize(n)

    def observe(self, feedback: Feedback) -> None:
        """Count the student's steps."""
        self.training.student_stepped()

    def state_dict(self) -> dict[str, Any]:
        """The generator, its optimizer and its random state."""
        return self.training.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.training.load_state_dict(state)


def both_logits(teacher: Teacher, student: Any, sample: Sample) -> tuple[Tensor, Tensor]:
    """Teacher's and student's logits (B, C) of a sample, with gradient to it; the student's dropout is off."""
    answered = teacher.from_embeddings(sample.embeddings, sample.attention_mask).logits
    with still(student):
        return answered, student.from_embeddings(sample.embeddings, sample.attention_mask).logits
