"""Commands that make something: teachers, students, pools of pseudo texts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Mapping, Optional

import typer

from dfkd.commands._app import Overrides, app
from dfkd.console import Bar, RunProgress, console, quiet_libraries, say_alarm, scores_line


@app.command()
def teacher(overrides: Optional[list[str]] = Overrides) -> None:
    """Fine-tune an encoder into a teacher, on a data set's training split, or average teachers.

    Needs `data=NAME` (or a YAML file) and `model=` a folder, `package:DIST` or hub name. More: `out`, `epochs`,
    `batch_size`, `learning_rate`, `limit`, `seed`, `threads`, `precision`, and any `data.FIELD`. In place of `model=`,
    `soup=[A,B]` takes the mean of finished teachers' weights, trained from one model and one head (`init_seed=0`) with
    other seeds or rates.

    Example: `dfkd teacher data=sst2 model=bert-base-uncased out=teachers/sst2 epochs=3`
    """
    from dfkd import config, teaching

    quiet_libraries()
    data, settings = config.load_teacher(overrides or [])
    source = settings.model or " + ".join(settings.soup or ())
    what = f"teacher for {data.name} from {source} -> {teaching.default_folder(data, settings)}"
    console.print(what, markup=False, soft_wrap=True)
    with Bar("test items") as predicted:
        facts = teaching.make_teacher(data, settings, quiet=not sys.stderr.isatty(), progress=predicted)
    scores = facts["scores"]
    if facts.get("warning"):
        console.print(f"warning: {facts['warning']}", markup=False, soft_wrap=True)
    done = f"trained on {facts['rows']} rows" if facts["rows"] else "averaged"
    console.print(f"{done} in {facts['seconds']:.0f} s")
    console.print(scores_line(scores) if scores else "no test split: no scores")


@app.command()
def run(overrides: Optional[list[str]] = Overrides) -> None:
    """Distil one student; a finished run is only shown, an interrupted one goes on.

    Needs `data=`, `teacher=` and `strategy=` (or `pool=FOLDER`, made by `dfkd synthesize`). The student is
    `student=truncated` (with `student.layers`, `student.keep`, `student.init`), `student=pretrained` (with
    `student.model`), or another of `dfkd students`. The budget is `train.steps` and `train.teacher_queries`.
    `run=NAME` names the run folder.

    Example: `dfkd run data=sst2 teacher=teachers/sst2 strategy=as_dfd student.layers=3 seed=1`
    """
    from dfkd import pipeline
    from dfkd.report import results, table

    quiet_libraries()
    config = pipeline.load_config(overrides or [])
    folder = Path(config.runs) / config.run_name()
    finished = folder.is_dir()  # said when it is known to be this very run
    if not finished:
        console.print(f"run {folder}", markup=False, soft_wrap=True)
    with RunProgress(config.data.labels) as listeners:
        pipeline.run(config, listeners)
    if finished:
        console.print(f"run {folder} is finished already", markup=False, soft_wrap=True)
    console.print(table.rich_table(table.rows(results.collect([folder]))))


@app.command()
def synthesize(overrides: Optional[list[str]] = Overrides) -> None:
    """Make a pool of pseudo texts with the teacher's predictions, for many students: `dfkd run ... pool=FOLDER`.

    Needs `data=`, `teacher=`, `strategy=`, `samples=N` and `out=FOLDER`. Interrupted, it goes on; with more `samples`
    it adds some; a finished pool is only shown. Duplicates are dropped, near ones too (`near_duplicates=0.8`). More:
    `batch_size`, `checkpoint_every`, `seed`, `threads`, `precision`, `device`. The strategy must not learn from a
    student. Alarms tell what is wrong with the texts while they are made; `dfkd inspect` shows them.

    Example: `dfkd synthesize data=sst2 teacher=teachers/sst2 strategy=keyword_prompt samples=4000 out=pools/sst2`
    """
    from dfkd import synthesizing

    quiet_libraries()
    settings, config = synthesizing.load_config(overrides or [])
    console.print(f"pool {settings.out}", markup=False, soft_wrap=True)
    with Bar("samples") as progress:
        facts = synthesizing.synthesize(settings, config, progress, say_alarm)
    console.print(_pool_line(facts), markup=False)


@app.command()
def export(
    run: Path = typer.Argument(..., help="The folder of a finished run of a strategy that makes texts."),
    out: Path = typer.Argument(..., help="The folder of the new pool."),
    near_duplicates: float = typer.Option(0.8, help="Drop a text this similar to an earlier one; 0: only the same."),
) -> None:
    """Make a pool of the texts that a finished run has kept, with their prompts and rewards, for other students.

    The way to reuse the texts of strategies that learn from a student, such as prompt_rl, of which `dfkd synthesize`
    can make none: they are those that were hard for the run's student. The teacher is not asked again; results on the
    pool count what the run has cost.

    Example: `dfkd run data=sst2 teacher=teachers/sst2 strategy=prompt_rl strategy.model=gpt2 run=sst2/prompted`, then
    `dfkd export runs/sst2/prompted pools/sst2-prompted`
    """
    from dfkd import exporting

    console.print(_pool_line(exporting.export(run, out, near_duplicates)), markup=False)


def _pool_line(facts: Mapping[str, Any]) -> str:
    dropped = ", ".join(f"{count} {kind}" for kind, count in facts["dropped"].items())
    asked = f"{facts['queries']['train']} teacher queries"
    made = f"{facts['samples']} samples by {facts['strategy']} in {facts['seconds']:.0f} s, {asked}"
    return f"{made}; dropped: {dropped}"
