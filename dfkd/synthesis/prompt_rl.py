"""A topic prompter, reinforced where the student still fails, and the texts that a frozen language model makes of it.

Shapes: B texts, P prompt tokens, C classes.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Sequence

import torch
from torch import Tensor

from dfkd import seeding
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError, noting, refuse
from dfkd.models.language import load
from dfkd.models.language.base import LanguageModel
from dfkd.models.split import logits_of
from dfkd.models.teacher import Teacher
from dfkd.synthesis import _language
from dfkd.synthesis._inversion import still
from dfkd.synthesis._language import PromptedOptions
from dfkd.synthesis._prompt_policy import PolicyOptions, build_policy
from dfkd.synthesis._prompt_reward import Reward, RewardOptions, distinct_pairs
from dfkd.synthesis._reinforce import Learner, LearnerOptions
from dfkd.synthesis._writer import ANY, Draft, Writer, Written
from dfkd.synthesis.base import Context, Facts

if TYPE_CHECKING:
    import numpy

REPAIRED = ("prompter_collapse", "prompts_repeat", "prompter_runs_away")  # alarms that a return to the reference ends
BETWEEN = 20  # updates at least from one return to the next: the alarms look as far back


@dataclass(frozen=True)
class Options(PromptedOptions, PolicyOptions, LearnerOptions, RewardOptions):
    """A reinforced prompter.

    How texts are written: ``PromptedOptions``; who writes the prompts: ``PolicyOptions``; how it learns:
    ``LearnerOptions``; and from what: ``RewardOptions``.

    Args:
        prompt_tokens: P, tokens of a prompt; the method's are 3 to 6.
    """

    learns_from_student: ClassVar[bool] = True

    prompt_tokens: int = 5

    def __post_init__(self) -> None:
        for part in (PromptedOptions, PolicyOptions, LearnerOptions, RewardOptions):
            part.__post_init__(self)
        require(self.prompt_tokens >= 1, "strategy.prompt_tokens", "1 or more", self.prompt_tokens)


class Waiting(NamedTuple):
    """A batch whose reward is still to come: its texts, prompts (B, P), and what is logged with it.

    And the student's logits (B, C) without dropout, where the reward is of those.
    """

    texts: Sequence[Any]
    prompts: Tensor
    facts: dict[str, float]
    student_logits: Tensor | None


class PromptRl(Written):
    """Prompter -> prompts -> texts -> teacher and student -> reward -> prompter.

    Each batch is written by the prompter as it is. Once the student has answered, the reward of the batch's texts moves
    the prompter. Texts that are dropped (too few words, duplicates) give no reward, unless they are taken
    after all because nothing better came.

    Args:
        teacher: asked by :meth:`score` alone.
        student: likewise; its parameters get no gradient here.
        writer: makes texts of prompts; its generator is that of the prompts as well.
        learner: the prompter's policy, and how it learns.
        reward: of prompts.
        prompt_tokens: P.

    Source: Ma et al., IJCAI 2022 (PromptDFD, arXiv:2205.07523), section 3 and figure 2: an autoregressive policy writes
    prompts of a few tokens, a frozen language model continues them, the reward moves the prompter alone and
    distillation the student alone. The policy, the learner, the form of the reward and all numbers are ours: the
    paper's code is not public.
    """

    def __init__(
        self, teacher: Teacher, student: Any, writer: Writer, learner: Learner, reward: Reward, prompt_tokens: int
    ) -> None:
        self.teacher, self.student, self.writer = teacher, student, writer
        self.learner, self.reward, self.prompt_tokens = learner, reward, prompt_tokens
        self.waiting: Waiting | None = None
        self.last_rewards: Tensor | None = None
        self.updates = BETWEEN  # since the prompter last began anew

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` prompts, and a text from each."""
        batch, drafts = self.writer.write([ANY] * n, lambda labels: self._drafts(self.draw(len(labels))))
        prompts = [draft.tokens[len(self.writer.source.start) :] for draft in drafts]
        # the facts stay in our hands: observe() adds what is known once the student has answered
        facts = {**batch.info, "prompt_distinct": distinct_pairs(prompts)}
        logits = None if self.reward.options.student_dropout else self._student_logits(batch)
        self.waiting = Waiting(batch.texts or (), torch.tensor(prompts), facts, logits)
        return replace(batch, info=facts)

    def draw(self, n: int) -> Tensor:
        """Prompts (n, P) of the policy as it is."""
        self.writer.generated_tokens += n * self.prompt_tokens
        return self.learner.policy.draw(n, self.prompt_tokens, self.writer.generator)

    def observe(self, feedback: Feedback) -> None:
        """Reward the prompts of the batch that was made last; the prompts of replayed texts were another policy's."""
        waiting, self.last_rewards = self.waiting, None
        if waiting is None or not feedback.fresh or feedback.batch.texts != waiting.texts:
            return
        self.waiting = None
        student_logits = feedback.student_logits if waiting.student_logits is None else waiting.student_logits
        rewards = self.reward(waiting.prompts, feedback.teacher_logits, student_logits)
        waiting.facts.update(self.reward.facts, reward=float(rewards.mean()))
        waiting.facts.update(self.learner.update(waiting.prompts, rewards))
        self.updates += 1
        self.last_rewards = rewards.detach()

    def rewards(self, feedback: Feedback) -> Tensor | None:
        """The rewards (B,) of the batch just observed; ``None`` for replayed ones."""
        return self.last_rewards if feedback.fresh else None

    def repair(self, alarm: str) -> str | None:
        """Let a prompter that collapsed or ran away begin anew at its reference, where ``repair`` is set.

        Args:
            alarm: the name of what rose.

        Returns:
            What was done, if only a few updates ago: the alarms still look at what was before; ``None``: nothing, as
            the alarm is another.
        """
        asked = self.learner.options.repair and alarm in REPAIRED
        if not asked or math.isinf(self.learner.kl_weight):  # it is there
            return None
        if self.updates < BETWEEN:
            return f"the prompter began anew {self.updates} updates ago"
        self.updates = 0
        self.learner.begin_anew()
        return f"the prompter begins anew at its reference, with strategy.kl_weight={self.learner.kl_weight:g}"

    def score(self, prompts: numpy.ndarray) -> numpy.ndarray:
        """Rewards (n,) of prompts (n, P) with the student as it is: what another agent can be trained on.

        It is the ``score`` of :class:`~dfkd.models.language.environment.VectorPromptEnvironment`.
        """
        tokens = torch.from_numpy(prompts)
        drafts = self._drafts(tokens)
        batch, _ = self.writer.write(range(len(drafts)), lambda places: [drafts[place] for place in places])
        rewards: numpy.ndarray = self.reward(tokens, self.teacher.label(batch), self._student_logits(batch)).numpy()
        return rewards

    def _student_logits(self, batch: PseudoBatch) -> Tensor:
        """The student's answers (B, C) as it is, without dropout."""
        with torch.no_grad(), still(self.student):
            return logits_of(self.student.from_batch(batch))

    def reseed(self, seed: int) -> None:
        """Let :meth:`score` begin anew: its draws follow the seed, and no text or prompt counts as seen.

        It is the ``reseed`` of the environments; no training asks for it.
        """
        self.writer.begin_anew(seeding.derive(seed, "prompting"))
        self.reward.forget()

    def allowed(self) -> numpy.ndarray:
        """Which tokens (V,), bool, the policy itself draws prompts of: no special ones, and none that is no text."""
        found: numpy.ndarray = (~self.learner.policy.forbidden).cpu().numpy()
        return found

    def _drafts(self, prompts: Tensor) -> list[Draft]:
        """What the writer continues, of prompts (n, P)."""
        source = self.writer.source
        return [Draft((*source.start, *prompt), source.text(prompt)) for prompt in prompts.tolist()]

    def state_dict(self) -> dict[str, Any]:
        """The writer with the generator; policy, optimizer and baseline; the reward's memory; updates of late."""
        parts = {"writer": self.writer, "learner": self.learner, "reward": self.reward}
        states = {name: part.state_dict() for name, part in parts.items()}  # type: ignore[attr-defined]
        return {**states, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`; a batch that waited for its reward gets none."""
        self.writer.load_state_dict(state["writer"])
        self.learner.load_state_dict(state["learner"])
        self.reward.load_state_dict(state["reward"])
        self.updates = state.get("updates", BETWEEN)  # older checkpoints have none
        self.waiting = None


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: lists what is missing: a package, the language model, its engine, or single texts.
    """
    problems = missing_packages(options.policy)
    with noting(problems):
        _language.check(options, facts)
    refuse(problems)


def missing_packages(policy: str) -> list[ConfigError]:
    """What is not installed of what a policy needs."""
    needed = ["gymnasium"] + (["peft"] if policy == "lora" else [])
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    fix = "in dfkd's checkout: pip install '.[lm]'"
    return [ConfigError(f"strategy prompt_rl: the package '{name}' is missing", fix=fix) for name in missing]


def build(options: Options, context: Context) -> PromptRl:
    """Load the language model and put the policy on it.

    Raises:
        ConfigError: as :func:`check`; or another strategy of the run has adapters on the language model already.
    """
    missing = missing_packages(options.policy)
    refuse(missing)
    source = _language.content_generator(options, context)
    writer = Writer(source, options.filters(), context.generator, options.with_prompt)
    policy = build_policy(_policy_model(options, context), options, context.generator, source.start)
    reward = Reward(options, len(context.teacher.labels), context.generator)
    return PromptRl(
        context.teacher, context.student, writer, Learner(policy, options), reward, options.prompt_tokens
    )


def _policy_model(options: Options, context: Context) -> LanguageModel:
    """The model that the prompter is built on: the engine's own; a copy where the engine keeps its weights apart."""
    key = _language.shared_key(options, context, "transformers")
    if key not in context.shared:  # vllm
        precision = _language.precision_of(options, context)
        context.shared[key] = load.load(options.model, context.teacher.device, precision, context.trust_remote_code)
    model: LanguageModel = context.shared[key]
    return model
