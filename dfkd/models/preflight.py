"""Whether a teacher fits a data set: checked on configuration files, before any weights are read."""

from __future__ import annotations

import re
from typing import Any, Sequence

from transformers import PretrainedConfig

from dfkd.errors import ConfigError

GENERIC = re.compile(r"LABEL_\d+")


def class_order(model_labels: Sequence[str], labels: Sequence[str], given: Sequence[str] | None) -> list[int]:
    """Where each of the data's classes stands among the model's outputs.

    Args:
        model_labels: the model's class names, by output.
        labels: the data config's class names.
        given: the class names by output as the user states them; ``None``: trust the model's own names.

    Returns:
        For each data class, the index of the model's output.

    Raises:
        ConfigError: numbers, names or order do not fit.
    """
    if len(model_labels) != len(labels):
        raise ConfigError(
            "the teacher's classes do not fit the data set",
            expected=f"{len(labels)} classes: {', '.join(labels)}",
            found=f"{len(model_labels)}: {', '.join(model_labels)}",
            fix="choose the teacher that was trained for this data set, or another data=...",
        )
    if given is not None:
        return _order_as_given(given, labels)
    if nameless(model_labels):
        return list(range(len(labels)))
    model_names, names = [_plain(name) for name in model_labels], [_plain(name) for name in labels]
    if model_names == names:
        return list(range(len(labels)))
    same = sorted(model_names) == sorted(names)
    stated = "[" + ",".join(labels[names.index(n)] for n in model_names) + "]" if same else "[...]"
    raise ConfigError(
        f"the teacher's classes are {'in another order' if same else 'named differently'} than the data set's",
        expected=", ".join(labels),
        found=", ".join(model_labels),
        fix=f"add teacher_labels={stated}: the data set's names in the order of the teacher's outputs",
    )


def nameless(model_labels: Sequence[str]) -> bool:
    """Whether a model's classes are called ``LABEL_0`` and so on: their order says nothing."""
    return all(GENERIC.fullmatch(name) for name in model_labels)


def _order_as_given(given: Sequence[str], labels: Sequence[str]) -> list[int]:
    if sorted(given) != sorted(labels):
        expected, found = ", ".join(labels), ", ".join(given)
        raise ConfigError("teacher_labels does not name the data set's classes", expected=expected, found=found)
    return [list(given).index(label) for label in labels]


def _plain(name: str) -> str:
    """Letters and digits only, lower case: ``Sci/Tech`` and ``sci_tech`` are the same class."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def check_finished(config: PretrainedConfig, what: str, fix: str) -> None:
    """A bare encoder would get a head of random weights, and answer at random.

    Args:
        config: of the model.
        what: what messages call the model.
        fix: what to do about it.

    Raises:
        ConfigError: the model is no classifier.
    """
    architectures = config.architectures or []
    if not any(name.endswith("ForSequenceClassification") for name in architectures):
        raise ConfigError(
            f"{what} is no finished classifier",
            expected="a ...ForSequenceClassification",
            found=", ".join(architectures) or "no architecture in its config.json",
            fix=fix,
        )


def check_vocabulary(config: PretrainedConfig, tokenizer: Any, reference: str) -> None:
    """The tokenizer must not give ids that the model has no embedding for.

    Raises:
        ConfigError: it does.
    """
    size = int(config.vocab_size)
    if len(tokenizer) > size:
        raise ConfigError(
            f"the tokenizer of '{reference}' does not belong to its model",
            expected=f"at most {size} tokens, the rows of the embedding table",
            found=f"{len(tokenizer)} tokens",
            fix="put the model's own tokenizer files into its folder",
        )


def check_length(config: PretrainedConfig, max_length: int, reference: str) -> None:
    """Texts must not be longer than the model has positions for.

    Raises:
        ConfigError: they are.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions < 0:
        return
    if config.model_type in ("roberta", "xlm-roberta", "camembert"):
        positions -= int(config.pad_token_id) + 1  # RoBERTa counts positions from behind the padding index
    if max_length > positions:
        raise ConfigError(
            f"'{reference}' cannot read texts of data.max_length tokens",
            expected=f"at most {positions}",
            found=max_length,
            fix=f"add data.max_length={positions}",
        )
