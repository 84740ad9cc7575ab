"""Checkpoints against a list: whatever is killed or damaged, the newest one that is whole is read."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import torch
from benchmarks.crash_points import Died, crash_points
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.library.simulation.examples import tried

from modelmill.training.checkpoints import CheckpointStore

KEEP = 2
FILES = {"model.safetensors", "state.json", "manifest.json"}


class Checkpoints(RuleBasedStateMachine):
    """A training that goes on, dies, and is resumed, on a disk that damages files."""

    def __init__(self) -> None:
        super().__init__()
        self.held = contextlib.ExitStack()
        self.points = self.held.enter_context(crash_points())
        self.folder = Path(self.held.enter_context(tempfile.TemporaryDirectory()))
        self.store = CheckpointStore(self.folder, keep=KEEP)
        self.whole: dict[int, int] = {}
        """Value of each checkpoint that must be readable, by step."""
        self.damaged: set[Path] = set()
        self.step = 0
        self.saves = 0

    def teardown(self) -> None:
        self.held.close()

    def _save(self) -> None:
        value = self.saves  # another each time, so that no folder gets the name of a damaged one
        self.store.save(
            self.step,
            state={"value": value},
            tensors={"model": {"w": torch.full((3,), float(value))}, "empty": {}},
        )

    @rule(steps=st.integers(1, 3))
    def goes_on(self, steps: int) -> None:
        self.step += steps
        self.saves += 1
        self._save()
        self.whole[self.step] = self.saves
        self._forget_old()
        # What deaths and damage have left goes with the first save that lives.
        assert len(list(self.folder.glob("step-*"))) == len(self.whole)
        assert not list(self.folder.glob("draft-*"))

    @rule(at=st.integers(0, 30))
    def dies_while_it_saves(self, at: int) -> None:
        self.step += 1
        self.saves += 1
        before = set(self.folder.glob("step-*"))
        try:
            with self.points.life(at):
                self._save()
        except Died:
            pass
        # Renamed before it died: then it is there, and otherwise all is as it was.
        if any(_step(path) == self.step for path in {*self.folder.glob("step-*")} - before):
            self.whole[self.step] = self.saves
            # Who died while it removed old ones has left some, which are whole and may still be needed.
            there = set(map(_step, self._whole_folders()))
            assert there >= set(sorted(self.whole)[-KEEP:])
            self.whole = {step: value for step, value in self.whole.items() if step in there}
        self.store = CheckpointStore(self.folder, keep=KEEP)

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def disk_damages_the_newest(self, data: st.DataObject) -> None:
        step = max(self.whole)
        (path,) = (path for path in self._whole_folders() if _step(path) == step)
        self.damaged.add(path)
        file = data.draw(st.sampled_from(sorted(path.iterdir())))
        content = bytearray(file.read_bytes())
        how = data.draw(st.sampled_from(["flip", "cut", "remove", "all"]))
        if how == "flip":
            position = data.draw(st.integers(0, len(content) - 1))
            content[position] ^= 1 << data.draw(st.integers(0, 7))
            file.write_bytes(content)
        elif how == "cut":
            file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        elif how == "remove":
            file.unlink()
        else:
            shutil.rmtree(path)
        del self.whole[step]

    @rule()
    def is_resumed(self) -> None:
        found = self.store.newest()
        self.step = found.step if found else 0
        self.whole = {step: value for step, value in self.whole.items() if step <= self.step}

    def _whole_folders(self) -> set[Path]:
        """Those that nothing has damaged, and whose removal nobody has begun: a death may have left some."""
        folders = {*self.folder.glob("step-*")} - self.damaged
        return {folder for folder in folders if {file.name for file in folder.iterdir()} == FILES}

    def _forget_old(self) -> None:
        newest = sorted(self.whole)[-KEEP:]
        self.whole = {step: self.whole[step] for step in newest}

    @invariant()
    def newest_is_what_was_saved_last(self) -> None:
        found = self.store.newest()
        assert (found.step if found else None) == max(self.whole, default=None)
        if found:
            value = self.whole[found.step]
            assert found.state == {"value": value}
            assert found.tensors["model"]["w"].tolist() == [value] * 3


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


TestCheckpoints = tried(Checkpoints, few=12)
