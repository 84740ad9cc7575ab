"""What searches leave for each other: found again, checked, and bounded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from modelmill.compression.search import store as module
from modelmill.compression.search.store import Store
from modelmill.system.locks import locked


@pytest.fixture
def put(make_bundle: Callable[..., Path]) -> Callable[[Store, str], Path]:
    source = make_bundle("source")

    def kept(store: Store, name: str) -> Path:
        def write(draft: Path) -> None:
            shutil.copytree(source, draft)

        return store.put(name, write, lambda _: {"a": 0.1})

    return kept


def test_a_bundle_is_found_again_with_its_facts(tmp_path: Path, put: Callable[[Store, str], Path]) -> None:
    store = Store(tmp_path / "compress" / "key")
    with store.open(on_wait=lambda: None):
        assert (store.bundle("1 layer, int8"), store.facts("1 layer, int8")) == (None, None)
        folder = put(store, "1 layer, int8")
    again = Store(store.folder)
    assert again.bundle("1 layer, int8") == folder
    assert (again.facts("1 layer, int8") or {})["a"] == 0.1
    again.forget_bundle("1 layer, int8")
    assert again.bundle("1 layer, int8") is None
    assert again.facts("1 layer, int8")


def test_what_is_damaged_counts_as_missing(tmp_path: Path, put: Callable[[Store, str], Path]) -> None:
    store = Store(tmp_path / "compress" / "key")
    with store.open(on_wait=lambda: None):
        folder = put(store, "a")
        content = bytearray((folder / "model.onnx").read_bytes())
        content[-1] ^= 1
        (folder / "model.onnx").write_bytes(bytes(content))
        assert store.bundle("a") is None
        put(store, "a")
        assert store.bundle("a") == folder
        facts = folder.with_suffix(".json")
        facts.write_text(facts.read_text().replace("0.1", "0.2"))
        assert store.facts("a") is None
        assert store.bundle("a") is None


def test_what_was_unused_for_longest_goes_first_and_a_running_search_is_left_alone(
    tmp_path: Path, put: Callable[[Store, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {name: Store(tmp_path / "compress" / name) for name in ("old", "running", "new")}
    for age, store in enumerate(stores.values()):
        with store.open(on_wait=lambda: None):
            os.utime(put(store, "a"), (age, age))
    size = sum(path.stat().st_size for path in (stores["old"].folder / "a").iterdir())
    monkeypatch.setattr(module, "MAX_BYTES", 1.5 * size)
    with locked(tmp_path / "compress" / ".running.lock"), stores["new"].open(on_wait=lambda: None):
        draft = stores["new"].folder / ".of_a_killed_search"
        draft.mkdir()
        put(stores["new"], "b")
    left = {str(path.relative_to(tmp_path / "compress")) for path in tmp_path.glob("compress/*/*/")}
    assert left == {"running/a", "new/b", "new/.of_a_killed_search"}
    with stores["new"].open(on_wait=lambda: None):
        pass
    assert sorted(path.name for path in (tmp_path / "compress").iterdir() if path.is_dir()) == ["new"]
    assert not draft.exists()
