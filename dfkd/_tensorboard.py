"""``tracking=tensorboard``: event files in the run's folder, for ``tensorboard --logdir runs``."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Iterator, Mapping

import torch
from omegaconf import OmegaConf
from torch.utils.tensorboard import SummaryWriter

CLASSES = "classes/"


class TensorBoard:
    """Writes scalars, the class histogram, the configuration and the final scores.

    An earlier sitting's events from the first new step on are purged, so that no step stands there twice.
    """

    def start(self, name: str, config: Mapping[str, Any], folder: Path, step: int) -> None:
        """Open an event file in ``tensorboard/``."""
        place = folder / "tensorboard"
        known = place.is_dir()
        self.config, self.next = config, step
        self.writer: Any = SummaryWriter(str(place), purge_step=step if known else None)  # torch has no types for it
        if step == 0 or not known:
            text = OmegaConf.to_yaml(OmegaConf.create(dict(config)))
            self.writer.add_text("config", f"run {name}\n\n{textwrap.indent(text, '    ')}", step)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write a scalar for each number, and the classes as a histogram over their indices."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)
        counts = torch.tensor([int(value) for name, value in numbers.items() if name.startswith(CLASSES)])
        if len(counts) and counts.sum():
            indices = torch.arange(len(counts))
            edges = [index - 0.5 for index in range(len(counts) + 1)]
            self.writer.add_histogram("classes", indices.repeat_interleave(counts), step, bins=edges)
        self.writer.flush()  # what is not on disk when the run is killed would be missing for good
        self.next = step + 1

    def end(self, scores: Mapping[str, float] | None) -> None:
        """Write the scores beside the settings that gave them."""
        if scores is not None:
            settings = dict(_settings(self.config))
            self.writer.add_hparams(settings, dict(scores), run_name=".", global_step=self.next)
        self.writer.close()


def _settings(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """A configuration's values by dotted key; of the data set its name alone."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name != "data":
            yield from _settings(value, f"{name}.")
        elif name == "data":
            yield "data", str(value["name"])
        else:
            yield name, value if isinstance(value, (bool, int, float, str)) else str(value)
