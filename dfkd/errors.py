"""Errors that a user can cause and mend."""

from __future__ import annotations

from contextlib import contextmanager
from difflib import get_close_matches
from typing import Iterable, Iterator, Sequence


class DfkdError(Exception):
    """Base of every error that dfkd raises on purpose; the command line prints it without a traceback."""


class ConfigError(DfkdError):
    """Something in the user's input is wrong; raised before any work starts.

    Args:
        problem: what is wrong, in one line.
        expected: what was expected; ``None`` leaves the line out.
        found: what was found instead; ``None`` leaves the line out.
        fix: what to do about it; ``None`` leaves the line out.
    """

    def __init__(
        self, problem: str, *, expected: object = None, found: object = None, fix: str | None = None
    ) -> None:
        self.problem = problem
        details = (("expected", expected), ("found", found), ("what to do", fix))
        lines = [problem] + [f"  {name}: {value}" for name, value in details if value is not None]
        super().__init__("\n".join(lines))

    @classmethod
    def joined(cls, problems: Sequence[ConfigError]) -> ConfigError:
        """One error that lists every problem; a single problem is returned as it is.

        Raises:
            ValueError: ``problems`` is empty.
        """
        if not problems:
            raise ValueError("joined() needs at least one problem")
        if len(problems) == 1:
            return problems[0]
        listed = "\n".join(f"{i}. {problem}" for i, problem in enumerate(problems, 1))
        return cls(f"{len(problems)} problems:\n{listed}")


@contextmanager
def noting(problems: list[ConfigError]) -> Iterator[None]:
    """Note the error of a check in the ``with`` block, so that the checks after it are made as well.

    Args:
        problems: where it is put; :func:`refuse` tells all of them.
    """
    try:
        yield
    except ConfigError as error:
        problems.append(error)


def refuse(problems: Iterable[ConfigError]) -> None:
    """Tell of all problems in one error, of equal ones once; without any nothing happens.

    Raises:
        ConfigError: there are some.
    """
    told = list({str(problem): problem for problem in problems}.values())
    if told:
        raise ConfigError.joined(told)


class DataFreeError(ConfigError):
    """Code asked for texts of the task that it has no right to see between teacher and finished student."""


class Busy(ConfigError):
    """Another process is working on the run."""


class TrainingDiverged(DfkdError):
    """The loss became NaN, infinite or far larger than before; the last good checkpoint is kept."""


class Alarmed(DfkdError):
    """An alarm about the pseudo samples rose where ``train.on_alarm=stop``; the last checkpoint is kept."""


def suggestion(name: str, valid: Iterable[str]) -> str:
    """A sentence that names the valid choices and, when one is close to ``name``, the one probably meant."""
    names = sorted(valid)
    close = get_close_matches(name, names, n=1)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{meant}valid: {', '.join(names) if names else 'none'}"
