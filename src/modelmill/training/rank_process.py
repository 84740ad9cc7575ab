"""The processes of a training on several devices: the launcher, and what it launches.

``python -m modelmill.training.rank_process launch FOLDER COUNT`` is ``accelerate launch`` that notes which
rank failed; ``… train FOLDER`` is one rank. See :mod:`modelmill.training.multi_device`.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.errors import EXIT_FAILED, ModelmillError
from modelmill.workspace import NoTracker, Workspace

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

JOB = "job"
"""File with the pickled :class:`~modelmill.training.loop.TrainingJob`, and the folders of its workspace."""
FAILURE = "failure"
"""File that says which rank failed, and how."""
REPORT = "\x1e"
"""Begins a line of JSON for the process that started this one (RFC 7464): metrics, or progress."""

_TIMEOUT = datetime.timedelta(minutes=30)
"""For the gradients of a step, and a checkpoint before it: after that something hangs."""
_LOOK_SECONDS = 0.5
_PATIENCE = datetime.timedelta(days=7)
"""For the others, while the first one evaluates."""


def error_path(folder: Path, rank: int) -> Path:
    """Return the file to which a rank writes the error that ends it."""
    return folder / f"error-{rank}"


def launch(folder: Path, count: int) -> int:
    """Start the ranks, and wait for them."""
    import torch.distributed.run  # its import sets the level of its log
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    # It leaves its logs and its meeting place behind: so they go with the folder.
    tempfile.tempdir = str(folder)
    # What somebody has set up by "accelerate config" is for trainings of their own.
    config = folder / "accelerate.json"
    config.write_text('{"distributed_type": "MULTI_GPU"}')
    # It warns of an address that nobody has given.
    logging.getLogger(torch.distributed.run.__name__).setLevel(logging.ERROR)
    # Without --cpu, which knows one process only: the ranks see for themselves what there is.
    options = f"--multi_gpu --num_processes {count} --num_machines 1 --gpu_ids all --mixed_precision no"
    options += " --dynamo_backend no --main_process_port 0 --rdzv_backend c10d --rdzv_conf store_type=file"
    module = ["-m", "modelmill.training.rank_process", "train", str(folder)]
    try:
        launch_command(
            launch_command_parser().parse_args(["--config_file", str(config), *options.split(), *module])
        )
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: _blame(item[1]))
        (folder / FAILURE).write_text(f"rank {rank} ended with {_how(failure.exitcode)}")
        return EXIT_FAILED
    return 0


def _blame(failure: ProcessFailure) -> int:
    """Order failures: the launcher ends the others with SIGTERM, and before that they miss the dead one."""
    killed, ended = failure.exitcode < 0, failure.exitcode == -signal.SIGTERM
    return 2 if ended else 0 if killed else 1


def _how(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def train(folder: Path) -> int:
    """Train as one rank."""
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        _train(folder, rank, count)
    except ModelmillError as error:
        draft = folder / f"draft-{rank}"
        draft.write_bytes(pickle.dumps(error))
        draft.replace(error_path(folder, rank))
        return error.exit_status
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    return 0


def _train(folder: Path, rank: int, count: int) -> None:
    import torch
    from torch import distributed

    from modelmill.training.loop import TrainingLoop
    from modelmill.training.ranks import Ranks

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=(folder / "rendezvous").resolve().as_uri(),
        rank=rank,
        world_size=count,
        timeout=_TIMEOUT,
    )
    control = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    with (folder / JOB).open("rb") as file:
        job, folders = pickle.load(file)  # noqa: S301 (the process that started this one has written it)
    workspace = Workspace(
        **folders,
        tracker=_ReportedMetrics(),
        progress=lambda done, total, **figures: _report(done=done, total=total, figures=figures),
        log=lambda line: _write(line if rank == 0 else f"rank {rank}: {line}"),
    )
    TrainingLoop(job, workspace, Ranks(rank, count, control)).run()


class _ReportedMetrics(NoTracker):
    """Hands metrics to the process that started this one: it has the tracker."""

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        _report(metrics=dict(metrics), step=step)


def _report(**content: Any) -> None:
    _write(f"{REPORT}{json.dumps(content)}")


def _write(line: str) -> None:
    # In one piece: other ranks write to the same pipe.
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def _end_with_input() -> None:
    """End this process when nobody holds the other end of its input any more."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(EXIT_FAILED)


def _end_with_launcher(launcher: int) -> None:
    """End this process with the one that would notice if another rank died."""
    while os.getppid() == launcher:
        time.sleep(_LOOK_SECONDS)
    os._exit(EXIT_FAILED)


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    if what == "launch":
        sys.exit(launch(Path(where), int(more[0])))
    threading.Thread(target=_end_with_input, daemon=True).start()
    threading.Thread(target=_end_with_launcher, args=(os.getppid(),), daemon=True).start()
    ended = train(Path(where))
    sys.stdout.flush()
    sys.stderr.flush()
    # As a step does: libraries' threads may abort an interpreter that takes itself apart.
    os._exit(ended)
