"""Predictions of a classifier on texts, kept on disk where they will be asked for again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dfkd.batch import Text

Progress = Callable[[int, int], None]


class Classifier(Protocol):
    """What evaluation asks of a classifier; every concrete one is an ``nn.Module``."""

    training: bool

    def from_texts(self, texts: Sequence[Text]) -> Tensor:
        """Logits (B, C)."""

    def train(self, mode: bool = True) -> Any:
        """Switch dropout on or off."""


def predict(
    classifier: Any, texts: Sequence[Text], batch_size: int = 64, progress: Progress | None = None
) -> Tensor:
    """Logits of texts, in their order.

    Texts of like length share a batch, which saves padding.

    Args:
        classifier: a :class:`Classifier` or a teacher; its mode is put back afterwards.
        texts: N texts, at least one.
        batch_size: texts at a time.
        progress: called with (done, N) after each batch.

    Returns:
        (N, C), float32, on the CPU.

    Raises:
        ValueError: no texts.
    """
    if not texts:
        raise ValueError("no texts to predict")
    module = getattr(classifier, "classifier", classifier)
    order = sorted(range(len(texts)), key=lambda index: -_characters(texts[index]))
    training, parts = module.training, []
    module.train(False)
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                parts.append(classifier.from_texts([texts[index] for index in chosen]).float().cpu())
                if progress is not None:
                    progress(start + len(chosen), len(order))
    finally:
        module.train(training)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, torch.tensor(order), logits)


def cached_predictions(folder: Path, key: str, compute: Callable[[], Tensor]) -> Tensor:
    """The predictions stored under ``key``, or those of ``compute``, which are stored then.

    Args:
        folder: of the cache; is made if need be.
        key: must change with everything that the predictions depend on.
        compute: gives (N, C).
    """
    path = folder / f"{key}.safetensors"
    try:
        return load_file(path)["logits"]
    except (FileNotFoundError, SafetensorError, KeyError):
        logits = compute()
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"logits": logits.contiguous()}, temporary)
    os.replace(temporary, path)
    return logits


def judged_items(total: int, limit: int | None) -> list[int]:
    """Which of ``total`` test items are judged: all, or ``limit`` of them at random, the same for every run.

    Not the first ones: files are often sorted by class.
    """
    if limit is None or limit >= total:
        return list(range(total))
    drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:limit]
    return sorted(drawn.tolist())


def _characters(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])
