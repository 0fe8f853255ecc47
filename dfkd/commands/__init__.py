"""The commands of ``dfkd``, a module a kind of work."""
