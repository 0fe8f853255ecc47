"""The command line: ``dfkd``."""

from __future__ import annotations

import sys

from dfkd.commands import grids, judging, making, showing
from dfkd.commands._app import app
from dfkd.console import guarded

COMMANDS = (making, grids, judging, showing)  # each puts its commands into the app, in the order of --help


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
