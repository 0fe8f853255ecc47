"""Classes drawn evenly, and distributions over classes.

Shapes: B samples, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOST = 1e8  # times the smallest normal number: torch lifts gamma variates that underflow to that number


def even_classes(n: int, classes: int, generator: torch.Generator) -> list[int]:
    """``n`` classes in a random order, as many of each as can be; which ones get one more is drawn too."""
    rounds = [torch.randperm(classes, generator=generator) for _ in range(-(-n // classes))]
    order = torch.randperm(n, generator=generator)
    return [int(label) for label in torch.cat(rounds)[:n][order]]


def dirichlet(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """A distribution for each row of Dirichlet concentrations.

    Rows all of whose gamma variates underflow, as at concentrations of 0.01 and less, are drawn again by their
    logarithms. That leaves the distribution as it is: how large a row's variates are says nothing of their shares.

    Args:
        concentration: (B, C), above 0; the variates are drawn with its precision.
        generator: CPU generator; it is asked for more only where a row underflows.

    Returns:
        (B, C), float32, on the CPU; each row sums to 1.
    """
    gamma = torch._standard_gamma(concentration, generator=generator)
    total = gamma.sum(dim=1, keepdim=True)
    drawn = (gamma / total).float()
    lost = total.squeeze(1) < LOST * torch.finfo(gamma.dtype).tiny
    if bool(lost.any()):
        drawn[lost] = _by_logarithms(concentration[lost].double(), generator)
    return drawn


def _by_logarithms(concentration: Tensor, generator: torch.Generator) -> Tensor:
    """Dirichlet samples (B, C), float32, by ``gamma(a) = gamma(a + 1) u^(1 / a)``, u uniform on (0, 1)."""
    larger = torch._standard_gamma(concentration + 1, generator=generator)
    uniform = torch.rand(concentration.shape, generator=generator, dtype=torch.float64)
    logarithms = larger.log() + uniform.clamp_min(torch.finfo(torch.float64).tiny).log() / concentration
    return logarithms.softmax(dim=1).float()
