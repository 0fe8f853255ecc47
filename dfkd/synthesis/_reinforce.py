"""The learner of the topic prompter: policy gradient with a moving baseline and a KL to the reference policy.

Shapes: B prompts, P prompt tokens, V vocabulary entries.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Literal, Mapping

import torch
from torch import Tensor, nn

from dfkd.config import require
from dfkd.synthesis._prompt_policy import Choice, PromptPolicy

SMALLEST_DEVIATION = 1e-4
FIRMER = 4.0  # times the KL weight, each time that the prompter begins anew
EPSILON = 1e-5  # AdamW's; its usual 1e-8 makes whole steps of gradients that are next to nothing


@dataclass(frozen=True)
class LearnerOptions:
    """How the policy learns from rewards.

    Args:
        learner: ``reinforce``: one step on each batch of prompts; ``ppo``: ``epochs`` steps, clipped.
        epochs: steps of ``ppo`` on a batch.
        clip_ratio: ``ppo`` gains nothing from a token's probability beyond ``1 +- clip_ratio`` times what it was.
        kl_weight: beta, weight of the KL to the reference in nats a prompt; infinite (``.inf``): the policy stays at
            the reference.
        baseline: what a prompt's reward is compared with. ``moving``: the mean of earlier batches, which the rewards
            leave behind while the student learns; ``leave_one_out``: the mean of the batch's other prompts.
        baseline_momentum: share of the old moving baseline that stays with each batch.
        normalise_advantage: divide each batch's advantages by their root mean square: then the steps stay as large
            where the rewards shrink, as they do once the student agrees with the teacher.
        policy_rate: AdamW's learning rate; a GRU wants less, such as 3e-4.
        policy_clip: longest gradient; 0: any.
        repair: a prompter that collapses or runs away (the alarms ``prompter_collapse``, ``prompts_repeat`` and
            ``prompter_runs_away``) begins anew at its reference, with four times the ``kl_weight``.
    """

    learner: Literal["reinforce", "ppo"] = "reinforce"
    epochs: int = 4
    clip_ratio: float = 0.2
    kl_weight: float = 0.01
    baseline: Literal["moving", "leave_one_out"] = "moving"
    baseline_momentum: float = 0.9
    normalise_advantage: bool = False
    policy_rate: float = 1e-3
    policy_clip: float = 1.0
    repair: bool = True

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "strategy.epochs", "1 or more", self.epochs)
        for name in ("kl_weight", "policy_clip"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        for name in ("clip_ratio", "policy_rate"):
            require(getattr(self, name) > 0, f"strategy.{name}", "above 0", getattr(self, name))
        require(0 <= self.baseline_momentum < 1, "strategy.baseline_momentum", "in [0, 1)", self.baseline_momentum)


class Learner:
    """Moves a policy towards prompts with high rewards.

    The step goes up ``E[(r - b) * sum_t log pi(p_t | p_<t)] - beta * sum_t KL(pi || reference at p_<t)``: the KL over
    the whole vocabulary is exact at the beginnings that were drawn. (What the beginnings themselves owe to the policy
    is left out of the KL's gradient.)

    Args:
        policy: on its reference.
        options: which learner, and its rates.

    Source: the reward reaches the prompter alone, by reinforcement learning: Ma et al., IJCAI 2022 (PromptDFD), section
    3.2. REINFORCE (Williams 1992) with a moving-average baseline or the mean of the batch's other samples (Kool et al.,
    ICLR 2019 workshop on deep reinforcement learning meets structured prediction), PPO's clipping (Schulman et al.,
    arXiv:1707.06347, equation 7; without a value network), and the KL are ours.
    """

    def __init__(self, policy: PromptPolicy, options: LearnerOptions) -> None:
        self.policy, self.options = policy, options
        self.optimizer = self._optimizer()
        self.baseline: float | None = None
        self.kl_weight = options.kl_weight

    def _optimizer(self) -> torch.optim.AdamW:
        # no decay of weights: the pull back to the reference is the KL's job
        rate = self.options.policy_rate
        return torch.optim.AdamW(self.policy.parameters(), lr=rate, eps=EPSILON, weight_decay=0.0)

    def begin_anew(self) -> None:
        """Put the policy back to the reference, to leave it less readily: the KL weighs :data:`FIRMER` times as much.

        The baseline stays: what rewards are usual depends on the student.
        """
        self.policy.begin_anew()
        self.optimizer = self._optimizer()
        self.kl_weight *= FIRMER

    def update(self, prompts: Tensor, rewards: Tensor) -> dict[str, float]:
        """Learn from a batch that the policy as it is now has written.

        Args:
            prompts: (B, P).
            rewards: (B,).

        Returns:
            Facts of the policy that wrote the prompts: ``policy_entropy`` (mean over the tokens, nats), ``policy_kl``
            (to the reference, mean over the tokens, nats), ``prompt_log_probability`` (mean over the prompts, nats),
            ``baseline`` (that the rewards were compared with), ``policy_gradient`` (its length before clipping).
        """
        advantages, facts = self._advantages(rewards)
        beginnings, prompts = prompts[:, :-1], prompts.to(self.policy.language.device)
        reference, before = self.policy.reference(beginnings), None
        stays = math.isinf(self.kl_weight)
        for epoch in range(self.options.epochs if self.options.learner == "ppo" else 1):
            with torch.set_grad_enabled(not stays):
                choice = self.policy.choice(beginnings, reference, prompts)
                chosen = choice.policy.gather(-1, prompts.unsqueeze(-1)).squeeze(-1)
            before = chosen.detach() if before is None else before
            if epoch == 0:
                facts |= _facts(choice, chosen)
            if stays:
                break
            length = self._step(self._loss(choice, chosen, before, advantages))
            facts.setdefault("policy_gradient", length)
        return facts

    def _advantages(self, rewards: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Rewards against the baseline, (B,); the moving one, as it was before them, follows."""
        rewards = rewards.double()  # rounding must not tell equal rewards apart: Adam makes whole steps of anything
        mean, momentum = float(rewards.mean()), self.options.baseline_momentum
        baseline = mean if self.baseline is None else self.baseline
        self.baseline = momentum * baseline + (1 - momentum) * mean
        if self.options.baseline == "leave_one_out" and len(rewards) > 1:  # a lone prompt has no others
            baseline = mean
            advantages = (rewards - mean) * len(rewards) / (len(rewards) - 1)
        else:
            advantages = rewards - baseline
        if self.options.normalise_advantage and len(rewards) > 1:
            advantages = advantages / advantages.square().mean().sqrt().clamp_min(SMALLEST_DEVIATION)
        return advantages.float().to(self.policy.language.device), {"baseline": baseline}

    def _loss(self, choice: Choice, chosen: Tensor, before: Tensor, advantages: Tensor) -> Tensor:
        """What the step lowers, from log-probabilities (B, P) now and of when the prompts were written."""
        if self.options.learner == "ppo":
            gain = clipped_gain(chosen, before, advantages, self.options.clip_ratio)
        else:
            gain = advantages * chosen.sum(dim=1)
        return self.kl_weight * token_kl(choice).sum(dim=1).mean() - gain.mean()

    def _step(self, loss: Tensor) -> float:
        """One step of the optimizer; the length of the gradient before it was clipped."""
        parameters = self.policy.parameters()
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            parameter.grad = gradient
        length = nn.utils.clip_grad_norm_(parameters, self.options.policy_clip or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(length)

    def state_dict(self) -> dict[str, Any]:
        """The policy, AdamW's state, the baseline, and the KL's weight."""
        optimizer = copy.deepcopy(self.optimizer.state_dict())
        numbers = {"baseline": self.baseline, "kl_weight": self.kl_weight}
        return {"policy": self.policy.state_dict(), "optimizer": optimizer, **numbers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.policy.load_state_dict(state["policy"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.baseline = state["baseline"]
        self.kl_weight = state.get("kl_weight", self.options.kl_weight)  # older checkpoints have none


def clipped_gain(chosen: Tensor, before: Tensor, advantages: Tensor, clip_ratio: float) -> Tensor:
    """PPO's gain of each prompt (B,), summed over its tokens.

    Args:
        chosen: log-probabilities of the tokens now, (B, P).
        before: those of when they were drawn, (B, P), without gradient.
        advantages: (B,).
        clip_ratio: epsilon.

    Source: Schulman et al., arXiv:1707.06347, equation 7.
    """
    ratio = (chosen - before).exp()
    clipped = ratio.clamp(1 - clip_ratio, 1 + clip_ratio)
    each = advantages.unsqueeze(1)
    return torch.minimum(ratio * each, clipped * each).sum(dim=1)


def token_kl(choice: Choice) -> Tensor:
    """Exact ``KL(policy || reference)`` of each token, (B, P), in nats, with gradient to the policy."""
    return (choice.policy.exp() * (choice.policy - choice.reference)).sum(dim=-1)


def _facts(choice: Choice, chosen: Tensor) -> dict[str, float]:
    entropy = -(choice.policy.exp() * choice.policy).sum(dim=-1)
    return {
        "policy_entropy": float(entropy.detach().mean()), "policy_kl": float(token_kl(choice).detach().mean()),
        "prompt_log_probability": float(chosen.detach().sum(dim=1).mean()),
    }
