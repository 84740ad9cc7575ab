"""Devices of this machine, leased to one step at a time.

A lease is a lock on a file, so the kernel ends it with the process that holds it, however that dies. Steps
take tickets and are served in the order in which they came: one that wants four devices is not passed over
for ever by those that want one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelmill.errors import ConfigError, TransientError
from modelmill.system.locks import locked
from modelmill.system.resources import Resources

_LOOK_SECONDS = 0.1
_SAY_SECONDS = 30.0
_MIB_PER_GB = 1e9 / 2**20
_own: tuple[str, ...] = ()
_QUERY = ("--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Device:
    """A GPU of this machine."""

    name: str
    """What ``CUDA_VISIBLE_DEVICES`` calls it: its UUID, or its number."""
    total_gb: float | None = None
    """Its memory, in 10^9 bytes; None if nobody says."""
    free_gb: float | None = None
    """What nobody uses of that now; None if nobody says."""


def devices() -> list[Device]:
    """Return the devices that steps may use on this machine.

    ``MODELMILL_DEVICES`` names them, separated by commas; an empty value says that there are none. Without it
    they are those of ``CUDA_VISIBLE_DEVICES``, else all that ``nvidia-smi`` lists.

    :return: the devices; an empty list where there are none.
    :raises TransientError: if the driver does not answer.
    """
    listed = _listed_by_driver()
    for variable in ("MODELMILL_DEVICES", "CUDA_VISIBLE_DEVICES"):
        names = os.environ.get(variable)
        if names is not None:
            known = {name: device for index, device in listed.items() for name in (index, device.name)}
            wanted = dict.fromkeys(name.strip() for name in names.split(","))
            return [known.get(name, Device(name)) for name in wanted if name not in ("", "-1")]
    return list(listed.values())


def _listed_by_driver() -> dict[str, Device]:
    """Return the driver's devices by their number."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return {}
    try:
        done = subprocess.run([command, *_QUERY], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        raise TransientError("nvidia-smi must answer within 60 s", remedy="look at the driver") from error
    found = {}
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        index, uuid, total, free = (part.strip() for part in line.split(","))
        found[index] = Device(uuid, _gigabytes(total), _gigabytes(free))
    return found


def _gigabytes(mebibytes: str) -> float | None:
    return float(mebibytes) / _MIB_PER_GB if re.fullmatch(r"[\d.]+", mebibytes) else None


def own_devices() -> tuple[str, ...]:
    """Return the names of the devices that this process's step has leased."""
    return _own


@contextlib.contextmanager
def leased(resources: Resources, *, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the devices that a step asks for; the step's own code sees them, and no others.

    Sets ``CUDA_VISIBLE_DEVICES`` of this process, so it has to be called before CUDA starts. Where there is
    no device, the step runs on the CPU.

    :param resources: what the step asks for.
    :param say: gets a line when the step waits, and one about what it got.
    :yield: while the lease is held.
    :raises ConfigError: if the machine has devices, but fewer than that, or with less memory.
    :raises TransientError: if somebody who holds no lease uses the memory that the step asks for.
    """
    global _own
    if not resources.gpus:
        yield
        return
    present = devices()
    if not present:
        say("this machine has no GPU: the step runs on the CPU")
        yield
        return
    _check(resources, present)
    with contextlib.ExitStack() as held:
        names = _acquire(resources, present, _folder(), held, say)
        _check_free(resources, names)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)
        outer, _own = _own, tuple(names)
        say(f"device {', '.join(names)} of {len(present)}{' (shared)' if resources.share_gpu else ''}")
        try:
            yield
        finally:
            _own = outer
            if before is None:
                os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def _folder() -> Path:
    # Of this machine, not of the shared work directory: another machine has other devices.
    named = os.environ.get("MODELMILL_LEASES")
    folder = Path(named or f"{tempfile.gettempdir()}/modelmill-leases-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(
            "the folder of device leases must belong to the user that runs the steps",
            got=str(folder),
            remedy="set MODELMILL_LEASES to a folder of this machine that only this user may write",
        )
    return folder


def _check(resources: Resources, present: Sequence[Device]) -> None:
    if resources.gpus > len(present):
        raise ConfigError(
            f"a step cannot have more GPUs than its machine, {len(present)}",
            got=resources.gpus,
            remedy="lower gpus in the step's resources, or choose a profile with larger machines",
        )
    totals = sorted((device.total_gb for device in present if device.total_gb is not None), reverse=True)
    enough = [total for total in totals if total >= resources.gpu_memory_gb]
    if len(totals) == len(present) and len(enough) < resources.gpus:
        raise ConfigError(
            f"{resources.gpus} of this machine's GPUs must have {resources.gpu_memory_gb:g} GB",
            got=", ".join(f"{total:.1f} GB" for total in totals),
            remedy="lower gpu_memory_gb in the step's resources, or choose a profile with larger GPUs",
        )


def _check_free(resources: Resources, names: Sequence[str]) -> None:
    if not resources.gpu_memory_gb:
        return
    for device in devices():
        if device.name in names and device.free_gb is not None and device.free_gb < resources.gpu_memory_gb:
            raise TransientError(
                f"{resources.gpu_memory_gb:g} GB must be free on device {device.name}",
                got=f"{device.free_gb:.1f} GB free of {device.total_gb or 0:.1f} GB",
                remedy="a process without a lease uses it (see nvidia-smi): end it, or lower gpu_memory_gb",
            )


def _acquire(
    resources: Resources,
    present: Sequence[Device],
    folder: Path,
    held: contextlib.ExitStack,
    say: Callable[[str], None],
) -> list[str]:
    """Wait for the step's turn, then for its devices; their locks are entered into ``held``."""
    mutex = folder / "mutex"
    with contextlib.ExitStack() as waiting:
        with locked(mutex):
            ticket = _ticket(folder, waiting)
        said = time.monotonic() - _SAY_SECONDS + 1
        while True:
            with locked(mutex):
                before = _before(ticket)
                if not before and (names := _take(resources, present, folder, held)):
                    ticket.unlink()
                    return names
            if time.monotonic() - said > _SAY_SECONDS:
                said = time.monotonic()
                say(f"waits for {resources.gpus} of {len(present)} devices; {before} steps are before it")
            time.sleep(_LOOK_SECONDS)


def _ticket(folder: Path, waiting: contextlib.ExitStack) -> Path:
    """Draw the next number; its lock says that the process is alive."""
    queue = folder / "queue"
    queue.mkdir(exist_ok=True)
    last = max((int(path.name) for path in queue.iterdir()), default=0)
    ticket = queue / f"{last + 1:012d}"
    _lock(ticket, fcntl.LOCK_EX, waiting)
    return ticket


def _before(ticket: Path) -> int:
    """Return how many living processes have an earlier ticket; tickets of dead ones are removed."""
    alive = 0
    for path in ticket.parent.iterdir():
        if path.name < ticket.name:
            with contextlib.ExitStack() as probe:
                if _lock(path, fcntl.LOCK_EX, probe):
                    path.unlink()
                else:
                    alive += 1
    return alive


def _take(
    resources: Resources, present: Sequence[Device], folder: Path, held: contextlib.ExitStack
) -> list[str]:
    """Lock as many devices as the step asks for, those with most free memory first; or none of them."""
    how = fcntl.LOCK_SH if resources.share_gpu else fcntl.LOCK_EX
    with contextlib.ExitStack() as taken:
        names: list[str] = []
        for device in sorted(present, key=lambda device: -(device.free_gb or 0)):
            lock = folder / f"device-{re.sub(r'[^A-Za-z0-9-]', '_', device.name)}"
            if len(names) < resources.gpus and _lock(lock, how, taken):
                names.append(device.name)
        if len(names) == resources.gpus:
            held.push(taken.pop_all())
            return names
    return []


def _lock(path: Path, how: int, stack: contextlib.ExitStack) -> bool:
    file = stack.enter_context(path.open("a"))
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
