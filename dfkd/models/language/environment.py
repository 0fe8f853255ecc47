"""Prompting as an environment of gymnasium: what is seen are the tokens so far, what is done is the next token.

An episode is one prompt of P tokens, and its reward comes with the last token. Any agent that talks to gymnasium can
be trained on it:

>>> import numpy
>>> def score(prompts):  # rewards (n,) of n whole prompts (n, P): here, how often token 7 is in them
...     return (prompts == 7).mean(axis=1)
>>> environment = PromptEnvironment(vocabulary=50, prompt_tokens=4, score=score)
>>> seen, facts = environment.reset(seed=0)
>>> seen.tolist()  # the vocabulary's ids are 0 to 49: 50 stands where no token is yet
[50, 50, 50, 50]
>>> for token in (3, 7, 9, 7):
...     seen, reward, ended, cut, facts = environment.step(token)
>>> seen.tolist(), reward, ended
([3, 7, 9, 7], 0.5, True)

Many prompts at once, as a vector environment, whose score is asked once for all of them:

>>> environments = VectorPromptEnvironment(2, vocabulary=50, prompt_tokens=1, score=score)
>>> seen, facts = environments.reset(seed=0)
>>> seen, rewards, ended, cut, facts = environments.step(numpy.array([7, 8]))
>>> rewards.tolist(), ended.tolist()
([1.0, 0.0], [True, True])
>>> environments.step(numpy.array([0, 0]))[0].tolist()  # the step after an episode's end only starts the next one
[[50], [50]]

With a student in training, ``score`` is :meth:`dfkd.synthesis.prompt_rl.PromptRl.score`. It draws: for episodes that
come again with their seed, ``reseed`` puts it back, and is :meth:`dfkd.synthesis.prompt_rl.PromptRl.reseed`.

Shapes: B prompts, P prompt tokens, V vocabulary entries.

Source: the topic prompter of Ma et al., IJCAI 2022 (PromptDFD, arXiv:2205.07523), as an episodic decision process;
gymnasium's interface is ours.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence, Union

import numpy
import torch
from gymnasium import Env, spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

Score = Callable[[numpy.ndarray], Union[Sequence[float], numpy.ndarray]]
"""Rewards (n,) of n whole prompts, token ids (n, P)."""
Reseed = Callable[[int], None]
"""Puts a score that draws, or remembers, into the state that belongs to a seed."""


def later(prompts: numpy.ndarray) -> numpy.ndarray:
    """The score of an agent whose rewards come after the episode, as in :class:`~dfkd.synthesis.prompt_rl.PromptRl`."""
    return numpy.zeros(len(prompts))


def _observations(vocabulary: int, prompt_tokens: int) -> spaces.Box:
    """Token ids of a prompt, and V where there is none yet.

    A ``Box`` of integers and no ``MultiDiscrete``: agents turn the latter into P * (V + 1) zeros and ones.
    """
    return spaces.Box(0, vocabulary, (prompt_tokens,), numpy.int64)


class PromptEnvironment(Env):
    """One prompt, token by token.

    Args:
        vocabulary: V; actions are the ids 0 to V - 1.
        prompt_tokens: P, the length of an episode.
        score: rewards whole prompts.
        reseed: called with the seed of :meth:`reset`; ``None``: the score neither draws nor remembers.
        allowed: (V,), bool: which tokens a prompt should hold; told as ``action_mask``, and no other token is refused.
            ``None``: all, and nothing is told.
    """

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self, vocabulary: int, prompt_tokens: int, score: Score, reseed: Reseed | None = None,
        allowed: numpy.ndarray | None = None,
    ) -> None:
        self.vocabulary, self.score, self.reseed, self.allowed = vocabulary, score, reseed, allowed
        self.observation_space = _observations(vocabulary, prompt_tokens)
        self.action_space = spaces.Discrete(vocabulary)
        self._rows = _Rows(1, vocabulary, prompt_tokens)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[numpy.ndarray, dict[str, Any]]:
        """Begin a prompt: (P,), all V; with a seed, the score begins anew as well."""
        super().reset(seed=seed)
        _begin_score(self.reseed, seed)
        self._rows.clear(numpy.array([True]))
        return self._rows.tokens[0].copy(), self._facts()

    def action_masks(self) -> numpy.ndarray:
        """Which tokens a prompt should hold, (V,), bool, by the name that agents of sb3-contrib ask for."""
        return numpy.ones(self.vocabulary, dtype=bool) if self.allowed is None else self.allowed

    def _facts(self) -> dict[str, Any]:
        """``action_mask`` (V,), int8, as the ``sample`` of gymnasium's spaces takes it."""
        return {} if self.allowed is None else {"action_mask": self.allowed.astype(numpy.int8)}

    def step(self, action: Any) -> tuple[numpy.ndarray, float, bool, bool, dict[str, Any]]:
        """Add a token.

        Returns:
            The tokens so far (P,), the reward (0 before the last token), whether the prompt is whole, False, and
            ``action_mask`` where there is one.

        Raises:
            ValueError: the prompt is whole already, or there is no such token.
        """
        if self._rows.whole()[0]:
            raise ValueError("the prompt is whole: call reset() first")
        self._rows.add(numpy.array([action]), numpy.array([True]))
        ended = bool(self._rows.whole()[0])
        reward = float(self.score(self._rows.tokens.copy())[0]) if ended else 0.0
        return self._rows.tokens[0].copy(), reward, ended, False, self._facts()


class VectorPromptEnvironment(VectorEnv):
    """B prompts at once, scored together.

    After an episode's last step the next one begins with the next call of :meth:`step`, whose action is passed over
    (gymnasium's ``NEXT_STEP``): the observation of the last step is the whole prompt.

    Args:
        num_envs: B.
        vocabulary: V; actions are the ids 0 to V - 1.
        prompt_tokens: P, the length of an episode.
        score: rewards whole prompts.
        reseed: as in :class:`PromptEnvironment`.
        allowed: likewise.
    """

    metadata: dict[str, Any] = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self, num_envs: int, vocabulary: int, prompt_tokens: int, score: Score, reseed: Reseed | None = None,
        allowed: numpy.ndarray | None = None,
    ) -> None:
        self.reseed, self.allowed = reseed, allowed
        self.num_envs, self.vocabulary, self.prompt_tokens, self.score = num_envs, vocabulary, prompt_tokens, score
        self.single_observation_space = _observations(vocabulary, prompt_tokens)
        self.single_action_space = spaces.Discrete(vocabulary)
        self.observation_space = spaces.Box(0, vocabulary, (num_envs, prompt_tokens), numpy.int64)
        self.action_space = spaces.MultiDiscrete([vocabulary] * num_envs)
        self._rows = _Rows(num_envs, vocabulary, prompt_tokens)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[numpy.ndarray, dict[str, Any]]:
        """Begin all prompts, or those of ``options["reset_mask"]`` (B,), bool: (B, P), all V where they begin.

        With a seed, the score begins anew as well.
        """
        super().reset(seed=seed)
        _begin_score(self.reseed, seed)
        everything = numpy.ones(self.num_envs, dtype=bool)
        self._rows.clear((options or {}).get("reset_mask", everything))
        return self._rows.tokens.copy(), self._facts()

    def _facts(self) -> dict[str, Any]:
        """``action_mask`` (B, V), int8, one row shown B times, and which environments have one (B,), bool: all."""
        if self.allowed is None:
            return {}
        masks = numpy.broadcast_to(self.allowed.astype(numpy.int8), (self.num_envs, self.vocabulary))
        return {"action_mask": masks, "_action_mask": numpy.ones(self.num_envs, dtype=bool)}

    def step(
        self, actions: Any
    ) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, numpy.ndarray, dict[str, Any]]:
        """Add a token (B,) to each prompt that is not whole, and begin those anew that are.

        Returns:
            The tokens so far (B, P), rewards (B,), whether each prompt is whole now (B,), nothing but False (B,),
            and ``action_mask`` where there is one.

        Raises:
            ValueError: there is no such token.
        """
        begin = self._rows.whole()
        self._rows.clear(begin)
        self._rows.add(numpy.asarray(actions), ~begin)
        ended, rewards = self._rows.whole(), numpy.zeros(self.num_envs)
        if ended.any():
            rewards[ended] = self.score(self._rows.tokens[ended])
        return self._rows.tokens.copy(), rewards, ended, numpy.zeros(self.num_envs, dtype=bool), self._facts()


def _begin_score(reseed: Reseed | None, seed: int | None) -> None:
    if reseed is not None and seed is not None:
        reseed(seed)


class _Rows:
    """Prompts (B, P) that fill from the left; V where there is no token yet."""

    def __init__(self, rows: int, vocabulary: int, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length
        self.tokens = numpy.full((rows, length), vocabulary, dtype=numpy.int64)
        self.filled = numpy.zeros(rows, dtype=numpy.int64)

    def clear(self, rows: numpy.ndarray) -> None:
        """Empty some rows (B,), bool."""
        self.tokens[rows], self.filled[rows] = self.vocabulary, 0

    def add(self, tokens: numpy.ndarray, rows: numpy.ndarray) -> None:
        """Add tokens (B,) to some rows (B,), bool."""
        if ((tokens < 0) | (tokens >= self.vocabulary)).any():
            raise ValueError(f"tokens are 0 to {self.vocabulary - 1}, got {tokens.tolist()}")
        self.tokens[rows, self.filled[rows]] = tokens[rows]
        self.filled[rows] += 1

    def whole(self) -> numpy.ndarray:
        """Which rows are full: (B,), bool."""
        return self.filled == self.length


def roll_out(environments: Any, act: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """One episode in each environment.

    Args:
        environments: a vector environment of B prompts, such as :class:`VectorPromptEnvironment`.
        act: the tokens so far, (B, t), -> the next ones, (B,); on the CPU.

    Returns:
        The prompts (B, P), and their rewards (B,).
    """
    seen, _ = environments.reset()
    rewards = torch.zeros(len(seen))
    for written in range(seen.shape[1]):
        tokens = act(torch.from_numpy(seen[:, :written]))
        seen, gained, _, _, _ = environments.step(tokens.numpy())
        rewards += torch.as_tensor(gained, dtype=rewards.dtype)
    return torch.from_numpy(seen), rewards
