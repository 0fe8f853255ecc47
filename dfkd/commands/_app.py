"""What the commands share.

Each command imports what it needs in its body: torch, transformers and datasets take seconds to import, and ``--help``
is to be quick.
"""

from __future__ import annotations

import typer

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
