"""Digests of files that are remembered: damage to the memory changes no digest."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from modelmill.system import digests
from modelmill.system.digests import file_digests

NAMES = ("a", "b", "c")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that have not changed for long."""
    for name in NAMES:
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, (1, 1))
    return tmp_path


def test_a_memory_with_a_flipped_bit_changes_no_digest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_NANOSECONDS", -(10**12))  # the files were made just now
    expected = file_digests(folder, NAMES)
    assert file_digests(folder, NAMES, memory=folder / "memory") == expected
    (memory,) = (folder / "memory").glob("*.json")
    with monkeypatch.context() as patch:
        patch.setattr(digests, "file_digest", lambda path: pytest.fail(f"{path} is remembered"))
        assert file_digests(folder, NAMES, memory=folder / "memory") == expected
    content, chosen = memory.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        memory.write_bytes(damaged)
        assert file_digests(folder, NAMES, memory=folder / "memory") == expected
