"""The trainer: pseudo batches in, a student that answers as the teacher does out.

Shapes: B samples, C classes.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Protocol, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from dfkd import seeding
from dfkd.batch import Feedback, PseudoBatch
from dfkd.budget import Budget
from dfkd.config import TrainConfig
from dfkd.errors import TrainingDiverged
from dfkd.losses import distillation_kl
from dfkd.models.split import logits_of
from dfkd.models.teacher import Teacher
from dfkd.pool import Pool
from dfkd.runs import NOTES, RunFolder, full_disk_reported
from dfkd.state import write_text
from dfkd.synthesis.base import Synthesizer

Record = dict[str, Any]
SAMPLES_SHOWN = 8
MEDIAN_WINDOW = 50
ENOUGH_FOR_A_MEDIAN = 5
SMALL_LOSS = 1e-2  # nats: after hundreds of easy batches at 0.0004, a hard one at 0.13 is no explosion


class Watch(Protocol):
    """Looks at the pseudo samples of a step; nothing learns from what it sees."""

    def measure(self, feedback: Feedback) -> Mapping[str, float]:
        """Facts to log at each fresh batch, by name."""

    def token_bridge(self, feedback: Feedback) -> Mapping[str, float]:
        """Dearer facts, only at the steps where the held-out samples are looked at."""

    def texts(self, batch: PseudoBatch) -> Sequence[str]:
        """Samples as text, for ``samples.jsonl``."""


@dataclass(frozen=True)
class Outcome:
    """What a training gave: steps, agreement on held-out pseudo samples (``None`` without any), how many these are, and
    the seconds before the first step: what a strategy does once, and setting them aside."""

    steps: int
    heldout_agreement: float | None
    heldout_samples: int
    heldout_seconds: float = 0.0


class Distiller:
    """Trains a student on what a strategy synthesizes and the teacher says of it.

    Everything needed to go on after a kill is in the run folder's checkpoint; the same calls in a new process then
    end with the same student, byte for byte.

    Args:
        teacher: frozen.
        student: on the teacher's device.
        synthesizer: the strategy.
        config: budgets, rates, replay, selection.
        folder: where metrics, samples and checkpoints go.
        accelerator: device and precision.
        seed: the replay pool's draws derive from it.
        listen: called after each step with the record that is logged; ``None``: nobody listens.
        watch: measures the fresh batches and shows their samples as text; ``None``: neither is logged.
        judge: where the held-out samples are taken from, with the predictions of this very teacher; ``None``: the
            strategy makes them.
    """

    def __init__(
        self, teacher: Teacher, student: Any, synthesizer: Synthesizer, config: TrainConfig, folder: RunFolder,
        accelerator: Accelerator, seed: int = 0, listen: Callable[[Record], None] | None = None,
        watch: Watch | None = None, judge: Pool | None = None,
    ) -> None:
        self.teacher, self.student, self.synthesizer = teacher, student, synthesizer
        self.config, self.folder, self.accelerator = config, folder, accelerator
        self.listen, self.watch, self.judge = listen, watch, judge
        self.parameters = [p for p in student.parameters() if p.requires_grad] + list(synthesizer.parameters())
        self.optimizer = build_optimizer(student, synthesizer.parameters(), config)
        self.replay = seeding.generator(seed, "replay")
        self.budget = Budget(config, teacher, synthesizer)
        self.pool = Pool(folder.work / "pool", config.replay_capacity) if self.budget.keeps_samples() else None
        self.heldout = Pool(folder.work / "heldout", config.heldout)
        self.step = 0
        self.recent: list[float] = []
        self.best: dict[str, Any] | None = None
        self.best_agreement = -1.0
        self.heldout_seconds = 0.0
        self.shown = -1  # the last step of which samples were kept to show

    def fit(self) -> Outcome:
        """Train until the budget is spent, from the last checkpoint if there is one.

        Raises:
            TrainingDiverged: the loss is no number, or exploded.
            Alarmed: from a listener, where an alarm is to stop the run.
            ConfigError: what comes before the first step uses up a budget.
            DfkdError: the disk is full.
        """
        with full_disk_reported(self.folder.work):
            self._restore()
            if self.step == 0 and not self.heldout.sizes:
                started = time.perf_counter()
                self._prepare()
                asked_first = self.budget.asked
                self._hold_out()
                self.budget.begin(asked_first)
                self.heldout_seconds = time.perf_counter() - started
            while self.step < self.config.steps and not self.budget.queries_spent():
                self._one_step()
                self.step += 1
                if self.step % self.config.checkpoint_every == 0:
                    self._checkpoint()
            return self._finish()

    def _one_step(self) -> None:
        started, rate = time.perf_counter(), self.budget.learning_rate(self.step)  # of what is spent before the step
        batch, teacher_logits, fresh = self._next_batch()
        losses, student_logits = self._losses(batch, teacher_logits)
        values = {name: float(loss.detach()) for name, loss in losses.items()}
        self._refuse_divergence(sum(values.values()))
        self._update(sum(losses.values(), torch.zeros((), device=self.accelerator.device)), rate)
        feedback = Feedback(self.step, batch, teacher_logits.detach(), student_logits.detach(), values, fresh)
        self.synthesizer.observe(feedback)
        if fresh and self.pool is not None:
            self.pool.append(replace(batch, rewards=self._rewards(feedback)), teacher_logits, self.step)
        self._report(feedback, time.perf_counter() - started)

    def _next_batch(self) -> tuple[PseudoBatch, Tensor, bool]:
        """A batch, the teacher's logits for it, and whether it is fresh."""
        if self.pool is not None and len(self.pool) and self.budget.replays(self.step):
            batch, logits = self.pool.sample(self.config.batch_size, self.replay, self.config.replay_balance)
            return batch, logits.to(self.accelerator.device), False
        with self.accelerator.autocast():
            batch = self.synthesizer.synthesize(self.config.batch_size)
            logits = self._label(batch)
        return batch, logits, True

    def _label(self, batch: PseudoBatch) -> Tensor:
        """What the student shall answer, as logits (B, C): the batch's own labels, else the teacher's predictions."""
        if batch.label_logits is not None:
            return batch.label_logits.to(self.accelerator.device).float()
        return self.teacher.label(batch).float()

    def _losses(self, batch: PseudoBatch, teacher_logits: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms by name, and the student's logits (B, C)."""
        self.student.train()
        with self.accelerator.autocast():
            logits = logits_of(self.student.from_batch(batch))
            further = self.synthesizer.student_losses(self.student, batch)
        return {"kd": distillation_kl(logits, teacher_logits, self.config.temperature), **further}, logits.float()

    def _update(self, loss: Tensor, rate: float) -> None:
        """One step of the optimizer."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        if self.config.clip > 0:
            self.accelerator.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()

    def _refuse_divergence(self, loss: float) -> None:
        typical = statistics.median(self.recent) if len(self.recent) >= ENOUGH_FOR_A_MEDIAN else math.inf
        exploded = loss > self.config.explode_factor * max(typical, SMALL_LOSS)
        if not math.isfinite(loss) or exploded:
            what = "is no finite number" if not math.isfinite(loss) else f"is far above its median {typical:.4g}"
            raise TrainingDiverged(
                f"training diverged at step {self.step}: the loss {loss:.4g} {what}\n"
                f"  kept: {kept_at(self.step, self.config)} in {self.folder.work}\n"
                "  what to do: a lower train.learning_rate, train.clip=1, or precision=float32; "
                "give it another name with run=NAME"
            )
        self.recent = [*self.recent, loss][-MEDIAN_WINDOW:]

    def _report(self, feedback: Feedback, seconds: float) -> None:
        """Log the step; look at the held-out samples, and keep some fresh ones to show, where either is due.

        ``agreement`` is that of the step's own logits, from before it and with the student's dropout on.
        """
        teacher_class = feedback.teacher_logits.argmax(dim=1)
        record: Record = {"step": self.step, "loss": sum(feedback.losses.values()), **feedback.losses}
        record["agreement"] = float((teacher_class == feedback.student_logits.argmax(dim=1)).float().mean())
        record["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        record["classes"] = torch.bincount(teacher_class, minlength=feedback.teacher_logits.shape[1]).tolist()
        record |= {"fresh": feedback.fresh, "seconds": seconds}
        record |= {"strategy": feedback.batch.strategy} if feedback.batch.strategy is not None else {}
        record.update(feedback.batch.info)
        if feedback.fresh and self.watch is not None:
            record.update(self.watch.measure(feedback))
        if self.step % self.config.evaluate_every == 0 or self._is_last():
            if self.heldout.sizes:
                record["heldout_agreement"] = self._look_at_heldout()
            self._note()
        if feedback.fresh and self.watch is not None and self._shows_samples():
            self.shown = self.step
            record.update(self.watch.token_bridge(feedback))
            self._log_samples(feedback, self.watch.texts(feedback.batch)[:SAMPLES_SHOWN])
        self.folder.log("metrics", record)
        if self.listen is not None:
            self.listen(record)

    def _shows_samples(self) -> bool:
        """Whether this fresh batch is the first one since held-out samples were due, or that of the last step."""
        due = self.step // self.config.evaluate_every * self.config.evaluate_every
        return self.shown < due or self._is_last()

    def _is_last(self) -> bool:
        """Whether this step, of which the batch is labelled, spends the budget."""
        return self.step == self.config.steps - 1 or self.budget.queries_spent()

    def _log_samples(self, feedback: Feedback, shown: Sequence[str]) -> None:
        batch = feedback.batch
        confidence, classes = feedback.teacher_logits.softmax(dim=1).max(dim=1)
        rewards = self._rewards(feedback)
        for index, text in enumerate(shown):
            target = batch.targets[index].tolist() if batch.targets is not None else None
            sample = {"step": self.step, "text": text, "teacher_class": self.teacher.labels[int(classes[index])]}
            sample |= {"confidence": float(confidence[index]), "target": target}
            sample |= {"prompt": batch.prompts[index]} if batch.prompts is not None else {}
            sample |= {"reward": float(rewards[index])} if rewards is not None else {}
            sample |= {"strategy": batch.strategy} if batch.strategy is not None else {}
            self.folder.log("samples", sample)

    def _rewards(self, feedback: Feedback) -> Tensor | None:
        """The rewards (B,) of a batch that was just observed; ``None`` where its strategy gives none."""
        rewarded = getattr(self.synthesizer, "rewards", None)
        return rewarded(feedback) if rewarded is not None else feedback.batch.rewards

    def _note(self) -> None:
        """Write down what the strategy has to tell, such as the keywords that it found."""
        notes = getattr(self.synthesizer, "notes", None)
        if notes is not None:
            write_text(self.folder.work / NOTES, json.dumps(notes(), indent=1, ensure_ascii=False))

    def _prepare(self) -> None:
        """Let a strategy do what it does once, before the budget of teacher queries is looked at."""
        prepare = getattr(self.synthesizer, "prepare", None)
        if prepare is not None:
            with self.accelerator.autocast():
                prepare()

    def _hold_out(self) -> None:
        """Set pseudo samples aside before the first step; the student is never trained on them."""
        left = self.config.heldout
        if self.judge is not None:
            for first in range(0, left, self.config.batch_size):
                stored = self.judge.take(range(first, min(first + self.config.batch_size, left)))
                self.heldout.append(*stored, step=-1)
            left = 0
        hold_out = getattr(self.synthesizer, "hold_out", self.synthesizer.synthesize)
        while left > 0:
            size = min(left, self.config.batch_size)
            with self.teacher.counting_as("heldout"), self.accelerator.autocast():
                batch = hold_out(size)
                if batch is None:
                    break
                self.heldout.append(batch, self.teacher.label(batch).float(), step=-1)
            left -= size

    def _look_at_heldout(self) -> float:
        """Agreement with the teacher on the held-out samples; remembers the best student if that is selected."""
        agreement = self.heldout_agreement()
        if self.config.select == "agreement" and agreement > self.best_agreement:
            self.best_agreement = agreement
            self.best = {name: tensor.clone() for name, tensor in self.student.state_dict().items()}
        return agreement

    def heldout_agreement(self) -> float:
        """Share of the held-out pseudo samples on which student and teacher choose the same class."""
        training, same, total = self.student.training, 0, 0
        self.student.eval()
        with torch.no_grad():
            for batch, teacher_logits in self.heldout.batches():
                logits = logits_of(self.student.from_batch(batch))
                same += int((logits.argmax(dim=1).cpu() == teacher_logits.argmax(dim=1)).sum())
                total += len(batch)
        self.student.train(training)
        return same / total

    def _finish(self) -> Outcome:
        if self.best is not None:
            self.student.load_state_dict(self.best)
        self.student.eval()
        samples = sum(self.heldout.sizes)
        return Outcome(self.step, self.heldout_agreement() if samples else None, samples, self.heldout_seconds)

    def _checkpoint(self) -> None:
        content = {
            "step": self.step, "student": dict(self.student.state_dict()), "optimizer": self.optimizer.state_dict(),
            "synthesizer": self.synthesizer.state_dict(), "queries": dict(self.teacher.queries),
            "heldout": self.heldout.state_dict(), "recent": self.recent, "replay": self.replay.get_state(),
            "best": self.best, "best_agreement": self.best_agreement, "generators": seeding.global_state(),
            "heldout_seconds": self.heldout_seconds, "shown": self.shown, "budget": self.budget.state_dict(),
            "pool": self.pool.state_dict() if self.pool is not None else None,
        }
        self.folder.save_checkpoint(self.step, content)
        if self.pool is not None:
            self.pool.collect_garbage()

    def _restore(self) -> None:
        """Go back to the last checkpoint, or to the very start: what was written after it is dropped."""
        content = self.folder.load_checkpoint()
        step = content["step"] if content else 0
        for log in ("metrics", "samples", "alarms"):
            self.folder.rewind_log(log, step)
        for name, pool in (("pool", self.pool), ("heldout", self.heldout)):
            if pool is not None:
                pool.load_state_dict(content[name] if content else {"sizes": []})
        if content is None:
            return
        self.step, self.recent, self.best = step, content["recent"], content["best"]
        self.best_agreement, self.heldout_seconds = content["best_agreement"], content["heldout_seconds"]
        self.shown = content.get("shown", -1)  # older checkpoints have none, and no budget
        self.budget.load_state_dict(content.get("budget", self.budget.state_dict()))
        self.student.load_state_dict(content["student"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.synthesizer.load_state_dict(content["synthesizer"])
        self.teacher.queries.update(content["queries"])
        self.replay.set_state(content["replay"])
        seeding.restore_global_state(content["generators"])


def kept_at(step: int, config: TrainConfig) -> str:
    """What a run has to go on from that ends in the middle of ``step``."""
    kept = step // config.checkpoint_every * config.checkpoint_every
    return f"the checkpoint of step {kept}" if kept else "no checkpoint yet"


def build_optimizer(student: nn.Module, further: Iterable[nn.Parameter], config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over the student's trainable parameters and the strategy's; biases and norms do not decay."""
    trained = [p for p in student.parameters() if p.requires_grad] + list(further)
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    # fused: one pass over memory, which counts where the vocabulary's table is trained
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.learning_rate, fused=True)


def working_folder(path: Path) -> RunFolder:
    """A run folder for use from Python, without the checks of :func:`dfkd.runs.open_run`."""
    folder = RunFolder(path)
    folder.work.mkdir(parents=True, exist_ok=True)
    return folder
