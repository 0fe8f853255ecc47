"""What a prompt is worth: the student's ignorance of the texts made from it, class balance, and novelty.

Shapes: B prompts (one text each), P prompt tokens, C classes.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Literal, Mapping, Sequence

import torch
from torch import Tensor

from dfkd.config import require

Prompt = tuple[int, ...]


@dataclass(frozen=True)
class RewardOptions:
    """What the prompter is rewarded for.

    Args:
        reward: of a text whose class is c = argmax T: ``teacher_minus_student``: T_c - S_c; ``teacher``: T_c;
            ``minus_student``: -S_c; ``kl``: KL(T || S). S is the student before it learns from the text.
        student_dropout: S with the student's dropout on, as its own step has it anyway; off: asked once more without.
        balance_weight: weight of a bonus for texts of classes that were rare of late, a penalty for frequent ones.
        repetition_weight: weight of a penalty for pairs of neighbouring tokens that prompts have repeated of late.
        reward_window: how many texts and prompts "of late" are.
        shuffle_rewards: a control: the rewards of a batch change places at random, so that none is its prompt's own.
            What the policy does all the same, it does of noise.
    """

    reward: Literal["teacher_minus_student", "teacher", "minus_student", "kl"] = "teacher_minus_student"
    student_dropout: bool = True
    balance_weight: float = 0.0
    repetition_weight: float = 0.0
    reward_window: int = 512
    shuffle_rewards: bool = False

    def __post_init__(self) -> None:
        for name in ("balance_weight", "repetition_weight"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        require(self.reward_window >= 1, "strategy.reward_window", "1 or more", self.reward_window)


def base_reward(teacher_logits: Tensor, student_logits: Tensor, kind: str) -> Tensor:
    """The reward of each text, (B,), from logits (B, C) each.

    Source: Ma et al., IJCAI 2022 (PromptDFD): high where the teacher is confident of its class and the student is not;
    T_c - S_c is our reading of it. The other kinds are ablations of ours.
    """
    teacher, student = teacher_logits.float().log_softmax(dim=1), student_logits.float().log_softmax(dim=1)
    if kind == "kl":
        return (teacher.exp() * (teacher - student)).sum(dim=1)
    confidence, top = teacher.exp().max(dim=1)
    belief = student.exp().gather(1, top.unsqueeze(1)).squeeze(1)
    return {"teacher_minus_student": confidence - belief, "teacher": confidence, "minus_student": -belief}[kind]


class Reward:
    """The reward of prompts, with what it remembers of earlier ones.

    Args:
        options: kind, weights, window.
        classes: C.
        order: CPU generator of the places that shuffled rewards take.
    """

    def __init__(self, options: RewardOptions, classes: int, order: torch.Generator | None = None) -> None:
        self.options, self.classes, self.order = options, classes, order
        self.seen: deque[int] = deque(maxlen=options.reward_window)
        self.prompts: deque[Prompt] = deque(maxlen=options.reward_window)
        self.facts: dict[str, float] = {}

    def __call__(self, prompts: Tensor, teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
        """The reward of each prompt, (B,), on the CPU; the texts and prompts count as seen from then on.

        ``facts`` has its parts from then on, means over the batch: ``reward_base``, of teacher and student alone, and
        what balance and repetition add, weighted, where they have a weight: ``reward_balance``, ``reward_repetition``.

        Args:
            prompts: (B, P).
            teacher_logits: (B, C), of the texts made from them.
            student_logits: (B, C).
        """
        reward = base_reward(teacher_logits, student_logits, self.options.reward).cpu()
        top, written = teacher_logits.argmax(dim=1).tolist(), [tuple(prompt) for prompt in prompts.tolist()]
        parts = {"reward_base": reward}
        if self.options.balance_weight:
            bonus = balance_bonus(self.seen, self.classes)
            parts["reward_balance"] = self.options.balance_weight * torch.tensor([bonus[index] for index in top])
        if self.options.repetition_weight:
            repeated = torch.tensor(repetition(written, self.prompts))
            parts["reward_repetition"] = -self.options.repetition_weight * repeated
        self.facts = {name: float(part.mean()) for name, part in parts.items()}
        reward = torch.stack(list(parts.values())).sum(dim=0)
        self.seen.extend(top)
        self.prompts.extend(written)
        return reward[torch.randperm(len(reward), generator=self.order)] if self.options.shuffle_rewards else reward

    def forget(self) -> None:
        """Count no text and no prompt as seen."""
        self.seen.clear()
        self.prompts.clear()

    def state_dict(self) -> dict[str, Any]:
        """Classes and prompts of late."""
        return {"seen": list(self.seen), "prompts": list(self.prompts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.forget()
        self.seen.extend(state["seen"])
        self.prompts.extend(tuple(prompt) for prompt in state["prompts"])


def balance_bonus(seen: Sequence[int] | deque[int], classes: int) -> list[float]:
    """What a text of each class gains: ``-log(share * C) / log C``, at most 1.

    0 for an even share, -1 for a class that all texts had, 1 for one that has been missing for long. Each class counts
    one text more than it had, so that nothing is known of the shares at the start.

    Source: ours; METHODS of the project names a term for class balance without a form.
    """
    counts = Counter(seen)
    total = len(seen) + classes
    return [min(1.0, -math.log((counts[c] + 1) / total * classes) / math.log(classes)) for c in range(classes)]


def repetition(prompts: Sequence[Prompt], earlier: Sequence[Prompt] | deque[Prompt]) -> list[float]:
    """How much each prompt repeats, 0 to 1: mean of ``1 - 1 / n`` over its token pairs, there n times in all prompts.

    The mean over all prompts is ``1 - distinct-2``, so that a fall of distinct-2 is what is punished.

    Args:
        prompts: those to judge.
        earlier: further ones, that are compared with.
    """
    counts = Counter(pair for prompt in (*earlier, *prompts) for pair in _pairs(prompt))
    return [sum(1 - 1 / counts[pair] for pair in _pairs(prompt)) / len(_pairs(prompt)) for prompt in prompts]


def distinct_pairs(prompts: Sequence[Prompt]) -> float:
    """Distinct-2: different pairs of neighbouring tokens, as a share of all; of tokens in prompts of one token.

    Source: Li et al., NAACL 2016 (arXiv:1510.03055), section 5.
    """
    pairs = [pair for prompt in prompts for pair in _pairs(prompt)]
    return len(set(pairs)) / len(pairs)


def _pairs(prompt: Prompt) -> list[Prompt]:
    return [prompt[i : i + 2] for i in range(max(len(prompt) - 1, 1))]
