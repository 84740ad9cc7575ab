"""A training is ended from outside in four ways; no run of it may stay RUNNING, and a retry ends it.

``./run python -m benchmarks.left_running`` (as root: it makes a memory cgroup) starts ``fine_tune`` in a
process, waits until its run is RUNNING, and ends it by SIGKILL; by SIGTERM; by the kernel's OOM killer, in a
cgroup that has no memory left; and as a pod is deleted: SIGTERM, and SIGKILL to the whole group after its
grace. Then another step of the same pipeline starts, after which no run may be RUNNING, and the
training is tried again: one finished run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.step_deaths import World, world

from modelmill.errors import ModelmillError
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.step_process import StepProcess
from modelmill.registry.tracking import tracking_client

_CGROUPS = Path("/sys/fs/cgroup/memory")
_MEMORY_BYTES = 1 << 20
_START_SECONDS = 300.0
_POD_GRACE_SECONDS = 3.0


def main() -> None:
    left = 0
    with tempfile.TemporaryDirectory() as name, world(Path(name)) as place:
        for case, end in ENDS.items():
            how, running = _ended(place, case, end)
            left += running
            print(f"{case}: {how}; {running} runs left RUNNING", flush=True)
    print(f"runs left RUNNING: {left} of {len(ENDS)}")
    sys.exit(left > 0)


def _ended(place: World, case: str, end: Callable[[int], str]) -> tuple[str, int]:
    """End a training; return how, and how many of its runs are RUNNING once another step has run."""
    request = place.request("fine_tune", case)
    step = StepProcess(request, python=sys.executable)
    killer = threading.Thread(target=lambda: said.append(end(_once_running(place, request, step))))
    said: list[str] = []
    killer.start()
    try:
        step.run(lambda _: None)
    except ModelmillError as error:
        said.append(" ".join(str(error).split())[:120])
    killer.join()
    other = place.request("ingest", case).model_copy(update={"pipeline": request.pipeline})
    StepProcess(other, python=sys.executable).run(lambda _: None)
    running = _statuses(place, request).count("RUNNING")
    StepProcess(request, python=sys.executable).run(lambda _: None)
    after = _statuses(place, request)
    return f"{'; '.join(said)}; after a retry {after}", running + after.count("RUNNING")


def _once_running(place: World, request: StepRequest, step: StepProcess) -> int:
    """Wait until the run of a step is RUNNING; return the id of its process."""
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if step.pid is not None and "RUNNING" in _statuses(place, request):
            return step.pid
        time.sleep(0.05)
    raise TimeoutError("the training has not begun")


def _statuses(place: World, request: StepRequest) -> list[str]:
    client = tracking_client(place.settings.tracking_uri)
    experiment = client.get_experiment_by_name(request.pipeline)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return sorted(run.info.status for run in found)


def _by(number: signal.Signals) -> Callable[[int], str]:
    def end(pid: int) -> str:
        os.kill(pid, number)
        return f"ended by {number.name}"

    return end


def _without_memory(pid: int) -> str:
    with _cgroup() as group:
        (group / "memory.limit_in_bytes").write_text(str(_MEMORY_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)
        return " ".join((group / "memory.oom_control").read_text().split()[-2:])


@contextlib.contextmanager
def _cgroup() -> Iterator[Path]:
    group = _CGROUPS / f"modelmill-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def _as_a_pod(pid: int) -> str:
    os.kill(pid, signal.SIGTERM)
    time.sleep(_POD_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return f"asked to end, and killed {_POD_GRACE_SECONDS:.0f} s later"


ENDS: dict[str, Callable[[int], str]] = {
    "SIGKILL": _by(signal.SIGKILL),
    "SIGTERM": _by(signal.SIGTERM),
    "OOM-killer": _without_memory,
    "pod-deleted": _as_a_pod,
}


if __name__ == "__main__":
    main()
