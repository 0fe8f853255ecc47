"""Finished runs for TextAttack: what its attacks call a model wrapper, made without importing it.

Source: the contract is that of ``textattack.models.wrappers.ModelWrapper`` in TextAttack 0.3.11 (Morris et al., EMNLP
2020 demonstrations, arXiv:2005.05909): a call with texts gives scores, ``model`` is the model, and ``tokenize`` its
tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

from torch import Tensor

from dfkd import finished
from dfkd.batch import Text
from dfkd.robustness.base import Victim


class RunWrapper:
    """A classifier as TextAttack's attacks call it.

    Args:
        classifier: a student, or any classifier of ours.
        batch_size: texts at a time.
    """

    def __init__(self, classifier: Any, batch_size: int = 32) -> None:
        self.classifier = classifier
        self.model = getattr(classifier, "model", classifier)  # TextAttack looks at its class
        self.tokenizer = classifier.tokenizer
        self.labels = classifier.labels
        self._victim = Victim(classifier, batch_size=batch_size)

    def __call__(self, text_input_list: Sequence[Text], **_: Any) -> Tensor:
        """Logits (B, C) on the CPU, of texts or, for tasks on two columns, of pairs; in the order of ``labels``."""
        return self._victim.logits(list(text_input_list))

    def get_grad(self, text_input: Text, loss_fn: Any = None) -> dict[str, Any]:
        """Not there: attacks that look inside the model need TextAttack's own wrapper of a transformers model."""
        raise NotImplementedError("this wrapper serves black-box attacks only")

    def tokenize(self, inputs: Sequence[Text], strip_prefix: bool = False) -> list[list[str]]:
        """The tokens of each text, without special ones.

        Args:
            inputs: texts or pairs.
            strip_prefix: without the marks of word starts and word pieces.
        """
        tokens = [self._tokens(text) for text in inputs]
        marks = ("##", "Ġ", "▁")
        if strip_prefix:
            tokens = [[_without(token, marks) for token in row] for row in tokens]
        return tokens

    def _tokens(self, text: Text) -> list[str]:
        parts = (text,) if isinstance(text, str) else text
        return [token for part in parts for token in self.tokenizer.tokenize(part)]


def _without(token: str, marks: Sequence[str]) -> str:
    for mark in marks:
        token = token.replace(mark, "")
    return token


def wrapper(folder: Path | str, batch_size: int = 32) -> RunWrapper:
    """The student of a finished run, or any classifier's folder, for TextAttack.

    Args:
        folder: a run, or the folder of a student or teacher.
        batch_size: texts at a time.

    Raises:
        ConfigError: there is no student or classifier in it.
    """
    return RunWrapper(finished.load_student(Path(folder)), batch_size)
