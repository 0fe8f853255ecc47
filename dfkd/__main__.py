"""``python -m dfkd``: the command line, where the command is not on the path."""

from dfkd.cli import main

if __name__ == "__main__":
    main()
