"""The losses against hand-made numbers and torch's own, and where their gradients go."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from dfkd.losses import distillation_kl, entropy, masked_mse, soft_cross_entropy

LOG3 = math.log(3)


def logits(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "student, teacher, temperature, expected",
    [
        ([[0.0, 0.0]], [[0.0, 0.0]], 1.0, 0.0),
        # p = (3/4, 1/4), q = (1/2, 1/2): 3/4 log(3/2) + 1/4 log(1/2)
        ([[0.0, 0.0]], [[LOG3, 0.0]], 1.0, 0.1308120),
        ([[0.0, LOG3]], [[0.0, 0.0]], 1.0, 0.1438410),  # the other way round: the divergence has a direction
        ([[0.0, 0.0]], [[2 * LOG3, 0.0]], 2.0, 4 * 0.1308120),  # softened to the case above, times T^2
        ([[0.0, 0.0], [0.0, 0.0]], [[LOG3, 0.0], [0.0, 0.0]], 1.0, 0.1308120 / 2),  # the mean over samples
    ],
)
def test_distillation_golden(
    student: list[list[float]], teacher: list[list[float]], temperature: float, expected: float
) -> None:
    loss = distillation_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_equals_the_plain_formula(temperature: float) -> None:
    student, teacher = logits(5, 7), logits(5, 7, seed=1)
    p = (teacher / temperature).softmax(dim=1)
    q = (student / temperature).softmax(dim=1)
    plain = F.kl_div(q.log(), p, reduction="batchmean") * temperature**2
    torch.testing.assert_close(distillation_kl(student, teacher, temperature), plain)


def test_distillation_gradient_keeps_its_size() -> None:
    """Without T^2 the gradient would shrink with 1/T^2: by 100 here."""

    def norm(temperature: float) -> float:
        student = logits(8, 4).requires_grad_(True)
        distillation_kl(student, logits(8, 4, seed=1), temperature).backward()
        return float(student.grad.norm())  # type: ignore[union-attr]

    assert 0.3 < norm(10.0) / norm(1.0) < 3
    # at high temperatures it tends to the matched logits, (1 / C) (z_S - z_T), both centred (Hinton et al., eq. 4)
    student, teacher = logits(8, 4).requires_grad_(True), logits(8, 4, seed=1)
    distillation_kl(student, teacher, 1e3).backward()
    difference = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    torch.testing.assert_close(student.grad, difference.detach() / (8 * 4), atol=1e-4, rtol=1e-2)


def test_distillation_leaves_the_teacher_alone() -> None:
    student, teacher = logits(3, 4).requires_grad_(True), logits(3, 4, seed=1).requires_grad_(True)
    distillation_kl(student, teacher).backward()
    assert teacher.grad is None and student.grad is not None


def test_distillation_is_float32_under_autocast() -> None:
    student, teacher = logits(4, 3), logits(4, 3, seed=1)
    loss = distillation_kl(student.bfloat16(), teacher.bfloat16(), 2.0)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(distillation_kl(student, teacher, 2.0)), rel=0.05)


@pytest.mark.parametrize(
    "values, targets, expected",
    [
        ([[LOG3, 0.0]], [[1.0, 0.0]], math.log(4 / 3)),
        ([[LOG3, 0.0]], [[0.5, 0.5]], math.log(4) - LOG3 / 2),
        ([[0.0, 0.0, 0.0]], [[0.2, 0.3, 0.5]], LOG3),
    ],
)
def test_soft_cross_entropy_golden(
    values: list[list[float]], targets: list[list[float]], expected: float
) -> None:
    loss = soft_cross_entropy(torch.tensor(values), torch.tensor(targets))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_soft_cross_entropy_of_one_hot_is_cross_entropy() -> None:
    classes = torch.tensor([0, 2, 1, 2, 0])
    loss = soft_cross_entropy(logits(5, 3), F.one_hot(classes, 3).float())
    torch.testing.assert_close(loss, F.cross_entropy(logits(5, 3), classes))


def test_entropy_by_hand() -> None:
    shares = torch.tensor([[0.5, 0.5], [1.0, 0.0], [0.25, 0.75]])
    by_hand = torch.tensor([math.log(2), 0.0, -0.25 * math.log(0.25) - 0.75 * math.log(0.75)])
    assert torch.allclose(entropy(shares), by_hand)


def test_soft_cross_entropy_is_least_at_its_target() -> None:
    targets = logits(6, 4).softmax(dim=1)
    at_target = soft_cross_entropy(targets.log(), targets)
    torch.testing.assert_close(at_target, entropy(targets).mean())
    assert soft_cross_entropy(targets.log() + 0.1 * logits(6, 4, seed=1), targets) > at_target


def test_masked_mse_golden() -> None:
    predicted, target = torch.zeros(1, 3, 2), torch.tensor([[[1.0, 3.0], [2.0, 0.0], [9.0, 9.0]]])
    positions = torch.tensor([[True, True, False]])
    assert float(masked_mse(predicted, target, positions)) == pytest.approx((1 + 9 + 4 + 0) / 4)


def test_masked_mse_gradient_reaches_chosen_positions_of_both() -> None:
    predicted, target = logits(2, 4, 3).requires_grad_(True), logits(2, 4, 3, seed=1).requires_grad_(True)
    positions = torch.tensor([[False, True, False, False], [True, False, False, True]])
    masked_mse(predicted, target, positions).backward()
    for tensor in (predicted, target):
        assert tensor.grad is not None
        assert torch.equal(tensor.grad.abs().sum(dim=2) > 0, positions)
    torch.testing.assert_close(predicted.grad, -target.grad)  # type: ignore[operator]
