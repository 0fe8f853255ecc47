"""The rules of the alarms: which logged facts are wrong, and the remedies that the strategy at work really has."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Mapping

from dfkd.config import TrainConfig
from dfkd.synthesis._parts import read_parts

WINDOW, BRIEF = 20, 8  # fresh batches; a run has some 50 that move a prompter
KEY = re.compile(r"\b(?:strategy|train|data)\.\w+")
SETTING = re.compile(rf"({KEY.pattern})=([\w.]+)")
LESS = re.compile(rf"\b(?:lower|fewer) ({KEY.pattern})")


@dataclass(frozen=True)
class Maker:
    """Who makes the samples, as far as a remedy depends on it.

    Args:
        name: of the strategy.
        settings: what can be set, by key (``strategy.targets``), with its value now.
        part: its label where it is a part of a mixture; ``None``: it is not.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    part: str | None = None


def makers_of(name: str, options: Any, train: TrainConfig | None = None) -> dict[str | None, Maker]:
    """Who makes the samples of a run or pool.

    Args:
        name: of the strategy.
        options: its ``Options``.
        train: of the run; ``None``: no student is trained.

    Returns:
        By the label of a mixture's part; the strategy itself is at ``None``.
    """
    found: dict[str | None, Maker] = {None: _maker(name, options, train, None)}
    parts = read_parts(options.parts) if name == "mixture" else []
    return {**found, **{part.label: _maker(part.strategy, part.options, train, part.label) for part in parts}}


def _maker(name: str, options: Any, train: TrainConfig | None, part: str | None) -> Maker:
    settings: dict[str, Any] = {"data.max_length": None, "data.prompts": None}
    for section, values in (("strategy", options), ("train", train)):
        for one in dataclasses.fields(values) if values is not None else ():
            settings[f"{section}.{one.name}"] = getattr(values, one.name)
    return Maker(name, settings, part)


@dataclass(frozen=True)
class Remedy:
    """One thing to try.

    Args:
        text: names the settings by their keys; it fits those strategies alone that have them all.
        only: it fits these strategies alone; empty: all.
        given: a ``key=value`` that must hold where the strategy has the key; empty: nothing must.
    """

    text: str
    only: tuple[str, ...] = ()
    given: str = ""

    def fits(self, maker: Maker) -> bool:
        """Whether the strategy has what the remedy names, and is not set so already."""
        settings = maker.settings
        if maker.part is not None and self.text.startswith("strategy=mixture"):
            return False
        if self.only and maker.name not in self.only or not set(KEY.findall(self.text)) <= set(settings):
            return False
        if any(key in settings and not _is(settings[key], value) for key, value in SETTING.findall(self.given)):
            return False
        asked = SETTING.findall(self.text)
        done = bool(asked) and all(_is(settings[key], value) for key, value in asked)
        return not done and not any(settings[key] == 0 for key in LESS.findall(self.text))


def _is(found: Any, value: str) -> bool:
    return str(found).lower() == value.lower()


@dataclass(frozen=True)
class Rule:
    """When an alarm rises.

    Args:
        name: of the alarm.
        facts: the logged facts that are watched, each for itself; steps without one are passed over.
        limit: what the mean of a fact over the window must not pass.
        says: what is wrong, in a sentence.
        remedies: what to change; those are told that fit the strategy.
        above: whether the fact is wrong above the limit; false: below it.
        clear: a limit that tells after a few batches already; ``None``: the window is to be full, as where a
            generator begins badly and learns.
        stops: whether ``train.on_alarm=stop`` ends the run; not where it only says that all is learnt.
        window: fresh batches over which a fact is averaged, at most :data:`WINDOW`.
    """

    name: str
    facts: tuple[str, ...]
    limit: float
    says: str
    remedies: tuple[Remedy, ...]
    above: bool = True
    clear: float | None = None
    stops: bool = True
    window: int = WINDOW

    def passed(self, mean: float, limit: float | None) -> bool:
        """Whether a mean is on the wrong side of ``limit``; ``None`` is never passed."""
        return limit is not None and (mean > limit if self.above else mean < limit)

    def remedy(self, maker: Maker | None = None) -> str:
        """What to try with the strategy at work; ``None``: with any."""
        fitting = [remedy.text for remedy in self.remedies if maker is None or remedy.fits(maker)]
        if maker is None or maker.part is None:
            return "; or ".join(fitting or [ANOTHER])
        parts_own = [text for text in fitting if _only_options(text)]
        own = [KEY.sub(lambda key: key[0].removeprefix("strategy."), text) for text in parts_own]
        among = [f"among its options (strategy.parts): {'; or '.join(own)}"] if own else []
        whole = [text for text in fitting if text not in parts_own]
        return "; or ".join([f"a lower weight of the part '{maker.part}'", *whole, *among])


def _only_options(text: str) -> bool:
    """Whether all settings that a remedy names are options of the strategy; a mixture's part has those alone."""
    return all(key[0].startswith("strategy.") for key in KEY.finditer(text))


ANOTHER = "another strategy ('dfkd strategies' lists them), alone or as a part of strategy=mixture"


def _remedies(*texts: str | Remedy) -> tuple[Remedy, ...]:
    return tuple(text if isinstance(text, Remedy) else Remedy(text) for text in texts)


ADAM, POLYAK = "strategy.guess_step=adam", "strategy.guess_step=polyak"
LOWER_RATE = Remedy("a lower strategy.guess_rate", given=ADAM)
SHORTER_STEP = Remedy("a lower strategy.longest_step", given=POLYAK)
LOWER_GENERATOR = Remedy("a lower strategy.generator_rate")
HARD = Remedy("strategy.targets=hard, which draws the classes evenly")
LESS_ADVERSE = _remedies("a lower strategy.difficulty_weight", "a lower strategy.adversary_weight")
MOMENTS = Remedy("a higher strategy.moment_weight, which holds the teacher's hidden states near those of tokens")
TAMER = (LOWER_RATE, SHORTER_STEP, *LESS_ADVERSE, LOWER_GENERATOR, MOMENTS)
PROMPTS = Remedy("other prompts, or more of them (data.prompts)", ("prompt_manual", "class_prompt", "templated"))
ELSEWHERE = _remedies(
    Remedy("a strategy.file nearer to the task", ("corpus",)),
    Remedy("a pool (strategy.folder) that was made otherwise", ("pool",)),
)
OPENING = Remedy("a strategy.opening that names the kind of text")
VARIED = (
    *_remedies("a higher strategy.temperature or strategy.top_p", "strategy.repetition_penalty=1.2"), PROMPTS,
    Remedy("a larger strategy.vocabulary", ("random_tokens", "templated")), Remedy("more strategy.keywords"),
    Remedy("strategy.start=tokens"), Remedy("fewer strategy.guess_steps"), *ELSEWHERE,
)
LONGER = (
    *_remedies("a higher strategy.min_new_tokens", "a higher strategy.min_words"),
    Remedy("a higher strategy.min_length"), PROMPTS, *ELSEWHERE,
)
MORE_OF_ALL = Remedy(
    "strategy=mixture with random_tokens or templated among its parts",
    ("lm_free", "lm_prompt", "prompt_manual", "class_prompt", "keyword_prompt", "prompt_rl", "corpus", "pool"),
)
KEPT_NEAR = _remedies("a higher strategy.kl_weight", "a lower strategy.policy_rate")
NOVEL = Remedy("a higher strategy.repetition_weight (0.1)")

EMBEDDING_RULES = (
    Rule("class_collapse", ("class_entropy", "class_histogram"), 0.5,
         "the teacher sees hardly more than one class in the samples",
         (HARD, *_remedies("a higher strategy.balance_weight", "more strategy.guess_steps"), LOWER_RATE,
          *_remedies("a higher strategy.diversity_weight", "strategy.growth=log"), LOWER_GENERATOR), above=False),
    Rule("no_confidence", ("teacher_excess",), 0.05, "the teacher is undecided on nearly all samples",
         (*_remedies("more strategy.guess_steps", "strategy.targets=hard"),
          Remedy("a higher strategy.guess_rate", given=ADAM), Remedy("a higher strategy.longest_step", given=POLYAK),
          *_remedies("a higher strategy.one_hot_weight", "a higher strategy.input_weight"), *LESS_ADVERSE,
          Remedy("shorter samples (a lower strategy.max_length)"), OPENING, PROMPTS, *ELSEWHERE), above=False),
    Rule("steps_too_large", ("input_loss_rise",), 0.05,
         "the loss against the targets rises while samples are guessed: large steps, or a strong adversary",
         (Remedy("a fifth of strategy.guess_rate, or less", given=ADAM), SHORTER_STEP, *LESS_ADVERSE)),
    Rule("all_alike", ("pairwise_square",), 0.3,
         "the samples are nearly all alike, or mirror images of each other",
         (Remedy("fewer strategy.guess_steps"), LOWER_RATE, SHORTER_STEP,
          *_remedies("strategy.start=tokens", "a higher strategy.diversity_weight",
                     "a higher strategy.contrast_weight"))),
    Rule("too_large", ("embedding_norm", "embedding_deviation"), 1.5,
         "the embeddings left the scale of the teacher's own",
         (*TAMER, Remedy("strategy.difficulty=kl: L_MASK grows with the scale alone"),
          *_remedies("strategy.normalise=batch", "strategy.growth=log"))),
    Rule("too_small", ("embedding_norm", "embedding_deviation"), 0.67,
         "the embeddings shrank below the scale of the teacher's own",
         (*TAMER, *_remedies("strategy.align=table", "strategy.normalise=batch")), above=False),
    Rule("off_centre", ("embedding_shift",), 1.0,
         "the embeddings as a whole left the place of the teacher's own",
         (*TAMER, *_remedies("strategy.align=table", "strategy.start=tokens", "strategy.normalise=batch"))),
    Rule("mask_runs_away", ("mask_growth",), 3.0,
         "L_MASK has grown to a multiple of what it was at the beginning: the adversary raises it by scale alone",
         (Remedy("strategy.difficulty=kl"), Remedy("a lower strategy.difficulty_weight"), LOWER_RATE, SHORTER_STEP,
          Remedy("a lower train.learning_rate"))),
    Rule("nothing_to_learn", ("kd",), 0.002, "the student already answers as the teacher does on fresh samples",
         (*_remedies("harder samples: strategy.start=tokens", "strategy.targets=dirichlet",
                     "fewer strategy.guess_steps", "a higher strategy.difficulty_weight",
                     "a higher strategy.adversary_weight", "more strategy.generator_steps"),
          *VARIED[:4], MORE_OF_ALL, *ELSEWHERE, Remedy("fewer train.steps")), above=False, stops=False),
)
TEXT_RULES = (
    Rule("texts_off_balance", ("text_class_entropy", "text_class_histogram"), 0.6,
         "the texts are of few of the teacher's classes",
         (Remedy("train.replay_share=0.75 train.replay_balance=true, so that the student learns evenly from these"),
          HARD, Remedy("a higher strategy.balance", ("keyword_prompt",)), OPENING, PROMPTS, *ELSEWHERE, MORE_OF_ALL),
         above=False, clear=0.2),
    Rule("texts_too_long", ("over_length",), 0.5, "the teacher sees most texts cut",
         (*_remedies("a lower strategy.max_new_tokens", "a lower strategy.max_words", "a lower strategy.max_length"),
          *ELSEWHERE, Remedy("a higher data.max_length")), clear=0.8),
    Rule("texts_empty", ("empty",), 0.05, "there are texts without a word", LONGER, clear=0.2),
    Rule("texts_repeat", ("distinct_2",), 0.3, "the texts say the same words over and over", VARIED, above=False,
         clear=0.15),
    Rule("texts_too_short", ("dropped_short",), 0.5, "most texts are too short, and are made in vain",
         _remedies("a higher strategy.min_new_tokens", "a lower strategy.min_words"), clear=0.8),
    Rule("texts_known", ("dropped_duplicate", "not_new"), 0.5,
         "most texts were written before, and are made in vain",
         (*VARIED, Remedy("a higher strategy.max_new_tokens"), Remedy("more strategy.most"),
          Remedy("a higher strategy.max_length", ("random_tokens",))), clear=0.8),
    Rule("texts_unquoted", ("dropped_unquoted",), 0.5,
         "most texts do not come to the closing quote that their prompt asks for, and are made in vain",
         _remedies("a higher strategy.max_new_tokens", "a strategy.template that does not end in a quote"), clear=0.8),
    Rule("texts_taken_anyway", ("dropped_but_taken",), 0.3,
         "many texts are used though they were to be dropped, as no better ones came",
         (*_remedies("more strategy.tries", "a lower strategy.min_words", "a higher strategy.max_new_tokens"),
          *VARIED[:3]), clear=0.6),
)
PROMPTER_RULES = (
    Rule("reward_gone", ("reward_base",), 0.01,
         "the prompter finds hardly any text that the student does not know",
         _remedies("strategy.normalise_advantage=true, which keeps the prompter's steps as large as rewards shrink",
                   "a lower strategy.kl_weight", "a higher strategy.temperature", "fewer train.steps"),
         above=False, stops=False),
    # against the run's own first batches, when it was its reference: what is usual depends on the language model
    Rule("prompter_collapse", ("policy_entropy_kept",), 0.5,
         "the prompter chooses far less freely than at the beginning: it writes the same prompts over and over",
         (*KEPT_NEAR, NOVEL), above=False, clear=0.3, window=BRIEF),
    Rule("prompts_repeat", ("prompt_distinct_kept",), 0.5,
         "the prompts of a batch are far more alike than at the beginning",
         (NOVEL, KEPT_NEAR[0], Remedy("longer prompts (more strategy.prompt_tokens)")), above=False, clear=0.3,
         window=BRIEF),
    Rule("prompter_runs_away", ("policy_kl",), 3.0,
         "the prompter left what the language model would write: its prompts are no language any more",
         (*KEPT_NEAR, Remedy("strategy.prompt_top_p=0.9")), clear=5.0),
    Rule("prompted_collapse", ("prompted_class_entropy", "prompted_class_histogram"), 0.5,
         "the prompts lead to hardly more than one class of the teacher",
         (Remedy("a higher strategy.balance_weight, which rewards the classes that are missing"),
          Remedy("train.replay_share=0.75 train.replay_balance=true, so that the student learns evenly from these"),
          OPENING, KEPT_NEAR[0]), above=False, clear=0.2),
)
RULES = (*EMBEDDING_RULES, *TEXT_RULES, *PROMPTER_RULES)
