"""A disk that takes no more is named, whichever library says it in whichever way."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from modelmill.errors import TransientError
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.runner import run_step
from modelmill.registry.tracking import tracking_client
from modelmill.settings import Settings
from modelmill.system.disk import disk_error, try_write


def save_on_a_full_disk() -> None:
    """Write to a device that is always full, as libraries do that raise something else."""
    try:
        with Path("/dev/full").open("w") as file:
            file.write("x")
    except OSError as error:
        raise ValueError("cannot save") from error


def test_a_step_on_a_full_disk_says_so_and_its_run_is_failed(
    toy_components: None, settings: Settings
) -> None:
    request = StepRequest(pipeline="p", step="s", component="count", config={"journal": "/dev/full"})
    with pytest.raises(TransientError, match="the disk must take what a step writes") as caught:
        run_step(request, settings)
    assert "No space left on device" in str(caught.value)
    assert "modelmill gc" in str(caught.value)
    client = tracking_client(settings.tracking_uri)
    experiment = client.get_experiment_by_name("p")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded", "/data/x"),
        OSError(errno.EROFS, "Read-only file system", "/data/x"),
        RuntimeError("Generic LocalFileSystem error: Unable to write (os error 28)"),
        RuntimeError("(sqlite3.OperationalError) database or disk is full"),
    ],
)
def test_every_library_s_words_are_known(error: Exception, tmp_path: Path) -> None:
    found = disk_error(error, tmp_path)
    assert found is not None
    assert ("/data/x" if isinstance(error, OSError) else str(tmp_path)) in str(found)


def test_a_full_temporary_folder_is_told_from_the_work_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    full = {temporary}
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr(
        "shutil.disk_usage", lambda place: SimpleNamespace(free=0 if place in full else 1 << 40)
    )
    error = RuntimeError("Unable to write (os error 28)")
    assert f"got '{temporary}'" in str(disk_error(error, home))
    full.add(home)
    assert f"got '{home}'" in str(disk_error(error, home))


def test_the_cause_of_an_error_counts_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot save") as caught:
        save_on_a_full_disk()
    assert "No space left on device" in str(disk_error(caught.value, tmp_path))


def test_other_errors_are_left_alone(tmp_path: Path) -> None:
    for error in (ValueError("os error 2"), FileNotFoundError(2, "x"), RuntimeError("disk I/O error")):
        assert disk_error(error, tmp_path) is None


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    try_write(tmp_path / "a" / "b", "one")
    try_write(tmp_path / "a" / "b", "two")
    assert (tmp_path / "a" / "b").read_text() == "two"
    try_write(tmp_path / "a" / "b" / "c", "below a file")
    (tmp_path / "full" / "folder" / "file").mkdir(parents=True)
    try_write(tmp_path / "full" / "folder", "instead of a folder")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["folder"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
