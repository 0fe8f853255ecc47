"""The sections of a configuration as frozen dataclasses that check their values."""

from __future__ import annotations

import copy
import dataclasses
import functools
import re
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Mapping, Optional, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dfkd.errors import ConfigError, suggestion

T = TypeVar("T")

_collected: ContextVar[list[ConfigError] | None] = ContextVar("collected", default=None)


def require(condition: bool, name: str, expected: str, found: object) -> None:
    """Raise a :class:`ConfigError` about the value of ``name`` unless ``condition`` holds.

    While :func:`typed` builds a dataclass, the error is noted instead, so that the other fields are looked at too.
    """
    if condition:
        return
    error = ConfigError(f"'{name}' is out of range", expected=expected, found=found, fix=f"set {name}=...")
    collected = _collected.get()
    if collected is None:
        raise error
    collected.append(error)


@dataclass(frozen=True)
class DataConfig:
    """The facts of one data set; they stand once, in ``data_configs/<name>.yaml``.

    Args:
        hub: name on the Hugging Face hub; ``None`` for purely local data.
        hub_config: the hub data set's configuration, such as ``sst2`` of ``glue``.
        hub_splits: our split name (train, test) -> the hub's.
        files: split -> local file or Arrow folder. Relative paths are looked up under ``DFKD_DATA``, then beside
            the YAML, then in the working directory; ``package:DIST:PATH`` is a file of an installed package.
        source: ``files``, ``hub``, or ``auto``: files where they exist, else the hub.
        text: one or two text columns.
        hub_text: the text columns on the hub where they are called otherwise than in ``text``; ``None``: the same.
        label: label column.
        labels: class names in the order of the class indices.
        label_values: the raw values of the label column, in the order of ``labels``; ``None``: indices or names.
        ignore_labels: rows with these raw label values are left out.
        drop_empty: leave out rows without text, where the data set is known to have some (else they are an error).
        holdout: share of rows, chosen by a hash of the text, that becomes the test split where there is none.
        metric: the main score.
        max_length: tokens per sample, special tokens included.
        line_breaks: replace ``<br />`` by a space.
        prompts: words for prompt strategies: domain, describe and topics (by label); templates (by label) and subject
            for class_prompt.
    """

    name: str = ""
    hub: Optional[str] = None
    hub_config: Optional[str] = None
    hub_splits: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    source: Literal["auto", "files", "hub"] = "auto"
    text: list[str] = field(default_factory=lambda: ["text"])
    hub_text: Optional[list[str]] = None
    label: str = "label"
    labels: list[str] = field(default_factory=list)
    label_values: Optional[list[Any]] = None
    ignore_labels: list[Any] = field(default_factory=list)
    drop_empty: bool = False
    holdout: float = 0.0
    metric: Literal["accuracy", "macro_f1"] = "accuracy"
    max_length: int = 128
    line_breaks: bool = False
    prompts: dict[str, Any] = field(default_factory=dict)
    folder: Optional[str] = None

    def __post_init__(self) -> None:
        require(len(self.text) in (1, 2), "data.text", "one or two text columns", self.text)
        columns = self.hub_text
        require(columns is None or len(columns) == len(self.text), "data.hub_text", "as many as data.text", columns)
        require(len(self.labels) >= 2, "data.labels", "two class names or more", self.labels)
        require(len(set(self.labels)) == len(self.labels), "data.labels", "distinct names", self.labels)
        values = self.label_values
        require(values is None or len(values) == len(self.labels), "data.label_values", "one for each label", values)
        require(0 <= self.holdout < 1, "data.holdout", "a share in [0, 1)", self.holdout)
        require(self.max_length >= 4, "data.max_length", "4 or more", self.max_length)


@dataclass(frozen=True)
class ComponentConfig:
    """A component chosen by module name, with options that its own module checks.

    Args:
        name: module name.
        options: field -> value of the module's ``Options``.
        label: what tables call it: the preset's name, or the name with the options given.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""


@dataclass(frozen=True)
class TrainConfig:
    """How the student is trained.

    Args:
        steps: budget in student steps.
        teacher_queries: budget in sequences sent through the teacher, those of a pool's making included; a pool that
            has cost more is refused. ``None``: no limit.
        generated_tokens: budget in tokens that a language model draws, prompts and dropped texts included. It lasts to
            the last step, or to ``generated_until``: while more of it is spent than of the steps, the student goes on
            with replayed samples, in a mixture with those of all parts. Held-out texts count; a pool that has cost
            more is refused. ``None``: no limit.
        generated_until: share of the training over which that budget is spread: with 0.5 twice as much is written in
            the first half, and the second half replays it.
        batch_size: B, samples a step.
        learning_rate: AdamW's, at the top of the schedule.
        weight_decay: AdamW's, on matrices (not on biases and LayerNorms).
        warmup: share of the steps with a rising rate; it falls linearly to 0 afterwards.
        clip: largest norm of the gradient; 0: no clipping.
        temperature: T of the distillation loss.
        replay_share: share of the steps that draw from the pool instead of fresh samples.
        replay_balance: draw the replayed samples evenly over the classes of their labels: what is rare is learnt late.
            Without ``replay_share`` or ``generated_tokens`` nothing is replayed.
        replay_capacity: pseudo samples that the pool keeps; older ones are deleted.
        heldout: pseudo samples set aside before training for selection and fidelity; 0: none.
        evaluate_every: steps between looks at the held-out pseudo samples.
        select: which student is kept: of the last step, or of the best held-out ``agreement``.
        checkpoint_every: steps between checkpoints.
        explode_factor: stop when the loss is this many times the median of the last 50 steps, or 0.01 where that is
            smaller.
        on_alarm: what an alarm about the pseudo samples does: ``warn``: it is told and logged; ``stop``: the run also
            ends, its last checkpoint kept, unless the alarm only says that the student has learned all there is. It
            does not make another run: the same command with ``warn`` goes on. What the strategy has repaired by
            itself (``prompt_rl``: ``strategy.repair``) is told and stops nothing.
    """

    steps: int = 600
    teacher_queries: Optional[int] = None
    generated_tokens: Optional[int] = None
    generated_until: float = 1.0
    batch_size: int = 64
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    temperature: float = 1.0
    replay_share: float = 0.0
    replay_balance: bool = False
    replay_capacity: int = 4096
    heldout: int = 256
    evaluate_every: int = 50
    select: Literal["last", "agreement"] = "last"
    checkpoint_every: int = 50
    explode_factor: float = 100.0
    on_alarm: Literal["warn", "stop"] = "warn"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "replay_capacity", "evaluate_every", "checkpoint_every"):
            require(getattr(self, name) >= 1, f"train.{name}", "1 or more", getattr(self, name))
        for name in ("learning_rate", "temperature"):
            require(getattr(self, name) > 0, f"train.{name}", "above 0", getattr(self, name))
        for name in ("weight_decay", "clip", "heldout"):
            require(getattr(self, name) >= 0, f"train.{name}", "0 or more", getattr(self, name))
        require(0 <= self.warmup < 1, "train.warmup", "a share in [0, 1)", self.warmup)
        require(0 <= self.replay_share < 1, "train.replay_share", "a share in [0, 1)", self.replay_share)
        require(0 < self.generated_until <= 1, "train.generated_until", "a share in (0, 1]", self.generated_until)
        require(self.explode_factor > 1, "train.explode_factor", "above 1", self.explode_factor)
        for name in ("generated_tokens", "teacher_queries"):
            budget = getattr(self, name)
            require(budget is None or budget >= 1, f"train.{name}", "1 or more", budget)
        selectable = self.select == "last" or self.heldout > 0
        require(selectable, "train.heldout", "1 or more for train.select=agreement", self.heldout)


@dataclass(frozen=True)
class EvaluateConfig:
    """How the finished student is judged.

    Args:
        batch_size: sequences at a time.
        limit: judge only this many test items, drawn at random but the same for every run; ``None``: all.
        calibration_bins: equal-width bins of the expected calibration error.
        latency_rounds: timed forward passes for each batch size, teacher and student in turn; 0: no timing.
    """

    batch_size: int = 64
    limit: Optional[int] = None
    calibration_bins: int = 15
    latency_rounds: int = 20

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, "evaluate.batch_size", "1 or more", self.batch_size)
        require(self.limit is None or self.limit >= 1, "evaluate.limit", "1 or more", self.limit)
        require(self.calibration_bins >= 1, "evaluate.calibration_bins", "1 or more", self.calibration_bins)
        require(self.latency_rounds >= 0, "evaluate.latency_rounds", "0 or more", self.latency_rounds)


@dataclass(frozen=True)
class Settings:
    """The top-level keys of a run that are plain values.

    Args:
        teacher: folder, hub name or ``package:DIST`` of a finished classifier.
        teacher_labels: the class names in the order of the teacher's outputs, where its own names are generic
            (``LABEL_0``) or its order differs from the data config's; the outputs are put into the data's order.
        seed: every generator derives from it.
        run: name of the run folder under ``runs``; ``None``: data, strategy, student and seed.
        runs: folder of all runs.
        device: ``auto`` takes a GPU where there is one.
        precision: ``auto`` takes bf16 autocast where the hardware multiplies bf16 natively, else float32.
        threads: CPU threads; ``None``: torch's default.
        trust_remote_code: let hub models run their own code.
        judge: pool of pseudo texts (``dfkd synthesize``) of which the first ``train.heldout`` are the held-out
            samples, the same for every run; ``None``: the strategy makes its own.
        tracking: who is told of the run beside ``metrics.jsonl``: ``tensorboard``, or a class of your own as
            ``module:Name`` or ``FILE.py:Name``; ``None``: nobody. It does not make another run.
    """

    teacher: str = ""
    teacher_labels: Optional[list[str]] = None
    seed: int = 0
    run: Optional[str] = None
    runs: str = "runs"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    threads: Optional[int] = None
    trust_remote_code: bool = False
    judge: Optional[str] = None
    tracking: Optional[str] = None

    def __post_init__(self) -> None:
        require(self.threads is None or self.threads >= 1, "threads", "1 or more", self.threads)
        require(0 <= self.seed < 2**32, "seed", "0 or more, below 2^32", self.seed)


@dataclass(frozen=True)
class RunConfig(Settings):
    """Everything that decides the outcome of one run."""

    data: DataConfig = field(default_factory=lambda: DataConfig(labels=["0", "1"]))
    student: ComponentConfig = field(default_factory=lambda: ComponentConfig("truncated"))
    strategy: ComponentConfig = field(default_factory=lambda: ComponentConfig("random_tokens"))
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        queries, heldout = self.train.teacher_queries, self.train.heldout
        brings_labels = self.judge is not None or self.strategy.name == "pool"
        # else the samples set aside are paid for first
        enough = queries is None or brings_labels or queries > heldout
        require(enough, "train.teacher_queries", f"more than train.heldout={heldout}", queries)

    def run_name(self) -> str:
        """The run's folder below ``runs``: the name given, or one made of data, strategy, student and seed."""
        strategy = (self.strategy.label or self.strategy.name).replace("/", "-")
        return self.run or f"{self.data.name}/{strategy}-{self.student.label or self.student.name}-seed{self.seed}"


@dataclass(frozen=True)
class TeacherConfig:
    """Fine-tuning of a teacher on its task's training split.

    Args:
        model: folder, hub name or ``package:DIST`` of a pre-trained encoder.
        soup: in place of a model and of training: finished teachers that were trained from the same model, whose
            weights' mean is the new teacher (arXiv:2203.05482).
        out: folder of the finished teacher; ``None``: ``teachers/<data>-<model>``.
        limit: train on the first ``limit`` rows of the shuffled split; ``None``: all.
        init_seed: of the weights that the model lacks, the head; ``None``: as ``seed``. The parts of a soup are to
            begin with the same ones: the mean of heads that did not is small, and the soup the less sure.
        batch_order: batches hold texts of about equal length; they come ``shuffled``, or ``by_length``, from long to
            short again and again, as transformers has it: an interrupted training then goes on with other rows.
    """

    model: str = ""
    soup: Optional[list[str]] = None
    out: Optional[str] = None
    epochs: float = 2.0
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    limit: Optional[int] = None
    batch_order: Literal["shuffled", "by_length"] = "shuffled"
    checkpoint_every: int = 200
    seed: int = 0
    init_seed: Optional[int] = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bf16"] = "auto"
    threads: Optional[int] = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.soup is None:
            require(bool(self.model), "model", "a folder, hub name or package:DIST", "nothing")
        else:
            require(not self.model, "model", "nothing, beside a soup", self.model)
            require(len(self.soup) > 1, "soup", "two teachers or more", self.soup)
        for name in ("epochs", "learning_rate"):
            require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        for name in ("batch_size", "checkpoint_every"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        require(self.limit is None or self.limit >= 1, "limit", "1 or more", self.limit)
        require(0 <= self.warmup < 1, "warmup", "a share in [0, 1)", self.warmup)
        for name in ("seed", "init_seed"):
            require(0 <= (getattr(self, name) or 0) < 2**32, name, "0 or more, below 2^32", getattr(self, name))


@functools.cache
def _template(cls: type) -> Any:
    """The dataclass with its defaults for omegaconf; a copy of it is made four times as fast as itself."""
    template = OmegaConf.structured(cls)
    OmegaConf.set_readonly(template, False)
    return template


def typed(cls: type[T], values: Mapping[str, Any], prefix: str = "") -> tuple[T | None, list[ConfigError]]:
    """Build the dataclass ``cls`` from plain values, collecting problems instead of stopping at the first.

    Args:
        cls: a dataclass of plain values.
        values: field -> value; strings are converted where the field's type asks for it.
        prefix: put before field names in messages, such as ``train.``.

    Returns:
        The instance (``None`` when a value is out of range) and the problems.
    """
    merged = copy.deepcopy(_template(cls))  # type: ignore[arg-type]  # mypy takes no class for hashable
    problems = []
    for key, value in values.items():
        try:
            OmegaConf.update(merged, str(key), value, merge=False, force_add=False)
        except OmegaConfBaseException:
            problems.append(_typing_problem(cls, prefix, str(key), value))
    plain = OmegaConf.to_container(merged)
    assert isinstance(plain, dict)
    out_of_range: list[ConfigError] = []
    collecting = _collected.set(out_of_range)
    try:
        built = cls(**{str(k): v for k, v in plain.items()})
    except ConfigError as error:  # raised by other means than require
        out_of_range.append(error)
    finally:
        _collected.reset(collecting)
    return None if out_of_range else built, problems + out_of_range


def _typing_problem(cls: type, prefix: str, key: str, value: object) -> ConfigError:
    types = {f.name: f.type for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if key not in types:
        return ConfigError(f"unknown key '{prefix}{key}'", fix=suggestion(key, types))
    fix = f"set {prefix}{key}=..."
    expected = _for_people(types[key])
    return ConfigError(f"'{prefix}{key}' has a wrong value", expected=expected, found=repr(value), fix=fix)


def _for_people(annotation: object) -> str:
    """A field's type, or the values that it may have."""
    choices = re.search(r"Literal\[(.*?)\]", str(annotation))
    if choices is None:
        return str(annotation)
    names = re.findall(r"[^\s,'\"]+", choices[1]) + (["null"] if "Optional" in str(annotation) else [])
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
