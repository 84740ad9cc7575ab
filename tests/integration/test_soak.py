"""Three nights of the soak with faults; ``python -m benchmarks.soak`` plays 200."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_nights_with_faults_lose_nothing_and_a_lost_row_is_found(tmp_path: Path) -> None:
    def play(nights: int) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "benchmarks.soak",
            "--nights",
            str(nights),
            "--folder",
            str(tmp_path),
        ]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*command, "--seed", "1", "--faults", "2"],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    done = play(3)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 nights, 0 wrong" in done.stdout
    assert "killed by SIGKILL" in done.stdout
    DeltaTable(tmp_path / "tables" / "raw").delete("id = 'row-7'")
    done = play(4)  # it goes on with the fourth night
    assert done.returncode == 1, done.stdout + done.stderr
    assert "WRONG: night 3: lost rows of raw: ['row-7']" in done.stdout
