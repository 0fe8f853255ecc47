"""Instructions that ask a frozen language model for a text of a class, in quotes; labelled by teacher or prompt.

Shapes: B texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, Mapping, Sequence

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.synthesis import _language
from dfkd.synthesis._classes import even_classes
from dfkd.synthesis._language import LanguageOptions
from dfkd.synthesis._templates import fields
from dfkd.synthesis._writer import ContentGenerator, Draft, Writer, Written, one_hot, one_line
from dfkd.synthesis.base import Context, Facts

DEFAULT = 'The {domain} about {describe} is: "'
FIELDS = ("domain", "describe", "label", "subject")
QUOTE = '"'
SUBJECT_TOKENS = 12


@dataclass(frozen=True)
class Options(LanguageOptions):
    """Class-conditional instructions.

    Args:
        template: the instruction, with {domain}, {describe}, {label} and {subject} where the data config's words
            go. Where it ends in a double quote, texts end before the next one, and those without one are dropped.
            Empty: the data config's prompts.templates, else 'The {domain} about {describe} is: "'.
        label: what the student learns of a text: the prediction of the teacher, or the class of the prompt, for
            which the teacher is not asked.
        smoothing: with label=prompt, the probability shared out to all classes alike.
    """

    template: str = ""
    label: Literal["teacher", "prompt"] = "teacher"
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.smoothing < 1, "strategy.smoothing", "in (0, 1)", self.smoothing)

    @property
    def labels_itself(self) -> bool:
        """Whether texts come with labels that are not the teacher's."""
        return self.label == "prompt"


@dataclass(frozen=True)
class Instructions:
    """What to ask for.

    Args:
        texts: C instructions; ``{subject}`` is left in where it stands.
        subject: prompt whose continuation up to a double quote names what a text is about; empty: none is needed.
    """

    texts: tuple[str, ...]
    subject: str = ""

    @property
    def closing(self) -> str:
        """What ends a text: a double quote where all instructions open one, else nothing."""
        return QUOTE if all(text.endswith(QUOTE) for text in self.texts) else ""


class ClassPrompt(Written):
    """Asks for texts, evenly over the classes.

    Args:
        source: the language model; its engine stops at the closing quote.
        writer: writes with it.
        instructions: what to ask for.
        smoothing: of the labels by prompt; ``None``: the teacher labels.
        generator: CPU generator.

    Source: Ye et al., EMNLP 2022 (ZeroGen, arXiv:2202.07922), section 3.1, and Gao et al., ICLR 2023 (SunGen,
    arXiv:2205.12679), which label by prompt; the instructions for our data sets are near theirs where they have the
    set. Label smoothing is ours (the loss is a divergence, which one-hot labels make infinite).
    """

    def __init__(
        self, source: ContentGenerator, writer: Writer, instructions: Instructions, smoothing: float | None,
        generator: torch.Generator,
    ) -> None:
        self.source, self.writer, self.instructions = source, writer, instructions
        self.smoothing, self.generator = smoothing, generator

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` texts."""
        classes = len(self.instructions.texts)
        batch, drafts = self.writer.write(even_classes(n, classes, self.generator), self._drafts)
        targets = one_hot(drafts, classes)
        logits = None if self.smoothing is None else smoothed(targets, self.smoothing).log()
        return replace(batch, targets=targets, label_logits=logits)

    def _drafts(self, labels: list[int]) -> list[Draft]:
        texts = self.instructions.texts
        return [
            self.source.draft(texts[label].replace("{subject}", subject), label)
            for label, subject in zip(labels, self._subjects(len(labels)))
        ]

    def _subjects(self, n: int) -> list[str]:
        """What the texts shall be about, as the language model names it."""
        if not self.instructions.subject:
            return [""] * n
        prompt = self.source.draft(self.instructions.subject).tokens
        naming = replace(self.source.sampling, min_new_tokens=0, max_new_tokens=SUBJECT_TOKENS)
        drawn = self.source.engine.generate([prompt] * n, self.writer.seeds(n), naming)
        return [one_line(subject.text.partition(QUOTE)[0]) for subject in drawn]


def smoothed(targets: Tensor, smoothing: float) -> Tensor:
    """Distributions (B, C) with the share ``smoothing`` spread evenly over all classes."""
    return (1 - smoothing) * targets + smoothing / targets.shape[1]


def instructions(template: str, prompts: Mapping[str, Any], labels: Sequence[str]) -> Instructions:
    """The instruction of each class.

    Args:
        template: see :class:`Options`.
        prompts: the data config's words.
        labels: C class names.

    Raises:
        ConfigError: the template, or a word that it asks for, is missing or unknown.
    """
    own = {} if template else prompts.get("templates") or {}
    templates = {label: str(own.get(label) or template or DEFAULT) for label in labels}
    problems = [problem for label in labels for problem in _missing(templates[label], prompts, label)]
    if problems:
        raise ConfigError("the instructions cannot be written", found="; ".join(dict.fromkeys(problems)),
                          fix="add them to the data config's prompts, or set strategy.template=...")
    texts = tuple(_filled(templates[label], prompts, label) for label in labels)
    asks = any("{subject}" in text for text in texts)
    return Instructions(texts, str(prompts["subject"]) if asks else "")


def _missing(template: str, prompts: Mapping[str, Any], label: str) -> list[str]:
    """What a template asks for and the data config does not say."""
    try:
        asked = fields(template)
    except ValueError as error:
        return [f"the template {template!r}: {error}"]
    unknown = [f"the template has {{{name}}}, not one of {', '.join(FIELDS)}" for name in asked - set(FIELDS)]
    words = {"domain": prompts.get("domain"), "subject": prompts.get("subject"), "label": label,
             "describe": (prompts.get("describe") or {}).get(label)}
    where = {"describe": f"describe.{label}"}
    lacking = sorted(name for name in asked & set(FIELDS) if not words[name])
    return unknown + [f"data.prompts.{where.get(name, name)} is missing" for name in lacking]


def _filled(template: str, prompts: Mapping[str, Any], label: str) -> str:
    describe = (prompts.get("describe") or {}).get(label, "")
    return template.format(domain=prompts.get("domain", ""), describe=describe, label=label, subject="{subject}")


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: the data config lacks words for the instructions, the language model or its engine is missing,
            or the data set has pairs of texts.
    """
    instructions(options.template, facts.prompts, facts.labels)
    _language.check(options, facts)


def build(options: Options, context: Context) -> ClassPrompt:
    """Load the language model.

    Raises:
        ConfigError: as :func:`check`.
    """
    wanted = instructions(options.template, context.prompts, context.teacher.labels)
    source = _language.content_generator(options, context, stop=wanted.closing)
    writer = Writer(source, options.filters(), context.generator, closing=wanted.closing)
    smoothing = options.smoothing if options.label == "prompt" else None
    return ClassPrompt(source, writer, wanted, smoothing, context.generator)
