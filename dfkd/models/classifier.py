"""A text classifier with its tokenizer: the common form of teachers and transformer students.

Shapes: B texts, L tokens, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Sequence

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dfkd.batch import PseudoBatch, Text
from dfkd.models import attention, sources
from dfkd.models.split import SUPPORTED, Output, UpperHalf

EXTRAS = "dfkd.json"


class TextClassifier(nn.Module):
    """A transformers sequence classifier, its tokenizer, class names and length limit.

    Args:
        model: a ``...ForSequenceClassification``.
        tokenizer: the model's own.
        labels: C class names in the order of the logits.
        max_length: longer texts are cut to this many tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, labels: Sequence[str], max_length: int) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.labels = tuple(labels)
        self.max_length = max_length
        self._upper: UpperHalf | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def splittable(self) -> bool:
        """Whether embeddings can be injected above this model's embedding block."""
        return self.model.config.model_type in SUPPORTED

    @property
    def width(self) -> int:
        """D, the width of the embedding block's output."""
        return embedding_width(self.model.config)

    @property
    def hidden_width(self) -> int:
        """H, the width of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def embedding_block(self) -> nn.Module:
        """The module that turns token ids into embeddings."""
        block: nn.Module = self.model.base_model.embeddings
        return block

    def encode(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Tokenize texts (or pairs) into (B, L) tensors on the model's device, padded to the longest."""
        encoding = tokenize(self.tokenizer, texts, self.max_length)
        return {name: tensor.to(self.device) for name, tensor in encoding.items()}

    def from_encoding(self, encoding: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of tokenized texts."""
        logits: Tensor = self.model(**encoding).logits
        return logits

    def from_texts(self, texts: Sequence[Text]) -> Tensor:
        """Logits (B, C) of texts."""
        return self.from_encoding(self.encode(texts))

    def from_embeddings(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Logits and hidden states of embeddings (B, L, D) injected above the embedding block.

        Raises:
            ConfigError: the architecture cannot be split.
        """
        if self._upper is None:
            self._upper = UpperHalf(self.model)
        return self._upper(embeddings, attention_mask)

    def embed(self, input_ids: Tensor) -> Tensor:
        """The embedding block's output (B, L, D) for token ids (B, L); dropout follows the module's mode."""
        embedded: Tensor = self.embedding_block(input_ids=input_ids)
        return embedded

    def from_batch(self, batch: PseudoBatch) -> Output | Tensor:
        """Logits (B, C) of texts, or the :class:`Output` of embeddings."""
        if batch.texts is not None:
            return self.from_texts(batch.texts)
        assert batch.embeddings is not None and batch.attention_mask is not None
        return self.from_embeddings(batch.embeddings.to(self.device), batch.attention_mask.to(self.device))

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The parameters of the embedding block."""
        return list(self.embedding_block.parameters())

    def save(self, folder: Path, **extras: Any) -> None:
        """Write weights (safetensors), configuration and tokenizer; transformers alone can load the folder.

        Args:
            folder: is made if need be.
            extras: further facts for ``dfkd.json``.
        """
        config = self.model.config
        config.id2label = dict(enumerate(self.labels))
        config.label2id = {label: index for index, label in enumerate(self.labels)}
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        facts = {"labels": list(self.labels), "max_length": self.max_length, **extras}
        (Path(folder) / EXTRAS).write_text(json.dumps(facts, indent=1))


def tokenize(tokenizer: Any, texts: Sequence[Text], max_length: int, **options: Any) -> dict[str, Tensor]:
    """Tokenize texts (or pairs) into (B, L) tensors, padded to the longest.

    Args:
        tokenizer: of a model.
        texts: B texts, or B pairs.
        max_length: longer ones are cut to this many tokens.
        options: further ones of the tokenizer's call.
    """
    first: list[str] = [text if isinstance(text, str) else text[0] for text in texts]
    second = None if isinstance(texts[0], str) else [text[1] for text in texts]
    given = {"truncation": True, "max_length": max_length, "padding": True, "return_tensors": "pt"}
    return dict(tokenizer(first, second, **given, **options))


def embedding_width(config: Any) -> int:
    """D of a transformers configuration, the width of the embedding block's output."""
    return int(getattr(config, "embedding_size", config.hidden_size))


def class_names(config: Any) -> list[str]:
    """The class names of a transformers configuration, in the order of the outputs."""
    return [str(config.id2label[index]) for index in range(config.num_labels)]


def dropout_fields(config: Any) -> list[str]:
    """The names of the dropout probabilities in a transformers configuration."""
    return [name for name in config.to_dict() if name.endswith(("dropout", "dropout_prob"))]


def load_tokenizer(reference: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a model.

    Raises:
        ConfigError: there is none, or it knows no more than its special tokens.
    """
    tokenizer: Any = sources.guarded(
        AutoTokenizer.from_pretrained, reference, trust_remote_code=trust_remote_code
    )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise sources.ConfigError(
            f"the tokenizer of '{reference}' is empty",
            expected="a vocabulary (tokenizer.json, or vocab.txt and its kin)",
            found=f"{len(tokenizer)} entries",
            fix="copy the tokenizer's files into the model's folder",
        )
    return tokenizer


def load_classifier(
    reference: str,
    max_length: int | None = None,
    labels: Sequence[str] | None = None,
    trust_remote_code: bool = False,
    dropout: float | None = None,
) -> TextClassifier:
    """Load a classifier with its tokenizer.

    Args:
        reference: folder, ``package:DIST`` or hub name.
        max_length: tokens per text; ``None``: what ``dfkd.json`` says, else 128.
        labels: class names. Give them to put a new head of that size on a pre-trained encoder; ``None`` takes
            the model's own.
        trust_remote_code: let a hub model run its own code.
        dropout: dropout probability, everywhere in the model; ``None``: as its configuration says.

    Raises:
        ConfigError: it cannot be loaded.
    """
    changed: dict[str, Any] = {} if labels is None else {"num_labels": len(labels)}
    if dropout is not None:
        changed |= dict.fromkeys(dropout_fields(sources.load_config(reference, trust_remote_code)), dropout)
    model: Any = sources.guarded(
        AutoModelForSequenceClassification.from_pretrained, reference,
        dtype=torch.float32, trust_remote_code=trust_remote_code, **changed,
    )
    attention.install(model)
    length = max_length or sources.read_extras(reference).get("max_length") or 128
    tokenizer = load_tokenizer(reference, trust_remote_code)
    return TextClassifier(model, tokenizer, labels or class_names(model.config), length)
