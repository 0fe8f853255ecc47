"""The command line: ``dfkd``."""

from __future__ import annotations

import sys

from dfkd.commands import making, grids, judging, showing  # in this order they are in --help
from dfkd.commands._app import app
from dfkd.console import guarded

COMMANDS = (making, grids, judging, showing)  # each puts its commands into the app when it is imported


def main() -> None:
    """Entry point of the command ``dfkd``."""
    guarded(_run_app)


def _run_app() -> None:
    code = app(standalone_mode=False)
    if code == 130:  # typer's way to say that it was interrupted, unless it is an old one
        raise KeyboardInterrupt
    if code:  # of typer.Exit
        sys.exit(code)


if __name__ == "__main__":
    main()
