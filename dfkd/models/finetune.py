"""Supervised fine-tuning of a teacher, with transformers' own Trainer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Iterator, Sequence, cast

import datasets
import torch
from torch.utils.data import DataLoader, Sampler

from dfkd.batch import Text
from dfkd.config import TeacherConfig
from dfkd.models.classifier import TextClassifier

COMPLETE = "trainer_state.json"
POOLED_BATCHES = 50  # rows of about equal length are looked for among so many batches


def finetune(
    classifier: TextClassifier, texts: Sequence[Text], labels: Sequence[int], config: TeacherConfig, work: Path,
    bf16: bool = False, quiet: bool = False,
) -> float:
    """Train a classifier on labelled texts, in place; goes on from the last checkpoint in ``work``.

    Args:
        classifier: with a head of the right size.
        texts: N training texts.
        labels: N class indices.
        config: epochs, rates and the like; ``limit`` keeps the first rows of the shuffled split.
        work: folder of the checkpoints.
        bf16: train under bf16 autocast.
        quiet: no progress bar.

    Returns:
        The mean training loss.
    """
    from transformers import DataCollatorWithPadding  # seconds to import: predict and run need neither

    kept = _shuffled(len(texts), config)
    rows = _tokenized(classifier, [texts[i] for i in kept], [labels[i] for i in kept])
    trainer = _trainer(config.batch_order)(
        model=classifier.model,
        args=_arguments(config, work, bf16, quiet, on_cpu=classifier.device.type == "cpu"),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(classifier.tokenizer),
    )
    result = trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    return float(result.training_loss)


def _trainer(batch_order: str) -> Any:
    """The library's Trainer, or one with another order of the batches."""
    from transformers import Trainer

    class Shuffling(Trainer):
        """Asks :class:`ShuffledBatches` for its rows."""

        def get_train_dataloader(self) -> Any:
            rows, size = cast(datasets.Dataset, self.train_dataset), self.args.train_batch_size
            order = ShuffledBatches(rows["length"], size, self.args.seed)
            loader = DataLoader(rows.remove_columns("length"), size, sampler=order, collate_fn=self.data_collator)
            return self.accelerator.prepare(loader)

    return {"by_length": Trainer, "shuffled": Shuffling}[batch_order]


class ShuffledBatches(Sampler[int]):
    """Rows in batches of about equal length, the batches in an order that is drawn anew for each epoch.

    The library's own sampler goes from long rows to short ones within every 50 batches, over and over.

    Args:
        lengths: tokens of each of N rows.
        batch_size: B; the last batch may be smaller.
        seed: of the orders, together with the epoch.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed, self.epoch = list(lengths), batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer, after a resume too."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        size, pool = self.batch_size, self.batch_size * POOLED_BATCHES
        batches: list[list[int]] = []
        for first in range(0, len(order), pool):
            rows = sorted(order[first : first + pool], key=lambda row: -self.lengths[row])
            batches += [rows[start : start + size] for start in range(0, len(rows), size)]
        smaller = [batch for batch in batches if len(batch) < size]  # there is one at most: it comes last
        whole = [batch for batch in batches if len(batch) == size]
        for place in torch.randperm(len(whole), generator=generator).tolist():
            yield from whole[place]
        for batch in smaller:
            yield from batch


def last_whole_checkpoint(work: Path) -> str | None:
    """The newest checkpoint that was written to its end; later ones, cut short by a kill, are deleted.

    The library writes its folders in place, ``trainer_state.json`` last.
    """
    checkpoints = sorted(work.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for path in checkpoints:
        if _whole(path):
            return str(path)
        shutil.rmtree(path)
    return None


def _whole(checkpoint: Path) -> bool:
    try:
        return bool(json.loads((checkpoint / COMPLETE).read_text()))
    except (FileNotFoundError, ValueError):
        return False


def _shuffled(rows: int, config: TeacherConfig) -> list[int]:
    order: list[int] = torch.randperm(rows, generator=torch.Generator().manual_seed(config.seed)).tolist()
    return order[: config.limit]


def _tokenized(classifier: TextClassifier, texts: Sequence[Text], labels: Sequence[int]) -> Any:
    first = [text if isinstance(text, str) else text[0] for text in texts]
    second = None if isinstance(texts[0], str) else [text[1] for text in texts]
    encoding = classifier.tokenizer(first, second, truncation=True, max_length=classifier.max_length)
    lengths = [len(ids) for ids in encoding["input_ids"]]
    return datasets.Dataset.from_dict({**encoding, "labels": list(labels), "length": lengths})


def _arguments(config: TeacherConfig, work: Path, bf16: bool, quiet: bool, on_cpu: bool) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=config.batch_size,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup,  # a number below 1 is a share of the steps
        train_sampling_strategy="group_by_length",  # batches of equal lengths waste no padding
        save_steps=config.checkpoint_every,
        save_total_limit=1,
        logging_steps=50,
        bf16=bf16,
        use_cpu=on_cpu,
        seed=config.seed,
        report_to="none",
        disable_tqdm=quiet,
        dataloader_pin_memory=False,
    )
