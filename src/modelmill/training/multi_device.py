"""One training on several devices: a process for each, started by ``accelerate launch``.

The step's process stays the only one that holds the step's lock, the devices' lease and the MLflow run. It
writes what the ranks need to a folder, hands on what they print, and waits. What they have learned lies in
their last checkpoint: the step's own training finds it and has nothing left to do.

The ranks live in sessions of their own, so the step's process holds one end of a pipe that is their standard
input: they end when it closes, however the step's process dies.
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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import torch

from modelmill.errors import ModelmillError, TransientError
from modelmill.models.classifier import Classifier
from modelmill.models.encoder import layer_list
from modelmill.system.devices import own_devices
from modelmill.tokens.token_ids import Tokens
from modelmill.training.checkpoints import CheckpointStore
from modelmill.training.rank_process import FAILURE, JOB, REPORT, error_path

if TYPE_CHECKING:
    from modelmill.component import StepContext
    from modelmill.training.loop import Encoded
    from modelmill.training.options import TrainingConfig

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


def process_count(
    model: Classifier, data: Encoded, config: TrainingConfig, *, log: Callable[[str], None]
) -> int:
    """Return in how many processes a training should run: one for each device that the step has leased.

    :param model: the model.
    :param data: train rows.
    :param config: how to train.
    :param log: is told if the training is too short to start several.
    :return: 1 where it has none, or one.
    """
    # What others have leased may be visible too: to a step that asks for no device.
    count = min(len(own_devices()), torch.cuda.device_count(), config.batch_size)
    if count < 2:
        return 1
    weights = sum(weight.numel() for weight in layer_list(model.encoder)[1].parameters())
    if weights * float(data.tokens.lengths.sum()) * config.epochs < _WORTH:
        log("the training is short: it uses the first device only")
        return 1
    return count


def train_in_processes(count: int, job: Mapping[str, Any], context: StepContext) -> None:
    """Train in several processes, up to their last checkpoint.

    :param count: how many.
    :param job: arguments of :func:`modelmill.training.loop.train`.
    :param context: the step.
    :raises ModelmillError: what a rank has raised.
    :raises TransientError: if a rank ends in another way; the next attempt goes on from the last checkpoint.
    """
    if _has_ended(context):
        return
    for left in context.workdir.glob(f"{_PREFIX}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    # Losses are closures and models have hooks, so they are pickled: only this user can write there.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=context.workdir))
    try:
        handed = ("pipeline", "step", "step_key", "workdir", "cache", "settings")
        with (folder / JOB).open("wb") as file:
            _Pickler(file).dump((dict(job), {name: getattr(context, name) for name in handed}))
        context.log(f"trains in {count} processes")
        _run(folder, count, context)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _has_ended(context: StepContext) -> bool:
    newest = CheckpointStore(context.workdir / "checkpoints").newest()
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


def _run(folder: Path, count: int, context: StepContext) -> None:
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
                last = _hand_on(line.rstrip("\n"), context) or last
            status = process.wait()
        except BaseException:
            # The launcher would wait for the ranks. They end with their input, and the output after them.
            process.kill()
            process.communicate()
            raise
    # Where the launcher alone was killed, the ranks may have come to their end.
    if status and not _has_ended(context):
        raise _failure(folder, count, status, last)


def _hand_on(line: str, context: StepContext) -> str:
    """Log a line, or hand on what it reports; return what was logged."""
    text, report, content = line.partition(REPORT)
    if text or not report:
        context.log(text)
    if not report:
        return text.strip()
    said = json.loads(content)
    if "metrics" in said:
        context.run.log_metrics(said["metrics"], step=said["step"])
    else:
        context.progress(said["done"], said["total"], **said["figures"])
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
