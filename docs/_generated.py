"""The parts of the pages that the code itself writes: options, settings, commands, alarms. They cannot drift.

A page has a line ``<!-- dfkd: KIND NAME -->`` where such a part goes; see :data:`WRITERS` for the kinds.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

import typer

from dfkd import cli, config, synthesizing
from dfkd.models.students.registry import STUDENTS
from dfkd.plugins import Option, Plugins, documented_arguments
from dfkd.quality import rules
from dfkd.report import table as report_table
from dfkd.synthesis import registry

MARK = re.compile(r"^<!-- dfkd: (\w+)(?: (\S+))? -->$", re.MULTILINE)
HERE = Path(__file__).parent
SECTIONS: dict[str, type] = {
    "run": config.Settings, "data": config.DataConfig, "train": config.TrainConfig, "evaluate": config.EvaluateConfig,
    "teacher": config.TeacherConfig, "synthesize": synthesizing.PoolSettings,
}
PREFIXED = ("data", "train", "evaluate")
SET_BY_THE_LOADER = ("name", "folder")


def filled(markdown: str) -> str:
    """A page with its generated parts.

    Raises:
        KeyError: the page asks for something that nothing here writes.
    """
    return MARK.sub(lambda mark: WRITERS[mark[1]](mark[2] or ""), markdown)


def strategy(name: str) -> str:
    """What a strategy makes, its presets, and its options."""
    options = registry.options(name, {})
    facts = [f"Makes {_made(options)}", "not data-free" if options.uses_real_text else "data-free"]
    presets = [preset for preset in config.available("experiments/strategies") if preset.startswith(f"{name}/")]
    facts += [f"presets: {', '.join(f'`strategy={preset}`' for preset in presets)}"] if presets else []
    return f"**Options.** {'; '.join(facts)}.\n\n{_options(registry.STRATEGIES, name)}"


def _made(options: Any) -> str:
    return "texts" if options.injects == "tokens" else str(options.injects)


def student(name: str) -> str:
    """The options of a kind of student."""
    return _options(STUDENTS, name)


def strategies(_: str) -> str:
    """All strategies, each with a link to where it is described."""
    rows = []
    for name in registry.available():
        options = registry.options(name, {})
        link = f"[`{name}`]({page_of(name)}#{name})"
        rows.append([link, _made(options), _text(registry.describe(name)[0])])
    return _table(("strategy", "makes", "what it does"), rows)


def page_of(name: str) -> str:
    """The page, beside those of the strategies, with a section on a strategy.

    Raises:
        StopIteration: there is none.
    """
    heading = re.compile(rf"^## `{name}`$", re.MULTILINE)
    pages = sorted((HERE / "strategies").glob("*.md"))
    return next(page.name for page in pages if heading.search(page.read_text(encoding="utf-8")))


def settings(section: str) -> str:
    """The fields of a section of the settings."""
    cls, prefix = SECTIONS[section], f"{section}." if section in PREFIXED else ""
    defaults: Any = config.DataConfig(labels=["0", "1"]) if cls is config.DataConfig else None
    helps, rows = documented_arguments(cls), []
    for field in dataclasses.fields(cls):
        if section == "data" and field.name in SET_BY_THE_LOADER:
            continue
        default = getattr(defaults, field.name) if defaults else field.default
        default = dataclasses.MISSING if field.name == "labels" else default  # there is none: every user gives them
        meaning = _text(helps.get(field.name, ""))
        rows.append([f"`{prefix}{field.name}`", _code(default), _kind(str(field.type)), meaning])
    return _table(("key", "default", "values", "meaning"), rows)


def data_sets(_: str) -> str:
    """The data sets that come with dfkd."""
    rows = []
    for name in config.available("data_configs"):
        path = config.find_yaml("data_configs", name)
        data = config.load_data({"data": name})
        head = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8"))
        about = " ".join(line.strip("# ") for line in head[0].splitlines()) if head else ""
        rows.append([f"`data={name}`", str(len(data.labels)), str(data.max_length), _text(about)])
    return _table(("name", "classes", "tokens", "what it is"), rows)


def commands(_: str) -> str:
    """What ``--help`` says of every command."""
    group: Any = typer.main.get_command(cli.app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def alarm_rules(_: str) -> str:
    """When an alarm rises, and its remedy."""
    rows = [
        [f"`{rule.name}`", f"{_text(rule.says)} (`{'`, `'.join(rule.facts)}`)", _text(rule.remedy())]
        for rule in rules.RULES
    ]
    return _folded("The alarms", _table(("alarm", "what it says", "what to try"), rows))


def columns(_: str) -> str:
    """The columns of a table of runs."""
    return _table(("column", "what it holds"), [[name, _text(text)] for name, text in report_table.COLUMNS.items()])


WRITERS: dict[str, Callable[[str], str]] = {
    "strategy": strategy, "student": student, "strategies": strategies, "settings": settings, "commands": commands,
    "alarms": alarm_rules, "columns": columns, "data_sets": data_sets,
}


def _options(plugins: Plugins, name: str) -> str:
    """The options of a component, those of each class that brings some in a block of its own; the first is open."""
    options: Any = plugins.module(name).Options
    described = {option.name: option for option in plugins.describe(name)[1]}
    blocks: list[str] = []
    for cls in options.__mro__:
        own = [described.pop(field) for field in inspect.get_annotations(cls) if field in described]
        if own:
            blocks.append(_block(plugins.kind, cls, own, is_open=not blocks))
    return "\n\n".join(blocks) or "It has no options."


def _block(kind: str, cls: type, options: Sequence[Option], is_open: bool) -> str:
    title = re.split(r"[;.]", inspect.getdoc(cls) or "Options")[0].replace('"', "'")
    rows = [
        [f"`{kind}.{option.name}`", _code(option.default), _kind(option.type), _text(option.help)] for option in options
    ]
    number = f"{len(options)} option{'s' if len(options) > 1 else ''}"
    return _folded(f"{title} ({number})", _table(("option", "default", "values", "meaning"), rows), is_open)


def _folded(title: str, body: str, is_open: bool = False) -> str:
    """A block that the reader opens."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    return f'???{"+" if is_open else ""} abstract "{title}"\n\n{indented}'


def _command(name: str, command: Any) -> str:
    lines = [f"## `dfkd {name}`", "", inspect.cleandoc(command.help or ""), ""]
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        shown = parameter.metavar or parameter.name.upper()
        if parameter.param_type_name == "option":
            shown = ", ".join(parameter.opts)
        rows.append([f"`{shown}`", _text(getattr(parameter, "help", "") or "")])
    return "\n".join([*lines, _table(("argument", "meaning"), rows)] if rows else lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def _text(text: str) -> str:
    """Plain text within a table, in the words of the command line; what reads like code stays literal."""
    text = re.sub(r"\bNone\b", "null", text.replace("``", "`"))
    plain = re.sub(r"(?<!`)([*_<>\[\]|])", r"\\\1", text)
    return re.sub(r"`[^`]*`", lambda code: code[0].replace("\\", ""), plain).replace("\n", " ")


def _code(value: object) -> str:
    """A default as it is written on the command line."""
    if value is dataclasses.MISSING or value == "":
        return ""
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
    return f"`{shown}`".replace("|", "\\|")


def _kind(annotation: str) -> str:
    """A type for people: ``a`` or ``b``; number; list of numbers."""
    choices = re.search(r"Literal\[(.*)\]", annotation)
    if choices:
        return " ".join(f"`{choice.strip(chr(39))}`" for choice in choices[1].split(", "))
    inner = re.sub(r"^Optional\[(.*)\]$", r"\1 or null", annotation)
    inner = re.sub(r"list\[(\w+)\]", r"list of \1", inner)
    return inner.replace("Any", "any").replace("[", "\\[").replace("]", "\\]")
