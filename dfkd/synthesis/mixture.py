"""Several strategies in one: by weight, and by schedule over the training.

Shapes: B samples.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import ChainMap
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Iterable, Mapping, Sequence, cast

import torch
from torch import Tensor, nn

from dfkd import seeding
from dfkd.batch import Feedback, PseudoBatch
from dfkd.errors import ConfigError, noting, refuse
from dfkd.models.students.base import Student
from dfkd.synthesis import registry
from dfkd.synthesis._parts import Part, read_parts
from dfkd.synthesis.base import Context, Facts, Synthesizer, learns_from_student


@dataclass(frozen=True)
class Options:
    """What is mixed.

    Args:
        parts: list of {strategy: NAME, weight: 1, from: 0, until: 1, options: {...}}; weight is relative to the other
            parts at work, from and until are shares of the student steps.
    """

    splits_teacher: ClassVar[bool] = False  # its parts are asked for themselves

    parts: list[Any] = field(default_factory=lambda: [{"strategy": "random_tokens"}, {"strategy": "templated"}])

    def __post_init__(self) -> None:
        read_parts(self.parts)

    @property
    def injects(self) -> str:
        """``embeddings`` if any part injects them; its student then shares the teacher's block, and reads texts too."""
        found = {part.options.injects for part in read_parts(self.parts)}
        return "embeddings" if "embeddings" in found else "tokens"

    @property
    def student_reads(self) -> str:
        """``embeddings`` if any part feeds the student such, be it for an adversary alone."""
        found = {registry.student_reads(part.options) for part in read_parts(self.parts)}
        return "embeddings" if "embeddings" in found else "tokens"

    @property
    def remedy(self) -> str:
        """The options that parts lack for students with embeddings of their own; empty where some part has none."""
        parts = [part for part in read_parts(self.parts) if registry.student_reads(part.options) == "embeddings"]
        missing = [getattr(part.options, "as_texts", {}) for part in parts]
        listed = [", ".join(f"{name}: {str(value).lower()}" for name, value in values.items()) for values in missing]
        told = [f"options: {{{values}}} to the part {part.label}" for part, values in zip(parts, listed)]
        return " and ".join(told) if all(missing) else ""

    @property
    def uses_real_text(self) -> bool:
        """Whether any part does."""
        return any(part.options.uses_real_text for part in read_parts(self.parts))

    @property
    def labels_itself(self) -> bool:
        """Whether any part does."""
        return any(getattr(part.options, "labels_itself", False) for part in read_parts(self.parts))

    @property
    def learns_from_student(self) -> bool:
        """Whether any part says before it is built that it does."""
        return any(getattr(part.options, "learns_from_student", False) for part in read_parts(self.parts))


class Mixture:
    """Each batch is of one part, drawn by weight among those at work.

    What comes back (feedback, loss terms) goes to the part that made the batch; replayed batches are of one part, too.

    Args:
        parts: what is drawn from.
        strategies: the strategy of each part.
        steps: student steps of the run, which the schedule is a share of; ``None``: there is no schedule.
        generator: CPU generator of the draws.

    Source: ours.
    """

    def __init__(
        self, parts: Sequence[Part], strategies: Sequence[Synthesizer], steps: int | None, generator: torch.Generator
    ) -> None:
        self.parts, self.steps, self.generator = list(parts), steps, generator
        self.strategies = {part.label: strategy for part, strategy in zip(parts, strategies)}
        self.batches = {part.label: 0 for part in parts}
        self.step = 0
        self.observed: str | None = None  # the part that made the batch of the last step

    @property
    def learns_from_student(self) -> bool:
        """Whether any part does."""
        return any(learns_from_student(strategy) for strategy in self.strategies.values())

    @property
    def synthesis_queries(self) -> int:
        """The teacher queries that pools among the parts were made with."""
        return self._sum("synthesis_queries")

    @property
    def synthesis_tokens(self) -> int:
        """The tokens that were drawn for pools among the parts."""
        return self._sum("synthesis_tokens")

    @property
    def synthesis_seconds(self) -> float:
        """The seconds that the making of pools among the parts took."""
        return float(self._sum("synthesis_seconds"))

    @property
    def generated_tokens(self) -> int | None:
        """Tokens that language models have drawn so far; ``None``: no part writes with one."""
        writes = any(getattr(strategy, "generated_tokens", None) is not None for strategy in self.strategies.values())
        return self._sum("generated_tokens") if writes else None

    def _sum(self, name: str) -> int:
        return sum(getattr(strategy, name, None) or 0 for strategy in self.strategies.values())

    def synthesize(self, n: int) -> PseudoBatch:
        """``n`` samples of one part; ``info`` counts the batches of each part so far."""
        done = self.step / self.steps if self.steps else 0.0
        label = self._draw({part.label: part.weight for part in self.parts if part.works(done)})
        batch = self.strategies[label].synthesize(n)
        self.batches[label] += 1
        counts = {f"batches_{name}": float(count) for name, count in self.batches.items()}
        # chained, not copied: a part may add facts to its own mapping once it has seen the student's answers
        return replace(batch, strategy=label, info=ChainMap(counts, cast("dict[str, float]", batch.info)))

    def prepare(self) -> None:
        """Let the parts do what they do once, before the first step."""
        for strategy in self.strategies.values():
            prepare = getattr(strategy, "prepare", None)
            if prepare is not None:
                prepare()

    def hold_out(self, n: int) -> PseudoBatch | None:
        """``n`` samples for the judging of the student, of one part, drawn by weight and time at work."""
        weights = {part.label: part.weight * (part.end - part.begin) for part in self.parts}
        while weights:
            label = self._draw(weights)
            strategy: Any = self.strategies[label]
            batch = getattr(strategy, "hold_out", strategy.synthesize)(n)
            if batch is not None:
                return replace(batch, strategy=label)
            del weights[label]  # it can spare no more
        return None

    def _draw(self, weights: Mapping[str, float]) -> str:
        drawn = torch.multinomial(torch.tensor(list(weights.values())), 1, generator=self.generator)
        return list(weights)[int(drawn)]

    def observe(self, feedback: Feedback) -> None:
        """Tell the part that made the batch."""
        self.step = feedback.step + 1
        self.observed = feedback.batch.strategy
        maker = self.strategies.get(self.observed or "")
        if maker is not None:
            maker.observe(feedback)

    def repair(self, alarm: str) -> str | None:
        """Let the part repair itself whose batch was observed last, if it can."""
        repair = getattr(self.strategies.get(self.observed or ""), "repair", None)
        return repair(alarm) if repair is not None else None

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """Loss terms of the part that made the batch."""
        maker = self.strategies.get(batch.strategy or "")
        return maker.student_losses(student, batch) if maker is not None else {}

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of all parts."""
        return [parameter for strategy in self.strategies.values() for parameter in strategy.parameters()]

    def rewards(self, feedback: Feedback) -> Tensor | None:
        """The rewards (B,) that the part which made the batch gives, else those that came with it, as out of a pool."""
        rewards = getattr(self.strategies.get(feedback.batch.strategy or ""), "rewards", None)
        return rewards(feedback) if rewards is not None else feedback.batch.rewards

    def notes(self) -> dict[str, Any]:
        """What the parts have to tell, by part."""
        told: dict[str, Any] = {}
        for label, strategy in self.strategies.items():
            notes = getattr(strategy, "notes", None)
            told |= {label: notes()} if notes is not None else {}
        return told

    def state_dict(self) -> dict[str, Any]:
        """The states of all parts, the counts, the step, and the generator's state."""
        states = {label: strategy.state_dict() for label, strategy in self.strategies.items()}
        own = {"step": self.step, "batches": dict(self.batches), "generator": self.generator.get_state()}
        return {"parts": states, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        for label, strategy in self.strategies.items():
            strategy.load_state_dict(state["parts"][label])
        self.step, self.batches = state["step"], dict(state["batches"])
        self.generator.set_state(state["generator"])


def fingerprint(options: Options) -> str:
    """What the parts are, their defaults included, and what their files hold.

    Raises:
        ConfigError: some file is not there.
    """
    parts = [
        [part.label, dataclasses.asdict(part.options), registry.fingerprint(part.strategy, part.options)]
        for part in read_parts(options.parts)
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check(options: Options, facts: Facts) -> None:
    """Whether each part can be built, before any work.

    Raises:
        ConfigError: lists the problems of all parts.
    """
    problems: list[ConfigError] = []
    for part in read_parts(options.parts):
        with noting(problems):
            registry.check(part.strategy, part.options, facts)
    refuse(problems)


def build(options: Options, context: Context) -> Mixture:
    """All parts, each with a generator of its own that derives from the run's seed.

    Raises:
        ConfigError: a part does not fit; or a schedule is asked for where no student is trained.
    """
    parts = read_parts(options.parts)
    scheduled = [part.label for part in parts if part.begin > 0 or part.end < 1]
    if scheduled and context.steps is None:
        found = f"{', '.join(scheduled)} with from/until"
        fix = "leave out from and until, or take 'dfkd run'"
        raise ConfigError("a schedule needs a student's steps", found=found, fix=fix)
    seed = context.generator.initial_seed()
    strategies = [
        registry.build(part.strategy, part.options, replace(context, generator=seeding.generator(seed, part.label)))
        for part in parts
    ]
    return Mixture(parts, strategies, context.steps, context.generator)
