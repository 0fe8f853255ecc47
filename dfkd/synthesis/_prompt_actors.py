"""What a prompter trains: adapters on the language model itself, or a small recurrent network beside it.

Shapes: B prompts, L tokens, V vocabulary entries, D width of the model's output embeddings, H width of the GRU.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache, DynamicCache

from dfkd.errors import ConfigError
from dfkd.models.language.base import LanguageModel, last_logits


class Actor(Protocol):
    """What is trained: gives logits for the next token."""

    needs_reference: bool
    """Whether the logits build on the reference's."""

    def logits(
        self, ids: Tensor, keep: int, reference: Tensor | None, cache: Cache | None = None, shared: int = 0
    ) -> Tensor:
        """Logits (B, ``keep``, V) after the last ``keep`` of the ids (B, L), given the reference's own.

        A ``cache`` holds what was read of the same ids before, and is filled; the first ``shared`` ids, at most L -
        ``keep``, are the same in all rows.
        """

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that learn, by name."""

    def begin_anew(self) -> None:
        """Answer as the reference does, as before the first step."""


def next_logits(model: Any, ids: Tensor, keep: int, cache: Cache | None = None, shared: int = 0) -> Tensor:
    """A causal language model's logits (B, ``keep``, V) after the last ``keep`` of the ids (B, L).

    What all rows begin with is read once: the opening of a prompt can be longer than the prompt.

    Args:
        model: of transformers, perhaps in peft's shell.
        ids: (B, L).
        keep: at most as many as the cache has not read.
        cache: what was read of the same ids before; it is filled. ``None``: all are read, and none kept.
        shared: as many of the first ids are the same in all rows; at most L - ``keep``.
    """
    if shared and len(ids) > 1 and (cache is None or cache.get_seq_length() == 0):
        cache = DynamicCache() if cache is None else cache
        _read(model, ids[:1, :shared], 1, cache)
        cache.batch_repeat_interleave(len(ids))  # gradient flows through it
    return _read(model, ids, keep, cache)


def _read(model: Any, ids: Tensor, keep: int, cache: Cache | None) -> Tensor:
    new, mask = ids if cache is None else ids[:, cache.get_seq_length() :], torch.ones_like(ids)
    how: dict[str, Any] = {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}
    return last_logits(model, new, keep, attention_mask=mask, **how)


class LoraActor:
    """Low-rank adapters on the language model: on, it is the policy; off, the reference and the content generator.

    The model's weights are in memory once, and stay as they are. Only one policy can sit on a model.

    Args:
        language: its model is wrapped here.
        rank: of the adapters.
        targets: see :class:`PolicyOptions`.
        generator: CPU generator of the initial weights.

    Raises:
        ConfigError: peft does not know where the adapters of this architecture go, or there are some already.

    Source: Hu et al., ICLR 2022 (LoRA, arXiv:2106.09685); scale alpha / rank = 2, no dropout. To write prompts with
    the content generator itself is ours.
    """

    needs_reference = False

    def __init__(self, language: LanguageModel, rank: int, targets: str, generator: torch.Generator) -> None:
        if hasattr(language.model, "disable_adapter"):
            fix = "add strategy.policy=gru to all but one of the strategies that share it"
            raise ConfigError("the language model has the adapters of another policy already", fix=fix)
        language.model = _with_adapters(language.model, rank, targets).eval()
        self.model = language.model
        self.parameters = {name: p for name, p in self.model.named_parameters() if ".lora_" in name}
        for name, parameter in self.parameters.items():
            if ".lora_A." in name:  # B is 0: the policy begins as the reference
                drawn = torch.empty(parameter.shape)
                nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=generator)
                parameter.data.copy_(drawn)

    def logits(
        self, ids: Tensor, keep: int, reference: Tensor | None, cache: Cache | None = None, shared: int = 0
    ) -> Tensor:
        """The adapted model's logits."""
        return next_logits(self.model, ids, keep, cache, shared)

    def trained(self) -> dict[str, nn.Parameter]:
        """The adapters."""
        return self.parameters

    @torch.no_grad()
    def begin_anew(self) -> None:
        """B is 0 again; A stays."""
        for name, parameter in self.parameters.items():
            if ".lora_B." in name:
                parameter.zero_()


def _with_adapters(model: Any, rank: int, targets: str) -> Any:
    """The model of transformers in peft's shell, with its own weights frozen."""
    import peft
    from transformers.pytorch_utils import Conv1D

    transposed = any(isinstance(module, Conv1D) for module in model.modules())  # GPT-2's linear layers
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, fan_in_fan_out=transposed,
        target_modules="all-linear" if targets == "all" else None,
    )
    try:
        with torch.random.fork_rng(devices=[]):
            return peft.get_peft_model(model, config)
    except ValueError as error:
        kind = model.config.model_type
        fix = "add strategy.lora_targets=all, or strategy.policy=gru"
        raise ConfigError(f"LoRA does not fit a '{kind}' model", found=str(error).splitlines()[0], fix=fix) from error


class GruActor(nn.Module):
    """A recurrent network over the prompt so far, whose logits are added to the reference's.

    It reads the language model's input embeddings, and answers with a vector of D numbers that is multiplied with its
    output embeddings; both tables are the model's own, frozen. The answer is 0 at the start, so that the first prompts
    are the reference's and no noise, and the policy is at all times the reference times ``exp(added logits)``: the form
    of the optimum where a KL to the reference is charged.

    Args:
        language: frozen.
        width: H.
        generator: CPU generator of the initial weights.

    Source: ours; PromptDFD does not say what its policy is made of.
    """

    needs_reference = True

    def __init__(self, language: LanguageModel, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.tables = (language.model.get_input_embeddings(), language.model.get_output_embeddings())  # no submodules
        read, write = (int(table.weight.shape[1]) for table in self.tables)
        with torch.random.fork_rng(devices=[]):
            self.read = nn.Linear(read, width)
            self.recurrent = nn.GRU(width, width, batch_first=True)
            self.write = nn.Linear(width, write, bias=False)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)
        nn.init.zeros_(self.write.weight)
        self.to(language.device)

    def logits(
        self, ids: Tensor, keep: int, reference: Tensor | None, cache: Cache | None = None, shared: int = 0
    ) -> Tensor:
        """The reference's logits and the network's own; it reads the few tokens of a prompt anew each time."""
        assert reference is not None
        reading, writing = self.tables
        with torch.no_grad():
            embedded = F.layer_norm(reading(ids).float(), reading.weight.shape[1:])
        states, _ = self.recurrent(self.read(embedded))
        answer = self.write(states[:, -keep:])
        return reference + F.linear(answer.to(writing.weight.dtype), writing.weight).float()

    def trained(self) -> dict[str, nn.Parameter]:
        """The network's own parameters."""
        return dict(self.named_parameters())

    def begin_anew(self) -> None:
        """The answer is 0 again; how the prompt is read stays."""
        nn.init.zeros_(self.write.weight)
