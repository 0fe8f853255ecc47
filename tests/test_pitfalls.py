"""What a reviewer broke: each case was wrong once, as a user would have met it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfkd import config, distill, finished, pipeline, runs, tasks, teaching
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, TrainingDiverged
from dfkd.evaluate import predict
from dfkd.models.finetune import last_whole_checkpoint
from dfkd.models.students import registry as students
from dfkd.pipeline import Listeners
from dfkd.report import results, table
from dfkd.synthesis.real_text import RealText

QUICK = ("train.steps=4", "train.batch_size=8", "train.heldout=8", "evaluate.latency_rounds=0", "student.layers=1")
Run = Callable[..., "tuple[Path, dict[str, Any]]"]


@pytest.fixture
def toy_run(toy_teacher: Path, tmp_path: Path) -> Run:
    """A quick run on the toy data: its folder and its result."""

    def make(strategy: str, *more: str, teacher: Path = toy_teacher, listeners: Listeners = Listeners()) -> Any:
        settings = ["data=toy", f"teacher={teacher}", f"strategy={strategy}", f"runs={tmp_path / 'runs'}"]
        options = pipeline.load_config([*settings, *QUICK, *more])
        return Path(options.runs) / options.run_name(), pipeline.run(options, listeners)

    return make


# judging: only like with like

def test_runs_judged_on_other_items_or_lengths_are_kept_apart(toy_run: Run, tmp_path: Path) -> None:
    toy_run("random_tokens")
    toy_run("random_tokens", "evaluate.limit=10", "run=toy/few")
    toy_run("random_tokens", "data.max_length=8", "run=toy/short")
    made = table.rows(results.collect([tmp_path / "runs"]))
    assert len(made) == 3 and len({row.student for row in made}) == 3
    assert all(row.cells["seeds"] == "1" for row in made)
    assert any("10 test items" in row.student for row in made) and any("of 8 tokens" in row.student for row in made)


def test_seconds_count_the_samples_set_aside(toy_run: Run) -> None:
    _, result = toy_run("as_dfd", "train.heldout=64")
    assert result["seconds"]["heldout"] > 0
    assert results.Result(Path("x"), result).seconds == result["seconds"]["heldout"] + result["seconds"]["train"]


def test_real_text_is_never_trained_on_what_is_set_aside(toy_run: Run) -> None:
    texts = tuple(f"text {number}" for number in range(40))
    strategy = RealText(texts, torch.Generator().manual_seed(0))
    aside = [text for n in (6, 6) for text in (strategy.hold_out(n) or PseudoBatch(texts=("",))).texts or ()]
    assert len(set(aside)) == 10 and strategy.hold_out(4) is None  # a quarter, and no more
    seen = [text for _ in range(9) for text in strategy.synthesize(10).texts or ()]
    assert set(seen) == set(texts) - set(aside)
    resumed = RealText(texts, torch.Generator())
    resumed.load_state_dict(strategy.state_dict())
    assert resumed.synthesize(30).texts == strategy.synthesize(30).texts
    folder, result = toy_run("real_text", "train.heldout=128")
    assert result["fidelity"]["samples"] == 201 // 4


# budgets and divergence

def test_a_budget_spent_by_the_samples_set_aside_is_an_error(toy_run: Run) -> None:
    with pytest.raises(ConfigError, match="spent before the first step.*\n.*more than 48"):
        toy_run("as_dfd", "train.heldout=8", "train.teacher_queries=20")


def test_an_early_explosion_is_noticed(toy_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = distill.distillation_kl, []

    def exploding(*given: Any) -> torch.Tensor:
        calls.append(1)
        return honest(*given) * (1e6 if len(calls) == 9 else 1.0)

    monkeypatch.setattr(distill, "distillation_kl", exploding)
    with pytest.raises(TrainingDiverged, match="at step 8"):
        toy_run("random_tokens", "train.steps=20")


# kills and full disks

def test_a_teacher_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    for step, state in ((90, '{"global_step": 90}'), (100, '{"glo'), (110, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_whole_checkpoint(tmp_path) == str(tmp_path / "checkpoint-90")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-90"]


def test_a_kill_at_the_very_end_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = runs.open_run(tmp_path, "run", {"seed": 1})
    folder.save_checkpoint(5, {"step": 5})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.finish({"done": True})
    assert folder.load_checkpoint() == {"step": 5}
    folder.finish({"done": True})
    assert folder.result() == {"done": True} and not list(folder.final.glob("checkpoint*"))


def test_stored_embeddings_go_with_the_end_of_the_run_and_texts_stay(toy_run: Run) -> None:
    embedded, _ = toy_run("as_dfd", "train.replay_share=0.5")
    texts, _ = toy_run("random_tokens", "train.replay_share=0.5", "run=toy/texts")
    assert not (embedded / "pool").exists() and not (embedded / "heldout").exists()
    assert list((texts / "pool").glob("*.arrow"))


# teachers

def test_nameless_classes_are_told(toy_run: Run, toy_teacher: Path, tmp_path: Path) -> None:
    nameless = tmp_path / "nameless"
    shutil.copytree(toy_teacher, nameless)
    facts = json.loads((nameless / "config.json").read_text())
    facts["id2label"] = {str(index): f"LABEL_{index}" for index in range(3)}
    facts["label2id"] = {f"LABEL_{index}": index for index in range(3)}
    (nameless / "config.json").write_text(json.dumps(facts))
    heard: list[str] = []
    _, result = toy_run("random_tokens", teacher=nameless, listeners=Listeners(alarm=heard.append))
    assert "taken in the data set's order: weather, food, sport" in heard[0] and "teacher_labels=" in heard[0]
    assert result["teacher"]["labels_assumed"] == heard[0]
    told = ("teacher_labels=[weather,food,sport]", "run=toy/told")
    assert toy_run("random_tokens", *told, teacher=nameless)[1]["teacher"]["labels_assumed"] is None


def test_a_finished_run_is_shown_without_its_teacher(toy_run: Run, toy_teacher: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(toy_teacher, copied)
    _, result = toy_run("random_tokens", teacher=copied)
    shutil.rmtree(copied)
    assert toy_run("random_tokens", teacher=copied)[1] == result
    shutil.copytree(toy_teacher, copied)
    weights = load_file(copied / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, copied / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="exists with another config\n.*teacher: other files than there, of the same"):
        toy_run("random_tokens", teacher=copied)


def test_another_teacher_is_told_by_name(toy_run: Run, toy_teacher: Path, tmp_path: Path) -> None:
    toy_run("random_tokens")
    other = shutil.copytree(toy_teacher, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=rf"found: teacher: '{toy_teacher}' there, '{other}' now\n"):
        toy_run("random_tokens", teacher=other)


def test_a_finished_teacher_is_not_reused_under_other_labels(toy_encoder: Path, tmp_path: Path) -> None:
    def settings(*more: str) -> Any:
        given = ["data=toy", f"model={toy_encoder}", f"out={tmp_path / 'teacher'}", "epochs=1", *more]
        return config.load_teacher(given)

    teaching.make_teacher(*settings(), quiet=True)
    teaching.make_teacher(*settings(), quiet=True)
    with pytest.raises(ConfigError, match="other settings"):
        teaching.make_teacher(*settings("data.label_values=[sport,food,weather]"), quiet=True)


# data

def test_a_teacher_alone_is_enough(toy_run: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("labels: [weather, food, sport]\nmax_length: 24\n")
    _, result = toy_run("random_tokens", f"data={own}")
    assert result["student"]["scores"] is None and result["fidelity"]["samples"] == 8
    with pytest.raises(ConfigError, match="has no train split"):
        toy_run("real_text", f"data={own}")


def columns(tmp_path: Path, content: str, **more: Any) -> tasks.Split:
    file = tmp_path / "rows.csv"
    file.write_text(content)
    data = DataConfig(name="own", labels=["no", "yes"], files={"train": str(file), "test": str(file)}, **more)
    return tasks.load(data).hand_out("test", to="evaluate")


def test_whole_numbers_are_labels_however_they_are_stored(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0.0, 1.0]}).to_parquet(tmp_path / "rows.parquet")
    data = DataConfig(name="own", labels=["no", "yes"], files={"train": str(tmp_path / "rows.parquet")})
    assert tasks.load(data).hand_out("train", to="teacher_training").labels == (0, 1)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two columns of one name"):
        columns(tmp_path, "text,text,label\na,b,0\nc,d,1\n")


def test_a_test_split_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only one class in the test split"):
        columns(tmp_path, "text,label\na,0\nb,0\n")


# students

@pytest.mark.parametrize("keep", [["a"], [0.7], [True]])
def test_layers_are_whole_numbers(keep: list[Any]) -> None:
    with pytest.raises(ConfigError, match="student.keep"):
        students.STUDENTS.options("truncated", {"layers": 1, "keep": keep})


def test_a_choice_that_nothing_reads_is_refused() -> None:
    with pytest.raises(ConfigError, match="copies no layer"):
        students.STUDENTS.options("truncated", {"layers": 1, "keep": [0], "init": "fresh"})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(ConfigError, match="seed"):
        config.TeacherConfig(model="x", seed=seed)


def test_a_file_where_runs_should_stand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file\n.*a folder for runs"):
        runs.open_run(tmp_path / "file", "toy/run", {})


# finished students in use

def test_evaluation_is_logged_and_reads_its_settings(toy_run: Run) -> None:
    folder, result = toy_run("real_text", "train.steps=60", "train.learning_rate=1e-3")
    before = (folder / "access.jsonl").read_text().count("\n")
    whole = finished.evaluate(folder, [])
    assert whole["accuracy"] == pytest.approx(result["student"]["scores"]["accuracy"])
    assert (folder / "access.jsonl").read_text().count("\n") == before + 1
    assert finished.evaluate(folder, ["data.max_length=4"]) != whole
    with pytest.raises(ConfigError, match="unknown key 'max_length'\n.*\n.*write data.max_length=4"):
        finished.evaluate(folder, ["max_length=4"])


def test_students_of_pairs_read_pairs(toy_run: Run, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("first,second,label\nrain,snow,weather\nsoup,salt,food\ngoal,match,sport\n")
    own = tmp_path / "pairs.yaml"
    own.write_text(
        f"labels: [weather, food, sport]\ntext: [first, second]\nmax_length: 24\nfiles: {{test: {pairs}}}\n"
    )
    folder, _ = toy_run("random_tokens", f"data={own}")
    answer, = finished.predict_texts(folder, ["rain\tsnow"])
    assert answer["label"] in ("weather", "food", "sport") and answer["text"] == "rain\tsnow"
    with pytest.raises(ConfigError, match="reads pairs of texts\n.*<tab>"):
        finished.predict_texts(folder, ["rain"])


def test_a_limited_test_is_no_prefix_of_a_file_sorted_by_class() -> None:
    judged = predict.judged_items(1000, 200)
    assert judged == predict.judged_items(1000, 200) == sorted(set(judged)) and len(judged) == 200
    share = sum(index < 500 for index in judged) / 200  # a file with one class first
    assert 0.4 < share < 0.6
    assert predict.judged_items(10, None) == predict.judged_items(10, 20) == list(range(10))
