"""What searches leave for each other: trained students, and candidates with their answers.

A search for another budget, or in another space, takes what an earlier one has made of the same teacher, rows
and training options; one that was killed goes on where it was. The folder is ``compress/KEY`` in the cache.
The bundles of all searches together are bounded: those that were not used for the longest time go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelmill.errors import ModelError
from modelmill.models.bundle import bundle_digest
from modelmill.system.locks import lock_of, locked

MAX_BYTES = 300_000_000
"""Of all bundles that stay when a search has ended: some students and exports of a small teacher."""


@dataclass(frozen=True)
class Store:
    """The bundles and facts of searches with one key. A damaged one counts as missing."""

    folder: Path

    @contextlib.contextmanager
    def open(self, *, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold the store: searches with the same key take turns, and find what the one before has made.

        :param on_wait: called if another process holds it.
        :yield: while it is held; afterwards what is too much is removed.
        """
        with locked(lock_of(self.folder), on_wait=on_wait):
            self.folder.mkdir(exist_ok=True)
            for draft in self.folder.glob(".*"):  # of a search that was killed
                shutil.rmtree(draft, ignore_errors=True)
            try:
                yield
            finally:
                self._make_room()

    def facts(self, name: str) -> dict[str, Any] | None:
        """Return what is known of a bundle, whether or not it is still there; None if nothing is."""
        try:
            digest, content = self._place(name).with_suffix(".json").read_text().split("\n", 1)
        except (OSError, ValueError):
            return None
        found: dict[str, Any] | None = json.loads(content) if digest == _hash(content) else None
        return found

    def bundle(self, name: str) -> Path | None:
        """Return the folder of a bundle; None if there is none, or if it is damaged."""
        place, facts = self._place(name), self.facts(name)
        try:
            if facts is None or bundle_digest(place) != facts["digest"]:
                return None
        except (ModelError, OSError):
            return None
        os.utime(place)
        return place

    def put(
        self, name: str, write: Callable[[Path], None], facts: Callable[[Path], Mapping[str, Any]]
    ) -> Path:
        """Keep a bundle.

        :param name: its name.
        :param write: writes it into a folder that does not exist yet.
        :param facts: from that folder to what is known of the bundle, for JSON.
        :return: its folder.
        """
        place = self._place(name)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".") as scratch:
            draft = Path(scratch, "bundle")
            write(draft)
            content = json.dumps({**facts(draft), "digest": bundle_digest(draft)})
            said = Path(scratch, "facts")
            said.write_text(f"{_hash(content)}\n{content}")
            shutil.rmtree(place, ignore_errors=True)
            draft.rename(place)
            said.replace(place.with_suffix(".json"))
        return place

    def forget_bundle(self, name: str) -> None:
        """Remove a bundle; its facts stay."""
        shutil.rmtree(self._place(name), ignore_errors=True)

    def _place(self, name: str) -> Path:
        return self.folder / "".join(char if char.isalnum() else "_" for char in name)

    def _make_room(self) -> None:
        """Remove the bundles that were unused for the longest time, and searches that have none left."""
        with contextlib.ExitStack() as held:
            searches = [self.folder]
            for other in {path for path in self.folder.parent.iterdir() if path.is_dir()} - {self.folder}:
                with contextlib.suppress(BlockingIOError):
                    held.enter_context(locked(lock_of(other), on_wait=_leave_alone))
                    searches.append(other)
            bundles = [path for search in searches for path in search.iterdir() if path.is_dir()]
            bundles.sort(key=lambda path: path.stat().st_mtime)
            sizes = {bundle: sum(path.stat().st_size for path in bundle.iterdir()) for bundle in bundles}
            left = sum(sizes.values())
            for bundle, size in sizes.items():
                if left > MAX_BYTES:
                    shutil.rmtree(bundle)
                    left -= size
            for search in searches[1:]:
                if not any(path.is_dir() for path in search.iterdir()):
                    shutil.rmtree(search)


def _leave_alone() -> None:
    raise BlockingIOError


def _hash(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
