"""The documentation: every command and block of Python works as it stands, and the site says what the code does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Callable

import as_a_user
import documented
import pytest
from as_a_user import User, commands, not_run, one_cell, small_settings
from documented import ROOT, Step

from dfkd import config, grids, pipeline, synthesizing, tabling
from dfkd.models.students.registry import STUDENTS
from dfkd.report import claims, document
from dfkd.sweeping import spec
from dfkd.synthesis import registry

sys.path.insert(0, str(ROOT / "docs"))  # as mkdocs does for its hooks

import _formulas  # noqa: E402
import _generated  # noqa: E402

STEPS = {page: documented.steps(page) for page in documented.pages()}
QUICK = tuple(  # pages that the default suite follows to the end; the others are slow
    f"docs/{page}.md" for page in ("tutorial", "data_sets", "strategies/as_dfd", "strategies/prompt_rl")
)
DIRECTLY = "docs/page.md"


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, data sets and files that pages name, and a finished run."""
    root = as_a_user.build_stand_ins(tmp_path_factory.mktemp("stand-ins"))
    with pytest.MonkeyPatch.context() as patched:
        user = User(tmp_path_factory.mktemp("first"), root, patched)
        for line in as_a_user.FIRST:
            user.follow(Step("here", 1, "command", line))
        for name in as_a_user.MADE:
            (user.folder / name).rename(root / name)
    return root


@pytest.fixture
def user(stand_ins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    return User(tmp_path, stand_ins, monkeypatch)


# commands

def followed() -> list[Any]:
    """The pages with something to do."""
    busy = [page for page, steps in STEPS.items() if any(step.kind in ("command", "python") for step in steps)]
    return [pytest.param(page, marks=[] if page in QUICK else pytest.mark.slow) for page in busy]


@pytest.mark.parametrize("page", followed())
def test_a_page_can_be_followed(page: str, user: User) -> None:
    """Step by step, as a user would, with stand-ins for what is not here and next to no budget."""
    for step in STEPS[page]:
        user.follow(step)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, steps in STEPS.items() if steps])
def test_settings_of_commands_are_known(page: str, user: User) -> None:
    """Each command, historic ones included, is one that exists, and its settings load as they are written."""
    for step in STEPS[page]:
        if step.kind == "file":
            user.follow(step)
        elif step.kind == "mention" and step.words[0] == "dfkd":
            assert step.words[1] in commands(), str(step)
        elif step.kind in ("command", "mention") and not_run(step) is None and step.words[0] == "dfkd":
            loaded(as_a_user.filled(step.words))


def loaded(words: list[str]) -> object:
    """Parse a command of ``dfkd``, and load what it is given; of a grid one cell (tests/test_compare.py loads all)."""
    name, arguments = words[1], words[2:] + (one_cell(words) if words[1:2] == ["compare"] else [])
    given = commands()[name].make_context(name, arguments).params
    loaders: dict[str, Callable[[list[str]], object]] = {
        "run": pipeline.load_config, "teacher": config.load_teacher, "synthesize": synthesizing.load_config,
        "compare": lambda overrides: grids.load(given["table"], overrides, given["only"] or []),
        "sweep": lambda overrides: spec.load(given["name"], overrides, given["trials"], given["out"]),
        "evaluate": config.parse_overrides, "attack": config.parse_overrides,
    }
    return loaders[name](list(given["overrides"] or [])) if name in loaders else None


def test_make_targets_are_there() -> None:
    """What no test runs is there all the same."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = [step for steps in STEPS.values() for step in steps if step.kind in ("command", "mention")]
    for step in shown:
        if step.words[0] == "make":
            assert {word for word in step.words[1:] if "=" not in word} <= targets, str(step)
        elif step.words[0] in ("bash", "python"):
            assert (ROOT / step.words[1]).is_file(), str(step)
        elif step.words[0] == "pip":
            extras = re.findall(r"\[(\w+)\]", step.text)
            assert all(f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8") for extra in extras)


def test_nothing_is_left_out_without_need() -> None:
    """Each reason for not running a command is of a command that some page shows."""
    shown = {word for steps in STEPS.values() for step in steps for word in step.text.split()}
    assert set(as_a_user.NOT_RUN) - {"docs", "types"} <= shown
    python = "".join(step.text for steps in STEPS.values() for step in steps if step.kind == "python")
    assert all(name in python for name in as_a_user.PYTHON_NOT_RUN)


def test_the_last_setting_counts(user: User) -> None:
    """Which is what lets a budget shrink by what is appended to a command."""
    given = "dfkd run data=toy teacher=teachers/toy strategy=random_tokens train.steps=400 run=short"
    user.follow(Step(DIRECTLY, 1, "command", given))
    assert json.loads((user.folder / "runs/short/result.json").read_text())["steps"] == 2


UNKNOWN = {
    "a target": ("make coffee", "say in NOT_RUN why not"),
    "a subcommand": ("dfkd brew strength=3", "say in SMALL how"),
    "a script": ("python experiments/coffee.py", "say in SMALL how"),
    "a program": ("docker run dfkd", "say in SMALL how"),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_a_new_kind_of_command_is_noticed(kind: str, user: User) -> None:
    command, said = UNKNOWN[kind]
    (step,) = documented.steps(DIRECTLY, f"Do this:\n\n```\n{command}  # now\n```\n")
    with pytest.raises(AssertionError, match=said):
        user.follow(step)


def test_a_command_that_fails_is_noticed(user: User) -> None:
    given = "Say `dfkd run data=toy teacher=teachers/toy strategy=as_dfd strategy.guess_rat=3`."
    step, = documented.steps(DIRECTLY, given)
    with pytest.raises(AssertionError, match="did you mean 'guess_rate'"):
        user.follow(step)


def test_lines_that_are_no_commands_are_noticed() -> None:
    with pytest.raises(AssertionError, match="is this a command.*brew coffee"):
        documented.steps(DIRECTLY, "```\ndfkd doctor\nbrew coffee\n```\n")


def test_what_a_page_shows_is_found() -> None:
    text = """
Say `dfkd doctor`, or `dfkd run data=toy
strategy=as_dfd` (see `make`).

```yaml title="own.yaml"
labels: [a, b]
```

    dfkd report \\
        --out page.html

```
$ dfkd predict RUN TEXT...     # a comment
runs=1
```
""".replace("runs=1\n", "")
    found = [(step.kind, step.line, step.words or step.text) for step in documented.steps(DIRECTLY, text)]
    assert found == [
        ("mention", 2, ["dfkd", "doctor"]), ("command", 2, ["dfkd", "run", "data=toy", "strategy=as_dfd"]),
        ("file", 5, ["labels:"]), ("command", 10, ["dfkd", "report", "--out", "page.html"]),
        ("command", 13, ["dfkd", "predict", "RUN", "TEXT..."]),
    ]


def test_budgets_shrink(user: User) -> None:
    step = Step(DIRECTLY, 1, "command", "dfkd run strategy=keyword_prompt")
    small = small_settings(step.words, step)
    assert {"train.steps=2", "strategy.max_new_tokens=4"} <= set(small) and "strategy.moment_samples=8" not in small
    grid = Step(DIRECTLY, 1, "command", "dfkd compare tiny --only imdb")
    assert small_settings(grid.words, grid)[-4:] == ["--only", "2 fresh layers", "--only", "random_tokens"]


# what the site says of the code

def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(name: str) -> str:
    """The section of a strategy in the pages of docs/strategies."""
    page = page_text(f"strategies/{_generated.page_of(name)}")
    return page.split(f"\n## `{name}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", registry.available())
def test_every_strategy_is_described(name: str) -> None:
    """By a formula or a definition, a command, what it costs, when it fails, and all of its options."""
    text = section(name)
    assert "```math" in text or "**Definition.**" in text
    assert "**Costs**" in text and "**Where it fails.**" in text
    assert f"strategy={name}" in text or f"{name}=" in text
    assert f"<!-- dfkd: strategy {name} -->" in text
    shown, options = _generated.strategy(name), registry.describe(name)[1]
    assert all(shown.count(f"| `strategy.{option.name}` |") == 1 for option in options)


@pytest.mark.parametrize("name", STUDENTS.available())
def test_every_student_is_described(name: str) -> None:
    text = page_text("students.md").split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    shown = _generated.filled(text)
    assert all(f"| `student.{option.name}` |" in shown for option in STUDENTS.describe(name)[1])


def test_generated_parts_are_what_the_code_says() -> None:
    assert "| `strategy.difficulty` | `kl` | `mask` `kl` |" in _generated.strategy("as_dfd")
    assert "presets: `strategy=as_dfd/paper`" in _generated.strategy("as_dfd")
    assert "not data-free" in _generated.strategy("real_text")
    assert "[`dafl`](embeddings.md#dafl) | embeddings |" in _generated.strategies("")
    assert "| `train.steps` | `600` | int | budget in student steps. |" in _generated.settings("train")
    assert "## `dfkd predict`" in _generated.commands("") and "`--json`" in _generated.commands("")
    assert "`all_alike`" in _generated.alarm_rules("") and "gap closed" in _generated.columns("")
    assert "| `data=sst2` | 2 | 48 |" in _generated.data_sets("")
    with pytest.raises(KeyError, match="weather"):
        _generated.filled("<!-- dfkd: weather today -->")


def test_tables_keep_their_columns() -> None:
    """Whatever stands in an option's help or default: a bar would begin a new column."""
    for name in registry.available():
        rows = [line.strip() for line in _generated.strategy(name).splitlines() if line.strip().startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {5}


@pytest.mark.slow
def test_every_formula_can_be_set() -> None:
    for path in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"```math\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            assert _formulas.fence(block).count("<svg") == len(block.strip().splitlines())


def test_formulas() -> None:
    shown = _formulas.picture(r"\frac{a}{b} < c")
    assert 'aria-label="\\frac{a}{b} &lt; c"' in shown and 'fill="currentColor"' in shown
    with pytest.raises(ValueError, match="frac"):
        _formulas.picture(r"\frac{a}")


def test_every_page_has_its_place() -> None:
    """In the navigation: the build refuses pages that are not there, and this tells sooner."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\nvalidation:")[0]
    listed = re.findall(r"^ +- (?:[^#\n]*: )?([\w/]+\.md)$", navigation, re.MULTILINE)
    there = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(there)


@pytest.mark.slow
def test_the_pages_of_results_and_claims_are_what_the_result_files_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    command = "dfkd table results --out docs/results.md"
    assert page == document.write(tabling.grids([Path("results")]), "markdown", command)
    page = (ROOT / "docs/claims.md").read_text(encoding="utf-8")
    file = config.find_yaml("experiments/paper_tables", "claims")
    found = claims.judge(file, [run for grid in tabling.grids([Path("results")]) for run in grid.results])
    assert page == claims.markdown(found, "dfkd claims results --out docs/claims.md")


def test_no_result_names_a_folder_of_anybodys_machine() -> None:
    paths = list((ROOT / "results").rglob("*.json"))
    named = [str(path) for path in paths if re.search(r'"/[a-z]+/', path.read_text(encoding="utf-8"))]
    assert paths and not named, "copy results with --keep FOLDER of dfkd compare, which leaves such folders out"


@pytest.mark.slow
def test_the_site_is_built_and_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strictly: broken links and faulty docstrings of the API fail; no page loads anything from another host."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.chdir(ROOT)
    site = tmp_path / "site"
    settings = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(site), strict=True)
    settings.plugins.on_startup(command="build", dirty=False)
    build(settings)
    pages = {path.relative_to(site).as_posix(): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    loads = re.compile(r'<(?:script|img|iframe|source)[^>]*src="(https?:)?//|<link rel="stylesheet" href="(https?:)?//')
    assert [name for name, text in pages.items() if loads.search(text)] == []
    formulas = re.findall(r'<svg role="img" aria-label="([^"]*)"', pages["strategies/as_dfd.html"])
    assert len(formulas) == 5 and any("MASK" in tex for tex in formulas)
    assert "HardWords" in pages["adding_a_strategy.html"]
    assert 'id="dfkd.losses.distillation_kl"' in pages["api/strategies.html"]
    assert not [name for name, text in pages.items() if name.startswith("api/") and ":class:" in text]
