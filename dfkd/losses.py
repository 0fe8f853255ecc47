"""Losses as pure functions of tensors. Shapes: B samples, L positions, D width, C classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def distillation_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, softened.

    ``T^2 * mean_B sum_C p_T * (log p_T - log p_S)`` with ``p = softmax(logits / T)``; the factor T^2 keeps
    the gradient's size independent of the temperature T.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); no gradient flows into them.
        temperature: T > 0.

    Returns:
        A scalar.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of predictions against class distributions: ``-mean_B sum_C y * log softmax(logits)``.

    Args:
        logits: (B, C).
        targets: (B, C), rows sum to 1; one-hot rows give the usual cross-entropy.

    Returns:
        A scalar.

    Source: L_INPUT of Ma et al., EMNLP 2020 (AS-DFD), there with one-hot targets.
    """
    return soft_cross_entropies(logits, targets).mean()


def soft_cross_entropies(logits: Tensor, targets: Tensor) -> Tensor:
    """As :func:`soft_cross_entropy`, of each sample: (B,). The least it can be is the target's :func:`entropy`."""
    return -(targets * F.log_softmax(logits.float(), dim=-1)).sum(dim=-1)


def entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats of distributions (..., C) over classes: (...)."""
    return torch.special.entr(probabilities).sum(dim=-1)


def prediction_gap(first: Tensor, second: Tensor) -> tuple[float, float]:
    """How far apart two predictions of the same samples are.

    Args:
        first: logits (B, C).
        second: logits (B, C).

    Returns:
        The share of samples with the same class, and the mean KL(first || second) in nats.
    """
    same = (first.argmax(dim=1) == second.argmax(dim=1)).float().mean()
    return float(same), float(prediction_kl(first, second))


def prediction_kl(first: Tensor, second: Tensor) -> Tensor:
    """``mean_B KL(first || second)`` in nats, of logits (B, C) each, with gradient through both: a scalar."""
    log_first, log_second = first.float().log_softmax(dim=1), second.float().log_softmax(dim=1)
    return (log_first.exp() * (log_first - log_second)).sum(dim=1).mean()


def masked_mse(predicted: Tensor, target: Tensor, positions: Tensor) -> Tensor:
    """Mean squared error over chosen positions: ``mean_{(b,l) chosen, d} (predicted - target)^2``.

    Args:
        predicted: (B, L, D), ``W h_i``.
        target: (B, L, D), ``e_i``; gradient flows into it as well.
        positions: (B, L), bool; True where the embedding was masked. At least one is True.

    Returns:
        A scalar.

    Source: L_MASK of Ma et al., EMNLP 2020 (AS-DFD).
    """
    return F.mse_loss(predicted[positions].float(), target[positions].float())
