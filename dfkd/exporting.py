"""The texts of a finished run as a pool, with their prompts and rewards and the teacher's predictions."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping

from dfkd import config as configs
from dfkd import pool, runs, text_pool
from dfkd.doors import fingerprint_of
from dfkd.duplicates import Duplicates
from dfkd.errors import ConfigError
from dfkd.runs import RunFolder
from dfkd.synthesis import registry
from dfkd.synthesizing import NO_STUDENT

EXPORTING = ".exporting"  # not as a run's or pool's working folder is called


def export(folder: Path, out: Path, near_duplicates: float = 0.8) -> dict[str, Any]:
    """Make a pool of the texts that a finished run has kept, in the order of its steps.

    The teacher is not asked: its predictions are stored with the texts. A run keeps what its replay can draw, the
    newest ``train.replay_capacity`` texts; the pool has cost what the run has, queries and tokens.

    Args:
        folder: of the run.
        out: of the pool; must not be there.
        near_duplicates: as of ``dfkd synthesize``.

    Returns:
        The content of ``pool.json``.

    Raises:
        ConfigError: the run is not finished, has kept no texts, or they are no pseudo texts labelled by the teacher; or
            ``out`` is there already.
    """
    stored, result = _checked(folder, out, near_duplicates)
    partial = out.with_name(out.name + EXPORTING)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with runs.full_disk_reported(partial):
        samples, duplicates = text_pool.samples_of(partial), Duplicates(near_duplicates)
        for batch, logits, step in pool.read_folder(folder / "pool"):
            places = duplicates.new(batch.texts or ())
            if places:
                kept = replace(batch.rows(places), strategy=batch.strategy or stored["strategy"]["name"])
                samples.append(kept, logits[places], step)
        facts = {
            **_facts(folder, stored, result, near_duplicates), "samples": len(samples), "batches": len(samples.sizes),
            "dropped": duplicates.counts(), "files": samples.state_dict(),
        }
        text_pool.write_facts(partial, facts)
        os.rename(partial, out)
    return facts


def _checked(folder: Path, out: Path, near_duplicates: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's configuration and result, if it can become a pool."""
    in_range = 0 <= near_duplicates <= 1
    configs.require(in_range, "near_duplicates", "a similarity in [0, 1]", near_duplicates)
    taken = [path for path in (out, out.with_name(out.name + runs.PARTIAL)) if path.exists()]
    if taken:
        raise ConfigError(f"'{taken[0]}' is there already", expected="a new folder", fix="choose another")
    if not (folder / runs.RESULT).is_file():
        fix = "give the folder of a run with result.json, such as runs/sst2/prompted"
        raise ConfigError(f"'{folder}' is no finished run", fix=fix)
    stored = configs.read_yaml(folder / "config.yaml")
    name = stored["strategy"]["name"]
    options = registry.options(name, stored["strategy"]["options"])
    if options.uses_real_text or getattr(options, "labels_itself", False):
        found = "the task's own texts" if options.uses_real_text else "labels that the strategy stated itself"
        expected, fix = "pseudo texts labelled by the teacher", "take a run of another strategy"
        raise ConfigError(f"'{folder}' cannot become a pool", expected=expected, found=found, fix=fix)
    if options.injects == "embeddings" or not any((folder / "pool").glob("*.arrow")):
        fix = "repeat it with another name, a strategy that makes texts, and train.replay_share above 0"
        raise ConfigError(f"'{folder}' has kept no texts", expected="Arrow files in its folder pool", fix=fix)
    return stored, RunFolder(folder).result()


def _facts(
    folder: Path, stored: Mapping[str, Any], result: Mapping[str, Any], near_duplicates: float
) -> dict[str, Any]:
    """What ``pool.json`` says of a run's texts but for how many there are."""
    data, queries = stored["data"], result["queries"]
    teacher = fingerprint_of(stored["teacher_sha256"], stored.get("teacher_labels"))
    kept = {name: value for name, value in stored.items() if name not in (*NO_STUDENT, "threads")}
    made = {"near_duplicates": near_duplicates, "run": result["run"]}
    return {
        "finished": True, "strategy": stored["strategy"]["label"], "labels": list(data["labels"]),
        "max_length": data["max_length"], "pair": len(data["text"]) == 2, "teacher_sha256": teacher,
        # what a pool among the run's parts has cost counts as well
        "queries": {**queries, "train": queries["train"] + queries.get("synthesis", 0)},
        "generated_tokens": result.get("generated_tokens") or 0,
        "seconds": result["seconds"]["train"] + result["seconds"].get("synthesis", 0),
        "notes": RunFolder(folder).read_notes() or None, "config": {**kept, **made, "teacher_sha256": teacher},
    }
