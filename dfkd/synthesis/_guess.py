"""Embedding guessing: starts, targets and the inner loop that the embedding strategies share.

Shapes: B samples, L positions (special tokens included), D embedding width, C classes, V vocabulary entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models.decode import pieces
from dfkd.models.teacher import Teacher
from dfkd.synthesis._classes import dirichlet, even_classes
from dfkd.synthesis._words import draw_length


LOOKED_AT = 8  # batches after which a rate is kept or halved
SMALLEST = 1 / 32  # of the rate at first: a strong adversary may raise the loss at any


@dataclass(frozen=True)
class MoveOptions:
    """How embeddings start and move.

    Args:
        start: ``gaussian``: noise aligned with the embedding block; ``tokens``: embeddings of random tokens.
        align: the Gaussian's moments: over the vocabulary's embeddings (``table``), or the beta and gamma of the
            embedding block's LayerNorm (``layer_norm``).
        guess_steps: K, gradient steps on each batch of embeddings; 0 leaves the start as it is.
        guess_rate: Adam's learning rate, as a multiple of the embeddings' deviation sigma.
        guess_share: share of each sample's inner positions that move, drawn at random, at least one; the others stay
            as they start. With few, the class is told by single positions, as words tell it in a text.
        optimise_special: move the embeddings of [CLS] and [SEP] as well.
        min_length: fewest positions, special tokens included.
        max_length: most positions; never above the data set's max length.
        length_per: draw one length for each ``batch`` (no padding), or for each ``sample``.
        snap: replace the embeddings by their nearest tokens before the student sees them: then students of any width
            or tokenizer can learn from them.
    """

    uses_real_text: ClassVar[bool] = False
    splits_teacher: ClassVar[bool] = True
    asks_student: ClassVar[tuple[str, ...]] = ()  # the options that, above 0, put embeddings into the student itself

    start: Literal["gaussian", "tokens"] = "gaussian"
    align: Literal["table", "layer_norm"] = "table"
    guess_steps: int = 5
    guess_rate: float = 0.1
    guess_share: float = 1.0
    optimise_special: bool = False
    min_length: int = 16
    max_length: int = 128
    length_per: Literal["batch", "sample"] = "batch"
    snap: bool = False

    @property
    def injects(self) -> str:
        """What the student is fed."""
        return "tokens" if self.snap else "embeddings"

    @property
    def asked(self) -> dict[str, float]:
        """The weights by which embeddings reach the student whatever its samples are: of an adversary, of L_MASK."""
        return {name: getattr(self, name) for name in self.asks_student if getattr(self, name) > 0}

    @property
    def student_reads(self) -> str:
        """What the student must be able to read; ``embeddings`` for an adversary as well, though samples be texts."""
        return "embeddings" if self.asked else self.injects

    @property
    def as_texts(self) -> dict[str, Any]:
        """The options that are missing for students with embeddings of their own."""
        return {**({} if self.snap else {"snap": True}), **dict.fromkeys(self.asked, 0)}

    def __post_init__(self) -> None:
        require(self.guess_rate > 0, "strategy.guess_rate", "above 0", self.guess_rate)
        require(0 < self.guess_share <= 1, "strategy.guess_share", "a share in (0, 1]", self.guess_share)
        require(self.guess_steps >= 0, "strategy.guess_steps", "0 or more", self.guess_steps)
        require(self.min_length >= 3, "strategy.min_length", "3 or more: [CLS], a token, [SEP]", self.min_length)
        ordered = self.min_length <= self.max_length
        require(ordered, "strategy.max_length", f"{self.min_length} or more", self.max_length)


@dataclass(frozen=True)
class GuessOptions(MoveOptions):
    """How embeddings are guessed; see :class:`MoveOptions` for how they start and move.

    Args:
        targets: ``hard``: one class each, drawn evenly; ``dirichlet``: a soft distribution over the classes.
        concentration: parameter of the symmetric Dirichlet distribution; small values are nearly one-hot.
    """

    targets: Literal["hard", "dirichlet"] = "dirichlet"
    concentration: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.concentration > 0, "strategy.concentration", "above 0", self.concentration)


@dataclass(frozen=True)
class StepOptions(GuessOptions):
    """How long the steps of guessing are; see :class:`GuessOptions` for the rest.

    Args:
        guess_step: ``adam``: at ``guess_rate``; ``polyak``: steps of a length that follows from how far each sample's
            loss is from the entropy of its target, the least that it can be. It hits soft targets of two classes,
            where Adam may step over them. With many classes lower ``concentration``. ``guess_rate`` does nothing then,
            and an adversary acts in all steps but the last: in none where ``guess_steps`` is 1.
        rate_falls: with ``adam``, halve the rate whenever the loss against the targets has risen over the steps, on the
            mean over eight batches, down to a 32nd: some teachers are so steep that the usual rate steps over its aim.
            With one step there is nothing to see, and it stays.
        longest_step: of a step towards the target with ``polyak``, as the root of the mean square over what moves, a
            multiple of the embeddings' deviation sigma: where gradients are tiny, steps would be without bound. An
            adversary's step is ``difficulty_weight`` times as long.
    """

    guess_step: Literal["adam", "polyak"] = "adam"
    rate_falls: bool = True
    longest_step: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.guess_step in ("adam", "polyak"), "strategy.guess_step", "adam or polyak", self.guess_step)
        require(self.longest_step > 0, "strategy.longest_step", "above 0", self.longest_step)


class Moments(NamedTuple):
    """Mean and deviation of embeddings, each (D,)."""

    mean: Tensor
    deviation: Tensor


class Start(NamedTuple):
    """Where guessing starts: embeddings (B, L, D), mask (B, L), and the positions to move (B, L), bool."""

    embeddings: Tensor
    attention_mask: Tensor
    movable: Tensor


def table_moments(teacher: Teacher, length: int) -> Moments:
    """Per-dimension moments of the embedding block's output over the whole vocabulary, spread over positions.

    Args:
        teacher: its special tokens are left out.
        length: positions to spread the vocabulary over.
    """
    ids = torch.tensor(pieces(teacher.tokenizer))
    whole = len(ids) // length * length
    rows = ids[:whole].view(-1, length) if whole else ids.view(1, -1)
    embedded = torch.cat([teacher.embed(part.to(teacher.device)) for part in rows.split(64)])
    flat = embedded.flatten(0, 1).float()
    return Moments(flat.mean(dim=0), flat.std(dim=0))


def layer_norm_moments(teacher: Teacher) -> Moments:
    """The embedding block's LayerNorm: its beta as the mean, the size of its gamma as the deviation.

    Raises:
        ConfigError: the block has none.
    """
    norms = [m for m in teacher.classifier.embedding_block.modules() if isinstance(m, torch.nn.LayerNorm)]
    if not norms:
        raise ConfigError("the teacher's embedding block has no LayerNorm", fix="add strategy.align=table")
    return Moments(norms[-1].bias.detach().float(), norms[-1].weight.detach().float().abs())


def drawn_positions(among: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A random ``share`` of each sample's positions (B, L), bool, at least one a sample."""
    scores = torch.rand(among.shape, generator=generator).to(among.device).masked_fill(~among, -1.0)
    counts = (among.sum(dim=1) * share).round().long().clamp_min(1)
    ranks = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return (ranks < counts.unsqueeze(1)) & among


class Rate:
    """Adam's rate, as a multiple of sigma.

    Args:
        rate: at first.
        falls: whether it is halved whenever the loss has risen over the steps, on the mean over :data:`LOOKED_AT`
            batches.
    """

    def __init__(self, rate: float, falls: bool) -> None:
        self.now, self.least, self.falls = rate, rate * SMALLEST, falls
        self.rises: list[float] = []

    def observe(self, first: float, last: float) -> dict[str, float]:
        """Take in the loss against the targets before the first and before the last step of a batch.

        Returns:
            For the log: the rate of that batch, where it may fall.
        """
        if not self.falls:
            return {}
        used, self.rises = self.now, [*self.rises, last - first]
        if len(self.rises) == LOOKED_AT:
            self.now = max(self.now / 2, self.least) if sum(self.rises) > 0 else self.now
            self.rises = []
        return {"guess_rate": used}

    def state_dict(self) -> dict[str, Any]:
        """The rate, and what was seen since it was last looked at."""
        return {"now": self.now, "rises": list(self.rises)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`; nothing where there is none, as in older checkpoints."""
        self.now, self.rises = state.get("now", self.now), list(state.get("rises", ()))


class Guesser:
    """Draws starts and targets, and moves embeddings by gradient.

    Args:
        teacher: frozen.
        options: how to guess.
        generator: CPU generator.

    Source: "Plug & Play Embedding Guessing", Ma et al., EMNLP 2020 (AS-DFD), section 3.2. Soft Dirichlet targets
    and starts from token embeddings are ours.
    """

    def __init__(self, teacher: Teacher, options: MoveOptions, generator: torch.Generator) -> None:
        self.teacher, self.options, self.generator = teacher, options, generator
        self.longest = min(options.max_length, teacher.max_length)
        self.shortest = min(options.min_length, self.longest)
        table = table_moments(teacher, self.longest)
        self.moments = table if options.align == "table" else layer_norm_moments(teacher)
        self.sigma = float(table.deviation.mean())
        self.ids = torch.tensor(pieces(teacher.tokenizer))
        falls = isinstance(options, StepOptions) and options.rate_falls and options.guess_step == "adam"
        self.rate = Rate(options.guess_rate, falls)

    def start(self, n: int) -> Start:
        """Draw ``n`` starts: the block's own output at special tokens, noise or random tokens between them."""
        ids, mask = self._token_ids(n)
        tokenizer, device = self.teacher.tokenizer, self.teacher.device
        embeddings = self.teacher.embed(ids.to(device)).float()
        special = torch.isin(ids, torch.tensor([tokenizer.cls_token_id, tokenizer.sep_token_id]))
        inner = ((mask == 1) & ~special).to(device)
        if self.options.start == "gaussian":
            noise = torch.randn(embeddings.shape, generator=self.generator).to(device)
            noise = self.moments.mean + self.moments.deviation * noise
            embeddings = torch.where(inner.unsqueeze(-1), noise, embeddings)
        mask, movable = mask.to(device), inner
        if self.options.guess_share < 1:
            movable = drawn_positions(inner, self.options.guess_share, self.generator)
        if self.options.optimise_special:
            movable = movable | special.to(device)
        return Start(embeddings, mask, movable)

    def _token_ids(self, n: int) -> tuple[Tensor, Tensor]:
        """Random tokens between [CLS] and [SEP]: ids and mask, each (n, L)."""
        if self.options.length_per == "batch":
            lengths = torch.full((n,), draw_length(self.shortest, self.longest, self.generator))
        else:
            lengths = torch.randint(self.shortest, self.longest + 1, (n,), generator=self.generator)
        size = int(lengths.max())
        tokenizer = self.teacher.tokenizer
        drawn = torch.randint(len(self.ids), (n, size), generator=self.generator)
        ids, positions = self.ids[drawn], torch.arange(size).expand(n, size)
        ids[:, 0] = tokenizer.cls_token_id
        ids[positions == lengths.unsqueeze(1) - 1] = tokenizer.sep_token_id
        mask = (positions < lengths.unsqueeze(1)).long()
        ids[mask == 0] = tokenizer.pad_token_id
        return ids, mask

    def targets(self, n: int) -> Tensor:
        """Draw ``n`` class distributions (n, C)."""
        assert isinstance(self.options, GuessOptions), "strategies with other options draw their own targets"
        classes = len(self.teacher.labels)
        if self.options.targets == "hard":
            return torch.eye(classes)[even_classes(n, classes, self.generator)].to(self.teacher.device)
        concentration = torch.full((n, classes), self.options.concentration)
        return dirichlet(concentration, self.generator).to(self.teacher.device)

    def move(self, start: Start, objective: Callable[[Tensor], Tensor]) -> tuple[Tensor, list[float]]:
        """Minimise ``objective`` over the movable positions with Adam.

        Args:
            start: from :meth:`start`.
            objective: embeddings (B, L, D) -> the *sum* over samples, so that a sample's path does not depend on
                the batch size. (Adam is invariant to the scale in any case, up to its epsilon.)

        Returns:
            The moved embeddings (B, L, D), detached, and the objective before each step.
        """
        movable = start.movable.unsqueeze(-1).to(start.embeddings.dtype)
        embeddings = start.embeddings.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([embeddings], lr=self.rate.now * self.sigma)
        trace = []
        for _ in range(self.options.guess_steps):
            value = objective(embeddings)
            # autograd.grad leaves no gradient on the student's or the map's parameters
            (gradient,) = torch.autograd.grad(value, [embeddings])
            embeddings.grad = gradient * movable
            optimizer.step()
            trace.append(float(value.detach()))
        return embeddings.detach(), trace

    def approach(
        self, start: Start, losses: Callable[[Tensor], Tensor], least: Tensor,
        harder: Callable[[Tensor], Tensor] | None = None, weight: float = 0.0,
    ) -> tuple[Tensor, list[float]]:
        """Minimise losses whose least value is known over the movable positions, by Polyak's steps: they need no rate.

        Args:
            start: from :meth:`start`.
            losses: embeddings (B, L, D) -> the loss of each sample, (B,), which depends on that sample alone.
            least: (B,), what each loss can be at least.
            harder: embeddings (B, L, D) -> a scalar that every step but the last raises on the way, along its
                gradient without what it shares with that of the loss. Called after ``losses``, with the same
                embeddings; in the last step for what it tells, without gradient.
            weight: length of the step that raises ``harder``, as a multiple of that towards the least loss.

        Returns:
            The moved embeddings (B, L, D), detached, and the sum of the losses before each step.

        Source: Polyak, "Introduction to Optimization", 1987, section 5.3: the step is (loss - least) / ||gradient||^2
        times the gradient. The bound ``longest_step`` is ours, as gradients may be tiny; so is the step aside.
        """
        assert isinstance(self.options, StepOptions)
        movable = start.movable.unsqueeze(-1).to(start.embeddings.dtype)
        unit = self.sigma * (movable.sum(dim=(1, 2)) * start.embeddings.shape[2]).sqrt()
        embeddings, trace = start.embeddings, []
        for step in range(self.options.guess_steps):
            embeddings = embeddings.detach().requires_grad_(True)
            values = losses(embeddings)
            direction, norm = _unit(torch.autograd.grad(values.sum(), [embeddings])[0] * movable)
            length = torch.minimum((values.detach() - least).clamp_min(0) / norm, self.options.longest_step * unit)
            moved = embeddings.detach() - length.view(-1, 1, 1) * direction
            if harder is not None and step == self.options.guess_steps - 1:
                with torch.no_grad():
                    harder(embeddings)
            elif harder is not None:
                aside = torch.autograd.grad(harder(embeddings), [embeddings])[0] * movable
                aside = aside - (aside * direction).sum(dim=(1, 2), keepdim=True) * direction
                moved = moved + (weight * length).view(-1, 1, 1) * _unit(aside)[0]
            embeddings = moved
            trace.append(float(values.detach().sum()))
        return embeddings.detach(), trace


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Each of B vectors (B, L, D) over its norm, and the norms (B,)."""
    norms = vectors.flatten(1).norm(dim=1).clamp_min(1e-12)
    return vectors / norms.view(-1, 1, 1), norms
