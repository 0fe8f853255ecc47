"""Nested state on disk without pickle: tensors as safetensors, the rest as JSON."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

TENSORS, TREE = "state.safetensors", "state.json"


def save(folder: Path, state: Any) -> None:
    """Write nested dicts, lists, tuples, numbers, strings, ``None`` and tensors into ``folder``.

    Raises:
        TypeError: the state holds something else.
        OSError: it cannot be written; with the system's own number, as where the disk is full.
    """
    tensors: dict[str, Tensor] = {}
    tree = _to_tree(state, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        save_file(tensors, folder / TENSORS)
    except SafetensorError as error:  # the library reports a full disk as one of its own errors
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder / TENSORS)) from error
    (folder / TREE).write_text(json.dumps(tree))


def load(folder: Path) -> Any:
    """Read what :func:`save` wrote; tensors come back on the CPU."""
    tensors = load_file(folder / TENSORS)
    return _from_tree(json.loads((folder / TREE).read_text()), tensors)


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new, never a part."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """As :func:`write_text`, of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _to_tree(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for ``value``; containers are tagged so that int keys and tuples survive, tensors are numbered."""
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().contiguous().clone()
        return {"tensor": key}
    if isinstance(value, dict):
        return {"dict": [[_to_tree(k, tensors), _to_tree(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return {"tuple" if isinstance(value, tuple) else "list": [_to_tree(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"state holds a {type(value).__name__}, which cannot be saved")


def _from_tree(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    (tag, content), = tree.items()
    if tag == "tensor":
        return tensors[content]
    if tag == "dict":
        return {_from_tree(k, tensors): _from_tree(v, tensors) for k, v in content}
    items = [_from_tree(item, tensors) for item in content]
    return tuple(items) if tag == "tuple" else items


def generator_state(generator: torch.Generator) -> Tensor:
    """The generator's state as a byte tensor, ready for :func:`save`."""
    return generator.get_state()
