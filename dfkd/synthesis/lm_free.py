"""What a frozen language model writes of its own accord, from its start token: no prompt, no steering."""

from __future__ import annotations

from dataclasses import dataclass

from dfkd.batch import PseudoBatch
from dfkd.synthesis import _language
from dfkd.synthesis._language import LanguageOptions
from dfkd.synthesis._writer import ANY, ContentGenerator, Draft, Writer, Written
from dfkd.synthesis.base import Context, Facts


@dataclass(frozen=True)
class Options(LanguageOptions):
    """Free texts; see :class:`~dfkd.synthesis._language.LanguageOptions`."""


class LmFree(Written):
    """Texts from the start token.

    Args:
        source: the language model.
        writer: writes with it.

    Source: the ablation of Ma et al., IJCAI 2022 (PromptDFD, arXiv:2205.07523), without a prompt.
    """

    def __init__(self, source: ContentGenerator, writer: Writer) -> None:
        self.source, self.writer = source, writer

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` texts."""
        start = Draft(tuple(self.source.start))
        return self.writer.write([ANY] * n, lambda labels: [start] * len(labels))[0]


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: the language model or its engine is missing, or the data set has pairs of texts.
    """
    _language.check(options, facts)


def build(options: Options, context: Context) -> LmFree:
    """Load the language model.

    Raises:
        ConfigError: as :func:`check`.
    """
    source = _language.content_generator(options, context)
    return LmFree(source, Writer(source, options.filters(), context.generator))
