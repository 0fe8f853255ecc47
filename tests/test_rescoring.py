"""Finished runs scored again: other test items, the same student."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dfkd import cli, distill, pipeline, rescoring, runs
from dfkd.config import read_yaml
from dfkd.errors import Busy, ConfigError
from dfkd.report import results

QUICK = (
    "student.layers=1", "train.steps=4", "train.batch_size=8", "train.heldout=8", "evaluate.latency_rounds=0",
    "evaluate.limit=20", "device=cpu",
)


@pytest.fixture(scope="module")
def made(toy_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A finished run's folder, and its settings; copy it to write to it."""
    root = tmp_path_factory.mktemp("rescored")
    given = ["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", f"runs={root}", "run=all/one", *QUICK]
    pipeline.run(pipeline.load_config(given))
    return root / "all/one", given


@pytest.fixture
def run(made: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made[0], tmp_path / "runs/all/one"))


def told(run: Path) -> dict[str, object]:
    """What ``result.json`` says."""
    content: dict[str, object] = json.loads((run / "result.json").read_text())
    return content


def test_other_items_are_what_a_run_of_its_own_would_have_been_scored_on(
    run: Path, made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [*made[1], f"runs={tmp_path / 'fresh'}", "evaluate.limit=30"]
    fresh = pipeline.run(pipeline.load_config(given))
    monkeypatch.delattr(distill.Distiller, "fit")
    before = told(run)
    again = rescoring.rescore(run, ["evaluate.limit=30"])
    assert again == told(run) and again["test_items"] == 30
    for key in ("test_items", "test_fingerprint", "queries", "fidelity", "steps", "alarms"):
        assert again[key] == fresh[key], key
    for key in ("scores", "correct", "agreement", "reliability"):
        assert again["student"][key] == fresh["student"][key], key
    assert again["teacher"]["correct"] == fresh["teacher"]["correct"]
    assert again["seconds"]["train"] == before["seconds"]["train"]  # type: ignore[index]
    assert again["finished"] == before["finished"] and again["environment"] == before["environment"]
    assert again["scored_again"]["environment"]["precision"] == "float32"
    handed_out = [json.loads(line) for line in (run / "access.jsonl").read_text().splitlines()]
    assert [(record["split"], record["to"]) for record in handed_out] == [("test", "evaluate")] * 2
    assert results.collect([run])[0].content["config"]["evaluate"]["limit"] == 30


def test_afterwards_it_is_the_run_of_these_settings(run: Path, made: tuple[Path, list[str]]) -> None:
    settings = [*made[1], f"runs={run.parent.parent}"]
    with pytest.raises(ConfigError) as refused:
        pipeline.run(pipeline.load_config([*settings, "evaluate.limit=null"]))
    command = f"dfkd rescore '{run}' evaluate.limit=null"
    assert f"what to do: score it again: {command}" in str(refused.value)
    rescoring.rescore(run, ["evaluate.limit=null"])
    found = pipeline.run(pipeline.load_config([*settings, "evaluate.limit=null"]))
    assert found == told(run) and found["test_items"] > 30
    assert read_yaml(run / "config.yaml")["evaluate"]["limit"] is None and not (run / "lock").exists()
    with pytest.raises(ConfigError, match="choose another name"):  # that is another training
        pipeline.run(pipeline.load_config([*settings, "train.steps=5"]))


def test_a_run_that_was_timed_afterwards_stays_the_run_of_a_table_that_asks_for_no_timing(
    run: Path, made: tuple[Path, list[str]]
) -> None:
    settings = [*made[1], f"runs={run.parent.parent}"]
    assert read_yaml(run / "config.yaml")["evaluate"]["latency_rounds"] == 0
    timed = rescoring.rescore(run, ["evaluate.latency_rounds=1"])
    assert timed["latency_ratio"] and pipeline.run(pipeline.load_config(settings)) == timed
    with pytest.raises(ConfigError, match="dfkd rescore"):  # other timing is asked for
        pipeline.run(pipeline.load_config([*settings, "evaluate.latency_rounds=2"]))


def test_what_is_scored_so_already_is_left_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "result.json").stat().st_mtime_ns
    monkeypatch.delattr(rescoring.scoring, "score")
    assert rescoring.rescore(run, ["evaluate.limit=20"]) == told(run)
    assert (run / "result.json").stat().st_mtime_ns == before


def test_killed_between_its_two_files_it_is_scored_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = rescoring.state.write_text

    def killed(path: Path, text: str) -> None:
        if path.name == "config.yaml":
            raise KeyboardInterrupt
        write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(rescoring.state, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            rescoring.rescore(run, ["evaluate.limit=30"])
    assert read_yaml(run / "config.yaml")["evaluate"]["limit"] == 20
    assert rescoring.rescore(run, ["evaluate.limit=30"])["test_items"] == 30
    assert read_yaml(run / "config.yaml")["evaluate"]["limit"] == 30


def test_refusals(run: Path, tmp_path: Path) -> None:
    before = told(run)
    for override, message in (
        ("train.steps=5", "'train.steps' would make another run"), ("evaluate.limt=5", "unknown key 'evaluate.limt'"),
        ("evaluate.limit=0", "evaluate.limit"), ("teacher=nowhere", "the run's teacher 'nowhere' is not found"),
    ):
        with pytest.raises(ConfigError, match=message):
            rescoring.rescore(run, [override])
    no_test = tmp_path / "no_test"
    shutil.copytree(run, no_test)
    settings = read_yaml(no_test / "config.yaml")
    settings["data"]["files"].pop("test")
    (no_test / "config.yaml").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="has no test split"):
        rescoring.rescore(no_test, ["evaluate.limit=30"])
    held = runs.lock(run, "this", "wait")
    with pytest.raises(Busy):
        rescoring.rescore(run, ["evaluate.limit=30"])
    held.close()
    with pytest.raises(ConfigError, match="no finished run in"):
        runs.below(tmp_path / "nothing")
    assert told(run) == before


def test_the_command(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run, run.with_name("two"))
    monkeypatch.setattr("sys.argv", ["dfkd", "rescore", str(run.parent), "evaluate.limit=30"])
    cli.main()
    printed = capsys.readouterr().out
    assert printed.count("30 test items") == 2 and f"{run}: accuracy" in printed
    assert told(run)["test_items"] == told(run.with_name("two"))["test_items"] == 30
