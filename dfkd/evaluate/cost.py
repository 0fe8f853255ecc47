"""What a classifier costs: parameters, multiply-adds, time, bytes."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Mapping, Sequence

import numpy
import torch
from torch import Tensor
from torch.backends import cudnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

WEIGHTS = (".safetensors", ".bin")


def parameter_counts(classifier: Any) -> dict[str, int]:
    """All parameters, and those above the embedding block."""
    total = sum(p.numel() for p in classifier.parameters())
    embedding = sum(p.numel() for p in classifier.embedding_parameters())
    return {"parameters": total, "parameters_without_embeddings": total - embedding}


def filled_encoding(classifier: Any, batch_size: int, length: int) -> dict[str, Tensor]:
    """A tokenized batch whose every row has exactly ``length`` tokens, without padding."""
    text = " ".join(["the"] * length)
    row = classifier.encode([text])
    given = row["input_ids"].shape[1]
    if given < length:
        raise ValueError(f"the tokenizer gives only {given} tokens for {length} words")
    return {name: tensor[:, :length].repeat(batch_size, 1) for name, tensor in row.items()}


def multiply_adds(classifier: Any) -> int:
    """Multiply-adds of one sequence of ``max_length`` tokens, counted by torch (matrix products and attention).

    torch counts a multiplication and an addition as two operations; the usual figure is half of its sum.
    """
    encoding = filled_encoding(classifier, 1, classifier.max_length)
    # fused attention and recurrence are not counted on every device; written out as matrix products they are
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_rnn_layer: _recurrence})
    with _evaluating([classifier]), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), cudnn.flags(enabled=False):
        with counter:
            classifier.from_encoding(encoding)
    return counter.get_total_flops() // 2


@contextmanager
def _evaluating(classifiers: Iterable[Any]) -> Iterator[None]:
    """Dropout off inside the ``with`` block."""
    modes = [(classifier, classifier.training) for classifier in classifiers]
    try:
        for classifier, _ in modes:
            classifier.train(False)
        yield
    finally:
        for classifier, training in modes:
            classifier.train(training)


def _recurrence(inputs: Sequence[int], of_inputs: Sequence[int], of_hidden: Sequence[int], *_: Any, **__: Any) -> int:
    """Operations of one direction of the CPU's fused LSTM, from the shapes of inputs (L, B, D) and both matrices."""
    return 2 * inputs[0] * inputs[1] * (math.prod(of_inputs) + math.prod(of_hidden))


def file_bytes(folder: Path) -> int:
    """Bytes of the weights in a model's folder."""
    return sum(path.stat().st_size for path in Path(folder).iterdir() if path.suffix in WEIGHTS)


def latency(
    classifiers: Mapping[str, Any], batch_sizes: Sequence[int], rounds: int, length: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds of a forward pass on tokenized input of ``length`` tokens, the classifiers in turn.

    Quote the ratio of medians.

    Args:
        classifiers: by name; their mode is put back.
        batch_sizes: sequences at a time.
        rounds: timed rounds, after one that is not counted.
        length: tokens.

    Returns:
        name -> batch size as text -> ``p50_ms`` and ``p95_ms``.
    """
    result: dict[str, dict[str, dict[str, float]]] = {name: {} for name in classifiers}
    with _evaluating(classifiers.values()):
        for size in batch_sizes:
            encodings = {name: filled_encoding(c, size, length) for name, c in classifiers.items()}
            measures = {name: partial(_timed, c, encodings[name]) for name, c in classifiers.items()}
            for name, values in in_turn(measures, rounds).items():
                p50, p95 = numpy.percentile(values, [50, 95])
                result[name][str(size)] = {"p50_ms": float(p50), "p95_ms": float(p95)}
    return result


def in_turn(measures: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each measure gives, in ``rounds`` rounds after one that is not counted.

    Machines are noisy: within a round everything is measured once, so that what slows the machine slows all of it.
    """
    found: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds + 1):
        for name, measure in measures.items():
            found[name].append(measure())
    return {name: values[1:] for name, values in found.items()}


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _timed(classifier: Any, encoding: dict[str, Tensor]) -> float:
    """Milliseconds of one forward pass."""
    on_gpu = next(iter(encoding.values())).is_cuda
    with torch.inference_mode():
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        classifier.from_encoding(encoding)
        if on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - started) * 1e3
