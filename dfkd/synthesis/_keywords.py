"""Words that make the teacher see a class, found without data: embeddings inverted, decoded, and asked about.

Shapes: B samples, L positions, D embedding width, C classes, V vocabulary entries, M candidate words, K contexts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple, Sequence

import torch
from torch import Tensor

from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.losses import soft_cross_entropy
from dfkd.models.decode import NearestTokens, whole_word_pieces
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, GuessOptions
from dfkd.synthesis._words import whole_words

ASKED_AT_ONCE = 256
CONTEXT_WORDS = 8


@dataclass(frozen=True)
class KeywordOptions:
    """How keywords are found.

    Args:
        keywords: words kept for each class.
        candidates: decoded words that the teacher is asked about, for each class.
        inversions: rounds of embeddings inverted for each class, of 64 samples each; 0: the candidates are the
            vocabulary's first whole words instead.
        invert_steps: gradient steps of an inversion.
        invert_rate: its learning rate, as a multiple of the embeddings' deviation.
        contexts: random texts in which a candidate is asked about, beside the word alone; 0: alone only.
        common: keep words among the vocabulary's first so many alone, which a language model knows as well.
    """

    keywords: int = 60
    candidates: int = 200
    inversions: int = 2
    invert_steps: int = 10
    invert_rate: float = 1.0
    contexts: int = 4
    common: int = 10_000

    def __post_init__(self) -> None:
        for name in ("keywords", "candidates", "invert_steps", "common"):
            require(getattr(self, name) >= 1, f"strategy.{name}", "1 or more", getattr(self, name))
        for name in ("inversions", "contexts"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))
        require(self.invert_rate > 0, "strategy.invert_rate", "above 0", self.invert_rate)
        enough = self.candidates >= self.keywords
        require(enough, "strategy.candidates", f"{self.keywords} or more: those are kept", self.candidates)


class Keyword(NamedTuple):
    """A word, and by how much more it speaks for its class than others do, in log-odds of the teacher."""

    word: str
    score: float


def find_keywords(teacher: Teacher, options: KeywordOptions, generator: torch.Generator) -> list[list[Keyword]]:
    """The best words of each class, best first; no word stands for two classes.

    Args:
        teacher: frozen; each sequence is a query, those inverted are differentiated as well.
        options: how.
        generator: CPU generator.

    Returns:
        C lists of at most ``options.keywords`` words, all of which speak for their class.

    Raises:
        ConfigError: no word speaks for some class.
    """
    words = whole_words(teacher.tokenizer, options.common)
    candidates = words[: options.candidates * len(teacher.labels)]
    if options.inversions > 0:
        decoded = [decoded_words(teacher, index, words, options, generator) for index in range(len(teacher.labels))]
        candidates = sorted({word for of_class in decoded for word in of_class})
    if not candidates:
        fix = "raise strategy.invert_rate, strategy.invert_steps or strategy.common; or strategy.inversions=0"
        raise ConfigError("the inverted embeddings decode to no whole word", fix=fix)
    scores = word_scores(teacher, candidates, words, options.contexts, generator)
    best = scores.argmax(dim=1)
    found = []
    for index in range(len(teacher.labels)):
        own = scores[:, index].masked_fill(best != index, 0.0)
        order = own.argsort(descending=True, stable=True)[: options.keywords].tolist()
        found.append([Keyword(candidates[place], float(own[place])) for place in order if own[place] > 0])
    missing = [label for label, keywords in zip(teacher.labels, found) if not keywords]
    if missing:
        fix = "raise strategy.candidates, strategy.inversions or strategy.invert_steps; or strategy.inversions=0"
        raise ConfigError(f"no word makes the teacher see {', '.join(missing)}", fix=fix)
    return found


def decoded_words(
    teacher: Teacher, label: int, words: Sequence[str], options: KeywordOptions, generator: torch.Generator
) -> list[str]:
    """The words that inverted embeddings of a class decode to most often.

    Each round starts from random tokens, of which a few positions are moved until the teacher sees the class. A moved
    position counts for its nearest token, where that is another one than it began with.

    Args:
        teacher: frozen.
        label: index of the class.
        words: whole words that may be taken.
        options: how.
        generator: CPU generator.

    Source: the decoding of AS-DFD's samples (Ma et al., EMNLP 2020, section 4), which shows keywords of the task;
    to count them is ours.
    """
    wanted = GuessOptions(
        start="tokens", targets="hard", guess_steps=options.invert_steps, guess_rate=options.invert_rate,
        guess_share=0.3, min_length=8, max_length=24,
    )
    guesser, nearest = Guesser(teacher, wanted, generator), NearestTokens(teacher.classifier, only_pieces=True)
    spelt, known = {index: word for word, index in whole_word_pieces(teacher.tokenizer)}, set(words)
    counts: Counter[str] = Counter()
    for _ in range(options.inversions):
        start = guesser.start(64)
        targets = torch.eye(len(teacher.labels), device=teacher.device)[[label] * 64]

        def objective(embeddings: Tensor) -> Tensor:
            logits = teacher.from_embeddings(embeddings, start.attention_mask).logits
            return soft_cross_entropy(logits, targets) * len(targets)

        embeddings, _ = guesser.move(start, objective)
        before, after = nearest.ids(start.embeddings), nearest.ids(embeddings)
        moved = start.movable & (before != after)
        counts.update(word for word in map(spelt.get, after[moved].tolist()) if word in known)
    return sorted(counts, key=lambda word: (-counts[word], word))[: options.candidates]


def word_scores(
    teacher: Teacher, candidates: Sequence[str], words: Sequence[str], contexts: int, generator: torch.Generator
) -> Tensor:
    """By how much more each candidate speaks for each class than the candidates do on average: (M, C).

    The measure is the teacher's log-odds of the class, log p / (1 - p): where a class is seen in any text that says
    nothing, all its probabilities are near 1, and only the odds tell its words apart. Half of the score comes from the
    word alone, half from the word put into K random contexts.

    Args:
        teacher: asked about M (K + 1) texts.
        candidates: M words.
        words: what contexts are made of.
        contexts: K; 0: the word alone counts.
        generator: CPU generator.
    """
    odds = _log_odds(teacher, candidates)
    if contexts > 0:
        drawn = torch.randint(len(words), (contexts, CONTEXT_WORDS), generator=generator).tolist()
        around = [[words[index] for index in row] for row in drawn]
        places = torch.randint(CONTEXT_WORDS + 1, (contexts,), generator=generator).tolist()
        texts = [
            " ".join([*context[:at], word, *context[at:]]) for word in candidates
            for context, at in zip(around, places)
        ]
        odds = (odds + _log_odds(teacher, texts).view(len(candidates), contexts, -1).mean(dim=1)) / 2
    return odds - odds.mean(dim=0)


def _log_odds(teacher: Teacher, texts: Sequence[str]) -> Tensor:
    """The log-odds of each class for some texts, (B, C), on the CPU."""
    parts = [texts[start : start + ASKED_AT_ONCE] for start in range(0, len(texts), ASKED_AT_ONCE)]
    logits = torch.cat([teacher.from_texts(part).float() for part in parts]).cpu()
    # log p / (1 - p), without going through probabilities, which round to 1
    return torch.stack([logits[:, c] - _others(logits, c).logsumexp(dim=1) for c in range(logits.shape[1])], dim=1)


def _others(logits: Tensor, index: int) -> Tensor:
    return torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
