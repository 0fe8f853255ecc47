"""Policies that write prompts token by token, over the vocabulary of a language model that serves them as reference.

Shapes: B prompts, T tokens of a prompt so far, V vocabulary entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Mapping, NamedTuple, Sequence

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from dfkd.config import require
from dfkd.models.language._tokens import special_tokens
from dfkd.models.language.base import LanguageModel
from dfkd.synthesis._prompt_actors import Actor, GruActor, LoraActor, next_logits

NEVER = -1e9  # in the place of minus infinity, which makes 0 * (log 0 - log 0) no number


@dataclass(frozen=True)
class PolicyOptions:
    """Who writes the prompts.

    Args:
        policy: ``lora``: adapters on the language model itself; ``gru``: a small recurrent network, whose logits are
            added to the language model's.
        lora_rank: rank of the adapters.
        lora_targets: layers with adapters: ``attention``: what peft takes for the architecture; ``all``: every linear
            layer but the output's.
        gru_width: H, width of the recurrent network.
        prompt_top_p: the policy chooses among the smallest set of tokens that has this much of the *reference's*
            probability: below 1, no prompt leaves what the language model itself would write.
    """

    policy: Literal["lora", "gru"] = "lora"
    lora_rank: int = 8
    lora_targets: Literal["attention", "all"] = "all"
    gru_width: int = 128
    prompt_top_p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lora_rank", "gru_width"):
            require(getattr(self, name) >= 1, f"strategy.{name}", "1 or more", getattr(self, name))
        require(0 < self.prompt_top_p <= 1, "strategy.prompt_top_p", "in (0, 1]", self.prompt_top_p)


class Choice(NamedTuple):
    """Log-probabilities of the next token, (B, T + 1, V) each, after each of the T + 1 beginnings of a prompt."""

    policy: Tensor
    reference: Tensor


class Caches(NamedTuple):
    """What policy and reference have read of the prompts that are being drawn."""

    policy: Cache
    reference: Cache


class PromptPolicy:
    """An actor, the frozen language model that is its reference, and the tokens that a prompt may hold.

    The reference is the language model with the same tokens left out: at the start of training policy and reference
    are one distribution, whichever the actor.

    Args:
        language: frozen; a LoRA actor has put its adapters into it.
        actor: what is trained.
        top_p: see :class:`PolicyOptions`.
        start: ids that stand before every prompt; ``None``: the language model's own start.

    Source: the policy of Ma et al., IJCAI 2022 (PromptDFD), section 3.2: autoregressive over vocabulary tokens. What it
    is made of, and the reference, are ours.
    """

    def __init__(
        self, language: LanguageModel, actor: Actor, top_p: float = 1.0, start: Sequence[int] | None = None
    ) -> None:
        self.language, self.actor, self.top_p = language, actor, top_p
        self.start = list(language.start if start is None else start)
        self.vocabulary = int(language.model.get_input_embeddings().weight.shape[0])
        self.forbidden = forbidden_tokens(language.tokenizer, self.vocabulary).to(language.device)

    @staticmethod
    def caches() -> Caches:
        """For the drawing of one batch of prompts: with it, :meth:`act` reads each token once."""
        return Caches(DynamicCache(), DynamicCache())

    def draw(self, n: int, length: int, generator: torch.Generator) -> Tensor:
        """``n`` prompts of ``length`` tokens, (n, P), by a CPU generator."""
        from dfkd.models.language.environment import VectorPromptEnvironment, later, roll_out

        caches = self.caches()
        environments = VectorPromptEnvironment(n, self.vocabulary, length, later)
        return roll_out(environments, lambda tokens: self.act(tokens, generator, caches))[0]

    @torch.no_grad()
    def act(self, tokens: Tensor, generator: torch.Generator, caches: Caches | None = None) -> Tensor:
        """Draw the next token (B,) after the tokens (B, T), on the CPU.

        Args:
            tokens: (B, T).
            generator: CPU generator.
            caches: of earlier calls for the same prompts; ``None``: all tokens are read.
        """
        reading, answering = (caches.reference, caches.policy) if caches is not None else (None, None)
        needed = self.actor.needs_reference or self.top_p < 1
        reference = self.reference(tokens, keep=1, cache=reading) if needed else None
        closed = self.forbidden if reference is None else self._closed(reference)
        logits = self._actors_logits(tokens, 1, reference, answering).float().masked_fill(closed, NEVER)
        return torch.multinomial(logits[:, -1].softmax(-1).cpu(), 1, generator=generator).squeeze(1)

    def choice(self, tokens: Tensor, reference: Tensor, drawn: Tensor | None = None) -> Choice:
        """Log-probabilities after the beginnings of prompts (B, T); gradient flows to the actor.

        Args:
            tokens: (B, T).
            reference: what :meth:`reference` gave for them, all T + 1 positions or the last ones.
            drawn: (B, as many positions): tokens that :meth:`act` has drawn there, and that are open whatever rounding,
                other in one pass than token by token, makes of the nucleus' edge.
        """
        closed = self._closed(reference)
        if drawn is not None and self.top_p < 1:
            closed = closed.scatter(-1, drawn.unsqueeze(-1), False)
        logits = self._actors_logits(tokens, reference.shape[1], reference)
        return Choice(*(each.float().masked_fill(closed, NEVER).log_softmax(-1) for each in (logits, reference)))

    def reference(self, tokens: Tensor, keep: int = 0, cache: Cache | None = None) -> Tensor:
        """The frozen model's logits after the beginnings of prompts (B, T): (B, T + 1, V), without gradient.

        Args:
            tokens: (B, T).
            keep: as many of the last positions; 0: all T + 1.
            cache: of earlier calls for the same prompts.
        """
        with self.language.frozen() as model, torch.autocast(self.language.device.type, enabled=False):
            return next_logits(model, self._ids(tokens), keep or tokens.shape[1] + 1, cache, self.shared).float()

    def _actors_logits(
        self, tokens: Tensor, keep: int, reference: Tensor | None, cache: Cache | None = None
    ) -> Tensor:
        # the trainer's autocast would keep stale copies of the weights that learn
        with torch.autocast(self.language.device.type, enabled=False):
            return self.actor.logits(self._ids(tokens), keep, reference, cache, self.shared)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained."""
        return list(self.actor.trained().values())

    def begin_anew(self) -> None:
        """Be the reference again."""
        self.actor.begin_anew()

    def state_dict(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {name: parameter.detach().clone() for name, parameter in self.actor.trained().items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        for name, parameter in self.actor.trained().items():
            parameter.copy_(state[name])

    @property
    def shared(self) -> int:
        """How many ids are the same in all rows, and answer for no token of a prompt."""
        return len(self.start) - 1

    def _ids(self, tokens: Tensor) -> Tensor:
        """The tokens after what begins every text."""
        start = torch.tensor(self.start).expand(len(tokens), -1)
        return torch.cat([start, tokens.cpu()], dim=1).to(self.language.device)

    def _closed(self, reference: Tensor) -> Tensor:
        """Tokens that are out of the question, bool, where the reference has these logits (B, T, V)."""
        if self.top_p >= 1:
            return self.forbidden
        ordered, order = reference.masked_fill(self.forbidden, NEVER).softmax(-1).sort(dim=-1, descending=True)
        beyond = ordered.cumsum(-1) - ordered >= self.top_p  # the mass before it is enough already
        return torch.zeros_like(beyond).scatter(-1, order, beyond) | self.forbidden


def forbidden_tokens(tokenizer: Any, vocabulary: int) -> Tensor:
    """The ids (V,), bool, that no prompt holds: special ones, parts of letters, line breaks, and unused places."""
    words = tokenizer.batch_decode([[index] for index in range(min(len(tokenizer), vocabulary))])
    special = special_tokens(tokenizer)
    closed = [index in special or "\ufffd" in word or "\n" in word for index, word in enumerate(words)]
    return torch.tensor(closed + [True] * (vocabulary - len(closed)))


def build_policy(
    language: LanguageModel, options: PolicyOptions, generator: torch.Generator, start: Sequence[int] | None = None
) -> PromptPolicy:
    """The policy that the options ask for, on its language model, after what begins every text."""
    actor: Actor
    if options.policy == "lora":
        actor = LoraActor(language, options.lora_rank, options.lora_targets, generator)
    else:
        actor = GruActor(language, options.gru_width, generator)
    return PromptPolicy(language, actor, options.prompt_top_p, start)
