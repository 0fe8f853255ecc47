"""Important words swapped for what a masked language model would write in their place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import torch
from transformers import AutoModelForMaskedLM

from dfkd.batch import Text
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.classifier import load_tokenizer
from dfkd.models.decode import whole_word_pieces
from dfkd.models.preflight import check_vocabulary
from dfkd.robustness._documents import is_content, like
from dfkd.robustness._search import Moves, Spot, search
from dfkd.robustness.base import Budget, Context, Perturbed, Victim

HEADS = ("ForMaskedLM", "ForPreTraining")
BATCH_SIZE = 16  # the logits of every position and vocabulary entry are in memory at once
FIX = "give one: masked.model=bert-base-uncased, or the folder of any masked language model of transformers"


@dataclass(frozen=True)
class Options(Budget):
    """Swaps by a masked language model.

    Args:
        model: the masked language model: a folder, ``package:DIST`` or hub name. There is no default.
        candidates: largest number of words tried in a place.
        probability: smallest probability that the model gives to a word tried.
        context: words on each side of the place that the model reads.
    """

    model: str = ""
    candidates: int = 15
    probability: float = 0.001
    context: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("candidates", "context"):
            require(getattr(self, name) >= 1, self.called(name), "1 or more", getattr(self, name))
        require(0 <= self.probability < 1, self.called("probability"), "in [0, 1)", self.probability)


class Masked:
    """BAE's replacement of words, in the order of BERT-Attack's importance.

    Args:
        model: a masked language model.
        tokenizer: its own.
        options: candidates and budget.
        seed: where a text has more words than can be ranked, of the choice among them.
        column: of pairs, which text is changed, and alone read by the masked language model.

    Source: Garg and Ramakrishnan, "BAE", EMNLP 2020 (arXiv:2004.01970), its R operation, there with a sentence encoder
    and part-of-speech tags as filters; the importance, a word replaced by a token without meaning, is that of Li et
    al., "BERT-ATTACK", EMNLP 2020 (arXiv:2004.09984), equation 1, with the victim's unknown token for its mask.
    Whole words alone are tried; BERT-ATTACK builds words of several pieces as well.
    """

    def __init__(self, model: Any, tokenizer: Any, options: Options, seed: int = 0, column: int = 0) -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.options, self.seed, self.column = options, seed, column
        pieces = [(word, index) for word, index in whole_word_pieces(tokenizer) if is_content(word)]
        self.words = [word for word, _ in pieces]
        self.ids = torch.tensor([index for _, index in pieces], device=model.device)

    def perturb(self, victim: Victim, texts: Sequence[Text], labels: Sequence[int]) -> list[Perturbed]:
        """Attack N texts with their true classes."""
        moves = Moves(is_content, victim.unknown, margin=False, propose=self.propose)
        return search(victim, texts, labels, moves, self.options, self.seed, self.column)

    def propose(self, spots: Sequence[Spot]) -> list[list[str]]:
        """For each spot the most probable words in its place, in its case, without the word itself."""
        found: list[list[str]] = []
        for start in range(0, len(spots), BATCH_SIZE):
            found += self._likely(spots[start : start + BATCH_SIZE])
        return found

    def _likely(self, spots: Sequence[Spot]) -> list[list[str]]:
        texts = [self._with_mask(spot) for spot in spots]
        longest = getattr(self.model.config, "max_position_embeddings", 512) - 2  # RoBERTa's positions begin at 2
        encoded = self.tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        encoded = encoded.to(self.model.device)
        masks = encoded["input_ids"] == self.tokenizer.mask_token_id
        with torch.inference_mode():
            logits = self.model(**encoded).logits
        found = []
        for spot, row, mask in zip(spots, logits, masks):
            at = mask.nonzero()  # none where the place was cut off
            found.append(self._best(spot.word, row[at[0, 0]].float().softmax(dim=-1)[self.ids]) if len(at) else [])
        return found

    def _with_mask(self, spot: Spot) -> str:
        before = min(spot.position, self.options.context)
        near = spot.current.around(spot.position, self.options.context)
        return near.replaced(before, self.tokenizer.mask_token).own

    def _best(self, word: str, probabilities: torch.Tensor) -> list[str]:
        """The most probable words for the place of ``word``; a cased vocabulary may have one several times."""
        best, rows = probabilities.topk(min(2 * self.options.candidates + 2, len(self.words)))
        likely = [self.words[row] for row, p in zip(rows.tolist(), best.tolist()) if p >= self.options.probability]
        others = [other for other in dict.fromkeys(likely) if other != word.lower()]
        return [like(word, other) for other in others[: self.options.candidates]]


def check(options: Options) -> None:
    """Whether the masked language model is given, is one, and has a mask token.

    Raises:
        ConfigError: it has not.
    """
    if not options.model:
        raise ConfigError("the attack 'masked' needs a masked language model", found="no masked.model", fix=FIX)
    config = sources.load_config(options.model)
    architectures = config.architectures or []
    if not any(name.endswith(HEADS) for name in architectures):
        # transformers would load it, with a head of random weights
        found = ", ".join(architectures) or "no architecture in its config.json"
        problem = f"'{options.model}' is no masked language model"
        raise ConfigError(problem, expected="a ...ForMaskedLM", found=found, fix=FIX)
    tokenizer = load_tokenizer(options.model)
    check_vocabulary(config, tokenizer, options.model)
    if tokenizer.mask_token is None:
        raise ConfigError(f"the tokenizer of '{options.model}' has no mask token", fix=FIX)
    if not any(is_content(word) for word, _ in whole_word_pieces(tokenizer)):
        raise ConfigError(f"the vocabulary of '{options.model}' has no whole words to swap", fix=FIX)


def fingerprint(options: Options) -> str:
    """Of the masked language model's weights; for a hub name, of the name."""
    return sources.fingerprint(options.model)


def build(options: Options, context: Context) -> Masked:
    """The attack, its language model beside the victim.

    Raises:
        ConfigError: as :func:`check`.
    """
    check(options)
    model: Any = sources.guarded(AutoModelForMaskedLM.from_pretrained, options.model, dtype=torch.float32)
    device = context.victim.classifier.device
    return Masked(model.to(device), load_tokenizer(options.model), options, context.seed, context.column)
