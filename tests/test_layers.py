"""The layer table of the design, and the house rules that can be read from the source, hold for every module.

The rule on imports: a module imports only from layers below its own, with two exceptions inside one layer:
modules of one package may import each other (``dfkd.models`` and its subpackages are one package, and so on),
and a private module ``_x`` is a helper for its whole layer. Strategies never import each other. Imports
inside functions and under TYPE_CHECKING count as well.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Iterator

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = {  # the name below dfkd, as a regular expression; the first match counts
    0: r"|errors|batch",
    1: r"config|losses|seeding|packages|hub|state|_config\w*",
    2: r"tasks|corpora|runs|tracking|workers|pool|duplicates|plugins|_(?!_)\w+",
    2.5: r"text_pool",  # made of a pool's files
    3: r"models(\..+)?",
    4: r"synthesis(\.(base|registry|_\w+))?",
    5: r"synthesis\..+",
    5.5: r"budget",  # counts what teacher and strategy have spent
    6: r"distill|(evaluate|quality)(\..+)?",
    6.2: r"robustness(\..+)?",  # asks through evaluate
    6.5: r"teaching|doors|judge|pool_watch",  # teachers made, doors to texts; the pipeline is above them
    6.6: r"finished|stand_in|identity|scoring",  # students used and scored
    6.7: r"attacking|textattack_bridge",  # finished runs attacked
    7: r"pipeline|doctor|report(\..+)?",
    7.1: r"rescoring",
    7.4: r"grids",
    7.5: r"console|compare|synthesizing|prompting",  # the pipeline, watched and many times over
    7.6: r"ray_engine|tabling|exporting|sweeping(\..+)?",  # compare, elsewhere; its tables; searches
    7.8: r"commands(\..+)?",
    7.9: r"experiment",  # what a data set's script does
    8: r"cli",
    8.1: r"__main__",  # the command line, as a module
}
STRATEGIES, SCRIPTS = 5, 8
DYNAMIC_IMPORTS = {"importlib.import_module", "import_module", "__import__"}
UNSAFE_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# between teacher and finished student nothing can reach a task's texts: the firewall, by imports
FIREWALLED = r"dfkd\.(losses|pool|text_pool|duplicates|budget|distill|models(\..+)?|synthesis(\..+)?|quality(\..+)?)"
BEHIND_IT = {
    "dfkd.tasks", "dfkd.corpora", "dfkd._reading", "dfkd._rows", "dfkd.packages", "datasets", "pandas", "pyarrow",
    "csv",
}
LET_THROUGH = {
    ("dfkd.models.finetune", "datasets"),  # teacher training; it is given its rows
    ("dfkd.models.sources", "dfkd.packages"),  # finds models in installed packages
    ("dfkd.pool", "pyarrow"),  # its own files of pseudo data
}
MACHINE_PATH = re.compile(r"""(?<![\w.)\]}>])(/(root|home|work|tmp|mnt|Users|opt)/|[A-Z]:\\\\)""")


def modules_on_disk() -> dict[str, Path]:
    """Module name -> file, of everything in ``dfkd/`` and the scripts of ``experiments/``."""
    found = {}
    for folder in ("dfkd", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules_on_disk()
LIBRARY = {name: path for name, path in MODULES.items() if name.split(".")[0] == "dfkd"}


def layer(module: str) -> float | None:
    """The layer of a module; ``None``: the table has no place for it."""
    package, _, name = module.partition(".")
    if package == "experiments":
        return SCRIPTS
    return next((number for number, pattern in LAYERS.items() if re.fullmatch(pattern, name)), None)


def imports(module: str, source: str, known: set[str], is_package: bool = False) -> Iterator[tuple[str, int]]:
    """The modules that ``source`` imports, and the lines; ``from p import m`` is ``p.m`` if known."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                up = parents[: len(parents) - node.level + is_package]
                base = ".".join(up + ([base] if base else []))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in known else base), node.lineno
        elif isinstance(node, ast.Call) and called(node) in DYNAMIC_IMPORTS:
            if node.args and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value), node.lineno


def called(node: ast.Call) -> str:
    """The dotted name of what is called, such as ``torch.load``; empty for anything that is no plain name."""
    try:
        name = ast.unparse(node.func)
    except ValueError:
        return ""
    return name if re.fullmatch(r"[\w.]+", name) else ""


def may_import(module: str, target: str) -> bool:
    """Whether the table lets ``module`` import ``target``."""
    own, other = layer(module), layer(target)
    if own is None or other is None or own != other:
        return own is not None and other is not None and other < own
    mine, theirs = module.split("."), target.split(".")
    if own == STRATEGIES:  # a strategy may be a package of several modules
        return mine[:3] == theirs[:3]
    same_package = mine[:2] == theirs[:2] or mine[0] == theirs[0] == "experiments"
    return same_package or theirs[-1].startswith("_")


def layer_violations(module: str, source: str, known: set[str], is_package: bool = False) -> list[str]:
    """The imports of ``source`` that the table forbids."""
    found = []
    for target, line in imports(module, source, known, is_package):
        ours = target.split(".")[0] in ("dfkd", "experiments")
        if ours and target != module and not may_import(module, target):
            found.append(f"{module}:{line} (layer {layer(module)}) imports {target} (layer {layer(target)})")
    return found


def unsafe(module: str, source: str) -> list[str]:
    """Imports and calls that can run code from a file, and ``print``."""
    found = [
        f"{module}:{line} imports {target}"
        for target, line in imports(module, source, set())
        if target.split(".")[0] in UNSAFE_IMPORTS
    ]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in ("print", "eval", "exec", "builtins.eval", "builtins.exec", "builtins.print"):
            found.append(f"{module}:{node.lineno} calls {name}")
        if name == "torch.load" and not any(
            word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
            for word in node.keywords
        ):
            found.append(f"{module}:{node.lineno} calls torch.load without weights_only=True")
    return found


def firewall_holes(module: str, source: str, known: set[str]) -> list[str]:
    """Imports by which a module between teacher and student could read a task's texts."""
    if not re.fullmatch(FIREWALLED, module):
        return []
    found = []
    for target, line in imports(module, source, known):
        behind = next((name for name in BEHIND_IT if target == name or target.startswith(f"{name}.")), None)
        if behind is not None and (module, behind) not in LET_THROUGH:
            found.append(f"{module}:{line} imports {target}")
    return found


def function_lengths(module: str, source: str) -> dict[str, int]:
    """Lines of each function, docstring included."""
    return {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }


def test_every_module_has_a_layer() -> None:
    assert [name for name in MODULES if layer(name) is None] == []
    assert {layer(name) for name in MODULES} >= {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    path = MODULES[module]
    source = path.read_text(encoding="utf-8")
    assert layer_violations(module, source, set(MODULES), path.name == "__init__.py") == []


@pytest.mark.parametrize("module", MODULES)
def test_nothing_between_teacher_and_student_can_read_a_task(module: str) -> None:
    assert firewall_holes(module, MODULES[module].read_text(encoding="utf-8"), set(MODULES)) == []


@pytest.mark.parametrize(
    "module, source, caught",
    [
        ("dfkd.synthesis.sneaky", "from dfkd import config, tasks", True),
        ("dfkd.synthesis.sneaky", "def build(options, context):\n    from dfkd.tasks import load", True),
        ("dfkd.synthesis._helper", "import datasets", True),
        ("dfkd.models.students.sneaky", "from dfkd import _rows", True),
        ("dfkd.distill", "import pandas.io.parsers", True),
        ("dfkd.synthesis.sneaky", "import importlib\nimportlib.import_module('dfkd.tasks')", True),
        ("dfkd.synthesis.honest", "from dfkd import config", False),
        ("dfkd.pipeline", "from dfkd import tasks", False),
    ],
)
def test_the_checker_finds_holes_in_the_firewall(module: str, source: str, caught: bool) -> None:
    known = {"dfkd.tasks", "dfkd._rows", "dfkd.config"}
    assert bool(firewall_holes(module, source, known)) is caught


@pytest.mark.parametrize("package", [name for name, path in LIBRARY.items() if path.name == "__init__.py"])
def test_init_files_hold_a_docstring_only(package: str) -> None:
    path = LIBRARY[package]
    body = ast.parse(path.read_text(encoding="utf-8")).body
    assert len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)


def test_every_package_has_an_init_file() -> None:
    folders = {path.parent for path in LIBRARY.values()}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_nothing_prints_or_runs_what_a_file_says() -> None:
    sources = {name: path.read_text(encoding="utf-8") for name, path in LIBRARY.items()}
    assert [problem for name, source in sources.items() for problem in unsafe(name, source)] == []


def test_functions_are_short() -> None:
    lengths: dict[str, int] = {}
    for name, path in MODULES.items():
        lengths.update(function_lengths(name, path.read_text(encoding="utf-8")))
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    longer = {name: lines for name, lines in lengths.items() if lines >= 30}
    assert len(longer) <= 0.1 * len(lengths), longer


def test_files_are_short() -> None:
    lengths = {name: path.read_text(encoding="utf-8").count("\n") for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines >= 400} == {}


def test_no_machine_paths() -> None:
    found = [
        f"{name}:{number} {line.strip()}"
        for name, path in MODULES.items()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


KNOWN = {"dfkd.errors", "dfkd.config", "dfkd.models.split", "dfkd.synthesis._words", "dfkd.synthesis.as_dfd"}


@pytest.mark.parametrize(
    "module, source, caught",
    [
        ("dfkd.errors", "from dfkd.config import load", True),
        ("dfkd.errors", "from dfkd import config", True),
        ("dfkd.errors", "import dfkd.config", True),
        ("dfkd.errors", "from .config import load", True),
        ("dfkd.errors", "from . import config", True),
        ("dfkd.errors", "def f():\n    from dfkd.config import load", True),
        ("dfkd.errors", "if TYPE_CHECKING:\n    from dfkd.config import load", True),
        ("dfkd.errors", "import importlib\nimportlib.import_module('dfkd.config')", True),
        ("dfkd.errors", "import torch", False),
        ("dfkd.config", "from dfkd.losses import f", True),
        ("dfkd.config", "from dfkd.errors import ConfigError", False),
        ("dfkd.tasks", "from dfkd._rows import texts", False),
        ("dfkd.tasks", "from dfkd.runs import open", True),
        ("dfkd.models.teacher", "from dfkd.models import split", False),
        ("dfkd.models.students.truncated", "from ..split import Output", False),
        ("dfkd.models.students.truncated", "from ...synthesis import base", True),
        ("dfkd.synthesis.registry", "from dfkd.synthesis.base import Context", False),
        ("dfkd.synthesis._words", "from dfkd.synthesis.as_dfd import AsDfd", True),
        ("dfkd.synthesis.real_text", "from dfkd.synthesis import as_dfd", True),
        ("dfkd.synthesis.real_text", "from . import as_dfd", True),
        ("dfkd.synthesis.real_text", "from dfkd.synthesis import _words", False),
        ("dfkd.distill", "from dfkd.evaluate.scores import accuracy", True),
        ("dfkd.evaluate.scores", "from dfkd.evaluate.speed import latency", False),
        ("dfkd.report.page", "from dfkd.pipeline import run", True),
        ("experiments.demo", "from dfkd.pipeline import run", False),
        ("experiments.demo", "import dfkd.cli", True),
        ("dfkd.pipeline", "import experiments.demo", True),
        ("dfkd.newcomer", "from dfkd.errors import ConfigError", True),
    ],
)
def test_the_checker_tells_good_imports_from_bad(module: str, source: str, caught: bool) -> None:
    assert bool(layer_violations(module, source, KNOWN)) is caught


@pytest.mark.parametrize(
    "source, caught",
    [
        ("import pickle", True),
        ("def f():\n    from joblib import load", True),
        ("print(1)", True),
        ("eval('1')", True),
        ("torch.load(path)", True),
        ("torch.load(path, weights_only=False)", True),
        ("torch.load(path, weights_only=True)", False),
        ("model.eval()", False),
        ("console.print('x')", False),
        ("'print(1)'", False),
    ],
)
def test_the_checker_tells_safe_code_from_unsafe(source: str, caught: bool) -> None:
    assert bool(unsafe("dfkd.x", source)) is caught


@pytest.mark.parametrize(
    "line, caught",
    [("'/mnt/x'", True), ("# see /opt/x", True), ("f'{a}/home/b'", False), ("'data/tmp/'", False)],
)
def test_the_checker_finds_machine_paths(line: str, caught: bool) -> None:
    assert bool(MACHINE_PATH.search(line)) is caught


def test_the_checker_measures_functions() -> None:
    source = "def f():\n" + "    x = 1\n" * 60
    assert list(function_lengths("dfkd.x", source).values()) == [61]
