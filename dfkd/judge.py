"""``judge=FOLDER``: held-out samples out of a pool that many runs share, in place of each strategy's own.

Samples that a strategy makes for itself are as easy as its options make them; agreement on them does not tell one
strategy from another, nor one option's value from another. On a common pool it does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Mapping

import torch

from dfkd import text_pool
from dfkd.config import RunConfig
from dfkd.errors import ConfigError
from dfkd.pool import Pool
from dfkd.synthesis.base import Facts


def folder(config: RunConfig) -> Path | None:
    """The pool that a run names as its judge; ``None`` without one."""
    return None if config.judge is None else Path(config.judge).expanduser()


def check(config: RunConfig, facts: Facts) -> None:
    """Whether a run's judge, if it has one, is for its task and teacher, large enough, and not what it trains on.

    Args:
        config: of the run.
        facts: of the run.

    Raises:
        ConfigError: it is not.
    """
    place = folder(config)
    if place is None:
        return
    text_pool.check_fits(place, facts.teacher_sha256, facts.labels, facts.max_length, facts.pair, facts.task)
    made, wanted = text_pool.finished_facts(place), config.train.heldout
    if not 1 <= wanted <= made["samples"]:
        fix = f"set train.heldout={made['samples']} or less, or add to the pool: dfkd synthesize ... samples={wanted}"
        problem = f"train.heldout does not fit the judge '{place}'"
        raise ConfigError(problem, expected=f"1 to {made['samples']} samples", found=wanted, fix=fix)
    recipe = _recipe(made["config"])
    if recipe in {(config.strategy.name, config.seed), *_pools_used(config.strategy.options)}:
        raise ConfigError(
            f"the judge '{place}' was made as the training samples are: the student would learn its very texts",
            expected="another strategy or another seed", found=f"strategy={recipe[0]}, seed={recipe[1]} for both",
            fix="make the judge with a seed of its own: dfkd synthesize ... seed=1000",
        )


def fingerprint(config: RunConfig) -> str | None:
    """What tells a run's judge from another in the same folder; ``None`` without one.

    Raises:
        ConfigError: there is no finished pool.
    """
    place = folder(config)
    return None if place is None else text_pool.fingerprint(place)


def samples(config: RunConfig) -> Pool | None:
    """The stored samples of a run's judge; ``None`` without one."""
    place = folder(config)
    if place is None:
        return None
    pool = text_pool.samples_of(place)
    pool.adopt(text_pool.finished_facts(place)["files"])
    return pool


def largest_class(config: RunConfig) -> tuple[float, str]:
    """The largest share of one class in what the teacher says of a run's judge, and the class's name.

    Raises:
        ValueError: the run has no judge.
    """
    pool = samples(config)
    if pool is None:
        raise ValueError("the run has no judge")
    classes = pool.take(range(config.train.heldout))[1].argmax(dim=1)
    counts = torch.bincount(classes, minlength=len(config.data.labels))
    return int(counts.max()) / int(counts.sum()), config.data.labels[int(counts.argmax())]


def _recipe(config: Mapping[str, Any]) -> tuple[str, int]:
    """Strategy and seed: what samples come out the same with."""
    return config["strategy"]["name"], config["seed"]


def _pools_used(options: Any) -> Iterator[tuple[str, int]]:
    """The recipes of the pools that a strategy's options name, those of a mixture's parts included."""
    if isinstance(options, Mapping):
        for key, value in options.items():
            facts = text_pool.read_facts(Path(value).expanduser()) if key == "folder" and value else None
            yield from [_recipe(facts["config"])] if facts else _pools_used(value)
    elif isinstance(options, (list, tuple)):
        for value in options:
            yield from _pools_used(value)
