"""Each component meets a disk that takes no more, ends in an error of modelmill's own, and is tried again.

``./run python -m benchmarks.full_disks`` (as root: it mounts a file system in memory) makes the small world
of :mod:`benchmarks.step_deaths` on a disk of its own, MLflow's database on another one. Each component is run
once without a fault, and three times with one:

* ``full``: the disk has as much room as a drawn share of what the step writes (ENOSPC), or a quarter of that
  share, and so on, where it was enough;
* ``read-only``: the disk is mounted read-only after the step's inputs are there (EROFS);
* ``limit``: no file of the process may be larger than a drawn share of the largest that it writes (EFBIG), on
  either disk; this stands for a quota (EDQUOT), which few kernels have for such a disk.

The step must end in an error of modelmill's own, and leave no half table. Then the disk is mended and the
step is run again: rows, commits, models, runs, versions, the alias and the ledger must be those of the run
without a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from benchmarks.crash_points import CrashPoints
from benchmarks.step_deaths import COMPONENTS, SLOW, End, World, content, end_of
from deltalake import DeltaTable

from modelmill.artifacts import TableRef
from modelmill.errors import ModelmillError
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.registry.tracking import make_tracking_database
from modelmill.settings import Settings

DISK_BYTES = 512 << 20
FAULTS = ("full", "read-only", "limit")
THROUGH, TRIES = "went through", 4
_PAGE = os.sysconf("SC_PAGESIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--components", nargs="*", default=[one for one in COMPONENTS if one not in SLOW])
    options = parser.parse_args()
    chance, counts = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name, _world(Path(name)) as world:
        for component in options.components:
            written = _Written(world, component)
            for fault in FAULTS:
                said, share, tries = THROUGH, chance.random(), 0
                while said == THROUGH and tries < TRIES:
                    with contextlib.redirect_stdout(io.StringIO()):  # what steps say
                        case = f"{fault}-{tries}"
                        said = _case(world, component, fault, case=case, written=written, share=share)
                    share, tries = share / 4, tries + 1
                counts[said.partition(":")[0]] += 1
                print(f"{component}, {fault}: {said}", flush=True)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    sys.exit(counts["WRONG"] > 0)


class _Written:
    """What a component leaves, and how much it writes, where nothing is wrong.

    :param world: the deployment.
    :param component: its name.
    """

    def __init__(self, world: World, component: str) -> None:
        request = world.request(component, "lives")
        before, began = _used(world.folder), {path: path.stat().st_size for path in _files(world.folder)}
        with contextlib.redirect_stdout(io.StringIO()):
            outputs = run_step(request, world.settings).outputs
        self.end = end_of(world, request, dict(outputs))
        self.all_bytes = max(_used(world.folder) - before, 2 * _PAGE)
        sizes = [path.stat().st_size for path in _files(world.folder) if path not in began]
        self.largest_bytes = max(sizes, default=2)


def _case(world: World, component: str, fault: str, *, case: str, written: _Written, share: float) -> str:
    """Run a step on a disk with a fault, and again without; return what came of it."""
    request = world.request(component, case)
    try:
        with _faulty(world, fault, written, share=share):
            run_step(request, world.settings)
        return THROUGH if _left(world, request, written.end) == "" else "WRONG: it went through"
    except ModelmillError as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {error}"
    if half := _half(request, written.end):
        return f"WRONG: {half} after {said}"
    problem = _left(world, request, written.end)
    return f"WRONG: {problem} after {said}" if problem else f"right: {said}"


def _left(world: World, request: StepRequest, expected: End) -> str:
    """Run the step again, on a disk that is mended; return what is wrong then."""
    try:
        found = end_of(world, request, dict(run_step(request, world.settings).outputs))
    except Exception as error:
        return f"the next try ended in {type(error).__name__}: {error}"
    return "" if found == expected else f"{found}, expected {expected}"


def _half(request: StepRequest, expected: End) -> str:
    """Return what is wrong with a table that a failed step has left: it has all rows, or is not there."""
    to = str(request.config.get("to", ""))
    if not to or not DeltaTable.is_deltatable(to):
        return ""
    found = content(TableRef(uri=to, version=DeltaTable(to).version()))
    return "" if any(one.endswith(f" {found}") for one in expected.outputs) else f"a table of {found}"


@contextlib.contextmanager
def _faulty(world: World, fault: str, written: _Written, *, share: float) -> Iterator[None]:
    if fault == "read-only":
        _mount("remount,ro", world.folder)
        try:
            yield
        finally:
            _mount("remount,rw", world.folder)
    elif fault == "limit":
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(written.largest_bytes * share), before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    else:
        filler = world.folder / "filler"
        room = int(written.all_bytes * share) // _PAGE * _PAGE
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(world.folder).free - room)
        try:
            yield
        finally:
            filler.unlink()


@contextlib.contextmanager
def _world(folder: Path) -> Iterator[World]:
    """Make a deployment on a disk of its own, with its engine, in this process."""
    from modelmill import jobs
    from modelmill.spark import session

    disk = folder / "disk"
    disk.mkdir()
    given = {"MODELMILL_HOME": f"{disk}/home", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    with contextlib.ExitStack() as stack:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", disk], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", disk], check=True)
        stack.enter_context(mock.patch.dict(os.environ, given))
        settings = Settings.from_environment()
        make_tracking_database(folder / "mlflow.db")
        # One session for all: starting one takes longer than most steps.
        spark = stack.enter_context(session(settings))
        own = mock.patch.object(jobs, "session", side_effect=lambda _=None: contextlib.nullcontext(spark))
        stack.enter_context(own)
        yield World(disk, settings, CrashPoints())


def _mount(options: str, place: Path) -> None:
    subprocess.run(["mount", "-o", options, place], check=True)


def _used(place: Path) -> int:
    return shutil.disk_usage(place).used


def _files(place: Path) -> Iterator[Path]:
    return (path for path in place.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
