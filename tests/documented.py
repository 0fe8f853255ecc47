"""What the documentation shows a user: commands, files to write and Python, collected in the order of each page."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

ROOT = Path(__file__).resolve().parent.parent
# how a line begins that is a command; those that no page shows today are here so that they are noticed
PROGRAMS = (
    "dfkd", "python", "python3", "make", "bash", "sh", "pip", "git", "cd", "source", "export",
    "mkdocs", "pytest", "tensorboard", "ray", "docker", "conda", "uv", "curl", "wget",
)
SHELL = ("", "bash", "sh", "shell", "console")
FENCE = re.compile(r"^\s*(`{3,})\s*(\w*)(?:.*?title=\"([^\"]+)\")?.*$")
OPTIONAL = re.compile(r"(?<!\S)\[[^\]]*\](\.\.\.)?")
LEFT_OPEN = re.compile(r"(?<!\S)(?![A-Z_]+\.\.\.)\S*\.\.\.")  # ``...``, ``KEY=...``: it is no whole command
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Step:
    """One thing that a page shows.

    Args:
        page: the file, from the root of the repository.
        line: where it begins.
        kind: ``command``, ``mention`` (a command named within a sentence), ``file`` or ``python``.
        text: the command, or the content.
        name: of the file to write.
    """

    page: str
    line: int
    kind: str
    text: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text.splitlines()[0]}"

    @property
    def words(self) -> list[str]:
        """The command's words, without a prompt, comments, and what may be left out: ``[NAME]``."""
        return shlex.split(OPTIONAL.sub("", self.text.removeprefix("$ ")), comments=True)


def pages() -> list[str]:
    """Every file whose commands a user may copy."""
    patterns = (
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "experiments/*/*.yaml", "experiments/*.py",
        "benchmarks/*.py", "dfkd/commands/*.py",
    )
    return [path.relative_to(ROOT).as_posix() for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def steps(page: str, text: str | None = None) -> list[Step]:
    """What a page shows, in its order.

    Args:
        page: from the root of the repository; its ending tells how it is read.
        text: its content; ``None``: that of the file.
    """
    content = (ROOT / page).read_text(encoding="utf-8") if text is None else text
    reader = {".md": _of_markdown, ".yaml": _of_yaml, ".py": _of_python}[Path(page).suffix]
    return sorted(reader(page, content), key=lambda step: step.line)


def _of_markdown(page: str, text: str) -> Iterator[Step]:
    lines, prose, place = text.splitlines(), [], 0
    while place < len(lines):
        fence = FENCE.match(lines[place])
        if fence is None:
            prose.append(lines[place])
            place += 1
            continue
        end = next(i for i in range(place + 1, len(lines)) if lines[i].strip() == fence[1])
        block = lines[place + 1 : end]
        if fence[3]:
            yield Step(page, place + 1, "file", "\n".join(block) + "\n", fence[3])
        elif fence[2] == "python":
            yield Step(page, place + 1, "python", "\n".join(block) + "\n")
        elif fence[2] in SHELL:
            yield from _of_block(page, place + 2, block)
        prose += [""] * (end + 1 - place)
        place = end + 1
    yield from _of_block(page, 1, [line if line.startswith("    ") else "" for line in prose], mixed=True)
    yield from _inline(page, "\n".join(prose))


def _of_block(page: str, first: int, block: list[str], mixed: bool = False) -> Iterator[Step]:
    """The commands among lines; a line that a backslash ends goes on in the next.

    Args:
        page: see :class:`Step`.
        first: line number of the block's first line.
        block: its lines.
        mixed: whether there may be other lines beside commands.

    Raises:
        AssertionError: a line beside commands is none that we know.
    """
    joined, found, strange = "", [], []
    for number, line in enumerate(block, first):
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        if is_command(joined):
            found.append(Step(page, number, "command", joined))
        elif joined and not joined.startswith("#"):
            strange.append(joined)
        joined = ""
    assert mixed or not found or not strange, f"{page}:{first}: is this a command? {strange}"
    yield from found


def is_command(line: str) -> bool:
    """Whether a line begins as a command does, settings of the environment and a prompt aside."""
    words = line.removeprefix("$ ").split()
    while words and re.match(r"^[A-Z_]+=", words[0]):
        words.pop(0)
    return len(words) > 1 and words[0] in PROGRAMS


def _inline(page: str, text: str) -> Iterator[Step]:
    """Commands within sentences."""
    for span in INLINE.finditer(text):
        inside = " ".join(span[1].split())
        if is_command(inside):
            given = [word for word in OPTIONAL.sub("", inside).split()[1:] if not word.startswith("--")]
            whole = len(given) > 1 and not LEFT_OPEN.search(OPTIONAL.sub("", inside))
            yield Step(page, text.count("\n", 0, span.start()) + 1, "command" if whole else "mention", inside)


def _of_yaml(page: str, text: str) -> Iterator[Step]:
    """Indented lines of the comment at the top."""
    head = [line[1:] if line.startswith("#  ") else "" for line in text.splitlines()]
    yield from _of_block(page, 1, head, mixed=True)


def _of_python(page: str, text: str) -> Iterator[Step]:
    """Indented lines of the module's docstring, and commands in any other text of the module (such as help)."""
    tree = ast.parse(text)
    docstring = ast.get_docstring(tree) or ""
    indented = [line if line.startswith("    ") else "" for line in docstring.splitlines()]
    yield from _of_block(page, 1, indented, mixed=True)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for step in _inline(page, node.value):
                yield Step(page, node.lineno + step.line - 1, step.kind, step.text)
