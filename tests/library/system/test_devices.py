"""Device leases: never two steps on one device, nobody starves, nothing is left by those that are killed."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelmill.errors import ConfigError, TransientError
from modelmill.system.devices import Device, devices, leased, own_devices
from modelmill.system.resources import Resources

STEP = """
import os, random, sys, time
from pathlib import Path
from modelmill.system.resources import Resources
from modelmill.system.devices import leased

def alive(owner):
    # A step that was killed is a zombie until the test has waited for it.
    try:
        return Path(f"/proc/{owner}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

journal, gpus, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
with leased(Resources(gpus=gpus), say=lambda line: None):
    mine = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    # A device in use has a file that names its user: a second user would find it.
    for device in mine:
        with open(journal / f"device-{device}", "a+") as file:
            file.seek(0)
            owner = file.read()
            if owner and alive(owner):
                (journal / f"clash-{os.getpid()}").write_text(f"{device} is used by {owner}")
            file.truncate(0)
            file.write(str(os.getpid()))
    time.sleep(seconds)
    for device in mine:
        os.truncate(journal / f"device-{device}", 0)
(journal / f"done-{os.getpid()}").touch()
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("MODELMILL_DEVICES", "0,1,2,3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a command in place of the driver's that lists devices as that does."""
    command = folder / "nvidia-smi"
    command.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("MODELMILL_DEVICES")


def holds(lock: Path) -> bool:
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def left_over(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and holds(path)]


def test_a_step_sees_its_own_devices_only(tmp_path: Path) -> None:
    said: list[str] = []
    with leased(Resources(gpus=2), say=said.append):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert own_devices() == ("0", "1")
        with leased(Resources(gpus=1), say=said.append):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
            assert own_devices() == ("2",)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert own_devices() == ("0", "1")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert own_devices() == ()
    assert said == ["device 0, 1 of 4", "device 2 of 4"]
    assert left_over(tmp_path / "leases") == []


def test_steps_share_a_device_only_if_all_of_them_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELMILL_DEVICES", "7")
    with (
        leased(Resources(gpus=1, share_gpu=True), say=print),
        leased(Resources(gpus=1, share_gpu=True), say=print),
    ):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
        script = STEP.split("with leased")[0] + "with leased(Resources(gpus=1), say=lambda line: None): pass"
        alone = subprocess.Popen([sys.executable, "-c", script, ".", "1", "0"])
        time.sleep(1.5)
        assert alone.poll() is None
    assert alone.wait(timeout=30) == 0


def test_without_a_device_the_step_runs_on_the_cpu_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for names in ("", "-1"):
        said: list[str] = []
        monkeypatch.setenv("MODELMILL_DEVICES", names)
        with leased(Resources(gpus=4), say=said.append):
            assert "CUDA_VISIBLE_DEVICES" not in os.environ
        assert said == ["this machine has no GPU: the step runs on the CPU"]
    with leased(Resources(), say=said.append):
        pass
    assert len(said) == 1
    assert not (tmp_path / "leases").exists()


def test_more_devices_than_there_are_is_an_error() -> None:
    with (
        pytest.raises(ConfigError, match="cannot have more GPUs than its machine, 4; got 5"),
        leased(Resources(gpus=5), say=print),
    ):
        pass


def test_devices_are_those_that_the_driver_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "0, GPU-aa, 81559, 80000", "1, GPU-bb, 81559, [N/A]")
    assert [device.name for device in devices()] == ["GPU-aa", "GPU-bb"]
    assert devices()[0].free_gb == pytest.approx(83.9, abs=0.1)
    assert devices()[1].free_gb is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,1")
    assert [device.name for device in devices()] == ["GPU-bb"]
    monkeypatch.setenv("MODELMILL_DEVICES", "GPU-aa,MIG-x")
    assert devices()[1] == Device("MIG-x")


def test_a_driver_that_fails_lists_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert devices() == []


def test_memory_that_cannot_be_had_is_told_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(tmp_path, monkeypatch, "0, GPU-aa, 80000, 1000", "1, GPU-bb, 80000, 40000")
    with leased(Resources(gpus=1, gpu_memory_gb=30), say=print):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-bb"  # the one with more free memory
    with (
        pytest.raises(
            TransientError, match=r"60 GB must be free on device GPU-bb; got '41.9 GB free of 83.9 GB'"
        ),
        leased(Resources(gpus=1, gpu_memory_gb=60), say=print),
    ):
        pass
    with (
        pytest.raises(ConfigError, match=r"GPUs must have 100 GB; got '83.9 GB, 83.9 GB'"),
        leased(Resources(gpus=1, gpu_memory_gb=100), say=print),
    ):
        pass
    assert left_over(tmp_path / "leases") == []


def test_steps_that_are_killed_leave_nothing_and_nobody_starves(tmp_path: Path) -> None:
    draw = random.Random(0)
    journal = tmp_path / "journal"
    for _ in range(20):
        journal.mkdir(exist_ok=True)
        steps = [
            subprocess.Popen(
                [sys.executable, "-c", STEP, str(journal), str(gpus), str(draw.uniform(0, 0.3))],
                stderr=subprocess.PIPE,
            )
            for gpus in (1, 1, 2, 1, 4, 1, 2, 3)
        ]
        killed = draw.sample(steps, 3)
        time.sleep(draw.uniform(0.1, 0.8))
        for step in killed:
            step.send_signal(signal.SIGKILL)
        for step in steps:
            _, errors = step.communicate(timeout=60)
            assert step.returncode in ((0, -signal.SIGKILL) if step in killed else (0,)), errors
        assert not list(journal.glob("clash-*"))
        done = {path.name for path in journal.glob("done-*")}
        assert {f"done-{step.pid}" for step in steps if step not in killed} <= done
        assert left_over(tmp_path / "leases") == []
