"""A classifier split at its embedding block: T(x) = T'(Emb(x)).

``Emb`` is the whole embedding block, LayerNorm included; T' is everything above it, and takes embeddings
(B, L, D) with an attention mask (B, L).

Source: Ma et al., EMNLP 2020 (AS-DFD), figure 1 and section 3.1.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

from torch import Tensor, nn

from dfkd.errors import ConfigError

SUPPORTED = ("bert", "distilbert", "electra", "roberta")


class Output(NamedTuple):
    """What a split classifier gives: logits (B, C) and the last layer's hidden states (B, L, H)."""

    logits: Tensor
    hidden: Tensor


def logits_of(answer: Output | Tensor) -> Tensor:
    """The logits (B, C) of what a student gives: those alone, or with its hidden states."""
    return answer.logits if isinstance(answer, Output) else answer


class _Passthrough(nn.Module):
    """Stands where the embedding block stood and hands on the embeddings that it is given."""

    def forward(self, *args: Any, inputs_embeds: Tensor | None = None, **_: Any) -> Tensor:
        # DistilBERT passes (input_ids, inputs_embeds, position_ids) by position, the others by name
        given = inputs_embeds if inputs_embeds is not None else args[1]
        assert isinstance(given, Tensor)
        return given


class _Recorder(nn.Module):
    """Calls the encoder and keeps its last hidden states, which the classification head alone would swallow."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.hidden: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.encoder(*args, **kwargs)
        self.hidden = output[0]
        return output

    def take(self) -> Tensor:
        """The hidden states of the last call, let go of at once so that no graph lives on."""
        hidden, self.hidden = self.hidden, None
        assert hidden is not None
        return hidden


def check_supported(model_type: str, what: str = "the teacher") -> None:
    """Refuse architectures whose split is not known to be exact.

    Raises:
        ConfigError: names those that work and what to use instead.
    """
    if model_type not in SUPPORTED:
        raise ConfigError(
            f"{what} is a '{model_type}' model, which cannot be split at its embedding block",
            expected=f"one of {', '.join(SUPPORTED)}",
            found=model_type,
            fix="take a strategy that makes texts, such as random_tokens ('dfkd strategies' lists them)",
        )


class UpperHalf:
    """T': everything above the embedding block, sharing every parameter with the model it was made from.

    Args:
        model: a transformers ``...ForSequenceClassification`` of a supported architecture; left untouched.

    Raises:
        ConfigError: the architecture is not supported.
    """

    def __init__(self, model: Any) -> None:
        check_supported(model.config.model_type, "the model")
        prefix = model.base_model_prefix
        encoder = _shell(getattr(model, prefix))
        encoder.embeddings = _Passthrough()
        self._recorder = _Recorder(encoder)
        self._model = _shell(model)
        self._model._modules[prefix] = self._recorder

    def __call__(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Classify embeddings.

        Args:
            embeddings: (B, L, D), the embedding block's output or something in its place.
            attention_mask: (B, L), 1 for real positions.
        """
        result = self._model(inputs_embeds=embeddings, attention_mask=attention_mask)
        return Output(result.logits, self._recorder.take())


def _shell(module: nn.Module) -> Any:
    """A copy of one module alone: its children and parameters are the same objects, its slots can be refilled."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell
