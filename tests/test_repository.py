"""The files around the code: what is installed, what is pinned, what the contributing page shows."""

from __future__ import annotations

import ast
import configparser
import contextlib
import importlib.metadata
import re
import socket
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dfkd import packages
from dfkd.batch import Feedback, PseudoBatch
from dfkd.errors import ConfigError
from dfkd.models import tiny
from dfkd.models.classifier import load_tokenizer

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "pyyaml", "google": "protobuf"}


def setup() -> configparser.ConfigParser:
    """The parsed setup.cfg."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def names(requirements: str) -> set[str]:
    """Normalised distribution names in a block of requirement lines."""
    lines = (line.strip() for line in requirements.splitlines())
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines if not line.startswith(("#", "%")))
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in found if match}


def declared() -> set[str]:
    """Everything that setup.cfg asks for, extras included."""
    parser = setup()
    blocks = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    return names("\n".join(blocks))


def test_every_yaml_is_installed() -> None:
    entries = setup()["options.data_files"]
    missing = []
    for path in [*ROOT.glob("data_configs/**/*"), *ROOT.glob("experiments/**/*.yaml")]:
        place = path.relative_to(ROOT)
        patterns = entries.get(f"share/dfkd/{place.parent.as_posix()}", "").split()
        shallow = (p for p in patterns if p.count("/") == place.as_posix().count("/"))
        if path.is_file() and not any(fnmatch(place.as_posix(), pattern) for pattern in shallow):
            missing.append(place.as_posix())
    assert missing == [], "add their folders under options.data_files in setup.cfg"


def test_every_import_is_declared() -> None:
    imported = set()
    for path in [*ROOT.glob("dfkd/**/*.py"), *ROOT.glob("experiments/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add((node.module or "").split(".")[0])
    own = {"dfkd", *(path.stem for path in ROOT.glob("experiments/*.py"))}
    foreign = imported - set(sys.stdlib_module_names) - own
    assert {DISTRIBUTIONS.get(name, name).replace("_", "-") for name in foreign} <= declared()


def test_constraints_pin_everything_declared() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert declared() - names(text) == {"vllm"}  # it pins a torch of its own
    pin = re.compile(r'#.*|[\w.-]+==[\w.]+(; python_version (<|>=) "3.11")?')
    assert [line for line in text.splitlines() if not pin.fullmatch(line)] == []


def test_constraints_leave_out_no_python() -> None:
    """A pin for Python 3.11 alone would leave 3.10 with whatever is newest, and the other way round."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {side: names("\n".join(re.findall(rf".*{side} .*", text))) for side in ("<", ">=")}
    only_older = {"exceptiongroup", "tomli", "pytz", "six"}  # newer Pythons and packages do without
    assert pinned["<"] - pinned[">="] == only_older
    assert pinned[">="] - pinned["<"] == {"narwhals"}  # only newer versions of scikit-learn want it


def test_constraints_fit_the_first_patch_release_too() -> None:
    """Debian 12 has Python 3.11.2: a pin that wants 3.11.5 leaves its pip without a choice."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    needs = {}
    for pin in (pin for pin in pins if pin.marker is None or pin.marker.evaluate()):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(pin.name)
            if found.version in pin.specifier:
                said = "Requires-Python" in found.metadata
                needs[pin.name] = SpecifierSet(found.metadata["Requires-Python"] if said else "")
    assert len(needs) > 100  # as many as an installation by the constraints has
    first = f"{sys.version_info.major}.{sys.version_info.minor}.0"
    assert [name for name, versions in needs.items() if first not in versions] == []


def test_version_is_the_same_everywhere() -> None:
    version = setup()["metadata"]["version"]
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert version in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_demo_packages_are_the_ones_that_configs_name() -> None:
    listed = names((ROOT / "requirements-demo.txt").read_text(encoding="utf-8"))
    named = set()
    patterns = ("data_configs/*.yaml", "dfkd/**/*.py", "experiments/**/*.py")
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        named |= set(re.findall(r"package:([a-z][\w-]+)", path.read_text(encoding="utf-8")))
    assert named <= listed


def test_packages_hold_what_is_named_in_them() -> None:
    absent = []
    for path in [*ROOT.glob("data_configs/**/*.yaml"), *ROOT.glob("experiments/**/*.yaml")]:
        for reference in re.findall(r"package:[\w-]+:[\w./-]+", path.read_text(encoding="utf-8")):
            try:
                packages.locate(reference)
            except ConfigError as error:
                absent += [] if "is not installed" in error.problem else [f"{path.name}: {reference}"]
    assert absent == []


def test_network_is_out_of_reach(no_network: list[str]) -> None:
    with socket.socket() as remote, pytest.raises(ConnectionRefusedError, match="tests are offline"):
        remote.connect(("192.0.2.1", 80))
    assert no_network == ["('192.0.2.1', 80)"]
    no_network.clear()


def test_this_machine_is_in_reach(no_network: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
    assert no_network == []


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The strategy of CONTRIBUTING.md, as a module."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.search(r"```python[^\n]*\n(.*?)```", page, re.DOTALL)
    assert found is not None
    module = ModuleType("dfkd.synthesis.hard_words")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(compile(found[1], "CONTRIBUTING.md", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def context(folder: Path, pair: bool = False) -> SimpleNamespace:
    tokenizer = load_tokenizer(str(tiny.build(folder, ["good bad film plot actor story"])))
    return SimpleNamespace(
        teacher=SimpleNamespace(tokenizer=tokenizer), pair=pair, generator=torch.Generator().manual_seed(0)
    )


def test_example_strategy_learns(example: ModuleType, tmp_path: Path) -> None:
    def share(boost: float) -> float:
        strategy = example.build(example.Options(vocabulary=4, length=1, boost=boost), context(tmp_path))
        hard = strategy.words[0]
        for step in range(20):
            batch = strategy.synthesize(8)
            teacher = torch.tensor([[1.0, 0.0]] * 8)
            student = torch.tensor([[0.0, 1.0] if text == hard else [1.0, 0.0] for text in batch.texts])
            strategy.observe(Feedback(step, batch, teacher, student, {}))
        return strategy.synthesize(200).texts.count(hard) / 200

    assert share(0.0) < 0.4 < 0.9 < share(1.0)


def test_example_strategy_keeps_its_weights_in_bounds(example: ModuleType) -> None:
    strategy = example.HardWords([f"w{i}" for i in range(50)], 1, 1.0, torch.Generator().manual_seed(0))
    batch = PseudoBatch(texts=("w0",) * 64)
    strategy.observe(Feedback(0, batch, torch.tensor([[1.0, 0.0]] * 64), torch.tensor([[0.0, 1.0]] * 64), {}))
    assert strategy.weights.max() == strategy.weights[0] == 10


def test_example_strategy_resumes(example: ModuleType, tmp_path: Path) -> None:
    first = example.build(example.Options(), context(tmp_path))
    first.weights[0] = 5.0
    state = {name: value.clone() for name, value in first.state_dict().items()}
    expected = first.synthesize(4).texts
    second = example.build(example.Options(), context(tmp_path))
    second.load_state_dict(state)
    assert second.synthesize(4).texts == expected


def test_example_strategy_refuses(example: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="strategy.boost"):
        example.Options(boost=-1)
    with pytest.raises(ConfigError, match="single texts"):
        example.build(example.Options(), context(tmp_path, pair=True))
