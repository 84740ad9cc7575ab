"""Folders for temporary files: what a killed process leaves goes with the next one's first folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from modelmill.system.scratch import scratch_folder

LEAVES = """
import os, signal, sys
from pathlib import Path
from modelmill.system.scratch import scratch_folder
with scratch_folder("modelmill-step-", parent=Path(sys.argv[1])) as folder:
    (folder / "request.json").write_text("{}")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", LEAVES, str(tmp_path)], check=False)
    (left,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    lock = Path(f"{left}.owner")
    long_ago = time.time() - 3600
    os.utime(lock, (long_ago, long_ago))
    other = tmp_path / "modelmill-step-of-nobody-known"
    other.mkdir()
    again = [sys.executable, "-c", LEAVES.replace("os.kill", "print"), str(tmp_path)]
    with scratch_folder("modelmill-other-", parent=tmp_path):
        assert left.exists()  # each kind sweeps its own
    subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
    assert not left.exists()
    assert not lock.exists()
    assert [*tmp_path.iterdir()] == [other]
    with scratch_folder("modelmill-step-", parent=tmp_path) as held:
        os.utime(f"{held}.owner", (long_ago, long_ago))
        subprocess.run(again, check=True, stdout=subprocess.DEVNULL)
        assert held.exists()  # its process lives


DIES = """
import os, signal, sys
from pathlib import Path
from modelmill.system.scratch import scratch_folder
def hook(event, arguments):
    if event == "os.mkdir":
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with scratch_folder("modelmill-step-", parent=Path(sys.argv[1])):
    print("alive")
"""


def test_a_process_that_is_killed_before_it_has_its_folder_leaves_what_the_next_one_removes(
    tmp_path: Path,
) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert ended.returncode == -9
    left = [*tmp_path.iterdir()]
    for lock in tmp_path.glob("*.owner"):
        os.utime(lock, (0, 0))
    assert [one.suffix for one in left] == [".owner"]  # a folder without a lock would stay for ever
    with scratch_folder("modelmill-step-", parent=tmp_path):
        assert len([*tmp_path.iterdir()]) == 2
    assert not [*tmp_path.iterdir()]
