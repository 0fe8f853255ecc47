"""The token bridge: embeddings of a strategy replaced by their nearest tokens, so that any student can read them.

Shapes: B samples, L positions, D embedding width.
"""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch
from dfkd.errors import ConfigError
from dfkd.losses import prediction_gap
from dfkd.models.decode import NearestTokens, without_ends
from dfkd.models.scale import Scale
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import MoveOptions
from dfkd.synthesis.base import Synthesizer, learns_from_student

COMPARED = 16


class Snapped:
    """Hands on a strategy's samples as texts.

    What the teacher loses in between is logged with each batch: ``snap_agreement`` and ``snap_kl`` between its
    predictions on the embeddings and on the texts, for the first samples; those queries count as ``diagnostics``.
    Norm, moments and diversity of the embeddings, which nothing further on sees, are logged as well (see ``Scale``).

    Args:
        inner: makes embeddings.
        teacher: frozen; its embedding table gives the tokens.

    Source: the papers decode samples only to look at them; distilling on them is ours.
    """

    def __init__(self, inner: Synthesizer, teacher: Teacher) -> None:
        self.inner, self.teacher = inner, teacher
        self.nearest = NearestTokens(teacher.classifier, only_pieces=True)
        self.scale = Scale(teacher.classifier)

    @property
    def learns_from_student(self) -> bool:
        """Whether the strategy does."""
        return learns_from_student(self.inner)

    def synthesize(self, n: int) -> PseudoBatch:
        """``n`` texts, without the special tokens that the embeddings begin and end with."""
        batch = self.inner.synthesize(n)
        assert batch.embeddings is not None and batch.attention_mask is not None
        texts = tuple(self.nearest.texts(batch.embeddings, without_ends(batch.attention_mask)))
        info = {**batch.info, **self.scale.measure(batch.embeddings, batch.attention_mask), **self._gap(batch, texts)}
        return PseudoBatch(texts=texts, targets=batch.targets, info=info)

    def _gap(self, batch: PseudoBatch, texts: tuple[str, ...]) -> dict[str, float]:
        assert batch.embeddings is not None and batch.attention_mask is not None
        with self.teacher.counting_as("diagnostics"):
            snapped = self.teacher.from_texts(texts[:COMPARED])
            first = PseudoBatch(
                embeddings=batch.embeddings[:COMPARED], attention_mask=batch.attention_mask[:COMPARED]
            )
            same, kl = prediction_gap(self.teacher.label(first), snapped)
        return {"snap_agreement": same, "snap_kl": kl}

    def observe(self, feedback: Feedback) -> None:
        """Handed on."""
        self.inner.observe(feedback)

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """Those of the strategy, on the teacher's own embeddings of the texts."""
        assert batch.texts is not None
        encoding = self.teacher.classifier.encode(batch.texts)
        embedded = PseudoBatch(
            embeddings=self.teacher.embed(encoding["input_ids"]), attention_mask=encoding["attention_mask"],
            targets=batch.targets,
        )
        return self.inner.student_losses(student, embedded)

    def parameters(self) -> Iterable[nn.Parameter]:
        """Those of the strategy."""
        return self.inner.parameters()

    def state_dict(self) -> dict[str, Any]:
        """That of the strategy; the bridge itself has none."""
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.inner.load_state_dict(state)


def shares_embeddings(student: Any, teacher: Teacher) -> bool:
    """Whether the student reads the teacher's embeddings: its embedding block is a copy of the teacher's."""
    own, theirs = student.embedding_block.state_dict(), teacher.classifier.embedding_block.state_dict()
    same_names = own.keys() == theirs.keys()
    return same_names and all(own[k].shape == theirs[k].shape and bool((own[k] == theirs[k]).all()) for k in own)


def require_shared_embeddings(student: Any, teacher: Teacher, options: MoveOptions) -> None:
    """Refuse the adversary and L_MASK on a student that cannot read the teacher's embeddings, as ``snap`` allows.

    Its embedding block must stay the teacher's: trained on texts, the layers above it would read another language.

    Raises:
        ConfigError: says which options to switch off.
    """
    if not options.asked:
        return
    trained = any(parameter.requires_grad for parameter in student.embedding_parameters())
    if trained or not shares_embeddings(student, teacher):
        raise ConfigError(
            "the student cannot read the teacher's embeddings, for the adversary or L_MASK",
            expected="a student on the teacher's embedding block, frozen; or no adversary and no L_MASK",
            found="its embedding block is trained" if trained else "an embedding block of its own",
            fix="add student.freeze_embeddings=true, where it is the teacher's; or "
            + " ".join(f"strategy.{name}=0" for name in options.asked),
        )
