"""The scripts per data set: scales, stand-ins, and the way through at smoke size."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from dfkd import config, experiment, grids, stand_in, synthesizing
from dfkd.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
DATA = ("ag_news", "dbpedia14", "imdb", "sst2")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# stand-ins


@pytest.mark.parametrize("name", config.available("data_configs"))
def test_made_up_rows_have_the_data_sets_columns_and_all_classes(name: str, tmp_path: Path) -> None:
    data = config.load_data({"data": name})
    stand_in.make(data, tmp_path)
    made = rows(tmp_path / "train.jsonl")
    assert len(made) == stand_in.ROWS["train"] and all(set(row) == {*data.text, data.label} for row in made)
    assert {row[data.label] for row in made} == set(range(len(data.labels)))
    own = stand_in.class_words(data)[data.labels[0]]
    first = [row for row in made if row[data.label] == 0]
    assert all(set(own) & set(" ".join(row[column] for column in data.text).split()) for row in first[:10])


def test_stand_ins_are_made_once_and_alike(tmp_path: Path) -> None:
    data = config.load_data({"data": "sst2"})
    for folder in ("a", "b"):
        stand_in.make(data, tmp_path / folder)
    first, second = ((tmp_path / folder / "train.jsonl").read_bytes() for folder in ("a", "b"))
    assert first == second
    (tmp_path / "a/test.jsonl").write_text("mine")
    stand_in.make(data, tmp_path / "a", seed=1)
    assert (tmp_path / "a/test.jsonl").read_text() == "mine" and (tmp_path / "a/train.jsonl").read_bytes() == first
    stand_in.make(data, tmp_path / "c", seed=1)
    assert (tmp_path / "c/train.jsonl").read_bytes() != first


# scales


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("scale", config.available(experiment.SCALES))
def test_what_a_scale_names_is_there_and_its_settings_are_known(scale: str, data: str) -> None:
    plan = experiment.load(scale, data)
    shared = grids.settings_of(plan["settings"])
    assert plan["teachers"] and experiment._tables(plan, data, [])
    for folder, own in plan["teachers"].items():
        loaded, options = config.load_teacher([f"data={data}", *shared, *grids.settings_of(own), f"out={folder}"])
        assert loaded.name == data and options.out == folder and "{data}" not in f"{folder}{own}"
    for folder, own in plan["pools"].items():
        settings, made = synthesizing.load_config(
            [f"data={data}", *shared, *grids.settings_of(own), f"out={folder}"]
        )
        assert made.teacher in plan["teachers"] and settings.out == folder
    teachers = {
        grids.filled({**(grid.get("settings") or {}), **(grid["data"][data] or {})}, data)["teacher"]
        for table in experiment._tables(plan, data, [])
        for grid in [config.read_yaml(config.find_yaml(grids.TABLES, table))]
    }
    assert teachers <= set(plan["teachers"])  # every teacher that a table asks for is made


def test_settings_reach_the_run_as_they_were_meant() -> None:
    plan = experiment.load("cpu", "sst2")
    own = plan["pools"]["pools/sst2-keyword_prompt"]
    _, made = synthesizing.load_config(["data=sst2", *grids.settings_of(own), "out=x"])
    assert made.strategy.options["opening"] == "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("table: [smoke]", "unknown key 'table'(?s:.*)did you mean 'tables'"),
        ("teachers: {}", "no tables"),
        ("tables: [smoke]", "no table of this scale has the data set 'toy'"),
        ("tables: [smoke]\nteachers: {all: x}", "mine.yaml: teachers(?s:.*)say whose 'all' is"),
        ("tables: [smoke]\npools: {x: {strategy: lm_free}}", "mine.yaml: pools(?s:.*)say whose 'x' is: all, or"),
    ],
)
def test_a_wrong_scale_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        experiment.run("toy", str(path))


def test_names_and_engine_are_looked_at_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no table of this scale has 'keyword_promt'(?s:.*)did you mean 'keyword_pro"):
        experiment.run("sst2", "cpu", only=["keyword_promt"])
    with pytest.raises(ConfigError, match="there is no engine 'rai'"):
        experiment.run("sst2", "cpu", engine="rai")
    assert not list(tmp_path.iterdir())


def test_overrides_are_looked_at_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "_prepare", lambda *_: pytest.fail("work began"))
    for wrong, said in (("foo", "not of the form"), ("train.step=2", "unknown key 'train.step'")):
        with pytest.raises(ConfigError, match=f"(?s){said}"):
            experiment.run("sst2", "smoke", [wrong], [], 1, "processes", None, False)


def test_a_name_chooses_tables_that_have_it_and_what_their_rows_need(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = experiment.load("cpu", "sst2")
    assert set(experiment._tables(plan, "sst2", [])) == {"tiny", "minilm"}
    assert experiment._tables(plan, "sst2", ["fast_guess"]) == {"tiny": ["fast_guess"]}
    assert experiment._tables(plan, "sst2", ["minilm", "lm_prompt"]) == {"minilm": ["lm_prompt"]}
    with pytest.raises(ConfigError, match="no table of this scale has the data set 'sst2' with lm_free"):
        experiment._tables(plan, "sst2", ["minilm", "lm_free"])

    with pytest.raises(ConfigError, match="'imdb' is another data set than 'sst2'\n.*run the script of imdb"):
        experiment._tables(plan, "sst2", ["imdb"])
    assert set(experiment._tables(plan, "sst2", ["sst2"])) == {"tiny", "minilm"}

    def prepared(*only: str) -> list[str]:
        made: list[str] = []
        monkeypatch.setattr(experiment.teaching, "make_teacher", lambda data, options, **_: made.append(
            f"{options.out} {data.max_length}") or {"scores": None})
        monkeypatch.setattr(experiment.synthesizing, "synthesize", lambda pool, *_: made.append(pool.out))
        experiment._prepare(plan, "sst2", experiment._tables(plan, "sst2", only), ["data.max_length=24", "threads=1"])
        return made

    assert prepared("prompt_rl") == ["teachers/sst2-tiny 24", "teachers/sst2-minilm 24"]
    assert prepared("minilm", "prompt_rl") == ["teachers/sst2-minilm 24"]
    assert prepared("tiny", "keyword_prompt, as_dfd") == ["teachers/sst2-tiny 24", "pools/sst2-keyword_prompt"]
    assert prepared("minilm", "keyword_prompt") == ["teachers/sst2-minilm 24", "pools/sst2-minilm-keyword_prompt"]


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown scale 'smok'(?s:.*)did you mean 'smoke'"):
        experiment.run("sst2", "smok")


def test_names_of_the_data_set_are_filled_in() -> None:
    value = {"a-{data}": ["pools/{data}", 3, {"x": "{data}"}]}
    assert grids.filled(value, "sst2") == {"a-sst2": ["pools/sst2", 3, {"x": "sst2"}]}


# the way through


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["sst2.py", *arguments])
    try:
        runpy.run_path(str(ROOT / "experiments/sst2.py"), run_name="__main__")
    except (SystemExit, typer.Exit) as stop:
        return int(getattr(stop, "code", None) or getattr(stop, "exit_code", 0))
    return 0


@pytest.mark.slow
def test_a_script_makes_all_that_it_needs_and_makes_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "--scale", "smoke", "--only", "random_tokens", "--only", "keyword_prompt") == 0
    printed = capsys.readouterr().out
    assert "2 of 2 runs" in printed and "| keyword_prompt | 1 |" in printed
    result = tmp_path / "runs/smoke/sst2/1_layer/keyword_prompt/seed0/result.json"
    before = result.stat().st_mtime_ns
    assert json.loads(result.read_text())["generated_tokens"] > 0
    assert call(monkeypatch, "--scale", "smoke", "--only", "keyword_prompt", "--keep", "kept") == 0
    assert result.stat().st_mtime_ns == before and len(list((tmp_path / "kept").rglob("*.json"))) == 1
    shutil.rmtree(result.parent)
    assert call(monkeypatch, "--scale", "smoke", "--show") == 0  # it runs nothing
    assert "not run yet" in capsys.readouterr().out and not result.exists()
