"""Prompting as an environment of gymnasium, against a real teacher and student: for agents of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Sequence

from dfkd import pipeline
from dfkd.doors import synthesis_context
from dfkd.errors import ConfigError
from dfkd.models import device
from dfkd.synthesis import registry

if TYPE_CHECKING:
    from dfkd.models.language.environment import PromptEnvironment, VectorPromptEnvironment


def prompter(overrides: Sequence[str]) -> Any:
    """A :class:`~dfkd.synthesis.prompt_rl.PromptRl` with its teacher and a student, outside of any training.

    Args:
        overrides: ``key=value`` settings as of ``dfkd run``, with ``strategy=prompt_rl``.

    Raises:
        ConfigError: as ``dfkd run``; or the strategy is another one.
    """
    config = pipeline.load_config(overrides)
    if config.strategy.name != "prompt_rl":
        raise ConfigError("only a prompter can be trained", expected="strategy=prompt_rl", found=config.strategy.name)
    parts = pipeline.preflight(config)
    accelerator = device.accelerator(config.device, config.precision, config.threads)
    teacher, student = pipeline.load_models(parts, accelerator)
    return registry.build("prompt_rl", parts.strategy_options, synthesis_context(parts, teacher, student, None))


def environment(overrides: Sequence[str]) -> PromptEnvironment:
    """One prompt at a time, rewarded for what the student does not know of its text.

    ``reset(seed=...)`` decides the texts too, and with them the rewards. What it tells as ``action_mask`` (V,) are the
    tokens that ``prompt_rl`` itself writes prompts of.

    Args:
        overrides: as for :func:`prompter`.

    Raises:
        ConfigError: as :func:`prompter`.
    """
    from dfkd.models.language.environment import PromptEnvironment

    made = prompter(overrides)
    size = made.learner.policy.vocabulary
    return PromptEnvironment(size, made.prompt_tokens, made.score, made.reseed, made.allowed())


def environments(overrides: Sequence[str], prompts: int = 64) -> VectorPromptEnvironment:
    """Many prompts at once, whose texts are written and judged together; otherwise as :func:`environment`.

    Args:
        overrides: as for :func:`prompter`.
        prompts: B, prompts at a time.

    Raises:
        ConfigError: as :func:`prompter`.
    """
    from dfkd.models.language.environment import VectorPromptEnvironment

    made = prompter(overrides)
    size = made.learner.policy.vocabulary
    return VectorPromptEnvironment(prompts, size, made.prompt_tokens, made.score, made.reseed, made.allowed())
