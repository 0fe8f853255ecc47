"""A data set's experiments at a scale: its teachers, its pools of pseudo data, and its rows of the scale's tables.

A scale is a YAML below ``experiments/scales``; ``{data}`` in it stands for the data set's name:

- ``about``: a line for people.
- ``teachers``: data set (or ``all``) -> folder -> settings of ``dfkd teacher``.
- ``pools``: data set (or ``all``) -> folder -> settings of ``dfkd synthesize``.
- ``tables``: the tables of ``dfkd compare``; those without the data set are left out.
- ``settings``: of everything, such as ``data.files.train``.
- ``stand_in``: a folder, where a data set and models that are made up are written first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import typer

from dfkd import config, grids, stand_in, synthesizing, teaching
from dfkd.commands import grids as commands
from dfkd.commands._app import Overrides
from dfkd.console import Bar, console, guarded, quiet_libraries, scores_line
from dfkd.errors import ConfigError, suggestion
from dfkd.grids import filled, names_in, planned, settings_of

SCALES = "experiments/scales"
KEYS = ("about", "teachers", "pools", "tables", "settings", "stand_in")


def script(data: str, about: str) -> None:
    """The command line of a data set's script.

    Args:
        data: the data set's name.
        about: what ``--help`` says of it.
    """

    def main(
        overrides: Optional[list[str]] = Overrides,
        scale: str = typer.Option("smoke", help=f"One of {', '.join(config.available(SCALES))}."),
        only: Optional[list[str]] = typer.Option(None, help="Only this table, student or strategy; repeat for more."),
        workers: int = typer.Option(1, min=1, help="Processes that share the runs."),
        engine: str = typer.Option("processes", help="processes or ray."),
        keep: Optional[Path] = typer.Option(None, help="Copy small result files below this folder, as runs finish."),
        show: bool = typer.Option(False, "--show", help="Run nothing; show what is finished."),
    ) -> None:
        run(data, scale, overrides or [], only or [], workers, engine, keep, show)

    main.__doc__ = about
    guarded(lambda: typer.run(main))


def run(
    data: str, scale: str, overrides: Sequence[str] = (), only: Sequence[str] = (), workers: int = 1,
    engine: str = "processes", keep: Path | None = None, show: bool = False,
) -> None:
    """Make what is missing, and show the tables; what is finished is reused.

    Args:
        data: the data set's name.
        scale: name of a scale, or path of its YAML.
        overrides: ``key=value`` for the runs of all tables, over what the tables say.
        only: tables, students, strategies; kinds of which none is named are not restricted.
        workers: processes that share the runs.
        engine: ``processes`` or ``ray``.
        keep: copy the small result files below this folder, as runs finish.
        show: run nothing.

    Raises:
        ConfigError: the scale, or something in it, is wrong.
        typer.Exit: with code 1 where runs failed.
    """
    quiet_libraries()
    plan = load(scale, data)
    commands.check_engine(engine)
    tables = _tables(plan, data, only)
    shared = [*settings_of(plan["settings"]), *overrides]
    for table, rows in tables.items():  # what is wrong with them is told before teachers and pools are made
        grids.load(table, shared, [data, *rows])
    if not show:
        _prepare(plan, data, tables, overrides)
    failed = False
    for table, rows in tables.items():
        console.rule(f"{data}: {table}")
        try:
            commands.compare(table, shared, [data, *rows], workers, None, engine, keep, show, False)
        except typer.Exit:
            failed = True
    if failed:
        raise typer.Exit(1)


def load(scale: str, data: str) -> dict[str, Any]:
    """A checked scale, for one data set.

    Raises:
        ConfigError: it does not exist, has unknown keys or no tables, or does not tell whose teachers and pools are.
    """
    path = config.find_yaml(SCALES, scale)
    plan = dict(config.read_yaml(path))
    unknown = [str(key) for key in plan if key not in KEYS]
    if unknown:
        raise ConfigError(f"{path}: unknown key '{unknown[0]}'", fix=suggestion(unknown[0], KEYS))
    if not plan.get("tables"):
        raise ConfigError(f"{path}: no tables", expected="tables: [NAME, ...]")
    for kind in ("teachers", "pools"):
        plan[kind] = _of(plan.get(kind) or {}, data, f"{path}: {kind}")
    defaults: dict[str, Any] = {"settings": {}, "stand_in": None}
    settings = plan.get("settings") or {}  # of a table's other data sets as well: as they are
    return dict(filled({name: plan.get(name) or value for name, value in defaults.items()} | plan, data)) | {
        "settings": settings
    }


def _of(groups: Mapping[str, Any], data: str, where: str) -> dict[str, Any]:
    """What is made for all data sets, and what for this one: folder -> settings.

    Raises:
        ConfigError: it is not told for whom.
    """
    for name, group in groups.items():
        if group and not (isinstance(group, Mapping) and all(isinstance(own, Mapping) for own in group.values())):
            expected, found = "{all: {FOLDER: {KEY: VALUE}}}", f"{{{name}: {{KEY: VALUE}}}}"
            fix = f"say whose '{name}' is: all, or a data set's name, above it"
            raise ConfigError(where, expected=expected, found=found, fix=fix)
    return {**(groups.get("all") or {}), **(groups.get(data) or {})}


def _tables(plan: Mapping[str, Any], data: str, only: Sequence[str]) -> dict[str, list[str]]:
    """The tables that the data set is in, and that are asked for -> the rows of each that are; none: all rows.

    Raises:
        ConfigError: a name is none of a table, student or strategy, or another data set's; or nothing is left.
    """
    names = {name: names_in(name) for name in plan["tables"]}
    others = {cell.data for name in names for cell in planned(name)} - {data}
    if strange := others.intersection(only):
        name = min(strange)
        raise ConfigError(f"'{name}' is another data set than '{data}'", fix=f"run the script of {name}")
    rows = [name for name in only if name not in names]
    known = set(names).union(*names.values())
    unknown = [name for name in rows if name not in known]
    if unknown:
        raise ConfigError(f"no table of this scale has '{unknown[0]}'", fix=suggestion(unknown[0], known))
    wanted = [name for name in only if name in names] or list(names)
    found = {name: [row for row in rows if row in names[name]] for name in wanted if data in names[name]}
    found = {name: own for name, own in found.items() if own or not rows}
    if not found:
        asked = f" with {', '.join(rows)}" if rows else ""
        raise ConfigError(f"no table of this scale has the data set '{data}'{asked}", found=", ".join(wanted))
    return found


def _prepare(
    plan: Mapping[str, Any], data: str, tables: Mapping[str, Sequence[str]], overrides: Sequence[str]
) -> None:
    """Stand-ins, and those teachers and pools that the rows need, where they are missing."""
    # what is said of the data set in the command holds for its teachers and pools as well
    settings = [*settings_of(filled(plan["settings"], data)), *(one for one in overrides if one.startswith("data."))]
    if plan["stand_in"]:
        stand_in.make(config.load_data({"data": data}), Path(plan["stand_in"]))
    cells = [cell for table, rows in tables.items() for cell in planned(table, [data, *rows])]
    said = "\n".join(sorted({text for cell in cells for text in cell.overrides} | set(overrides)))
    pools = {folder: own for folder, own in plan["pools"].items() if folder in said}
    said += "".join(f"\n{own.get('teacher')}" for own in pools.values())
    for folder, own in plan["teachers"].items():
        if folder not in said:
            continue
        console.print(f"teacher {folder}", markup=False)
        encoder, options = config.load_teacher([f"data={data}", *settings, *settings_of(own), f"out={folder}"])
        with Bar("test items") as predicted:
            facts = teaching.make_teacher(encoder, options, quiet=not sys.stderr.isatty(), progress=predicted)
        console.print(f"  {scores_line(facts['scores'])}" if facts["scores"] else "  no test split: no scores")
    for folder, own in pools.items():
        console.print(f"pool {folder}", markup=False)
        pool, made = synthesizing.load_config([f"data={data}", *settings, *settings_of(own), f"out={folder}"])
        with Bar("samples") as progress:
            synthesizing.synthesize(pool, made, progress)
