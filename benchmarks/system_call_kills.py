"""Steps are killed with SIGKILL at system calls that write, and tried again: they end as if nothing had been.

``./run python -m benchmarks.system_call_kills`` needs Linux and strace. Each of the components of
:mod:`benchmarks.step_deaths` is run once in a process of its own under ``strace``, which lists the calls that
change a file or a folder: of Python, SQLite, delta-rs and Sail alike. Some of them are drawn; for each the
same step is run with other tables and names, and killed as it enters the call. Then it is tried again, in
another process, and rows, commits, runs, models, versions, alias and ledger must be those of a step that was
never killed. What it has left in the temporary folder must be what the next process removes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from benchmarks.step_deaths import COMPONENTS, End, World, end_of
from benchmarks.step_deaths import world as deployment

from modelmill.errors import ModelmillError
from modelmill.pipeline.request import StepRequest, StepResult
from modelmill.pipeline.runner import run_step
from modelmill.pipeline.step_process import StepProcess
from modelmill.system.scratch import abandoned, remove_abandoned

_CALLS = (
    "write,pwrite64,writev,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,rename,renameat,renameat2,"
    "link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,copy_file_range,sendfile"
)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_SILENT = re.compile(r"<(anon_inode|pipe|socket|TCP|UNIX|/dev/)")
"""Descriptors whose writes leave nothing behind."""


@dataclass(frozen=True)
class Call:
    """A system call of a step that was not killed."""

    number: int
    """Which one of its thread's it is, from 1."""
    name: str
    target: str


@dataclass(frozen=True)
class Kill:
    """A step that was killed and tried again."""

    place: str
    """The call."""
    problem: str
    """What was wrong afterwards; empty: nothing."""


class Tracer:
    """Runs steps under ``strace``.

    :param folder: for its log, its script and the temporary folder of the steps.
    """

    def __init__(self, folder: Path) -> None:
        self.log, self.script, self.scratch = folder / "calls", folder / "python", folder / "scratch"
        self.scratch.mkdir()
        strace = shutil.which("strace")
        if strace is None:
            sys.exit("strace must be there; on Debian: apt-get install strace")
        self.script.write_text(
            "#!/bin/sh\n"
            # A tracer that is no parent: a step ends with the process that has started it. It cannot inject
            # where the kernel filters the calls (--seccomp-bpf).
            f"exec {strace} -DDD -f -qq -y -s 0 -o {self.log} -e trace={_CALLS} $KILL_AT "
            f'{sys.executable} "$@"\n'
        )
        self.script.chmod(0o755)

    def run(self, request: StepRequest, at: Call | None = None) -> StepResult | None:
        """Run a step; return its result, or None if it was killed."""
        inject = f"-e inject={at.name}:signal=KILL:when={at.number}" if at else ""
        given = {"KILL_AT": inject, "TMPDIR": str(self.scratch)}
        self.log.unlink(missing_ok=True)
        try:
            return StepProcess(request, python=str(self.script), environment=given).run(lambda _line: None)
        except ModelmillError as error:
            if "SIGKILL" not in str(error):
                raise
            return None

    def calls(self) -> Iterator[Call]:
        """Return the calls of the last step that change a file or a folder."""
        numbers: Counter[tuple[str, str]] = Counter()
        for line in self.log.read_text(errors="replace").splitlines():
            if found := _LINE.match(line):
                thread, name, rest = found.groups()
                numbers[thread, name] += 1
                if not _SILENT.search(rest.split(",")[0]):
                    yield Call(numbers[thread, name], name, rest)

    def place(self, call: Call) -> str:
        """Return the call in which the last step was killed."""
        lines = [one for one in self.log.read_text(errors="replace").splitlines() if f" {call.name}(" in one]
        return lines[-1][:200] if lines else ""


def drawn(calls: Iterator[Call], count: int, source: random.Random) -> list[Call]:
    """Draw calls, each kind as often as the others as far as there are enough: most are SQLite's."""
    kinds: dict[str, list[Call]] = {}
    for call in calls:
        kinds.setdefault(kind_of(f"0 {call.name}({call.target}"), []).append(call)
    for found in kinds.values():
        source.shuffle(found)
    turns = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds, key=lambda _: source.random())))
    return [call for call in itertools.chain(*turns) if call is not None][:count]


def kind_of(line: str) -> str:
    """Return a call's name and what it is about."""
    found = _LINE.match(line)
    if not found:
        return "not killed"
    kinds = {
        "_delta_log": "Delta log",
        ".parquet": "rows",
        "mlflow.db": "MLflow's database",
        "artifacts": "artifact",
    }
    about = next((kind for part, kind in kinds.items() if part in found[3]), "other file")
    return f"{found[2]}, {about}"


def kills(world: World, tracer: Tracer, component: str, count: int, source: random.Random) -> Iterator[Kill]:
    """Kill a component in calls that are drawn, and try it again.

    :param world: the deployment.
    :param tracer: runs it.
    :param component: its name.
    :param count: kills at most: a step may have fewer calls than the one that was not killed.
    :param source: draws the calls.
    :yield: what came of each.
    """
    request = world.request(component, "traced")
    lived = tracer.run(request)
    if lived is None:
        raise RuntimeError(f"somebody else has killed {component}")
    expected = end_of(world, request, dict(lived.outputs))
    for number, call in enumerate(drawn(tracer.calls(), count, source)):
        if kill := _kill(world, tracer, world.request(component, f"killed-{number}"), (call, expected)):
            yield kill


def _kill(world: World, tracer: Tracer, request: StepRequest, case: tuple[Call, End]) -> Kill | None:
    call, expected = case
    try:
        if tracer.run(request, call) is not None:
            return None
        with mock.patch.object(tempfile, "tempdir", str(tracer.scratch)):
            found = end_of(world, request, dict(run_step(request, world.settings).outputs))
        problem = "" if found == expected else f"{found}, expected {expected}"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Kill(tracer.place(call), problem or _left(tracer.scratch))


def _left(scratch: Path) -> str:
    """Return what the next process, a minute later, does not remove of what killed ones have left."""
    for lock in scratch.glob("modelmill-*.owner"):
        os.utime(lock, (0, 0))
    for folder in abandoned(scratch, prefix="modelmill-"):
        remove_abandoned(folder)
    left = sorted(one.name for one in scratch.glob("modelmill-*"))
    return f"left in the temporary folder: {', '.join(left)}" if left else ""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=12, help="of each component")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--components", nargs="*", default=list(COMPONENTS))
    options = parser.parse_args()
    source, results = random.Random(options.seed), list[Kill]()
    with tempfile.TemporaryDirectory() as name, deployment(Path(name)) as world:
        tracer = Tracer(Path(name))
        for component in options.components:
            found = list(kills(world, tracer, component, options.kills, source))
            _print_row(component, found)
            results += found
    for kind, count in Counter(kind_of(one.place) for one in results).most_common():
        print(f"{count:5} {kind}")
    wrong = sum(bool(one.problem) for one in results)
    print(f"{len(results) - wrong} of {len(results)} end right")
    sys.exit(wrong > 0)


def _print_row(component: str, found: list[Kill]) -> None:
    for one in found:
        if one.problem:
            print(f"  {component}, {one.place}: {one.problem}", flush=True)
    print(f"| {component} | {len(found)} | {sum(not one.problem for one in found)} |", flush=True)


if __name__ == "__main__":
    main()
