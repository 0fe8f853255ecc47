"""Attacks in numbers."""

from __future__ import annotations

from typing import Sequence

from dfkd.robustness.base import Perturbed


def measures(made: Sequence[Perturbed]) -> dict[str, float | int | None]:
    """What an attack did to its own victim.

    Args:
        made: of all items, those that were misclassified from the beginning too; at least one.

    Returns:
        ``items`` and ``attacked``, their numbers; ``accuracy`` before, ``accuracy_under_attack``; ``success_rate``,
        the share of those attacked that flipped; ``words_changed``, the mean share of words changed where it flipped;
        ``queries``, the mean for each text attacked. ``None`` where there is nothing to take a mean of.
    """
    attacked = [one for one in made if one.attacked]
    flipped = [one for one in attacked if one.succeeded]
    return {
        "items": len(made), "attacked": len(attacked),
        "accuracy": len(attacked) / len(made),
        "accuracy_under_attack": (len(attacked) - len(flipped)) / len(made),
        "success_rate": mean([one.succeeded for one in attacked]),
        "words_changed": mean([len(one.changed) / one.words for one in flipped]),
        "queries": mean([one.queries for one in attacked]),
    }


def transfer(made: Sequence[Perturbed], before: Sequence[int], after: Sequence[int]) -> dict[str, float | int | None]:
    """What texts made against one classifier do to another.

    Args:
        made: of all items.
        before: the other's predicted classes for the originals.
        after: the other's predicted classes for the perturbed texts.

    Returns:
        The other's ``accuracy`` on the perturbed texts of all items; ``flips``, the number of texts that flipped their
        own victim and that the other had right before; ``success_rate``, the share of these that it now gets wrong.
    """
    open_ends = [i for i, one in enumerate(made) if one.succeeded and before[i] == one.label]
    return {
        "accuracy": mean([now == one.label for now, one in zip(after, made)]),
        "flips": len(open_ends),
        "success_rate": mean([after[i] != made[i].label for i in open_ends]),
    }


def mean(values: Sequence[float]) -> float | None:
    """The mean; ``None`` of nothing."""
    return sum(values) / len(values) if values else None
