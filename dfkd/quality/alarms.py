"""Alarms: what goes wrong with pseudo samples, told while it can still be changed, each with a remedy."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Mapping

Record = Mapping[str, Any]
WINDOW = 20


@dataclass(frozen=True)
class Rule:
    """When an alarm rises.

    Args:
        name: of the alarm.
        fact: the logged fact that is watched; steps without it are passed over.
        wrong: whether the fact's mean over the last ``WINDOW`` fresh batches is wrong.
        says: what is wrong, in a sentence.
        remedy: what to change.
    """

    name: str
    fact: str
    wrong: Callable[[float], bool]
    says: str
    remedy: str


RULES = (
    Rule("class_collapse", "class_entropy", lambda mean: mean < 0.5,
         "the teacher sees hardly more than one class in the samples",
         "strategy.targets=hard draws the classes evenly; a lower strategy.guess_rate, or more strategy.guess_steps"),
    Rule("texts_off_balance", "text_class_entropy", lambda mean: mean < 0.6,
         "the texts are of few of the teacher's classes",
         "train.replay_share=0.75 train.replay_balance=true lets the student learn evenly from these texts; for other "
         "ones, where the strategy has them, strategy.balance, or a strategy.opening that names the kind of text; "
         "other prompts (data.prompts); or strategy=mixture with random_tokens or templated among its parts"),
    Rule("texts_too_long", "over_length", lambda mean: mean > 0.5,
         "the teacher sees most texts cut",
         "a lower strategy.max_new_tokens or strategy.max_words, or a higher data.max_length"),
    Rule("texts_empty", "empty", lambda mean: mean > 0.05,
         "there are texts without a word",
         "a higher strategy.min_new_tokens or strategy.min_words; or other prompts (data.prompts)"),
    Rule("texts_repeat", "distinct_2", lambda mean: mean < 0.3,
         "the texts say the same words over and over",
         "a higher strategy.temperature or strategy.top_p, strategy.repetition_penalty=1.2; or more prompts"),
    Rule("no_confidence", "teacher_excess", lambda mean: mean < 0.05,
         "the teacher is undecided on nearly all samples",
         "more strategy.guess_steps, a higher strategy.guess_rate, or shorter samples (strategy.max_length)"),
    Rule("steps_too_large", "input_loss_rise", lambda mean: mean > 0.05,
         "the loss against the targets rises while samples are guessed: large steps, or a strong adversary",
         "a fifth of strategy.guess_rate, or less (with guess_step=polyak, of strategy.longest_step); a lower "
         "strategy.difficulty_weight where there is an adversary"),
    Rule("all_alike", "pairwise_square", lambda mean: mean > 0.3,
         "the samples are nearly all alike, or mirror images of each other",
         "fewer strategy.guess_steps, a lower strategy.guess_rate, or strategy.start=tokens; for generators a higher "
         "strategy.diversity_weight"),
    Rule("too_large", "embedding_norm", lambda mean: mean > 1.5,
         "the embeddings left the scale of the teacher's own",
         "a lower strategy.guess_rate (with guess_step=polyak, strategy.longest_step), or a lower "
         "strategy.difficulty_weight: L_MASK grows with the scale alone"),
    Rule("too_small", "embedding_norm", lambda mean: mean < 0.67,
         "the embeddings shrank below the scale of the teacher's own",
         "a lower strategy.guess_rate, or strategy.align=table"),
    Rule("nothing_to_learn", "kd", lambda mean: mean < 0.002,
         "the student already answers as the teacher does on fresh samples",
         "harder samples: strategy.start=tokens, strategy.targets=dirichlet, fewer strategy.guess_steps"),
    Rule("prompter_collapse", "policy_entropy", lambda mean: mean < 0.5,
         "the prompter hardly chooses any more: it writes the same prompts over and over",
         "a higher strategy.kl_weight, a lower strategy.policy_rate, or strategy.repetition_weight=0.1"),
    Rule("prompts_repeat", "prompt_distinct", lambda mean: mean < 0.2,
         "the prompts of a batch are nearly all alike",
         "strategy.repetition_weight=0.1, a higher strategy.kl_weight, or longer prompts (strategy.prompt_tokens)"),
    Rule("prompter_runs_away", "policy_kl", lambda mean: mean > 3,
         "the prompter left what the language model would write: its prompts are no language any more",
         "a higher strategy.kl_weight, a lower strategy.policy_rate, or strategy.prompt_top_p=0.9"),
    Rule("prompted_collapse", "prompted_class_entropy", lambda mean: mean < 0.5,
         "the prompts lead to hardly more than one class of the teacher",
         "strategy.balance_weight=0.1 rewards the classes that are missing; or a higher strategy.kl_weight"),
    Rule("texts_too_short", "dropped_short", lambda mean: mean > 0.5,
         "most texts are too short, and are made in vain",
         "a higher strategy.min_new_tokens, or a lower strategy.min_words"),
)


@dataclass(frozen=True)
class Alarm:
    """An alarm that rose: at which step, which fact, its mean, and what to do."""

    step: int
    name: str
    fact: str
    value: float
    says: str
    remedy: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.says} ({self.fact} {self.value:.3g}); try: {self.remedy}"


class Alarms:
    """Watches the log of a run; each alarm rises once, and again only after all was well in between.

    Args:
        classes: C, the number of classes.
        history: records of steps before the first one seen, as after a kill, so that nothing rises twice.
    """

    def __init__(self, classes: int, history: Callable[[], list[dict[str, Any]]] = list) -> None:
        self.classes, self.history = classes, history
        self.recent: dict[str, deque[float]] = {rule.name: deque(maxlen=WINDOW) for rule in RULES}
        self.raised: set[str] = set()
        self.started = False

    def see(self, record: Record) -> list[Alarm]:
        """Look at the record of a step; replayed batches are passed over.

        Returns:
            The alarms that rise with this record.
        """
        if not self.started:
            self.started = True
            for earlier in self.history():
                if earlier["step"] < record["step"]:
                    self._look(earlier)
        return self._look(record)

    def _look(self, record: Record) -> list[Alarm]:
        if not record.get("fresh", True):
            return []
        facts = {**record, "teacher_excess": record.get("teacher_confidence", 1.0) - 1 / self.classes}
        if "input_loss_first" in facts and "input_loss_last" in facts:
            facts["input_loss_rise"] = facts["input_loss_last"] - facts["input_loss_first"]
        if "policy_entropy" in facts and "class_entropy" in facts:  # a prompter has remedies of its own
            facts["prompted_class_entropy"] = facts.pop("class_entropy")
        if "distinct_words" in facts and "class_entropy" in facts:  # texts have remedies of their own
            facts["text_class_entropy"] = facts.pop("class_entropy")
        risen = [self._check(rule, facts) for rule in RULES if rule.fact in facts]
        return [alarm for alarm in risen if alarm is not None]

    def _check(self, rule: Rule, facts: Record) -> Alarm | None:
        values = self.recent[rule.name]
        values.append(float(facts[rule.fact]))
        mean = statistics.fmean(values)
        if len(values) < WINDOW or not rule.wrong(mean):
            self.raised.discard(rule.name)
            return None
        if rule.name in self.raised:
            return None
        self.raised.add(rule.name)
        return Alarm(int(facts["step"]), rule.name, rule.fact, mean, rule.says, rule.remedy)
