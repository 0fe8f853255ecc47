"""Processes of ``dfkd`` that share some work: begun, watched, and ended with the one that began them.

Ended by Ctrl-C, ``kill`` or a closed terminal, it ends them too; after ``kill -9`` they go on to the end of their work.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Sequence

from dfkd.errors import DfkdError

WAIT_SECONDS = 2.0


def share(
    commands: Sequence[Sequence[str]], logs: Sequence[Path], tell: Callable[[], None], held: int | None = None,
    killed: Callable[[int, int], bool] = lambda process, number: False,
) -> None:
    """Run commands side by side until all have ended.

    Args:
        commands: arguments of ``dfkd``, one list a process.
        logs: the file that each prints into.
        tell: called again and again meanwhile, and once at the end.
        held: descriptor of a lock that the processes hold as well: it stays taken until the last of them has ended,
            even where this one is killed; ``None``: there is no lock.
        killed: called with a process and the number of the signal that ended it, as where memory runs out; whether its
            command is to be begun again.

    Raises:
        DfkdError: a process ended with an error.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with _ended_by_signals():
        try:
            for command, log in zip(commands, logs):
                processes.append(_start(command, log, held))
            blamed: set[int] = set()
            while True:
                for place, process in enumerate(processes):
                    if (process.poll() or 0) < 0 and process.pid not in blamed:
                        blamed.add(process.pid)
                        if killed(process.pid, -process.returncode):
                            processes[place] = _start(commands[place], logs[place], held)
                if all(process.poll() is not None for process in processes):
                    break
                tell()
                time.sleep(WAIT_SECONDS)
        finally:
            for process in processes:
                process.terminate()
                process.wait()
    tell()
    for process, log in zip(processes, logs):
        if process.returncode != 0:
            last = (log.read_text(encoding="utf-8").strip().splitlines() or [""])[-1]
            raise DfkdError(f"a worker ended with exit code {process.returncode}: {last}\n  what to do: see {log}")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise, as Ctrl-C does, so that what must be done at the end is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may
        return
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _start(command: Sequence[str], log: Path, held: int | None) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        whole = [sys.executable, "-m", "dfkd.cli", *command]
        kept = () if held is None else (held,)
        return subprocess.Popen(whole, stdout=output, stderr=subprocess.STDOUT, pass_fds=kept)
