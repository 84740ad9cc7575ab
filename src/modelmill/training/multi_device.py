"""One training on several devices: a process for each, started by ``accelerate launch``.

The process that starts them stays the only one that holds a step's lock, the lease of its devices and its
MLflow run. It writes what the ranks need to a folder, passes on what they report, and waits. What they have
learned is in their last checkpoint: the training loop of the starting process finds it and has nothing left
to do.

The ranks are in sessions of their own, so the starting process holds one end of a pipe that is their standard
input: they end when it closes, however the starting process dies.
"""

from __future__ import annotations

import json
import mmap
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import torch

from modelmill.errors import ModelmillError, TransientError
from modelmill.models.encoder import layers_of
from modelmill.system.devices import own_devices
from modelmill.tokens.token_ids import Tokens
from modelmill.training.checkpoints import CheckpointStore
from modelmill.training.loop import TrainingJob
from modelmill.training.rank_process import FAILURE, JOB, REPORT, error_path
from modelmill.workspace import Workspace

_WORTH = 3e13
"""Weights of the layers times tokens that they read: about ten seconds of a GPU that makes 20 TFLOP/s (six
operations each), as long as it takes to start the processes."""

_PREFIX = "ranks-"
_ENVIRONMENT = {
    # Whatever they say to each other stays on this machine.
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",
    # Else the launcher listens on all interfaces. The ranks meet in a file, so nobody asks it.
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
}


def process_count(job: TrainingJob, *, log: Callable[[str], None]) -> int:
    """Return in how many processes a training should run: one for each device that the step has leased.

    :param job: the training.
    :param log: is told if the training is too short to start several.
    :return: 1 if it has no device, or one.
    """
    # What others have leased may be visible too: to a step that asks for no device.
    count = min(len(own_devices()), torch.cuda.device_count(), job.options.batch_size)
    if count < 2:
        return 1
    layers = layers_of(job.model.encoder)
    weights = sum(weight.numel() for layer in layers for weight in layer.parameters())
    if weights * float(job.rows.tokens.lengths.sum()) * job.options.epochs < _WORTH:
        log("the training is short: it uses the first device only")
        return 1
    return count


def train_in_processes(count: int, job: TrainingJob, workspace: Workspace) -> None:
    """Train in several processes, up to their last checkpoint.

    :param count: how many.
    :param job: the training.
    :param workspace: checkpoints go below its work directory.
    :raises ModelmillError: what a rank has raised.
    :raises TransientError: if a rank ends in another way; the next attempt goes on from the last checkpoint.
    """
    if _has_ended(workspace):
        return
    for left in workspace.workdir.glob(f"{_PREFIX}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    # Losses are closures and models have hooks, so they are pickled: only this user can write there.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=workspace.workdir))
    try:
        with (folder / JOB).open("wb") as file:
            _Pickler(file).dump((job, {"workdir": workspace.workdir, "cache": workspace.cache}))
        workspace.log(f"trains in {count} processes")
        _run(folder, count, workspace)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_ended(workspace: Workspace) -> bool:
    newest = CheckpointStore(workspace.workdir / "checkpoints").newest()
    return newest is not None and bool(newest.state["ended"])


def _reduce_mapped(array: np.memmap[Any, Any]) -> Any:
    """Pickle a mapped array as the place of its file, so that the ranks share its pages."""
    # A part of one does not know its place, and what was changed in memory is not in the file.
    if not isinstance(array.base, mmap.mmap) or array.mode != "r":
        return np.asarray(array).__reduce__()
    order = "C" if array.flags.c_contiguous else "F"
    return np.memmap, (array.filename, array.dtype, "r", array.offset, array.shape, order)


def _reduce_tokens(tokens: Tokens) -> Any:
    """Pickle the ids of the rows: the buffer has those of the whole dataset."""
    return Tokens.packed, (tokens.flat(), np.asarray(tokens.lengths))


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
    dispatch_table = ChainMap(
        {np.memmap: _reduce_mapped, Tokens: _reduce_tokens}, cloudpickle.Pickler.dispatch_table
    )


def _run(folder: Path, count: int, workspace: Workspace) -> None:
    threads = max(1, torch.get_num_threads() // count)
    with subprocess.Popen(
        [sys.executable, "-m", "modelmill.training.rank_process", "launch", str(folder), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)},
    ) as process:
        last = ""
        try:
            for line in process.stdout or ():
                last = _pass_on(line.rstrip("\n"), workspace) or last
            status = process.wait()
        except BaseException:
            # The launcher would wait for the ranks. They end with their input, and the output after them.
            process.kill()
            process.communicate()
            raise
    # Where the launcher alone was killed, the ranks may have come to their end.
    if status and not _has_ended(workspace):
        raise _failure(folder, count, status, last)


def _pass_on(line: str, workspace: Workspace) -> str:
    """Log a line, or pass on what it reports; return what was logged."""
    text, report, content = line.partition(REPORT)
    if text or not report:
        workspace.log(text)
    if not report:
        return text.strip()
    told = json.loads(content)
    if "metrics" in told:
        workspace.tracker.log_metrics(told["metrics"], step=told["step"])
    else:
        workspace.progress(told["done"], told["total"], **told["figures"])
    return text.strip()


def _failure(folder: Path, count: int, status: int, last: str) -> ModelmillError:
    for rank in range(count):
        if error_path(folder, rank).exists():
            error: ModelmillError = pickle.loads(error_path(folder, rank).read_bytes())  # noqa: S301 (ours)
            return error
    told = folder / FAILURE
    how = told.read_text() if told.exists() else f"the launcher ended with status {status}"
    return TransientError(
        f"each of the {count} processes of a training must work to its end",
        got=f"{how} ({last})" if last else how,
        remedy="the next attempt goes on from the last checkpoint",
    )
