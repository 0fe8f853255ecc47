"""`dfkd attack` on a finished run: what it writes, skips, resumes and refuses; the bridge to TextAttack."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest
import torch
from rich.console import Console

from dfkd import attacking, cli, console, pipeline, runs, textattack_bridge
from dfkd.attacking import Settings
from dfkd.commands import judging
from dfkd.errors import Busy, ConfigError
from dfkd.evaluate.predict import predict
from dfkd.finished import load_student
from dfkd.robustness import _bench
from dfkd.robustness.base import Victim
from dfkd.robustness.characters import Characters

FEW = Settings(items=10)
LOOSE = ["characters.max_share=0.4", "characters.max_queries=40"]


@pytest.fixture(scope="module")
def finished_run(toy_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick run with a student that transformers does not know; copy it to write to it."""
    root = tmp_path_factory.mktemp("attacked")
    given = ["data=toy", f"teacher={toy_teacher}", "strategy=real_text", f"runs={root}", "run=one", "device=cpu"]
    student = ["student=textcnn", "student.filters=16", "train.steps=60", "train.learning_rate=0.01", "train.heldout=8"]
    pipeline.run(pipeline.load_config([*given, *student, "evaluate.latency_rounds=0", "train.batch_size=32"]))
    return root / "one"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished_run, tmp_path / "a,run=1"))


def attack(folder: Path, *more: str, names: Sequence[str] = ("characters",), **options: Any) -> list[dict[str, Any]]:
    return attacking.attack(folder, [*LOOSE, *more], names, options.pop("settings", FEW), **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return runs.read_jsonl(path)


@pytest.fixture
def no_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a victim is asked."""

    def asked(*_: object) -> None:
        raise AssertionError("a victim was asked")

    monkeypatch.setattr(Victim, "logits", asked)


# what it does

@pytest.mark.slow
def test_a_run_is_attacked_and_told_of(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["dfkd", "attack", str(run), *LOOSE, "--attack", "characters", "--items", "10"])
    monkeypatch.setattr(console.console, "_width", 240)
    cli.main()
    out = capsys.readouterr().out
    entry, = json.loads((run / "robustness.json").read_text())["attacks"]
    for against, other in (("teacher", "student"), ("student", "teacher")):
        found = entry["results"][against]
        assert found["items"] == 10 and found["accuracy_under_attack"] < found["accuracy"]
        row, = (line for line in out.splitlines() if line.split()[:2] == ["characters", against])
        for value in (found["accuracy"], found["accuracy_under_attack"], found["success_rate"]):
            assert f"{100 * value:.1f}" in row.split()
        assert row.split()[-2] == f"{100 * entry['transfer'][f'{against}_to_{other}']['accuracy']:.1f}"
    assert str(run / "robustness.json") in out and str(run / entry["examples"]) in out
    assert lines(run / "access.jsonl")[-1]["to"] == "attack"
    assert [path.name for path in (run / "adversarial").iterdir()] == [Path(entry["examples"]).name]


def test_the_texts_made_are_kept_with_what_is_said_of_them(run: Path) -> None:
    entry, = attack(run)
    made = lines(run / entry["examples"])
    student = load_student(run)
    for against in ("teacher", "student"):
        own = [line for line in made if line["against"] == against]
        found = entry["results"][against]
        assert len(own) == found["attacked"]
        assert sum(line["succeeded"] for line in own) == pytest.approx(found["success_rate"] * found["attacked"])
        assert sum(line["queries"] for line in own) == pytest.approx(found["queries"] * found["attacked"])
        for line in own:
            told = line["predictions"][against]
            assert told["original"] == line["label"] and (told["perturbed"] != line["label"]) == line["succeeded"]
            assert (line["original"] != line["perturbed"]) == bool(line["words_changed"])
    said = predict(student, [line["perturbed"] for line in made]).argmax(dim=1).tolist()
    assert [student.labels[i] for i in said] == [line["predictions"]["student"]["perturbed"] for line in made]


def test_finished_attacks_are_skipped_and_other_settings_are_other_entries(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attack(run)
    before = (run / "access.jsonl").read_text()
    with monkeypatch.context() as patched:
        patched.setattr(Victim, "logits", None)
        assert attack(run) == first
    assert (run / "access.jsonl").read_text() == before
    for change in (["characters.edits=[swap]"], ["data.max_length=6"]):
        assert attack(run, *change)[0]["key"] != first[0]["key"]
    attack(run, settings=Settings(items=10, seed=1))
    entries = json.loads((run / "robustness.json").read_text())["attacks"]
    assert len({entry["key"] for entry in entries}) == len(entries) == 4 and entries[0] == first[0]
    shorter = entries[2]["results"]  # students and teachers that read six tokens know less
    assert shorter["student"]["accuracy"] < entries[0]["results"]["student"]["accuracy"]
    assert shorter["teacher"]["accuracy"] < entries[0]["results"]["teacher"]["accuracy"]


@pytest.mark.slow
def test_an_interrupted_attack_goes_on_and_results_may_stand_elsewhere(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_bench, "AT_ONCE", 4)
    whole, = attack(run, out=tmp_path / "whole" / "all.json")
    assert not (run / "robustness.json").exists() and not (run / "adversarial").exists()
    perturb, calls = Characters.perturb, []

    def failing(self: Characters, *given: Any) -> Any:
        calls.append(given)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return perturb(self, *given)

    monkeypatch.setattr(Characters, "perturb", failing)
    with pytest.raises(KeyboardInterrupt):
        attack(run)
    partial, = (run / "adversarial").glob("*.partial.jsonl")
    assert len(lines(partial)) == 10 + 4 and not (run / "robustness.json").exists()
    with partial.open("a") as file:
        file.write('{"against": "stu')  # a kill in the middle of a line
    shown: list[tuple[int, int]] = []
    again, = attack(run, progress=lambda done, total: shown.append((done, total)))
    assert len(calls) == 5 + 2 and shown == [(18, 20), (20, 20)]
    assert (run / again["examples"]).read_bytes() == (tmp_path / "whole" / whole["examples"]).read_bytes()
    for against in ("teacher", "student"):
        seconds = again["results"][against].pop("seconds")
        assert seconds > 0 and whole["results"][against].pop("seconds") > 0
    assert again["results"] == whole["results"] and again["transfer"] == whole["transfer"]
    assert not list((run / "adversarial").glob("*.partial.jsonl"))


@pytest.mark.slow
def test_a_teacher_may_have_moved(run: Path, toy_teacher: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(toy_teacher, tmp_path / "moved")
    config = run / "config.yaml"
    config.write_text(config.read_text().replace(str(toy_teacher), "teachers/gone"))
    with pytest.raises(ConfigError, match="the run's teacher 'teachers/gone' is not found(.|\n)*add teacher=FOLDER"):
        attack(run)
    assert attack(run, f"teacher={moved}")[0]["results"]["teacher"]["accuracy"] > 0.8


# what it refuses, before any work

@pytest.mark.parametrize(
    "names, given, match",
    [
        (["character"], [], "unknown attack 'character'(.|\n)*did you mean 'characters'"),
        (["characters"], ["neighbours.candidates=3"], "not the attack 'neighbours'(.|\n)*add --attack neighbours"),
        (["characters"], ["character.max_share=1"], "unknown key 'character.max_share'(.|\n)*characters.OPTION"),
        (["characters"], ["characters.max_share=2"], "'characters.max_share' is out of range"),
        (["characters"], ["train.steps=3"], "unknown key 'train.steps'"),
        (["characters", "masked"], ["characters.shortest=0"], "2 problems(.|\n)*needs a masked language"),
        (["characters"], ["data.files.test=nowhere.jsonl"], "no file 'nowhere.jsonl'"),
        (["characters"], ["data.files={}", "data.source=auto"], "data set 'toy' has no test split"),
        (["characters"], ["device=cuda"], "there is no GPU"),
    ],
)
def test_wrong_settings(
    run: Path, no_queries: None, monkeypatch: pytest.MonkeyPatch, names: list[str], given: list[str], match: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=match):
        attacking.attack(run, given, names, FEW)
    assert not (run / "adversarial").exists()


def test_what_is_no_run(tmp_path: Path, run: Path, toy_teacher: Path) -> None:
    with pytest.raises(ConfigError, match="is no finished run\n(.|\n)*dfkd run has left"):
        attack(toy_teacher)
    run.rename(run.with_name("half.partial"))
    with pytest.raises(ConfigError, match="the run is not finished: repeat its command"):
        attack(run.with_name("half"))
    with pytest.raises(ConfigError, match="no text column 'body'"):
        attack(run.with_name("half.partial"), settings=Settings(column="body"))
    with pytest.raises(ConfigError, match="'--items' is out of range"):
        Settings(items=0)


def test_another_teacher_is_refused(run: Path, toy_teacher: Path, no_queries: None) -> None:
    config = run / "config.yaml"
    text = config.read_text()
    known = next(line for line in text.splitlines() if line.startswith("teacher_sha256"))
    config.write_text(text.replace(known, f"teacher_sha256: {'0' * 64}"))
    with pytest.raises(ConfigError, match=f"'{toy_teacher}' is not the teacher that the run was distilled from"):
        attack(run)


def test_a_damaged_file_of_results(run: Path, no_queries: None) -> None:
    (run / "robustness.json").write_text("{")
    with pytest.raises(ConfigError, match="holds no attacks(.|\n)*--out"):
        attack(run)


def test_one_process_at_a_time(run: Path, no_queries: None) -> None:
    (run / "adversarial").mkdir()
    with runs.lock(run / "adversarial", "it", "wait"), pytest.raises(Busy, match="another process.*robustness.json"):
        attack(run)


@pytest.mark.slow
def test_of_pairs_the_last_column_is_changed(toy_teacher: Path, tmp_path: Path, toy_data: Any) -> None:
    (tmp_path / "pairs.csv").write_text("a,b,label\nheavy rain,hail and sleet,0\ngarlic soup,apple pie,1\n")
    (tmp_path / "pairs.yaml").write_text(
        f"labels: [weather, food, sport]\ntext: [a, b]\nmax_length: 24\nfiles: {{test: {tmp_path / 'pairs.csv'}}}\n"
    )
    given = [f"data={tmp_path / 'pairs.yaml'}", f"teacher={toy_teacher}", "strategy=random_tokens", "device=cpu"]
    quick = ["student.layers=1", "train.steps=1", "train.heldout=0", "evaluate.latency_rounds=0", "run=pairs"]
    pipeline.run(pipeline.load_config([*given, *quick, f"runs={tmp_path}"]))
    for column, place in ((None, 1), ("a", 0)):
        entry, = attack(tmp_path / "pairs", "characters.max_share=1.0", settings=Settings(column=column))
        assert entry["settings"]["column"] == "ab"[place]
        changed = [line for line in lines(tmp_path / "pairs" / entry["examples"]) if line["words_changed"]]
        assert changed
        for line in changed:
            assert line["perturbed"][1 - place] == line["original"][1 - place] and line["perturbed"] != line["original"]


def test_attacks_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, shown in (([], "neighbours"), (["masked"], "masked.model=")):
        monkeypatch.setattr(sys, "argv", ["dfkd", "attacks", *arguments])
        cli.main()
        assert shown in capsys.readouterr().out


# the bridge to TextAttack

def test_the_bridge_keeps_textattacks_contract(finished_run: Path) -> None:
    wrapped = textattack_bridge.wrapper(finished_run, batch_size=2)
    texts = ["heavy rain and a cold wind", "the cook serves soup", "our team won the cup"]
    logits = wrapped(texts, whatever=True)
    assert isinstance(logits, torch.Tensor) and logits.shape == (3, 3) and not logits.requires_grad
    torch.testing.assert_close(logits, predict(load_student(finished_run), texts))
    assert wrapped([("heavy rain", "cold wind")]).shape == (1, 3)
    assert wrapped.labels == ("weather", "food", "sport") and isinstance(wrapped.model, torch.nn.Module)
    whole, = wrapped.tokenize(["soup xylem"])
    assert whole == wrapped.tokenizer.tokenize("soup xylem") and any(token.startswith("##") for token in whole)
    assert "".join(wrapped.tokenize(["soup xylem"], strip_prefix=True)[0]) == "soupxylem"
    with pytest.raises(NotImplementedError, match="black-box"):
        wrapped.get_grad("soup")
    assert "textattack" not in sys.modules


def test_the_bridge_wants_a_student(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no student in"):
        textattack_bridge.wrapper(tmp_path)


def test_the_table_names_attack_and_victim_in_eighty_columns() -> None:
    found = {"accuracy": 0.9, "accuracy_under_attack": 0.175, "success_rate": 0.806, "words_changed": 0.135}
    found["queries"] = 1056.0
    carried = {"accuracy": 1.0, "success_rate": 0.625}
    entries = [
        {
            "settings": {"attack": attack}, "results": {"teacher": found, "student": {**found, "queries": None}},
            "transfer": {"teacher_to_student": carried, "student_to_teacher": carried},
        } for attack in ("characters", "neighbours", "masked", "textattack")
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(judging._attacks_table(entries))
    lines = console.export_text().splitlines()
    rows = [line.split() for line in lines if "90.0" in line]
    assert [row[:2] for row in rows] == [
        [entry["settings"]["attack"], against] for entry in entries for against in ("teacher", "student")
    ]
    assert rows[0][2:] == ["90.0", "17.5", "80.6", "13.5", "1056", "100.0", "62.5"] and "…" not in "".join(lines)
