"""The pipeline store against a list of saves: no saved text is lost, whoever dies and whoever is late."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from unittest import mock

from benchmarks.crash_points import Died, crash_points
from benchmarks.simulated_nights import Clock
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.library.simulation.examples import tried

from modelmill.documents.versions import ConflictError, NotFoundError, text_digest
from modelmill.pipeline.pipeline_store import PipelineStore

NAMES = ("one", "two")
DEATHS = st.none() | st.integers(0, 14)


def text_of(name: str, number: int) -> str:
    return f"pipeline: {name}\nsteps:\n  raw: {{component: delta_table, config: {{uri: /data/{number}}}}}\n"


class Documents(RuleBasedStateMachine):
    """Two people and a git checkout that write to one folder; processes die between version and file."""

    def __init__(self) -> None:
        super().__init__()
        self.held = contextlib.ExitStack()
        self.points = self.held.enter_context(crash_points())
        self.folder = Path(self.held.enter_context(tempfile.TemporaryDirectory()))
        self.clock = Clock()
        self.held.enter_context(mock.patch("modelmill.documents.versioned_folder.datetime", self.clock))
        self.store = PipelineStore(str(self.folder))
        self.now: dict[str, str] = {}
        """The text of each document."""
        self.saved: dict[str, set[str]] = {name: set() for name in NAMES}
        """Every text that somebody was told is saved, or that was found in the folder and replaced."""
        self.read: dict[str, str | None] = dict.fromkeys(NAMES)
        """What a person has on the screen: the etag that it was read at."""
        self.number = 0

    def teardown(self) -> None:
        self.held.close()

    def _etag(self, name: str) -> str | None:
        return text_digest(self.now[name]) if name in self.now else None

    @rule(name=st.sampled_from(NAMES))
    def a_person_reads(self, name: str) -> None:
        self.read[name] = self._etag(name)

    @rule(name=st.sampled_from(NAMES), at=DEATHS)
    def a_person_saves(self, name: str, at: int | None) -> None:
        self.number += 1
        text, expected, before = text_of(name, self.number), self.read[name], self.now.get(name)
        try:
            with self.points.life(at):
                self.store.save(name, text, expected=expected, author="ada")
        except Died:
            self.clock.sleep(60)  # who saves within half a minute is told that somebody else does
            if (self.folder / f"{name}.yaml").exists():
                found = (self.folder / f"{name}.yaml").read_text()
                assert found in (before, text)
                self.now[name] = found
            return
        except (ConflictError, NotFoundError):
            assert expected != self._etag(name)
            return
        assert expected == self._etag(name)
        self.now[name], self.read[name] = text, text_digest(text)
        self.saved[name] |= {text, *([before] if before else [])}

    @rule(name=st.sampled_from(NAMES), at=DEATHS)
    def a_person_deletes(self, name: str, at: int | None) -> None:
        expected, before = self.read[name], self.now.get(name)
        if expected is None:
            return
        try:
            with self.points.life(at):
                self.store.delete(name, expected=expected, author="ben")
        except Died:
            self.clock.sleep(60)
            if before and not (self.folder / f"{name}.yaml").exists():
                self.saved[name].add(before)
                del self.now[name]
            return
        except (ConflictError, NotFoundError):
            assert expected != self._etag(name)
            return
        assert before is not None
        self.saved[name].add(before)
        del self.now[name]
        self.read[name] = None

    @rule(name=st.sampled_from(NAMES))
    def git_writes_the_file(self, name: str) -> None:
        self.number += 1
        self.now[name] = text_of(name, self.number)
        (self.folder / f"{name}.yaml").write_text(self.now[name])

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def an_old_text_is_saved_again(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.now)))
        old = sorted(self.saved[name])
        if old:
            text, before = data.draw(st.sampled_from(old)), self.now[name]
            self.store.save(name, text, expected=self._etag(name), author="ben")
            self.now[name] = text
            self.saved[name] |= {text, before}

    @invariant()
    def the_folder_is_what_was_saved(self) -> None:
        found = self.store.documents()
        assert {name: one.file.text for name, one in found.items()} == self.now

    @invariant()
    def every_text_that_was_saved_is_a_version(self) -> None:
        for name in NAMES:
            versions = self.store.versions(name)
            assert [version.number for version in versions] == list(range(1, len(versions) + 1))
            assert self.saved[name] <= {version.text for version in versions}


TestDocuments = tried(Documents, few=12)
