"""One classifier out of several that were fine-tuned from the same weights: the mean of their weights.

Source: Wortsman et al., "Model soups", ICML 2022 (arXiv:2203.05482), section 2, the uniform soup: as a rule better than
its parts on the whole, at the cost of one model. All weights, the head's as well, are to have begun alike.
"""

from __future__ import annotations

from typing import Any, Sequence

import torch
from torch import Tensor

from dfkd.errors import ConfigError
from dfkd.models import preflight, sources
from dfkd.models.classifier import TextClassifier, class_names, load_classifier, load_tokenizer

ALIKE = 0.5  # cosine: weights fine-tuned from the same ones have 0.9 and more, those of two fresh heads about 0
NAMED = 4  # of them, in a warning
FIX = "give teachers trained from one and the same model: 'dfkd teacher' with other seeds or rates, and one init_seed"


def check(references: Sequence[str], labels: Sequence[str], trust_remote_code: bool = False) -> None:
    """Whether the weights of classifiers can be averaged, before they are read.

    Args:
        references: folders or hub names, two or more.
        labels: the data set's class names; the classifiers have them in this order.
        trust_remote_code: let a hub model run its own code.

    Raises:
        ConfigError: one is no finished classifier, has other classes, or another architecture or vocabulary.
    """
    first: tuple[dict[str, Any], dict[str, int]] | None = None
    for reference in references:
        config = sources.load_config(reference, trust_remote_code)
        preflight.check_finished(config, f"'{reference}'", FIX)
        preflight.class_order(class_names(config), labels, None)
        own = _shape(config), load_tokenizer(reference, trust_remote_code).get_vocab()
        first = first or own
        for what, there, here in zip(("another architecture", "another vocabulary"), first, own):
            if there != here:
                differing = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))[:4]
                raise ConfigError(f"'{reference}' has {what} than '{references[0]}'", found=differing, fix=FIX)


def _shape(config: Any) -> dict[str, Any]:
    """What a configuration says of the weights' shapes and use."""
    ignored = ("_name_or_path", "transformers_version", "dtype", "id2label", "label2id", "problem_type")
    return {name: value for name, value in config.to_dict().items() if name not in ignored}


def averaged(references: Sequence[str], trust_remote_code: bool = False) -> tuple[TextClassifier, str | None]:
    """The classifier with the mean of all weights, on the CPU, in float32; the first one's tokenizer.

    Args:
        references: as :func:`check` has passed them.
        trust_remote_code: let a hub model run its own code.

    Returns:
        The classifier, and a warning, for people, where weights did not begin alike.
    """
    apart: list[str] = []
    mean = load_classifier(references[0], trust_remote_code=trust_remote_code)
    own = mean.model.state_dict()
    sums = {name: weights.to(torch.float64) for name, weights in own.items() if weights.is_floating_point()}
    for reference in references[1:]:
        weights = load_classifier(reference, trust_remote_code=trust_remote_code).model.state_dict()
        apart += [f"{name} of '{reference}'" for name in sums if not _alike(own[name], weights[name])]
        for name in sums:
            sums[name] += weights[name]
    mean.model.load_state_dict({**own, **{name: (total / len(references)).float() for name, total in sums.items()}})
    return mean, _warning(apart, references[0]) if apart else None


def _warning(apart: Sequence[str], first: str) -> str:
    more = f" and {len(apart) - NAMED} more" if len(apart) > NAMED else ""
    return (
        f"{', '.join(apart[:NAMED])}{more} did not begin as in '{first}' (cosine below {ALIKE}): their mean is small, "
        "and the soup the less sure. Train the parts of a soup from one model and with the same init_seed"
    )


def _alike(first: Tensor, second: Tensor) -> bool:
    """Whether two matrices point the same way; vectors, which may begin at zero, pass, and so do equal weights."""
    if first.dim() < 2 or torch.equal(first, second):
        return True
    return float(torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)) >= ALIKE
