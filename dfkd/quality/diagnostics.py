"""What pseudo samples look like while a student learns from them: confidence, balance, scale, diversity.

Shapes: B samples, C classes.
"""

from __future__ import annotations

import math
from typing import Sequence

from torch import Tensor

from dfkd.batch import Feedback, PseudoBatch, Text
from dfkd.losses import entropy, prediction_gap
from dfkd.models.decode import NearestTokens, without_ends
from dfkd.models.scale import Scale
from dfkd.models.teacher import Teacher

BRIDGED = 16


class Diagnostics:
    """Measures the batch of a student step.

    Args:
        teacher: its embedding block is the yardstick of injected embeddings; asked only in :meth:`token_bridge`.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._nearest: NearestTokens | None = None
        self.scale = Scale(teacher.classifier)

    def measure(self, feedback: Feedback) -> dict[str, float]:
        """Facts of one step, by name.

        Returns:
            ``teacher_confidence``: mean probability of the teacher's class; ``class_entropy``: entropy of the
            teacher's mean prediction, as a share of its maximum log C. For embeddings also what
            :meth:`dfkd.models.scale.Scale.measure` gives; snapped ones bring that along. For texts also
            ``distinct_words`` and ``distinct_2``: different words and pairs of neighbouring words as a share of all;
            ``over_length``: share of texts that the teacher sees cut; ``empty``: share of texts without a word.
        """
        probabilities = feedback.teacher_logits.float().softmax(dim=1)
        facts = {
            "teacher_confidence": float(probabilities.max(dim=1).values.mean()),
            "class_entropy": normalised_entropy(probabilities.mean(dim=0)),
        }
        batch = feedback.batch
        if batch.embeddings is not None:
            assert batch.attention_mask is not None
            return {**facts, **self.scale.measure(batch.embeddings, batch.attention_mask)}
        texts = batch.texts or ()
        facts |= {"distinct_words": distinct_words(texts), "distinct_2": distinct_pairs(texts)}
        return {**facts, "over_length": self._over_length(texts), "empty": empty_share(texts)}

    def _over_length(self, texts: Sequence[Text]) -> float:
        """Share of texts with more tokens than the teacher reads."""
        first: list[str] = [text if isinstance(text, str) else text[0] for text in texts]
        second = None if isinstance(texts[0], str) else [text[1] for text in texts]
        ids = self.teacher.tokenizer(first, second, truncation=False, verbose=False)["input_ids"]
        return sum(len(row) > self.teacher.max_length for row in ids) / len(texts)

    def token_bridge(self, feedback: Feedback) -> dict[str, float]:
        """How far the teacher's predictions move when embeddings are replaced by their nearest tokens.

        Looks at the first samples of the batch only; the teacher's queries count as ``diagnostics``.

        Returns:
            ``snap_agreement``: share of samples whose class stays; ``snap_kl``: mean KL(embeddings || tokens), nats.
            Nothing for texts.
        """
        batch = feedback.batch
        if batch.embeddings is None or batch.attention_mask is None:
            return {}
        texts = self.texts(batch)[:BRIDGED]
        with self.teacher.counting_as("diagnostics"):
            snapped = self.teacher.from_texts(texts).float()
        same, kl = prediction_gap(feedback.teacher_logits[:BRIDGED], snapped)
        return {"snap_agreement": same, "snap_kl": kl}

    def texts(self, batch: PseudoBatch) -> list[str]:
        """The first samples as text: texts as they are, embeddings as their nearest tokens."""
        if batch.texts is not None:
            return [text if isinstance(text, str) else " | ".join(text) for text in batch.texts[:BRIDGED]]
        assert batch.embeddings is not None and batch.attention_mask is not None
        if self._nearest is None:
            self._nearest = NearestTokens(self.teacher.classifier, only_pieces=True)
        return self._nearest.texts(batch.embeddings[:BRIDGED], without_ends(batch.attention_mask[:BRIDGED]))


def normalised_entropy(probabilities: Tensor) -> float:
    """Entropy of a distribution (C,), as a share of its maximum log C: 1 is even, 0 is one class alone."""
    return float(entropy(probabilities)) / math.log(len(probabilities))


def distinct_words(texts: Sequence[Text]) -> float:
    """Different words as a share of all words of some texts; 0 where there is none."""
    words = [word for text in texts for word in words_of(text)]
    return len(set(words)) / len(words) if words else 0.0


def distinct_pairs(texts: Sequence[Text]) -> float:
    """Different pairs of neighbouring words as a share of all; 1 where there is none, as nothing repeats there.

    Source: distinct-2 of Li et al., NAACL 2016 (arXiv:1510.03055), there a share of all words.
    """
    pairs = [pair for text in texts for pair in zip(words_of(text), words_of(text)[1:])]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def empty_share(texts: Sequence[Text]) -> float:
    """The share of texts without a word."""
    return sum(not words_of(text) for text in texts) / len(texts)


def words_of(text: Text) -> list[str]:
    """The words of a text, or of both texts of a pair."""
    return (text if isinstance(text, str) else " ".join(text)).split()
