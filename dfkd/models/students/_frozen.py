"""Students on the teacher's own embedding block: what their kinds share.

A kind brings its options and the network above the block: an ``nn.Module`` with ``hidden_width`` that takes embeddings
(B, L, D) with a mask (B, L) and gives an :class:`~dfkd.models.split.Output`.

Shapes: B texts, L tokens, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig

from dfkd.batch import PseudoBatch, Text
from dfkd.errors import ConfigError
from dfkd.models.classifier import EXTRAS, embedding_width, tokenize
from dfkd.models.split import SUPPORTED, Output
from dfkd.models.students.base import Facts, StudentContext

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Blueprint:
    """What a student is rebuilt from, weights and tokenizer aside.

    Args:
        kind: module name of the student kind.
        options: the kind's ``Options``.
        encoder: configuration of the model that the embedding block was taken from.
        labels: C class names in the order of the logits.
        max_length: longer texts are cut to this many tokens.
    """

    kind: str
    options: Any
    encoder: PretrainedConfig
    labels: tuple[str, ...]
    max_length: int

    @property
    def width(self) -> int:
        """D, the width of the embedding block's output."""
        return embedding_width(self.encoder)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``dfkd.json``."""
        encoder = json.loads(self.encoder.to_json_string(use_diff=False))
        encoder.pop("_name_or_path", None)  # a path of the machine that made it
        facts = {"kind": self.kind, "options": dataclasses.asdict(self.options), "encoder": encoder}
        return {**facts, "labels": list(self.labels), "max_length": self.max_length}

    @classmethod
    def from_json(cls, facts: dict[str, Any], options: type) -> Blueprint:
        """The blueprint that :meth:`as_json` wrote down."""
        encoder = dict(facts["encoder"])
        config = AutoConfig.for_model(encoder.pop("model_type"), **encoder)
        return cls(facts["kind"], options(**facts["options"]), config, tuple(facts["labels"]), facts["max_length"])


Upper = Callable[[Blueprint], nn.Module]


class BlockStudent(nn.Module):
    """A copy of the teacher's embedding block, and a network of the student's own above it.

    The block has no dropout here: injected embeddings enter above it, and texts are to be treated alike.

    Args:
        blueprint: what the student is.
        block: token ids -> embeddings (B, L, D).
        upper: embeddings (B, L, D), mask (B, L) -> :class:`~dfkd.models.split.Output`; has ``hidden_width``.
        tokenizer: the teacher's.
    """

    def __init__(self, blueprint: Blueprint, block: nn.Module, upper: Any, tokenizer: Any) -> None:
        super().__init__()
        self.blueprint = blueprint
        self.embedding_block = _without_dropout(block)
        self.upper = upper
        self.tokenizer = tokenizer
        self.labels = blueprint.labels
        self.max_length = blueprint.max_length
        self.hidden_width = int(upper.hidden_width)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def width(self) -> int:
        """D, the width of the embedding block's output."""
        return self.blueprint.width

    def encode(self, texts: Sequence[Text]) -> dict[str, Tensor]:
        """Tokenize texts (or pairs) into (B, L) tensors on the model's device, padded on the right."""
        encoding = tokenize(self.tokenizer, texts, self.max_length, padding_side="right")
        return {name: tensor.to(self.device) for name, tensor in encoding.items()}

    def from_encoding(self, encoding: dict[str, Tensor]) -> Tensor:
        """Logits (B, C) of tokenized texts."""
        known = inspect.signature(self.embedding_block.forward).parameters  # DistilBERT has no token types
        embeddings = self.embedding_block(**{name: value for name, value in encoding.items() if name in known})
        return self.from_embeddings(embeddings, encoding["attention_mask"]).logits

    def from_texts(self, texts: Sequence[Text]) -> Tensor:
        """Logits (B, C) of texts."""
        return self.from_encoding(self.encode(texts))

    def from_embeddings(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Logits and hidden states (B, L, H) of embeddings (B, L, D); the mask (B, L) has its ones in front."""
        output: Output = self.upper(embeddings, attention_mask)
        return output

    def embed(self, input_ids: Tensor) -> Tensor:
        """The embedding block's output (B, L, D) for token ids (B, L)."""
        embedded: Tensor = self.embedding_block(input_ids=input_ids)
        return embedded

    def from_batch(self, batch: PseudoBatch) -> Output | Tensor:
        """Logits (B, C) of texts, or the :class:`~dfkd.models.split.Output` of embeddings."""
        if batch.texts is not None:
            return self.from_texts(batch.texts)
        assert batch.embeddings is not None and batch.attention_mask is not None
        return self.from_embeddings(batch.embeddings.to(self.device), batch.attention_mask.to(self.device))

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The parameters of the embedding block."""
        return list(self.embedding_block.parameters())

    def save(self, folder: Path, **extras: Any) -> None:
        """Write weights (safetensors), tokenizer, and in ``dfkd.json`` what :func:`load` rebuilds the rest from.

        There is no ``config.json``: transformers would take the folder for an encoder and make up its weights.

        Args:
            folder: is made if need be.
            extras: further facts for ``dfkd.json``.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        # cloned: on a GPU an LSTM's weights are views of one piece of memory; safetensors wants separate tensors
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in self.state_dict().items()}
        save_file(tensors, Path(folder) / WEIGHTS, metadata={"format": "pt"})
        self.tokenizer.save_pretrained(folder)
        (Path(folder) / EXTRAS).write_text(json.dumps({**self.blueprint.as_json(), **extras}, indent=1))


def _without_dropout(block: nn.Module) -> nn.Module:
    for module in block.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return block


def check(kind: str, options: Any, facts: Facts) -> None:
    """Whether a student can stand on this teacher's embedding block, from configurations alone.

    Args:
        kind: module name, for the message.
        options: the kind's, with ``freeze_embeddings``.
        facts: of teacher and run.

    Raises:
        ConfigError: the teacher cannot be split there, or an injected block shall be trained.
    """
    model_type = facts.teacher_config.model_type
    if model_type not in SUPPORTED:
        raise ConfigError(
            f"student={kind} needs a teacher that can be split at its embedding block",
            expected=f"one of {', '.join(SUPPORTED)}",
            found=f"a '{model_type}' teacher",
            fix="take student=truncated or student=pretrained with a strategy that makes texts",
        )
    check_freezing(options.freeze_embeddings, facts)


def check_freezing(freeze_embeddings: bool | None, facts: Facts) -> None:
    """Injected embeddings bypass the embedding block, so it cannot learn from them, and must stay the teacher's.

    That goes for an adversary as well, where the samples are texts.

    Raises:
        ConfigError: it shall be trained all the same.
    """
    if freeze_embeddings is False and facts.injects == "embeddings":
        raise ConfigError(
            "student.freeze_embeddings=false does not go with a strategy that injects embeddings, or has an adversary",
            found="the injected embeddings live in the teacher's frozen block",
            fix=f"leave it out; {facts.or_texts}",
        )


def build(kind: str, options: Any, context: StudentContext, upper: Upper) -> BlockStudent:
    """Build a student on the teacher's device, in training mode; its block is frozen unless the options say no.

    Args:
        kind: module name.
        options: the kind's, with ``freeze_embeddings``.
        context: the live teacher.
        upper: makes the network above the block, with fresh weights (torch's global generator).
    """
    teacher = context.teacher.classifier
    encoder = copy.deepcopy(teacher.model.config)
    blueprint = Blueprint(kind, options, encoder, tuple(teacher.labels), teacher.max_length)
    block = copy.deepcopy(teacher.embedding_block).requires_grad_(options.freeze_embeddings is False)
    student = BlockStudent(blueprint, block, upper(blueprint), teacher.tokenizer)
    return student.to(teacher.device).train()


def load(folder: Path, options: type, upper: Upper) -> BlockStudent:
    """Rebuild a saved student, on the CPU and with dropout off; no teacher is needed.

    Args:
        folder: that :meth:`BlockStudent.save` wrote.
        options: the kind's ``Options``.
        upper: as in :func:`build`.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    try:
        facts = json.loads((Path(folder) / EXTRAS).read_text())
        student = _skeleton(Blueprint.from_json(facts, options), upper, AutoTokenizer.from_pretrained(str(folder)))
        student.load_state_dict(load_file(Path(folder) / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"the student in '{folder}' cannot be loaded", expected="the files that its run wrote", found=first_line,
            fix="make the run again under another name (run=NAME)",
        ) from error
    return student.eval()


def _skeleton(blueprint: Blueprint, upper: Upper, tokenizer: Any) -> BlockStudent:
    """A student of random weights, made without a trace on torch's global generator."""
    encoder = copy.deepcopy(blueprint.encoder)
    encoder.num_hidden_layers = 0  # the embedding block is all that is wanted of it
    with torch.random.fork_rng(devices=[]):
        model: Any = AutoModel.from_config(encoder, dtype=torch.float32)
        return BlockStudent(blueprint, model.embeddings, upper(blueprint), tokenizer)
