"""The pipeline store: nobody's work is lost, on a local disk and on a store without locks."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from modelmill.documents.folder_storage import FolderStorage
from modelmill.documents.versioned_folder import OUTSIDE
from modelmill.documents.versions import ConflictError, NotFoundError, Version, difference, text_digest
from modelmill.errors import ConfigError, PipelineError, StoreError
from modelmill.pipeline.pipeline_store import PipelineStore, StoredPipeline

TEXT = """\
pipeline: topics
steps:
  raw: {component: delta_table, config: {uri: /data/topics}}
"""


def numbered(number: int) -> str:
    return TEXT.replace("/data/topics", f"/data/{number}")


@pytest.fixture(params=["local", "memory"], name="store")
def _store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PipelineStore]:
    """A store that is empty: a folder, and one that is no folder."""
    if request.param == "local":
        yield PipelineStore(str(tmp_path))
        return
    folder = f"memory://{tmp_path.name}"
    filesystem = fsspec.filesystem("memory")
    filesystem.makedirs(folder)
    yield PipelineStore(folder)
    filesystem.rm(folder, recursive=True)


def save(
    store: PipelineStore, text: str, before: StoredPipeline | None, author: str = "me"
) -> StoredPipeline:
    return store.save("topics", text, expected=before.etag if before else None, author=author)


def test_what_is_saved_is_what_is_read(store: PipelineStore) -> None:
    first = save(store, numbered(1), None)
    second = save(store, numbered(2), first, author="you")
    assert store.read("topics").file.text == numbered(2)
    assert [(version.number, version.author, version.text) for version in store.versions("topics")] == [
        (1, "me", numbered(1)),
        (2, "you", numbered(2)),
    ]
    assert [version.parent for version in store.versions("topics")] == [None, first.etag]
    assert [version.message for version in store.versions("topics")] == ["", ""]
    assert second.file.spec
    assert second.file.path == "topics.yaml"
    assert (second.name, store.read("topics").name) == ("topics", "topics")
    assert store.text_of("topics", second.file.spec.digest) == (numbered(2), 2)
    assert store.text_of("topics", "0" * 64) is None
    assert store.text_of("others", second.file.spec.digest) is None


def test_the_loader_sees_pipelines_and_no_versions(tmp_path: Path) -> None:
    from modelmill.pipeline.pipeline_files import read_folder

    save(PipelineStore(str(tmp_path)), TEXT, None)
    valid, invalid = read_folder(str(tmp_path))
    assert (list(valid), invalid) == (["topics"], [])


def test_the_second_saver_is_told(store: PipelineStore) -> None:
    first = save(store, numbered(1), None)
    save(store, numbered(2), first, author="you")
    with pytest.raises(ConflictError) as refused:
        save(store, numbered(3), first)
    assert what_is_shown(refused.value) == (numbered(2), "you", numbered(3))
    assert str(refused.value) == OVERTAKEN
    assert store.read("topics").file.text == numbered(2)
    with pytest.raises(ConflictError):
        save(store, numbered(3), None)


OVERTAKEN = (
    "a pipeline is saved over the text that was read; got 'topics'; "
    "you has changed it meanwhile: look at the difference, and save again"
)


def what_is_shown(error: ConflictError) -> tuple[str | None, str, str]:
    """Return what a page compares: the text that is there, who wrote it, and the one that was refused."""
    assert error.current is None or error.current.name == "topics"
    return error.current.file.text if error.current else None, error.author, error.text


def test_a_text_from_outside_is_kept_before_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file.yml").write_text(numbered(1))
    store = PipelineStore(str(tmp_path))
    outside = store.read("topics")
    assert outside.file.spec
    assert store.text_of("topics", outside.file.spec.digest) == (numbered(1), None)
    first = save(store, numbered(2), outside)
    assert first.file.path == "sub/file.yml"
    assert (tmp_path / "sub" / "file.yml").read_text() == numbered(2)
    (tmp_path / "sub" / "file.yml").write_text(numbered(3))
    with pytest.raises(ConflictError, match="somebody has changed it"):
        save(store, numbered(4), first)
    save(store, numbered(4), store.read("topics"))
    assert [(version.author, version.text) for version in store.versions("topics")] == [
        (OUTSIDE, numbered(1)),
        ("me", numbered(2)),
        (OUTSIDE, numbered(3)),
        ("me", numbered(4)),
    ]
    versions = store.versions("topics")
    assert [version.parent for version in versions] == [None, *(version.etag for version in versions[:-1])]
    assert [version.message for version in versions] == ["found in the folder", "", "found in the folder", ""]
    assert versions[0].digest == outside.file.spec.digest
    store.delete("topics", expected=store.read("topics").etag, author="me", message="no longer used")
    last = store.versions("topics")[-1]
    assert (last.deleted, last.text, last.message) == (True, numbered(4), "no longer used")


def test_deleting_keeps_the_versions(store: PipelineStore) -> None:
    first = save(store, TEXT, None)
    with pytest.raises(ConflictError) as refused:
        store.delete("topics", expected="0" * 64, author="me")
    assert what_is_shown(refused.value) == (TEXT, "me", "")
    store.delete("topics", expected=first.etag, author="me")
    with pytest.raises(NotFoundError) as missing:
        store.read("topics")
    assert str(missing.value) == (
        "the pipeline must exist; got 'topics'; it may have been deleted, see its versions"
    )
    assert [version.message for version in store.versions("topics")] == ["", ""]
    assert [version.deleted for version in store.versions("topics")] == [False, True]
    save(store, TEXT, None)
    assert [version.deleted for version in store.versions("topics")] == [False, True, False]


def test_a_save_that_dies_half_way_is_not_lost(store: PipelineStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is there and the pipeline is not: the next saver is told of it, nobody's text is gone."""
    first = save(store, numbered(1), None)
    write = FolderStorage.write

    def die(self: FolderStorage, path: str, content: bytes, *, exclusive: bool = False) -> None:
        if not exclusive:
            raise KeyboardInterrupt
        write(self, path, content, exclusive=exclusive)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStorage, "write", die)
        with pytest.raises(KeyboardInterrupt):
            save(store, numbered(2), first, author="you")
    assert store.read("topics").file.text == numbered(1)
    with pytest.raises(ConflictError) as refused:
        save(store, numbered(3), first)
    assert what_is_shown(refused.value) == (numbered(2), "you", numbered(3))
    assert str(refused.value) == OVERTAKEN
    with pytest.raises(ConflictError) as refused:
        store.delete("topics", expected=first.etag, author="me")
    assert what_is_shown(refused.value) == (numbered(2), "you", "")
    assert str(refused.value) == OVERTAKEN
    monkeypatch.setattr("modelmill.documents.versioned_folder._is_young", lambda version: False)
    save(store, numbered(3), first)
    # The text that was there all along stands between: what replaced what stays an unbroken line.
    kept = [version.text for version in store.versions("topics")]
    assert kept == [numbered(1), numbered(2), numbered(1), numbered(3)]


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda store, first: save(store, numbered(3), first), numbered(3)),
        (lambda store, first: store.delete("topics", expected=first.etag, author="me"), ""),
    ],
)
@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_a_save_between_reading_and_writing_is_told(
    store: PipelineStore,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[PipelineStore, StoredPipeline], object],
    text: str,
) -> None:
    """An object store has no lock: whoever comes second finds the version's number taken."""
    first = save(store, numbered(1), None)
    write, others = FolderStorage.write, [numbered(2)]

    def late(self: FolderStorage, path: str, content: bytes, *, exclusive: bool = False) -> None:
        if others:
            save(PipelineStore(store.folder), others.pop(), first, author="you")
        write(self, path, content, exclusive=exclusive)

    monkeypatch.setattr(FolderStorage, "write", late)
    with pytest.raises(ConflictError) as refused:
        act(store, first)
    assert what_is_shown(refused.value) == (numbered(2), "you", text)
    assert str(refused.value) == OVERTAKEN
    assert [version.text for version in store.versions("topics")] == [numbered(1), numbered(2)]


@pytest.mark.parametrize(
    ("refuses", "what", "act"),
    [
        ("find", "read", lambda store, first: store.documents()),
        ("find", "read", lambda store, first: store.versions("topics")),
        ("cat_file", "read", lambda store, first: store.versions("topics")),
        ("size", "read", lambda store, first: store.delete("empty", expected=text_digest(""), author="me")),
        ("makedirs", "written", lambda store, first: save(store, numbered(2), first)),
        ("create", "written", lambda store, first: save(store, numbered(2), first)),
        ("overwrite", "written", lambda store, first: save(store, numbered(2), first)),
        ("rm_file", "written", lambda store, first: store.delete("topics", expected=first.etag, author="me")),
    ],
)
@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_what_the_store_refuses_is_said(
    store: PipelineStore,
    monkeypatch: pytest.MonkeyPatch,
    refuses: str,
    what: str,
    act: Callable[[PipelineStore, StoredPipeline], object],
) -> None:
    first = save(store, numbered(1), None)
    store._storage.files.pipe_file(f"{store._storage.root}/empty.yaml", b"")
    method = "pipe_file" if refuses in ("create", "overwrite") else refuses
    allowed = getattr(MemoryFileSystem, method)

    def refuse(self: MemoryFileSystem, *args: Any, **options: Any) -> Any:
        if options.get("mode", refuses) != refuses:
            return allowed(self, *args, **options)
        raise PermissionError("no entry")

    monkeypatch.setattr(MemoryFileSystem, method, refuse)
    with pytest.raises(StoreError) as refused:
        act(store, first)
    assert str(refused.value) == (
        f"the folder of pipelines must be able to be {what} (no entry); got '{store.folder}'; give the API "
        "server's user the right to, or set MODELMILL_PIPELINES to another folder"
    )


@pytest.mark.parametrize("name", ["../x", "..", "a/b", ".hidden", "A", "", "x\n", "é", "a" * 64])
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    store = PipelineStore(str(tmp_path))
    with pytest.raises((ConfigError, PipelineError)):
        store.save(name, TEXT, expected=None, author="me")
    assert store.versions(name) == []
    assert [path.name for path in tmp_path.rglob("*") if path.name not in (".versions", ".lock")] == []


def test_an_invalid_text_is_not_saved(store: PipelineStore) -> None:
    with pytest.raises(PipelineError):
        save(store, "pipeline: topics\nsteps: {}\n", None)
    with pytest.raises(ConfigError) as refused:
        store.save("others", TEXT, expected=None, author="me")
    assert str(refused.value) == (
        "a pipeline's name does not change when it is saved; got 'topics'; "
        "keep 'others', or save it as a new pipeline"
    )
    assert store.documents() == {}


def test_a_broken_file_is_mended_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "My file.yaml").write_text("pipeline: topics\nsteps: {}\n")
    store = PipelineStore(str(tmp_path))
    broken = store.read("topics")
    assert broken.file.spec is None
    others = TEXT.replace("topics", "others")
    store.save("others", others, expected=None, author="me")
    with pytest.raises(ConfigError, match="name is unique; got 'others'; choose another name"):
        store.save("topics", others, expected=broken.etag, author="me")
    save(store, TEXT, broken)
    assert (tmp_path / "My file.yaml").read_text() == TEXT
    assert [version.digest is None for version in store.versions("topics")] == [True, False]


def test_a_broken_file_keeps_its_versions_by_the_name_that_it_gets(tmp_path: Path) -> None:
    for file in ("one", "two", "three"):
        (tmp_path / f"{file}.yaml").write_text("pipeline: topics\nsteps: {}\n")
    store = PipelineStore(str(tmp_path))
    assert {name: one.file.path for name, one in store.documents().items()} == {
        "topics": "one.yaml",
        "two": "two.yaml",
        "three": "three.yaml",
    }
    store.delete("two", expected=store.read("two").etag, author="me")
    others = TEXT.replace("topics", "others")
    store.save("three", others, expected=store.read("three").etag, author="me")
    assert [len(store.versions(name)) for name in ("topics", "two", "three", "others")] == [0, 2, 0, 2]
    assert (tmp_path / "three.yaml").read_text() == others
    (tmp_path / "My file.yaml").write_text("steps: {}\n")
    with pytest.raises(ConfigError) as refused:
        store.delete("My_file", expected=store.read("My_file").etag, author="me")
    assert str(refused.value) == (
        "a pipeline's name has at most 63 of a-z, 0-9 and _, and begins with a letter; got 'My_file'; "
        "rename it"
    )


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / ".versions").write_text("in the way, for root as well")
    store = PipelineStore(str(tmp_path))
    with pytest.raises(
        StoreError, match=r"be able to be written .* set MODELMILL_PIPELINES to another folder"
    ):
        save(store, TEXT, None)
    assert not (tmp_path / "topics.yaml").exists()
    shutil.rmtree(tmp_path)
    with pytest.raises(ConfigError, match="the folder with the pipelines must exist"):
        store.documents()


@pytest.mark.skipif(os.geteuid() == 0, reason="to root every folder is writable")
def test_a_read_only_store_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        PipelineStore(str(tmp_path)).check_writable()


def test_a_file_that_is_no_text_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "topics.yaml").write_bytes(b"\xff\xfe\x00")
    store = PipelineStore(str(tmp_path))
    with pytest.raises(StoreError) as refused:
        save(store, TEXT, store.read("topics"))
    assert str(refused.value) == (
        "a file that is replaced must be text, so that it can be kept as a version; got 'topics.yaml'; "
        "move it out of the folder"
    )
    assert (tmp_path / "topics.yaml").read_bytes() == b"\xff\xfe\x00"


def test_a_version_is_found_by_its_number(store: PipelineStore) -> None:
    save(store, numbered(2), save(store, numbered(1), None))
    assert [store.version("topics", number).text for number in (1, 2)] == [numbered(1), numbered(2)]
    with pytest.raises(NotFoundError, match="the pipeline must have such a version; got 'topics version 3'"):
        store.version("topics", 3)


def test_what_cannot_be_saved_is_said_with_the_remedy(store: PipelineStore) -> None:
    first = save(store, TEXT, None)
    other = store.save("others", TEXT.replace("topics", "others"), expected=None, author="me")
    with pytest.raises(ConfigError, match="has at most 1,000,000 bytes; got 1000088; split it"):
        save(store, f"{TEXT}# {'x' * 1_000_000}\n", first)
    save(store, f"{TEXT}# {'x' * (1_000_000 - len(TEXT) - 3)}\n", first)
    with pytest.raises(NotFoundError) as missing:
        store.save("gone", TEXT.replace("topics", "gone"), expected=other.etag, author="me")
    assert str(missing.value) == (
        "the pipeline must exist; got 'gone'; somebody has deleted it: save it as a new one"
    )


def test_a_damaged_version_is_said(tmp_path: Path) -> None:
    store = PipelineStore(str(tmp_path))
    save(store, TEXT, None)
    (tmp_path / ".versions" / "topics" / "00000001.json").write_text("{")
    path = str(tmp_path / ".versions" / "topics" / "00000001.json")
    with pytest.raises(ConfigError) as refused:
        store.versions("topics")
    assert (refused.value.rule, refused.value.got, refused.value.remedy) == (
        "a version of a pipeline must be what was saved",
        path,
        "it is damaged: restore it, or move it out of the folder",
    )
    (tmp_path / ".versions" / "topics" / "00000001.json").unlink()
    (tmp_path / ".versions" / "topics" / "00000001.json" / "a file").mkdir(parents=True)
    (tmp_path / ".versions" / "topics" / "00000001.json" / "00000002.json").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="must be able to be read"):
        store.versions("topics")


def test_a_version_with_a_flipped_bit_is_said_or_the_very_same(tmp_path: Path) -> None:
    store = PipelineStore(str(tmp_path))
    store.save("topics", TEXT, expected=None, author="me", message="for the night")
    saved, path = store.versions("topics"), tmp_path / ".versions" / "topics" / "00000001.json"
    content = path.read_bytes()
    chosen = random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        try:
            found = store.versions("topics")
        except ConfigError:
            refused += 1
        else:
            assert found == saved
    assert refused > 150


def test_a_save_that_died_with_its_clock_ahead_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PipelineStore(str(tmp_path))
    first = save(store, numbered(1), None)
    create = PipelineStore._create

    def created_ahead(self: PipelineStore, name: str, version: Version) -> None:
        create(self, name, version.model_copy(update={"time": version.time + timedelta(hours=1)}))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PipelineStore, "_create", created_ahead)
        with pytest.raises(KeyboardInterrupt):
            save(store, numbered(2), first, author="you")
    save(store, numbered(3), first)
    assert store.read("topics").file.text == numbered(3)


def test_no_save_of_many_at_once_is_lost(tmp_path: Path) -> None:
    """Every process saves until it has: each of their texts is a version, in one unbroken line."""
    save(PipelineStore(str(tmp_path)), numbered(0), None)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_save_until, args=(str(tmp_path), number)) for number in range(1, 5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    versions = PipelineStore(str(tmp_path)).versions("topics")
    assert sorted(version.text for version in versions) == sorted(numbered(number) for number in range(5))
    assert [version.parent for version in versions[1:]] == [version.etag for version in versions[:-1]]


def _save_until(folder: str, number: int) -> None:
    store = PipelineStore(folder)
    while True:
        try:
            save(store, numbered(number), store.read("topics"))
        except ConflictError:
            continue
        return


def test_a_difference_is_a_diff() -> None:
    assert difference("a\nb\n", "a\nc\n") == "--- before\n+++ after\n@@ -1,2 +1,2 @@\n a\n-b\n+c"
    assert difference("a\n", "a\n") == ""


@pytest.mark.timeout(60)  # the shortest difference of these takes hours
def test_a_difference_is_found_whatever_the_texts_are() -> None:
    chance = random.Random(0)
    words = [f"{n}" for n in range(101)]
    first, second = (chance.choices(words, k=300_000) for _ in range(2))
    found = difference("\n".join(["a", *first, "z"]), "\n".join(["a", *second, "z", "more"])).split("\n")
    assert found[2] == f"@@ -2,{len(first) + 1} +2,{len(second) + 2} @@"
    assert found[3:] == [
        *(f"-{line}" for line in (*first, "z")),
        *(f"+{line}" for line in (*second, "z", "more")),
    ]
    same = "\n".join(first)
    assert difference(same, same) == ""
    assert difference(same, f"{same}\nb").split("\n")[2:] == ["@@ -300000,0 +300001,1 @@", "+b"]
