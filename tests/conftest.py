"""What every test runs under: one torch thread, no hub, no network; and the tiny models that many tests share."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, Callable, Iterator

# Before the first import of torch and the hub's libraries, which read these once; processes that tests start
# inherit them. On two cores, two torch processes of two threads each take a hundred times as long as of one.
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", MPLBACKEND="Agg")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
CACHE = tempfile.TemporaryDirectory(prefix="dfkd-tests-")  # goes with the process; never the user's own cache
os.environ["HF_DATASETS_CACHE"] = CACHE.name

import pytest  # noqa: E402
import torch  # noqa: E402

from dfkd import config, synthesizing, tasks, teaching  # noqa: E402
from dfkd.config import DataConfig  # noqa: E402
from dfkd.models import tiny  # noqa: E402

torch.set_num_threads(1)
# a forked process gets its pool of threads before the several threads that load a model ask for one at once, and fail
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def is_local(address: Any) -> bool:
    """Whether a socket address stays on this machine; Unix sockets have paths, not (host, port) pairs."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail a test that talks to another machine, even where the error is swallowed; gives the attempts."""
    attempts: list[str] = []

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, *args: Any) -> Any:
            if not is_local(args[-1]):
                attempts.append(str(args[-1]))
                raise ConnectionRefusedError(f"tests are offline: {args[-1]}")
            return original(self, *args)

        return call

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
    yield attempts
    if attempts:
        pytest.fail(f"the test tried to reach the network: {', '.join(attempts)}")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets and small models that DFKD_DATA names; without it the test is skipped."""
    root = os.environ.get("DFKD_DATA")
    if not root:
        pytest.skip("needs real data: DFKD_DATA is not set")
    if not Path(root).is_dir():
        pytest.fail(f"DFKD_DATA is not a folder: {root}")
    return Path(root)


@pytest.fixture(scope="session")
def toy_data() -> DataConfig:
    """The data set that comes with the repository: made-up sentences on three topics."""
    return config.load_data({"data": "toy"})


def toy_texts(toy_data: DataConfig) -> list[str]:
    """The training texts, which the tiny models' vocabularies come from."""
    return [str(text) for text in tasks.load(toy_data).hand_out("train", to="teacher_training").texts]


@pytest.fixture(scope="session")
def encoders(toy_data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Architecture -> the folder of a tiny random encoder of 4 layers with the toy data's vocabulary."""
    texts = toy_texts(toy_data)
    root = tmp_path_factory.mktemp("encoders")

    def encoder(model_type: str) -> Path:
        folder = root / model_type
        return folder if folder.is_dir() else tiny.build(folder, texts, model_type, layers=4)

    return encoder


@pytest.fixture(scope="session")
def toy_encoder(toy_data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random BERT of 2 layers with the toy data's vocabulary."""
    texts = toy_texts(toy_data)
    return tiny.build(tmp_path_factory.mktemp("encoder") / "bert", texts, "bert", layers=2)


@pytest.fixture(scope="session")
def toy_language_model(toy_data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random GPT-2 of 2 layers over the toy data's words."""
    return tiny.build_language_model(tmp_path_factory.mktemp("language") / "gpt2", toy_texts(toy_data))


@pytest.fixture(scope="session")
def toy_pool(toy_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a pool of 60 texts of random words, labelled by the toy teacher; read it, never write to it."""
    folder = tmp_path_factory.mktemp("pools") / "toy"
    given = ["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", "strategy.max_length=12", "device=cpu"]
    settings, config = synthesizing.load_config([*given, "precision=float32", "samples=60", f"out={folder}"])
    synthesizing.synthesize(settings, config)
    return folder


@pytest.fixture(scope="session")
def toy_teacher(toy_data: DataConfig, toy_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a teacher of 2 layers that has learned the toy data; read it, never write to it."""
    folder = tmp_path_factory.mktemp("teachers") / "toy"
    # by_length: what the tests on it were written for
    values = {"epochs": 15, "learning_rate": 2e-3, "batch_order": "by_length", "device": "cpu", "precision": "float32"}
    given = [f"model={toy_encoder}", f"out={folder}", *(f"{name}={value}" for name, value in values.items())]
    data, settings = config.load_teacher(["data=toy", *given])
    teaching.make_teacher(data, settings, quiet=True)
    return folder
