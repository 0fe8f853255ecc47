"""What the commands share.

Each command imports what it needs in its body: torch, transformers and datasets take seconds to import, and ``--help``
is to be quick.
"""

from __future__ import annotations

from pathlib import Path

import typer

from dfkd.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Data-free knowledge distillation of text classifiers.\n\n"
    "Settings are given as `key=value`, for example `dfkd run data=ag_news teacher=teachers/ag strategy=as_dfd "
    "student.layers=3 train.steps=600`. `dfkd strategies` lists strategies and their options; "
    "`dfkd doctor` tells what this machine has.",
)
Overrides = typer.Argument(
    None, metavar="[KEY=VALUE]...", help="Settings; values are read as YAML.", show_default=False
)


def require_file(out: Path | None) -> None:
    """Refuse a path that no file can be written to, before any work.

    Raises:
        ConfigError: it is a folder, or a file stands where one of its folders would be.
    """
    if out is None:
        return
    if out.is_dir():
        raise ConfigError(f"'{out}' is there already", expected="a file", found="a folder", fix="choose another --out")
    blocked = next((folder for folder in out.parents if folder.exists() and not folder.is_dir()), None)
    if blocked is not None:
        raise ConfigError(f"'{blocked}' is a file", expected=f"a folder, for {out.name}", fix="choose another --out")
