"""Classes drawn evenly."""

from __future__ import annotations

import torch


def even_classes(n: int, classes: int, generator: torch.Generator) -> list[int]:
    """``n`` classes in a random order, as many of each as can be; which ones get one more is drawn too."""
    rounds = [torch.randperm(classes, generator=generator) for _ in range(-(-n // classes))]
    order = torch.randperm(n, generator=generator)
    return [int(label) for label in torch.cat(rounds)[:n][order]]
