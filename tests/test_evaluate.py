"""Scores, predictions and costs."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from dfkd.evaluate import cost
from dfkd.evaluate.predict import cached_predictions, predict
from dfkd.evaluate.scores import agreement, calibration_error, scores
from dfkd.models.classifier import TextClassifier, load_classifier


def logits(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


@pytest.fixture
def classifier(toy_teacher: Path) -> TextClassifier:
    return load_classifier(str(toy_teacher))


def test_scores_by_hand() -> None:
    predicted = logits([0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6])
    found = scores(predicted, [0, 1, 1, 1])
    assert found["accuracy"] == 0.75
    assert found["macro_f1"] == pytest.approx((2 / 3 + 4 / 5) / 2)


def test_a_class_that_never_occurs_counts_as_zero_in_macro_f1() -> None:
    assert scores(logits([0.9, 0.05, 0.05]), [0])["macro_f1"] == pytest.approx(1 / 3)


def test_calibration_error_by_hand() -> None:
    # bins of 0.1: 0.95 right, 0.95 wrong -> |0.5 - 0.95|; 0.65 right -> |1 - 0.65|; weights 2/3, 1/3
    predicted = logits([0.95, 0.05], [0.95, 0.05], [0.65, 0.35])
    assert calibration_error(predicted, [0, 1, 0], bins=10) == pytest.approx(2 / 3 * 0.45 + 1 / 3 * 0.35, abs=1e-6)
    assert calibration_error(torch.tensor([[99.0, 0.0]]), [0]) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(predicted, [0, 1, 0], bins=1) != calibration_error(predicted, [0, 1, 0], bins=10)


def test_agreement_and_refusals() -> None:
    first, second = logits([0.9, 0.1], [0.1, 0.9]), logits([0.6, 0.4], [0.6, 0.4])
    assert agreement(first, second) == 0.5
    with pytest.raises(ValueError, match="different shapes"):
        agreement(first, second[:1])
    with pytest.raises(ValueError, match="2 predictions for 1 labels"):
        scores(first, [0])


def test_predictions_come_in_the_order_of_the_texts(classifier: TextClassifier) -> None:
    texts = ["rain", "the cook serves a hot soup with salt and onions today", "they won", "snow and wind again"] * 3
    classifier.train()
    seen: list[tuple[int, int]] = []
    found = predict(classifier, texts, batch_size=5, progress=lambda done, total: seen.append((done, total)))
    assert classifier.training and seen == [(5, 12), (10, 12), (12, 12)]
    classifier.eval()
    with torch.no_grad():
        alone = torch.cat([classifier.from_texts([text]) for text in texts])
    assert torch.allclose(found, alone, atol=1e-5)


def test_no_texts_are_refused(classifier: TextClassifier) -> None:
    with pytest.raises(ValueError, match="no texts"):
        predict(classifier, [])


def test_the_mode_is_put_back_where_timing_fails(
    classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    classifier.train()
    monkeypatch.setattr(classifier, "from_encoding", fail)
    for measure in (cost.multiply_adds, lambda c: cost.latency({"it": c}, (1,), 1, 8)):
        with pytest.raises(RuntimeError, match="out of memory"):
            measure(classifier)
        assert classifier.training


def test_predictions_are_kept_and_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    calls = []

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.ones(2, 3) * len(calls)

    first, second = (cached_predictions(tmp_path / "c", "k", compute) for _ in range(2))
    assert torch.equal(first, second)
    assert len(calls) == 1
    (tmp_path / "c" / "k.safetensors").write_bytes(b"damaged")
    assert float(cached_predictions(tmp_path / "c", "k", compute)[0, 0]) == 2
    assert os.listdir(tmp_path / "c") == ["k.safetensors"]


def test_parameters_and_bytes(classifier: TextClassifier, toy_teacher: Path) -> None:
    counts = cost.parameter_counts(classifier)
    assert counts["parameters"] == sum(p.numel() for p in classifier.model.parameters())
    block = classifier.model.bert.embeddings
    assert counts["parameters"] - counts["parameters_without_embeddings"] == sum(p.numel() for p in block.parameters())
    assert cost.file_bytes(toy_teacher) == (toy_teacher / "model.safetensors").stat().st_size


def test_multiply_adds_by_hand(classifier: TextClassifier) -> None:
    width, inner, length, layers, classes = 32, 64, classifier.max_length, 2, 3
    linear = length * (4 * width**2 + 2 * width * inner)
    attention = 2 * length * length * width
    head = width**2 + width * classes
    assert cost.multiply_adds(classifier) == layers * (linear + attention) + head


def test_latency_times_the_classifiers_in_turn(classifier: TextClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[bool, int]] = []
    other = load_classifier(classifier.model.name_or_path)

    def timed(model: Any, encoding: dict[str, torch.Tensor]) -> float:
        order.append((model is other, len(encoding["input_ids"])))
        assert encoding["input_ids"].shape[1] == 20
        return float(len(order))

    monkeypatch.setattr(cost, "_timed", timed)
    found = cost.latency({"a": classifier, "b": other}, (1, 4), rounds=3, length=20)
    assert order == [(False, 1), (True, 1)] * 4 + [(False, 4), (True, 4)] * 4
    assert found["a"]["1"]["p50_ms"] == 5.0  # of calls 3, 5, 7: the first round is not counted
    assert set(found["b"]["4"]) == {"p50_ms", "p95_ms"}


def test_latency_is_measured(classifier: TextClassifier) -> None:
    found = cost.latency({"a": classifier}, (1,), rounds=3, length=8)
    assert 0 < found["a"]["1"]["p50_ms"] <= found["a"]["1"]["p95_ms"] < 1000


# benchmarks/boundary.py

@pytest.mark.parametrize(
    ("margin", "labels", "expected"),
    [([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1], 1.0), ([1.0, 2.0, 3.0, 4.0], [0, 0, 1, 1], 1.0),
     ([2.0, 1.0, -1.0, -2.0], [0, 0, 1, 1], 0.5), ([-2.0, -1.0, 1.0, 2.0], [0, 1, 0, 1], 0.75),
     ([1.0, 1.0, 1.0, 1.0], [0, 1, 0, 0], 0.75)],  # no boundary fits between items of one margin
)
def test_accuracy_at_the_best_boundary(margin: list[float], labels: list[int], expected: float) -> None:
    script = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks/boundary.py"))
    assert script["at_best"](numpy.array(margin), labels) == expected
