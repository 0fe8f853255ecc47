"""What the build of the site adds to the pages of docs/: generated tables, formulas, readable cross-references."""

from __future__ import annotations

import re
from typing import Any

import _formulas  # mkdocs puts the folder of a hook on the path while it loads it
import _generated

ROLE = re.compile(r":(?:class|func|meth|mod|data):<code>~?([\w.]+)</code>")


def on_config(config: Any) -> Any:
    """Fenced blocks of the language ``math`` become pictures of their formulas."""
    fence = {"name": "math", "class": "math", "format": _formulas.fence}
    config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", []).append(fence)
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lines such as ``<!-- dfkd: strategy as_dfd -->`` become what the code itself says."""
    return _generated.filled(markdown)


def on_page_content(html: str, **_: Any) -> str:
    """References of docstrings, in the notation of another tool, become plain names."""
    return ROLE.sub(lambda role: f"<code>{role[1].rpartition('.')[2]}</code>", html)
