"""Checkpoints: what is read is what was written, or the one before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modelmill.training.checkpoints import CheckpointStore


def save(store: CheckpointStore, step: int) -> None:
    tensors = {"model": {"weight": torch.full((4, 3), float(step))}, "best": {}}
    store.save(step, state={"epochs": [[step, 0.5]]}, tensors=tensors)


def folders(store: CheckpointStore) -> list[Path]:
    return sorted(store.folder.iterdir())


def test_newest_gives_back_what_was_saved(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "a training" / "checkpoints")
    assert store.newest() is None
    for step in (1, 2, 12):
        save(store, step)
    assert len(folders(store)) == 2
    found = CheckpointStore(store.folder).newest()
    assert found is not None
    assert (found.step, found.state) == (12, {"epochs": [[12, 0.5]]})
    assert list(found.tensors) == ["model"]
    assert torch.equal(found.tensors["model"]["weight"], torch.full((4, 3), 12.0))


def test_only_the_newest_are_kept_and_nothing_is_pickled(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    (tmp_path / "draft-1").mkdir()
    (tmp_path / "draft-2").write_text("no folder: it is in nobody's way")
    for step in (1, 2, 3):
        save(store, step)
    kept = ["draft-2", "step-0000000002", "step-0000000003"]
    assert [path.name[:15] for path in folders(store)] == kept
    names = {path.name for path in folders(store)[-1].iterdir()}
    assert names == {"manifest.json", "state.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty", "zeros", "longer", "older"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 1)
    save(store, 2)
    victim = folders(store)[-1] / name
    content = bytearray(victim.read_bytes())
    if damage == "remove":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(content[:-1])
    elif damage == "empty":
        victim.write_bytes(b"")
    elif damage == "zeros":
        victim.write_bytes(bytes(len(content)))
    elif damage == "longer":
        victim.write_bytes(content + b"\0")
    elif damage == "older":
        victim.write_bytes((folders(store)[0] / name).read_bytes())
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    found = store.newest()
    assert found is not None
    assert found.step == 1


def test_a_damaged_later_step_is_removed_by_the_next_save(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 1)
    save(store, 9)
    (folders(store)[-1] / "state.json").unlink()
    save(store, 2)
    found = store.newest()
    assert found is not None
    assert found.step == 2
    assert [path.name[:15] for path in folders(store)] == ["step-0000000001", "step-0000000002"]


def test_a_damaged_earlier_step_does_not_push_out_the_good_one_before_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    save(store, 1)
    save(store, 2)
    (folders(store)[-1] / "state.json").unlink()
    resumed = store.newest()
    assert resumed is not None
    assert resumed.step == 1
    save(store, 3)
    assert [path.name[:15] for path in folders(store)] == ["step-0000000001", "step-0000000003"]


def test_a_damaged_step_that_is_saved_again_is_a_good_one(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2):
        save(store, step)
    (folders(store)[-1] / "state.json").unlink()
    store.newest()
    for step in (2, 3):
        save(store, step)
    assert [path.name[:15] for path in folders(store)] == ["step-0000000002", "step-0000000003"]


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    save(store, 3)
    save(store, 3)
    assert len(folders(store)) == 1
