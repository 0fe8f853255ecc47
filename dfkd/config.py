"""Typed run configuration: YAML files and ``key=value`` overrides in, frozen dataclasses out.

Every unknown key, wrong type and value out of range is collected, and raised as one :class:`ConfigError`.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from omegaconf import OmegaConf

from dfkd._config_types import (
    ComponentConfig, DataConfig, EvaluateConfig, RunConfig, Settings, TeacherConfig, TrainConfig, require, typed,
)
from dfkd.errors import ConfigError, noting, refuse, suggestion

__all__ = [
    "ComponentConfig", "DataConfig", "EvaluateConfig", "RunConfig", "Settings", "TeacherConfig", "TrainConfig",
    "available", "find_yaml", "load", "load_data", "load_teacher", "parse_overrides", "read_yaml", "require",
    "search_folders", "sha256", "to_dict", "typed",
]

OptionsCheck = Callable[[str, Mapping[str, Any]], "list[ConfigError]"]
# a finished run's config.yaml says more than its configuration
FACTS_OF_A_RUN = ("teacher_sha256", "strategy_sha256", "judge_sha256")
KINDS = {"data_configs": "data config", "experiments/strategies": "strategy"}  # of YAMLs, where the folder does not say
LONGEST_LABEL = 120  # folders are named after labels, and file systems stop at 255 bytes


def parse_overrides(overrides: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into a mapping with dotted keys; values are read as YAML.

    Raises:
        ConfigError: a string has no ``=`` or no key, or its value is no YAML.
    """
    parsed = {}
    words = list(overrides)
    for place, override in enumerate(words):
        key, equals, value = override.partition("=")
        if not equals or not key:
            fix = _without_spaces(words, place) or "write key=value"
            raise ConfigError("an override is not of the form key=value", found=override, fix=fix)
        try:
            parsed[key] = copy.deepcopy(_value(value))
        except Exception as error:
            raise ConfigError(f"the value of '{key}' cannot be read", expected="YAML", found=value) from error
    return parsed


def _without_spaces(words: Sequence[str], place: int) -> str:
    """What to write for ``key = value``, ``key =value`` or ``key= value``; empty: the word is no part of such.

    Args:
        words: all overrides.
        place: of the first that is wrong.
    """
    before, (word, *after) = words[place - 1] if place else "", words[place:]
    if after and after[0].startswith("=") and not word.startswith("="):
        value = after[0][1:] or " ".join(after[1:2])
        return f"write {word}={value}, without spaces"
    return f"write {before}{word}, without spaces" if before.endswith("=") and "=" not in word else ""


@functools.lru_cache(maxsize=4096)  # a table's runs have most of their settings in common
def _value(text: str) -> Any:
    """A YAML value."""
    return OmegaConf.to_container(OmegaConf.from_dotlist([f"v={text}"]))["v"]  # type: ignore


def search_folders(kind: str) -> list[Path]:
    """Where YAML files of a kind (``data_configs``, ``experiments/strategies``) are looked for, first hit wins."""
    checkout = Path(__file__).resolve().parent.parent
    return [root / kind for root in (Path.cwd(), checkout, Path(sys.prefix) / "share" / "dfkd")]


def available(kind: str) -> list[str]:
    """Names of the YAML files of a kind, without ``.yaml``; presets in subfolders read ``as_dfd/paper``."""
    found = {
        path.relative_to(folder).with_suffix("").as_posix()
        for folder in search_folders(kind)
        for path in folder.rglob("*.yaml")
    }
    return sorted(found)


def find_yaml(kind: str, name: str) -> Path:
    """The YAML file called ``name``: a path, or a name below one of :func:`search_folders`.

    Raises:
        ConfigError: there is none; the message names what there is.
    """
    if name.endswith((".yaml", ".yml")):
        candidates = [Path(name)]
    else:
        candidates = [folder / f"{name}.yaml" for folder in search_folders(kind)]
    for path in candidates:
        if path.is_file():
            return path
    what = KINDS.get(kind) or kind.rsplit("/", 1)[-1].removesuffix("s").replace("_", " ")
    fix = suggestion(name, [*_files_like(name), *available(kind)])
    raise ConfigError(f"unknown {what} '{name}'", found=f"no file {candidates[0]}", fix=fix)


def _files_like(name: str) -> list[str]:
    """The YAML file, if any, beside the one called ``name`` whose name is closest to it."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.parent.is_dir():
        return []
    return get_close_matches(name, sorted(str(file) for file in path.parent.glob("*.y*ml")), n=1)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as a plain mapping.

    Raises:
        ConfigError: the file is no YAML mapping.
    """
    try:
        facts = path.stat()
        values = copy.deepcopy(_content(path.resolve(), facts.st_mtime_ns, facts.st_size))
    except Exception as error:
        raise ConfigError(f"{path} cannot be read", expected="a YAML mapping", found=str(error)) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is no mapping", expected="key: value lines", found=type(values).__name__)
    return {str(key): value for key, value in values.items()}


@functools.lru_cache(maxsize=256)
def _content(path: Path, changed: int, size: int) -> Any:
    """What a YAML file holds, as of its last change."""
    return OmegaConf.to_container(OmegaConf.load(path))


def load(overrides: Sequence[str], check_options: OptionsCheck | None = None) -> RunConfig:
    """Merge defaults, YAML files and overrides into a :class:`RunConfig`.

    Args:
        overrides: ``key=value`` strings. ``config=FILE`` starts from a saved config; ``data=NAME``,
            ``strategy=NAME`` and ``student=KIND`` choose components; dotted keys set their fields. ``pool=FOLDER`` is
            short for ``strategy=pool strategy.folder=FOLDER``.
        check_options: called with ``"strategy"`` or ``"student"`` and the component as a mapping of ``name`` and
            ``options``; returns the problems of its options. ``None``: options stay unchecked here.

    Raises:
        ConfigError: lists every problem found.
    """
    given = parse_overrides(overrides)
    if "pool" in given:
        given = _with_pool(given)
    sections, problems = _sections(given)
    plain = sections.pop("settings")
    settings, found = typed(Settings, plain)
    problems += found
    if not plain.get("teacher"):
        fix = "add teacher=FOLDER (see 'dfkd teacher --help') or teacher=HUB_NAME"
        problems.append(ConfigError("no teacher is given", fix=fix))
    built: dict[str, Any] = {}
    for name, cls in (("data", DataConfig), ("train", TrainConfig), ("evaluate", EvaluateConfig)):
        built[name], found = typed(cls, sections[name], f"{name}.")
        problems += found
    for name in ("student", "strategy"):
        built[name] = ComponentConfig(**sections[name])
        problems += check_options(name, sections[name]) if check_options else []
    refuse(problems)
    assert settings is not None
    return RunConfig(**dataclasses.asdict(settings), **built)


def _with_pool(given: dict[str, Any]) -> dict[str, Any]:
    """``pool=FOLDER`` spelt out.

    Raises:
        ConfigError: another strategy is named as well.
    """
    folder = given.pop("pool")
    if given.get("strategy", "pool") != "pool":
        fix = "leave one of the two out; a mixture may have a part {strategy: pool, options: {folder: FOLDER}}"
        raise ConfigError("pool=FOLDER is a strategy itself", found=f"strategy={given['strategy']}", fix=fix)
    return {**given, "strategy": "pool", "strategy.folder": str(folder)}


def load_data(values: Mapping[str, Any]) -> DataConfig:
    """The :class:`DataConfig` of ``{"data": NAME, "data.FIELD": VALUE, ...}``.

    Raises:
        ConfigError: there is no name, it is unknown, or a field is wrong.
    """
    if not values:
        raise _no_data()
    data, problems = typed(DataConfig, _data_values(values, {}), "data.")
    refuse(problems)
    assert data is not None
    return data


def load_teacher(overrides: Sequence[str]) -> tuple[DataConfig, TeacherConfig]:
    """The data and fine-tuning configuration of ``dfkd teacher``.

    Raises:
        ConfigError: lists every problem found.
    """
    given = parse_overrides(overrides)
    problems: list[ConfigError] = []
    data = None
    with noting(problems):
        data = load_data(_under(given, "data"))
    own = {key: value for key, value in given.items() if key.split(".")[0] != "data"}
    config, found = typed(TeacherConfig, own)
    refuse(problems + found)
    assert data is not None and config is not None
    return data, config


def sha256(text: str) -> str:
    """The hexadecimal sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values, as it is stored in ``config.yaml``."""
    return dataclasses.asdict(config)


def _sections(given: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[ConfigError]]:
    """Sort overrides, and the YAML files that they name, into sections of plain values."""
    problems: list[ConfigError] = []
    base = read_yaml(Path(str(given.pop("config")))) if "config" in given else {}
    sections: dict[str, dict[str, Any]] = {
        name: dict(base.pop(name, None) or {}) for name in ("data", "train", "evaluate", "student", "strategy")
    }
    sections["settings"] = {key: value for key, value in base.items() if key not in FACTS_OF_A_RUN}
    for name, fill in (("data", _fill_data), ("strategy", _fill_strategy), ("student", _fill_student)):
        try:
            fill(sections, _under(given, name))
        except ConfigError as error:
            problems.append(error)
            sections[name] = _placeholder(name)
    for key, value in given.items():
        section, dot, rest = key.partition(".")
        if section in ("train", "evaluate") and dot:
            sections[section][rest] = value
        elif section not in ("data", "strategy", "student"):
            sections["settings"][key] = value
    return sections, problems + _misplaced(sections)


def _misplaced(sections: dict[str, dict[str, Any]]) -> list[ConfigError]:
    """Top-level keys that belong in a section, ``steps`` for ``train.steps``, or are unknown; they are taken out."""
    problems = []
    for section, cls in (("train", TrainConfig), ("evaluate", EvaluateConfig)):
        known = {f.name for f in dataclasses.fields(cls)} - {f.name for f in dataclasses.fields(Settings)}
        for key in known & set(sections["settings"]):
            del sections["settings"][key]
            problems.append(ConfigError(f"unknown key '{key}'", fix=f"did you mean '{section}.{key}'?"))
    heads = [f.name for f in dataclasses.fields(Settings)] + sorted({"pool", *sections} - {"settings"})
    for key in [key for key in sections["settings"] if str(key).partition(".")[0] not in heads]:
        del sections["settings"][key]
        problems.append(ConfigError(f"unknown key '{key}'", fix=suggestion(str(key).partition(".")[0], heads)))
    return problems


def _placeholder(name: str) -> dict[str, Any]:
    """Stands in for a section whose name is wrong, so that the other sections can still be checked."""
    return {"labels": ["0", "1"]} if name == "data" else {"name": "", "options": {}, "label": ""}


def _no_data() -> ConfigError:
    fix = f"add data=NAME (or data=FILE.yaml); {suggestion('', available('data_configs'))}"
    return ConfigError("no data set is given", fix=fix)


def _under(given: Mapping[str, Any], section: str) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key.split(".")[0] == section}


def _data_values(given: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """The YAML that ``data=NAME`` names (else what was saved), with the dotted overrides laid over it."""
    values = dict(saved)
    if "data" in given:
        path = find_yaml("data_configs", str(given["data"]))
        values = {"name": path.stem, "folder": str(path.parent.resolve()), **read_yaml(path)}
    for key, value in given.items():
        _, dot, rest = key.partition(".")
        if dot:
            _set_dotted(values, rest, value)
    return values


def _set_dotted(values: dict[str, Any], key: str, value: object) -> None:
    """Set ``a.b`` in nested mappings."""
    *parents, last = key.split(".")
    for parent in parents:
        child = values.get(parent)
        values[parent] = dict(child) if isinstance(child, Mapping) else {}
        values = values[parent]
    values[last] = value


def _fill_data(sections: dict[str, dict[str, Any]], given: dict[str, Any]) -> None:
    if not given and not sections["data"]:
        raise _no_data()
    sections["data"] = _data_values(given, sections["data"])


def _fill_strategy(sections: dict[str, dict[str, Any]], given: dict[str, Any]) -> None:
    if not given and not sections["strategy"]:
        valid = suggestion("", available("experiments/strategies"))
        raise ConfigError("no strategy is given", fix=f"add strategy=NAME; {valid}")
    if "strategy" in given:
        preset = read_yaml(find_yaml("experiments/strategies", str(given["strategy"])))
        sections["train"] = {**sections["train"], **preset.pop("train", {})}
        sections["strategy"] = {
            "name": preset.pop("name", given["strategy"]), "options": preset.pop("options", {}),
            "label": str(given["strategy"]),
        }
        if preset:
            raise ConfigError(f"strategy '{given['strategy']}' has keys that nothing reads", found=sorted(preset))
    _set_options(sections["strategy"], given)
    options = {key.partition(".")[2]: value for key, value in given.items() if "." in key}
    sections["strategy"]["label"] = _label(sections["strategy"].get("label", ""), options)


def _fill_student(sections: dict[str, dict[str, Any]], given: dict[str, Any]) -> None:
    if "student" in given:
        sections["student"] = {"name": str(given["student"]), "options": {}}
    elif not sections["student"]:
        sections["student"] = {"name": "truncated", "options": {}, "label": "truncated"}
    _set_options(sections["student"], given)
    if given:
        sections["student"]["label"] = _label(sections["student"]["name"], sections["student"]["options"])


def _label(name: str, options: Mapping[str, Any]) -> str:
    """What tables and folders call a component: ``truncated,layers=1``; a long one ends in a hash of the whole."""
    parts = (re.sub(r"[^A-Za-z0-9=.-]+", "_", f"{key}={value}") for key, value in sorted(options.items()))
    label = ",".join([name, *parts])
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 9]}-{sha256(label)[:8]}"


def _set_options(component: dict[str, Any], given: dict[str, Any]) -> None:
    options = dict(component.get("options") or {})
    options.update({key.partition(".")[2]: value for key, value in given.items() if "." in key})
    component["options"] = options
