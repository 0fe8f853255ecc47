"""A student that is looked at, not trained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator

import torch


@contextmanager
def still(student: Any) -> Iterator[None]:
    """Switch the student's dropout off inside the ``with`` block, so that an adversary answers to the student.

    Gradient still flows through the student to its input; take it with ``torch.autograd.grad``, which leaves none on
    the student's parameters.
    """
    training = student.training
    student.eval()
    try:
        # cuDNN's recurrent layers refuse a backward pass in eval mode; torch's own do not
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        student.train(training)
