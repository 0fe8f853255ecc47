"""Grids of runs on a Ray cluster: a task a run, on as many processors or machines as there are.

The machines share the working directory (Ray's own is not used for the runs' files): each run's folder is where the
table says, seen from there.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Sequence

from dfkd import compare
from dfkd.compare import Outlook, Watcher
from dfkd.console import quiet_libraries, quiet_listeners
from dfkd.errors import ConfigError, DfkdError
from dfkd.grids import Job
from dfkd.workers import WAIT_SECONDS


def check() -> None:
    """Whether Ray is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import ray  # noqa: F401
    except ImportError as error:
        fix = "in dfkd's checkout: pip install '.[ray]', or leave out --engine"
        raise ConfigError("--engine ray needs Ray, which is not installed", found=error, fix=fix) from error


def supervise(jobs: Sequence[Job], workers: int, watcher: Watcher) -> None:
    """Let Ray work the grid off, and watch it until its tasks end.

    A cluster is joined where RAY_ADDRESS names one; otherwise a local one is started for the time of this call. Each
    run takes a processor, and a GPU where the cluster has some. What fails is written down, as with other engines, and
    so is the end of a process or machine that a run was on.

    Args:
        jobs: of :func:`dfkd.grids.load`.
        workers: processes of a local cluster; one that is there already decides for itself.
        watcher: hears of the progress.

    Raises:
        DfkdError: there is no cluster at RAY_ADDRESS.
    """
    import ray

    _connect(workers)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        places = int(ray.cluster_resources().get("GPU" if gpus else "CPU", workers))
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_work)
        todo = [job for job in jobs if not job.folder.finished and not job.failure.is_file()]
        waiting = {task.remote(job, os.getcwd()): job for job in todo}
        outlook = Outlook(jobs, max(1, places))
        while waiting:
            ended, _ = ray.wait(list(waiting), timeout=WAIT_SECONDS)
            for reference in ended:
                _settle(reference, waiting.pop(reference))
            outlook.tell(watcher)
    finally:
        ray.shutdown()


def _connect(workers: int) -> None:
    import ray

    variables = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}  # the same code as here
    quietly: dict[str, Any] = {
        "log_to_driver": False, "configure_logging": False, "runtime_env": {"env_vars": variables},
    }
    address = os.environ.get("RAY_ADDRESS")
    if not address:  # "local": else a cluster that someone started on this machine would be joined
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **quietly)
        return
    try:
        ray.init(**quietly)
    except (ConnectionError, RuntimeError, ValueError) as error:
        fix = "start the cluster, or unset RAY_ADDRESS for a local one"
        raise DfkdError(f"no Ray cluster at RAY_ADDRESS={address}: {error}\n  what to do: {fix}") from error


def _work(job: Job, folder: str) -> None:
    """One run, in a process of Ray's."""
    os.chdir(folder)
    quiet_libraries()
    compare.work_off([job], quiet_listeners)


def _settle(reference: Any, job: Job) -> None:
    """Where a task ended without writing down its failure, as a process that dies does, write it down."""
    import ray

    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        compare.note_failure(job, error)
