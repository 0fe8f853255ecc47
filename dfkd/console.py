"""What people see of the work: progress bars, score lines, errors without tracebacks."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from dfkd.errors import DfkdError

console = Console()


def guarded(call: Callable[[], Any]) -> None:
    """Call, and print errors of our own without a traceback: exit with 2, after an interrupt with 130."""
    try:
        call()
    except (KeyboardInterrupt, typer.Abort):
        Console(stderr=True).print("interrupted; the same command goes on from the last checkpoint")
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except DfkdError as error:
        _fail(str(error))
    except Exception as error:
        # click's usage errors (wrong option, missing argument) know how to show themselves
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()}{_as_setting(error)}")


def _as_setting(error: Any) -> str:
    """A line on how a setting is written, where one was given as an option: ``--teacher x``; else nothing."""
    option, context = str(getattr(error, "option_name", "")), getattr(error, "ctx", None)
    takes = context is not None and any(parameter.name == "overrides" for parameter in context.command.params)
    if not takes or not option.startswith("--"):
        return ""
    given = " ".join(sys.argv).partition(f"{option} ")[2] or " ".join(sys.argv).partition(f"{option}=")[2]
    value = given.split(" ")[0] or "VALUE"
    return f"\n  what to do: settings are key=value: {option[2:]}={value}"


def _fail(message: str) -> None:
    # soft_wrap: a path or a command in a message must stay whole, to be copied
    Console(stderr=True).print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(2)


class RunProgress:
    """A progress bar over the steps of a run, with loss, agreement and class histogram.

    Args:
        labels: class names, for the histogram.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[facts]}"),
        )
        self.progress = Progress(*columns, console=console)
        self.task: Any = None

    def __enter__(self) -> Any:
        from dfkd.pipeline import Listeners

        self.progress.start()
        return Listeners(stage=self.stage, step=self.step, predicted=self.predicted, alarm=self.alarm)

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage(self, text: str) -> None:
        """Begin a new bar."""
        self.task = self.progress.add_task(text, total=None, facts="")

    def step(self, record: dict[str, Any], steps: int) -> None:
        """Show a student step."""
        total = sum(record["classes"]) or 1
        shares = " ".join(f"{label[:8]} {100 * n // total}%" for label, n in zip(self.labels, record["classes"]))
        facts = f"loss {record['loss']:.3f} agreement {record['agreement']:.2f} | {shares}"
        self.progress.update(self.task, completed=record["step"] + 1, total=steps, facts=facts)

    def alarm(self, text: str) -> None:
        """Print an alarm above the bars."""
        say_alarm(text)

    def predicted(self, done: int, total: int) -> None:
        """Show predicted test items."""
        self.progress.update(self.task, completed=done, total=total)


def say_alarm(text: str) -> None:
    """Print an alarm, above the bars if there are some."""
    console.print(f"[bold yellow]alarm:[/] {escape(text)}", highlight=False, soft_wrap=True)


class GridProgress:
    """A bar over the runs of a grid, with the time left and a line on each run at work.

    Args:
        total: number of runs.
        what: what they are called.
    """

    def __init__(self, total: int, what: str = "runs") -> None:
        self.total, self.what = total, what
        columns = (
            TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self.progress = Progress(*columns, console=console)
        self.task = self.progress.add_task(what, total=total, left="")
        self.running: Sequence[str] = ()
        self.live = Live(get_renderable=self._shown, console=console)

    def __enter__(self) -> GridProgress:
        self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def _shown(self) -> Group:
        """The bar, and the lines below it, cut where the terminal ends: they must not squeeze the bar."""
        return Group(self.progress, *(Text(f"  {line}", no_wrap=True, overflow="ellipsis") for line in self.running))

    def update(self, finished: int, failed: int, running: Sequence[str], left: float | None) -> None:
        """Show runs finished and failed so far, a line on each run at work, and the time left."""
        named = f"{self.what} ({failed} failed)" if failed else self.what
        self.progress.update(self.task, completed=finished, description=named, left=time_left(left))
        self.running = tuple(running)


def time_left(seconds: float | None) -> str:
    """Seconds left, for people; empty where they are unknown."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left" if seconds < 5400 else f"about {seconds / 3600:.1f} h left"


@contextmanager
def quiet_listeners(job: Any) -> Iterator[Any]:
    """Listeners of a run in the background: a line when it begins and ends, and the alarms."""
    from dfkd.pipeline import Listeners

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    started = time.monotonic()
    say(f"begin {job.cell}")
    yield Listeners(alarm=lambda text: say(f"alarm: {text}"))
    say(f"end {job.cell}: {time.monotonic() - started:.0f} s")


class Bar:
    """A progress bar that is called with (done, all)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.progress = Progress(console=console)
        self.task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        return self.update

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def update(self, done: int, total: int) -> None:
        """Show how far it is; the bar appears with the first call."""
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task(self.text, total=total)
        self.progress.update(self.task, completed=done)


def scores_line(scores: dict[str, float]) -> str:
    names = {"accuracy": "accuracy", "macro_f1": "macro-F1", "calibration_error": "calibration error"}
    return ", ".join(f"{names.get(name, name)} {100 * value:.2f} %" for name, value in scores.items())


def quiet_libraries() -> None:
    """Silence the load reports and bars of the libraries; ours say what matters."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # peft asks for it by the older name: nothing that a user could mend
    warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
    logging.getLogger("httpx").setLevel(logging.WARNING)
