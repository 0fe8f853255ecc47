"""Where a model comes from: a local folder, an installed package, or the hub."""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Callable, TypeVar

from safetensors import SafetensorError
from transformers import AutoConfig, PretrainedConfig

from dfkd import hub, packages
from dfkd.errors import ConfigError

T = TypeVar("T")


class NoFolder(ConfigError):
    """A reference looks like a local folder, and there is none."""


def resolve(reference: str) -> str:
    """The folder, or the hub name, that transformers can load.

    Args:
        reference: a folder, ``package:DIST[:PATH]``, or a hub name such as ``bert-base-uncased``.

    Raises:
        ConfigError: a path-like reference does not exist, or a folder holds no ``config.json``.
    """
    if packages.is_package_reference(reference):
        return str(packages.locate(reference))
    folder = Path(reference).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            _refuse_student(reference, extras_in(folder).get("kind"))
            found = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "an empty folder"
            raise ConfigError(f"'{reference}' is no model folder", expected="a config.json in it", found=found)
        return str(folder)
    if reference.startswith((".", "/", "~")) or reference.count("/") > 1:
        raise no_folder(reference)
    return reference


def no_folder(reference: str, make: str = "") -> NoFolder:
    """The error about a folder that is not there.

    Args:
        reference: what was given.
        make: how to make such a folder; empty: nothing is said of it.
    """
    fix = f"{_meant(reference)}give an existing folder, package:DIST or a hub name{make and '; ' + make}"
    return NoFolder(f"there is no model folder '{reference}'", fix=fix)


def _meant(reference: str) -> str:
    """A question that names the folder beside the one given whose name is closest; empty where none is close."""
    path = Path(reference).expanduser()
    beside = [folder.name for folder in path.parent.iterdir() if folder.is_dir()] if path.parent.is_dir() else []
    close = get_close_matches(path.name, sorted(beside), n=1)
    return f"did you mean '{reference[: -len(path.name)]}{close[0]}'? " if close and path.name else ""


def _looks_local(reference: str) -> bool:
    """Whether a reference that could be a hub's ``owner/name`` is meant for a folder."""
    first, slash, _ = reference.partition("/")
    return bool(slash) and (first == "teachers" or Path(first).is_dir())


def located(reference: str, marker: str = "config.json") -> Path:
    """The path that a reference would stand for on this machine; it need not exist, as for hub names.

    Args:
        reference: as for :func:`resolve`, or a file.
        marker: file that tells the folder meant in a package; a pattern such as ``*.gguf``.

    Raises:
        ConfigError: the package is not installed, or holds nothing of that name.
    """
    if packages.is_package_reference(reference):
        return packages.locate(reference, marker)
    return Path(reference).expanduser()


def guarded(load: Callable[..., T], reference: str, **options: Any) -> T:
    """Call a ``from_pretrained`` and turn its failures into a :class:`ConfigError`.

    Raises:
        ConfigError: the model cannot be loaded, for example for want of a network.
    """
    return attempt(load, resolve(reference), reference, **options)


def attempt(load: Callable[..., T], source: str, reference: str, **options: Any) -> T:
    """As :func:`guarded`, for a folder or hub name that is found already.

    Args:
        load: a ``from_pretrained``.
        source: what it is called with.
        reference: what messages call the model.
        options: for ``load``.

    Raises:
        ConfigError: the model cannot be loaded.
    """
    if not Path(source).is_dir() and not hub.answers():
        options["local_files_only"] = True  # the cache may have it
    try:
        return load(source, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        there = Path(source).is_dir()
        if not there and _looks_local(reference):  # not before: the hub may have an owner called as a folder is
            raise no_folder(reference) from error
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        meant = "" if there else _meant(reference)
        fix = f"{meant}check the spelling; without a network give a local folder or package:DIST"
        raise ConfigError(f"the model '{reference}' cannot be loaded", found=first_line, fix=fix) from error


def load_config(reference: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """The model's configuration, without its weights.

    Raises:
        ConfigError: it cannot be loaded.
    """
    return guarded(AutoConfig.from_pretrained, reference, trust_remote_code=trust_remote_code)


def read_extras(reference: str) -> dict[str, Any]:
    """What dfkd stored beside a model in ``dfkd.json``; empty for models from elsewhere."""
    return extras_in(Path(resolve(reference)))


def extras_in(folder: Path) -> dict[str, Any]:
    """The content of a folder's ``dfkd.json``; empty where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / "dfkd.json"
    if not path.is_file():
        return {}
    try:
        extras: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"'{path}' is damaged", expected="JSON", found=str(error), fix="restore it") from error
    return extras


def _refuse_student(reference: str, kind: str | None) -> None:
    if kind is not None:
        raise ConfigError(
            f"'{reference}' holds a '{kind}' student, which transformers cannot load",
            expected="an encoder or a classifier of transformers, with its config.json",
            found="a student for 'dfkd evaluate' and 'dfkd predict' alone",
            fix="give the folder of a model of transformers",
        )


def fingerprint(reference: str) -> str:
    """The sha256 of a local model's weights and configuration; for a hub name, of the name alone."""
    folder = Path(resolve(reference))
    return folder_fingerprint(folder) if folder.is_dir() else hashlib.sha256(reference.encode()).hexdigest()


def folder_fingerprint(folder: Path) -> str:
    """The sha256 of the weights and the configuration in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.suffix in (".safetensors", ".bin") or path.name == "config.json":
            digest.update(path.name.encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
