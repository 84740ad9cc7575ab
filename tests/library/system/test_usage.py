"""What a step takes of its disk, while others may still remove what is theirs, and of memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from modelmill.system.usage import DISK_MB, UsageMeter


def test_the_files_of_a_folder_are_counted_and_not_what_links_point_to(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "below").mkdir(parents=True)
    (folder / "one").write_bytes(b"x" * 1000)
    (folder / "below" / "two").write_bytes(b"x" * 500)
    (tmp_path / "model").write_bytes(b"x" * 1_000_000)
    link = folder / "model"
    link.symlink_to(tmp_path / "model")
    assert UsageMeter.start().metrics(folder)[DISK_MB] == (1500 + link.lstat().st_size) / 1e6
    assert UsageMeter.start().metrics(tmp_path / "gone")[DISK_MB] == 0


def test_a_file_that_goes_meanwhile_does_not_fail_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").write_bytes(b"x" * 1000)
    (tmp_path / "goes").touch()
    lstat = Path.lstat

    def raced(path: Path) -> object:
        if path.name == "goes":
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", raced)
    assert UsageMeter.start().metrics(tmp_path)[DISK_MB] == 0.001


def test_a_step_is_not_as_large_as_what_has_started_it(tmp_path: Path) -> None:
    step = (
        "import sys; from pathlib import Path; from modelmill.system.usage import MEMORY_MB, UsageMeter; "
        "print(UsageMeter.of_process().metrics(Path(sys.argv[1]))[MEMORY_MB])"
    )
    code = (
        "import subprocess, sys; ballast = b'1' * 400_000_000; "
        "subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, step, str(tmp_path)], check=True, stdout=subprocess.PIPE, text=True
    )
    assert 5 < float(done.stdout) < 300
