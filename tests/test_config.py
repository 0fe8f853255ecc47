"""The configuration: what overrides what, and how mistakes are told."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Callable

import pytest
from omegaconf import OmegaConf

from dfkd import config, pipeline
from dfkd.config import DataConfig, EvaluateConfig, RunConfig, Settings, TeacherConfig, TrainConfig
from dfkd.errors import ConfigError
from dfkd.models.students import pretrained, truncated
from dfkd.synthesis import as_dfd, random_tokens, registry

ROOT = Path(__file__).resolve().parent.parent
PRESETS = sorted((ROOT / "experiments" / "strategies").rglob("*.yaml"))
BASE = ["data=toy", "teacher=somewhere", "strategy=random_tokens"]


def load(*overrides: str) -> RunConfig:
    """A run configuration; later overrides win over those of ``BASE``."""
    return pipeline.load_config([*BASE, *overrides])


def problems(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        pipeline.load_config(overrides)
    return str(caught.value)


@pytest.fixture
def preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes ``experiments/strategies/<name>.yaml`` below an own working folder, where it is looked for first."""
    monkeypatch.chdir(tmp_path)

    def write(name: str, values: dict[str, Any]) -> None:
        path = tmp_path / "experiments" / "strategies" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(values)))

    return write


# merging


def test_defaults_alone() -> None:
    loaded = load()
    assert loaded.train == TrainConfig() and loaded.evaluate == EvaluateConfig()
    assert loaded.student.name == "truncated" and loaded.student.options["layers"] == 3  # every default is filled in
    assert loaded.data.labels == ["weather", "food", "sport"]


def test_overrides_win_over_the_preset_and_the_preset_over_defaults(preset: Callable[..., None]) -> None:
    options = {"min_length": 5, "max_length": 6}
    preset("mine", {"name": "random_tokens", "options": options, "train": {"steps": 7, "clip": 2.0}})
    loaded = load("strategy=mine", "strategy.max_length=9", "train.steps=8")
    assert loaded.strategy.options == {"min_length": 5, "max_length": 9, "source": "words", "vocabulary": 10000}
    assert (loaded.train.steps, loaded.train.clip) == (8, 2.0)
    assert loaded.train.batch_size == TrainConfig().batch_size


def test_overrides_win_over_the_data_config(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("labels: [a, b]\nmax_length: 9\nfiles: {train: x.csv, test: y.csv}\nprompts: {domain: d}\n")
    data = load(f"data={own}", "data.max_length=12", "data.files.test=z.csv").data
    assert (data.name, data.folder, data.max_length) == ("own", str(tmp_path), 12)
    assert data.files == {"train": "x.csv", "test": "z.csv"}
    assert data.prompts == {"domain": "d"} and data.metric == "accuracy"


def test_the_last_of_two_equal_keys_wins() -> None:
    assert load("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    "override, value",
    [
        ("train.learning_rate=1e-3", 1e-3), ("train.teacher_queries=null", None), ("train.teacher_queries=999", 999),
        ("data.text=[a, b]", ["a", "b"]), ("teacher_labels=[x, y]", ["x", "y"]), ("teacher=7", "7"),
        ("teacher=a=b", "a=b"), ("trust_remote_code=true", True), ("train.clip=1", 1.0), ("device=cpu", "cpu"),
    ],
)
def test_values_are_yaml(override: str, value: object) -> None:
    found: Any = load(override)
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


def test_the_files_on_disk_are_not_changed_by_overrides() -> None:
    load("data.labels=[a, b, c]", "strategy.vocabulary=5")
    assert load().data.labels == ["weather", "food", "sport"]
    assert load().strategy.options["vocabulary"] == 10_000


# a saved configuration


SAVED = [
    [],
    ["strategy=as_dfd/paper", "strategy.guess_steps=2", "student.layers=2", "student.keep=[0, 3]", "train.steps=5"],
    ["student=pretrained", "student.dropout=0.2", "teacher_labels=[c, b, a]", "run=mine/own", "evaluate.limit=3"],
]


@pytest.mark.parametrize("overrides", SAVED)
def test_a_saved_configuration_is_the_same_again(overrides: list[str], tmp_path: Path) -> None:
    before, file = load(*overrides), tmp_path / "config.yaml"
    # the run folder's config.yaml also says which teacher it was
    facts = {**config.to_dict(before), "teacher_sha256": "0" * 64}
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(facts)))
    again = pipeline.load_config([f"config={file}"])
    assert again == before and again.run_name() == before.run_name()


def test_overrides_win_over_a_saved_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    saved = config.to_dict(load("strategy.min_length=4", "seed=3", "student.layers=2", "student.keep=first"))
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(saved)))
    given = ["seed=4", "data.files.test=z.csv", "strategy.max_length=5", "student.layers=1", "train.steps=1"]
    again = pipeline.load_config([f"config={file}", *given])
    assert again.seed == 4 and again.train.steps == 1
    assert again.data.files == {"train": "toy/train.jsonl", "test": "z.csv"}
    assert again.strategy.options["min_length"] == 4 and again.strategy.options["max_length"] == 5
    assert (again.student.options["layers"], again.student.options["keep"]) == (1, "first")


def test_components_can_be_replaced_in_a_saved_configuration(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    saved = config.to_dict(load("strategy.min_length=4", "student.layers=2", "train.steps=9"))
    file.write_text(OmegaConf.to_yaml(OmegaConf.create(saved)))
    again = pipeline.load_config([f"config={file}", "strategy=embedding_guess", "student=pretrained"])
    assert again.strategy.name == "embedding_guess" and again.strategy.options["min_length"] == 16  # not the saved 4
    assert again.student.name == "pretrained" and "layers" not in again.student.options
    assert again.train.steps == 9


# names of runs


@pytest.mark.parametrize(
    "overrides, name",
    [
        ([], "toy/random_tokens-truncated-seed0"),
        (["strategy=as_dfd/paper", "seed=3"], "toy/as_dfd-paper-truncated-seed3"),
        (["strategy=as_dfd", "strategy.guess_steps=0"], "toy/as_dfd,guess_steps=0-truncated-seed0"),
        (["student.layers=2", "student.keep=[0,1]"], "toy/random_tokens-truncated,keep=_0_1_,layers=2-seed0"),
        (["student=pretrained"], "toy/random_tokens-pretrained-seed0"),
        (["student=pretrained", "student.model=a/b:c"], "toy/random_tokens-pretrained,model=a_b_c-seed0"),
        (["run=mine/own"], "mine/own"),
    ],
)
def test_run_names(overrides: list[str], name: str) -> None:
    assert load(*overrides).run_name() == name


def test_long_names_stay_short_and_distinct() -> None:
    names = {load("student=pretrained", f"student.model={'x' * 300}{end}").run_name() for end in "ab"}
    assert len(names) == 2
    assert all(len(part.encode()) < 200 for name in names for part in name.split("/"))


# mistakes


def test_every_problem_is_told_at_once() -> None:
    text = problems(
        "data=toi", "strategy=as_df", "train.steps=x", "train.batch_size=0", "train.warmup=3", "evaluate.limit=0",
        "student.layer=3", "student.layers=0", "sede=1", "steps=3", "seed=-1", "threads=0",
    )
    told = [
        "13 problems", "unknown data config 'toi'", "unknown strategy 'as_df'", "'train.steps' has a wrong value",
        "'train.batch_size' is out of range", "'train.warmup' is out of range", "'evaluate.limit' is out of range",
        "unknown key 'student.layer'", "'student.layers' is out of range", "unknown key 'sede'", "unknown key 'steps'",
        "'seed' is out of range", "'threads' is out of range", "no teacher is given",
    ]
    assert [part for part in told if part not in text] == []


MISTAKES = {
    # what is given besides BASE -> what is said of it
    "sede=1": "unknown key 'sede'.*\n.*did you mean 'seed'",
    "stratgy=as_dfd": "unknown key 'stratgy'.*\n.*did you mean 'strategy'",
    "trian.steps=5": "unknown key 'trian.steps'.*\n.*did you mean 'train'",
    "train.on_alarm=3": "expected: warn or stop\n  found: 3",
    "steps=5": "unknown key 'steps'.*\n.*did you mean 'train.steps'",
    "latency_rounds=5": "did you mean 'evaluate.latency_rounds'",
    "train.step=5": "unknown key 'train.step'.*\n.*did you mean 'steps'",
    "train=5": "unknown key 'train'",
    "train.steps.x=5": "unknown key 'train.steps.x'",
    "train.steps=2.5": "'train.steps' has a wrong value\n  expected: int\n  found: 2.5\n  what to do: set train.steps=",
    "train.learning_rate=fast": "'train.learning_rate' has a wrong value\n  expected: float\n  found: 'fast'",
    "train.learning_rate=nan": "'train.learning_rate' is out of range\n  expected: above 0",
    "train.select=best": r"expected: last or agreement\n  found: 'best'",
    "train.steps=null": "'train.steps' has a wrong value",
    "train.heldout=-1": "'train.heldout' is out of range\n  expected: 0 or more\n  found: -1",
    "train.replay_share=1": r"expected: a share in \[0, 1\)\n  found: 1.0",
    "train.explode_factor=1": "expected: above 1",
    "train.generated_until=0": r"expected: a share in \(0, 1\]",
    "train.teacher_queries=256": "'train.teacher_queries' is out of range\n  expected: more than train.heldout=256",
    "evaluate.calibration_bins=0": "'evaluate.calibration_bins' is out of range",
    "device=gpu": r"'device' has a wrong value\n  expected: auto, cpu or cuda\n  found: 'gpu'",
    "teacher_labels=3": "'teacher_labels' has a wrong value",
    "data.file.train=x": "unknown key 'data.file'.*\n.*did you mean 'files'",
    "data.text=[a,b,c]": "'data.text' is out of range\n  expected: one or two text columns",
    "data.labels=[a]": "expected: two class names or more",
    "data.labels=[a,a]": "expected: distinct names",
    "data.label_values=[0]": "'data.label_values' is out of range",
    "data.hub_text=[a,b]": "'data.hub_text' is out of range",
    "data.holdout=1": "'data.holdout' is out of range",
    "data.max_length=3": "'data.max_length' is out of range",
    "data=ag_new": "unknown data config 'ag_new'\n.*\n.*did you mean 'ag_news'.*valid: ag_news, dbpedia14",
    "data=no/such.yaml": "unknown data config 'no/such.yaml'\n  found: no file no/such.yaml",
    "strategy=randm_tokens": "unknown strategy 'randm_tokens'\n.*\n.*did you mean 'random_tokens'",
    "strategy.vocabulry=5": "unknown key 'strategy.vocabulry'.*\n.*did you mean 'vocabulary'",
    "strategy.vocabulary=many": "'strategy.vocabulary' has a wrong value\n  expected: int",
    "strategy.vocabulary=0": "'strategy.vocabulary' is out of range",
    "strategy.min_length=70": "'strategy.max_length' is out of range\n  expected: 70 or more",
    "strategy.injects=embeddings": "unknown key 'strategy.injects'",
    "student=pretraind": "unknown student 'pretraind'\n.*no module pretraind.py in .*\n.*did you mean 'pretrained'",
    "student.layers=0": "'student.layers' is out of range",
    "student.keep=some": "expected: spread, first, last, or a list of 3 indices\n  found: some",
    "student.keep=[0,1]": r"expected: .*a list of 3 indices\n  found: \[0, 1\]",
    "student.dropout=1": "'student.dropout' is out of range",
    "config=no/such.yaml": "no/such.yaml cannot be read\n  expected: a YAML mapping",
    "seed": "not of the form key=value\n  found: seed\n  what to do: write key=value",
    "=3": "not of the form key=value",
    "seed=[1": r"the value of 'seed' cannot be read\n  expected: YAML\n  found: \[1",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes(override: str) -> None:
    with pytest.raises(ConfigError, match=MISTAKES[override]):
        load(override)


@pytest.mark.parametrize(
    "missing, said",
    [
        (0, "no data set is given\n  what to do: add data=NAME .*valid: ag_news"),
        (1, "no teacher is given\n  what to do: add teacher=FOLDER"),
        (2, "no strategy is given\n  what to do: add strategy=NAME; valid: as_dfd, as_dfd/paper"),
    ],
)
def test_what_is_missing_is_said(missing: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        pipeline.load_config([part for index, part in enumerate(BASE) if index != missing])


def test_presets_with_unknown_keys_are_refused(preset: Callable[..., None]) -> None:
    preset("mine", {"name": "random_tokens", "option": {}})
    with pytest.raises(ConfigError, match=r"keys that nothing reads\n  found: \['option'\]"):
        load("strategy=mine")


@pytest.mark.parametrize("content", ["- 1\n", "a: [\n"])
def test_files_that_are_no_mapping_are_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(content)
    with pytest.raises(ConfigError, match="bad.yaml (is no mapping|cannot be read)"):
        load(f"data={tmp_path / 'bad.yaml'}")


def test_select_by_agreement_needs_held_out_samples() -> None:
    with pytest.raises(ConfigError, match="1 or more for train.select=agreement"):
        load("train.select=agreement", "train.heldout=0")


def test_teacher_settings() -> None:
    data, settings = config.load_teacher(["data=toy", "model=m", "epochs=3", "data.max_length=9"])
    assert (data.max_length, settings.model, settings.epochs, settings.batch_size) == (9, "m", 3.0, 32)


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["model=m"], "no data set is given"),
        (["data=toy"], "'model' is out of range\n  expected: a folder, hub name or package:DIST\n  found: nothing"),
        (["data=toy", "model=m", "epoch=3"], "unknown key 'epoch'.*\n.*did you mean 'epochs'"),
        (["data=toi", "model=m", "epochs=0", "warmup=2"], "3 problems"),
        (["data=toy", "model=m", "learning_rate=0"], "'learning_rate' is out of range"),
    ],
)
def test_mistakes_in_teacher_settings(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load_teacher(overrides)


# options and presets


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_on_disk(path: Path) -> None:
    name = path.relative_to(ROOT / "experiments" / "strategies").with_suffix("").as_posix()
    values = config.read_yaml(path)
    assert values["name"] in registry.available()
    loaded = load(f"strategy={name}")
    assert loaded.strategy.label == name
    options = registry.options(loaded.strategy.name, loaded.strategy.options)
    for option, value in (values.get("options") or {}).items():
        assert getattr(options, option) == value


def test_every_strategy_has_a_preset_of_its_name() -> None:
    assert set(registry.available()) <= set(config.available("experiments/strategies"))


@pytest.mark.parametrize("path", sorted((ROOT / "data_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_config_on_disk(path: Path) -> None:
    data = config.load_data({"data": path.stem})
    assert data.name == path.stem and data.folder == str(path.parent)
    assert set(config.read_yaml(path)) <= {f.name for f in dataclasses.fields(DataConfig)}


@pytest.mark.parametrize(
    "cls", [Settings, DataConfig, TrainConfig, EvaluateConfig, TeacherConfig, as_dfd.Options, random_tokens.Options,
            truncated.Options, pretrained.Options]
)
def test_every_option_is_documented(cls: type) -> None:
    documented = "".join(parent.__doc__ or "" for parent in cls.__mro__[:-1])
    obvious = {"name", "folder", "epochs", "batch_size", "learning_rate", "weight_decay", "warmup", "seed"}
    obvious |= {f.name for f in dataclasses.fields(Settings)} | {"checkpoint_every"}
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    left_out = obvious if cls in (DataConfig, TeacherConfig) else set()
    assert [name for name in sorted(known - left_out) if f"{name}: " not in documented] == []


def test_facts_of_a_strategy_are_no_options() -> None:
    options, found = config.typed(as_dfd.Options, {"guess_steps": "3"}, "strategy.")
    assert found == [] and options is not None
    assert (options.guess_steps, options.injects, options.uses_real_text) == (3, "embeddings", False)
    options, found = config.typed(as_dfd.Options, {"uses_real_text": True, "injects": "tokens"}, "strategy.")
    assert [error.problem for error in found] == [
        "unknown key 'strategy.uses_real_text'", "unknown key 'strategy.injects'"
    ]


def test_typed_gives_no_instance_that_is_out_of_range() -> None:
    built, found = config.typed(TrainConfig, {"steps": 0, "batch_size": 0, "nothing": 1})
    assert built is None and len(found) == 3
    with pytest.raises(ConfigError, match="'train.steps' is out of range"):  # from Python, at the first
        TrainConfig(steps=0, batch_size=0)


def test_joined_needs_a_problem() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ConfigError.joined([])


def test_the_file_meant_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tickets.yaml").write_text("labels: [a, b]\n")
    with pytest.raises(ConfigError, match="unknown data config 'ticket.yaml'(.|\n)*did you mean 'tickets.yaml'"):
        config.find_yaml("data_configs", "ticket.yaml")


@pytest.mark.parametrize("words", [["data", "=", "sst2"], ["data=", "sst2"], ["data", "=sst2"]])
def test_settings_with_spaces_are_told(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="what to do: write data=sst2, without spaces"):
        config.parse_overrides(["seed=1", *words])
