"""Keywords that the teacher itself gives away, as topics for a frozen language model; no reinforcement.

Shapes: B texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models.split import SUPPORTED
from dfkd.models.teacher import Teacher
from dfkd.synthesis import _language
from dfkd.synthesis._keywords import Keyword, KeywordOptions, find_keywords
from dfkd.synthesis._language import PromptedOptions
from dfkd.synthesis._templates import domain_of, places
from dfkd.synthesis._words import draw_length
from dfkd.synthesis._writer import ContentGenerator, Draft, Writer, Written
from dfkd.synthesis.base import Context, Facts

MEMORY = 0.9  # of the running mean of the teacher's predictions, a batch


@dataclass(frozen=True)
class Options(PromptedOptions, KeywordOptions):
    """Keywords and what becomes of them; see ``KeywordOptions`` for how they are found.

    Args:
        templates: prompts, with {keywords} (needed) and {domain} (prompts.domain).
        most: most keywords in a prompt; how many is drawn evenly from 1 on.
        mix: probability that a keyword after the first is one of another class.
        balance: classes that the teacher saw seldom of late are asked for more often; 0: all alike.
    """

    templates: list[str] = field(default_factory=lambda: ["{keywords}:"])
    most: int = 3
    mix: float = 0.2
    balance: float = 1.0

    def __post_init__(self) -> None:
        PromptedOptions.__post_init__(self)
        KeywordOptions.__post_init__(self)
        require(bool(self.templates), "strategy.templates", "one template or more", self.templates)
        for template in self.templates:
            found = places(template)
            fits = "keywords" in found and found <= {"keywords", "domain"}
            require(fits, "strategy.templates", "templates with {keywords}, and {domain} at will", template)
        require(self.most >= 1, "strategy.most", "1 or more", self.most)
        require(0 <= self.mix <= 1, "strategy.mix", "a probability", self.mix)
        require(self.balance >= 0, "strategy.balance", "0 or more", self.balance)


class KeywordPrompt(Written):
    """Finds keywords of each class once, then writes texts from prompts that name a few of them.

    The teacher labels each batch here, so that its balance can be watched; ``targets`` say of which classes the
    prompt's keywords were.

    Args:
        teacher: frozen.
        source: the language model.
        writer: writes with it.
        domain: what a text is called.
        options: all switches.
        generator: CPU generator.

    Source: ours: the keywords that AS-DFD's samples decode to (Ma et al., EMNLP 2020) in the place of PromptDFD's
    learned topic prompts (Ma et al., IJCAI 2022).
    """

    def __init__(
        self, teacher: Teacher, source: ContentGenerator, writer: Writer, domain: str, options: Options,
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.source, self.writer, self.domain = teacher, source, writer, domain
        self.options, self.generator = options, generator
        self.keywords: list[list[Keyword]] = []
        self.seen = torch.full((len(teacher.labels),), 1 / len(teacher.labels))
        self.chosen: dict[str, list[int]] = {}

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` texts, labelled by the teacher."""
        self.prepare()
        self.chosen = {}
        batch, drafts = self.writer.write(self._classes(n), self._drafts)
        logits = self.teacher.label(batch).float()
        self.seen = MEMORY * self.seen + (1 - MEMORY) * logits.softmax(dim=1).mean(dim=0).cpu()
        targets = torch.stack([self._shares(draft.prompt) for draft in drafts])
        asked = (logits.argmax(dim=1).cpu() == torch.tensor([draft.label for draft in drafts])).float().mean()
        info = {**batch.info, "prompt_agreement": float(asked)}
        return replace(batch, targets=targets, teacher_logits=logits, info=info)

    def prepare(self) -> None:
        """Ask for the keywords, the first time; these queries are of the training, whoever asks first."""
        if not self.keywords:
            with self.teacher.counting_as("train"):
                self.keywords = find_keywords(self.teacher, self.options, self.generator)

    def _classes(self, n: int) -> list[int]:
        """``n`` classes to ask for, those more often that the teacher saw seldom of late."""
        weights = (self.seen * len(self.seen)).clamp_min(0.05) ** -self.options.balance
        return torch.multinomial(weights, n, replacement=True, generator=self.generator).tolist()

    def _drafts(self, labels: list[int]) -> list[Draft]:
        return [self.source.draft(self._prompt(label), label) for label in labels]

    def _prompt(self, label: int) -> str:
        """A template filled with keywords of a class, and now and then one of another."""
        classes = [label]
        for _ in range(draw_length(1, self.options.most, self.generator) - 1):
            other = float(torch.rand(1, generator=self.generator)) < self.options.mix
            classes.append((label + 1 + self._index(len(self.keywords) - 1)) % len(self.keywords) if other else label)
        # no word stands for two classes
        words = {self.keywords[index][self._index(len(self.keywords[index]))].word: index for index in classes}
        template = self.options.templates[self._index(len(self.options.templates))]
        prompt = template.format(keywords=", ".join(words), domain=self.domain)
        self.chosen[prompt] = list(words.values())
        return prompt

    def _index(self, size: int) -> int:
        return int(torch.randint(size, (1,), generator=self.generator))

    def _shares(self, prompt: str) -> Tensor:
        """The classes of a prompt's keywords as a distribution (C,)."""
        counts = torch.bincount(torch.tensor(self.chosen[prompt]), minlength=len(self.keywords))
        return counts / counts.sum()

    def notes(self) -> dict[str, Any]:
        """The keywords of each class with their scores, best first."""
        shown = [[[word, round(score, 4)] for word, score in of_class] for of_class in self.keywords]
        return {"keywords": dict(zip(self.teacher.labels, shown))}

    def state_dict(self) -> dict[str, Any]:
        """The keywords, the running mean of the predictions, and the writer's state with the generator's."""
        keywords = [[[word, score] for word, score in of_class] for of_class in self.keywords]
        return {"keywords": keywords, "seen": self.seen, "writer": self.writer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.keywords = [[Keyword(word, score) for word, score in of_class] for of_class in state["keywords"]]
        self.seen = state["seen"].clone()
        self.writer.load_state_dict(state["writer"])


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: the data config has no domain, the language model or its engine is missing, the data set has
            pairs of texts, or the teacher cannot be inverted.
    """
    if options.inversions > 0 and facts.teacher_type not in (None, *SUPPORTED):
        raise ConfigError(
            "embeddings cannot be inverted above this teacher's embedding block", fix="add strategy.inversions=0",
            expected=f"one of {', '.join(SUPPORTED)}", found=f"a '{facts.teacher_type}' teacher",
        )
    domain_of(options.templates, facts.prompts)
    _language.check(options, facts)


def build(options: Options, context: Context) -> KeywordPrompt:
    """Load the language model; the keywords are found when the first text is asked for.

    Raises:
        ConfigError: as :func:`check`.
    """
    domain = domain_of(options.templates, context.prompts)
    source = _language.content_generator(options, context)
    writer = Writer(source, options.filters(), context.generator, options.with_prompt)
    return KeywordPrompt(context.teacher, source, writer, domain, options, context.generator)
