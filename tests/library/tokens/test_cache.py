"""Token ids of a dataset: made once, whole or not at all, and never those of something else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from modelmill.artifacts import DatasetRef
from modelmill.errors import DatasetError, ModelError, TableError
from modelmill.tokens.cache import DatasetTexts
from modelmill.tokens.token_ids import Tokens
from modelmill.tokens.tokenizer import encode, load_tokenizer, unknown_share
from modelmill.workspace import Workspace

WORDS = ("goal", "match", "bank", "goals", "cafe", "caf\u00e9", "\u4e2d", "unknown-word", "a.b")


def texts(count: int, *, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(0, 12))) for _ in range(count)]


def dataset(folder: Path, rows: Sequence[str | None], *, files: int = 1) -> DatasetRef:
    """A dataset whose rows do not stand in the order of their keys."""
    keys = np.random.default_rng(1).permutation(len(rows))
    columns = {"id": [f"{key:06d}" for key in keys], "row": [f"{row:06d}" for row in range(len(rows))]}
    table = pa.table({**columns, "text": pa.array(rows, pa.string())})
    for part in range(files):
        write_deltalake(
            str(folder), table.slice(part * len(rows) // files, len(rows) // files), mode="append"
        )
    return DatasetRef(uri=str(folder), version=files - 1, key="id", text="text", labels=("x",), split="split")


def by_key(ref: DatasetRef) -> list[str]:
    table = DeltaTable(ref.uri, version=ref.version).to_pyarrow_table().sort_by("id")
    return list(table.column("text").to_pylist())


def listed(tokens: Tokens) -> list[list[int]]:
    return [row.tolist() for row in tokens]


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Tokens]:
    def make(
        ref: DatasetRef, folder: Path, *, max_length: int = 16, lines: list[str] | None = None
    ) -> Tokens:
        log = (lambda line: None) if lines is None else lines.append
        texts = DatasetTexts(ref, Workspace(tmp_path / "work", tmp_path / "cache", log=log))
        return texts.tokens(folder, max_tokens=max_length)

    return make


def expected(ref: DatasetRef, folder: Path, *, max_length: int = 16) -> list[list[int]]:
    return listed(encode(load_tokenizer(folder, max_tokens=max_length), by_key(ref)))


def test_ids_are_those_of_the_tokenizer_in_the_order_of_the_keys(
    tmp_path: Path, make_tokenizer, made
) -> None:
    ref, folder = dataset(tmp_path / "table", texts(20_000), files=2), make_tokenizer()
    lines: list[str] = []
    first = made(ref, folder, lines=lines)
    assert listed(first) == expected(ref, folder)
    assert len(lines) == 1
    assert lines[0].startswith("tokenised 20,000 texts: ")
    assert ", by nanotoken " in lines[0]
    again = made(ref, folder, lines=lines)
    assert listed(again) == listed(first)
    assert len(lines) == 1, "made a second time"


def test_a_script_that_the_tokenizer_does_not_know_is_said(tmp_path: Path, make_tokenizer, made) -> None:
    lines: list[str] = []
    rows = ["goal match", "中 goal", "中中", "国国"]
    made(dataset(tmp_path / "table", rows), make_tokenizer(), lines=lines)
    assert "; 62.5% of the texts' tokens are unknown to this tokenizer" in lines[0], (
        "5 of 8, without [CLS], [SEP]"
    )
    made(dataset(tmp_path / "known", ["goal", "match", "bank"]), tmp_path / "tokenizer", lines=lines)
    assert "unknown" not in lines[1]


@pytest.mark.parametrize("fallback", [False, True])
def test_unknown_pieces_of_sentencepiece_are_counted(tmp_path: Path, fallback: bool) -> None:
    from tokenizers import Tokenizer, models

    pieces = [("<s>", 0.0), ("<unk>", 0.0), ("a", -1.0), ("b", -1.0)]
    pieces += [(f"<0x{byte:02X}>", -2.0) for byte in range(256)] if fallback else []
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1, byte_fallback=fallback))
    tokenizer.add_special_tokens(["<s>", "<unk>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    found = encode(load_tokenizer(tmp_path, max_tokens=8), ["ab", "国", "b"])
    assert unknown_share(tmp_path, found) == (0 if fallback else 1 / 4)


def test_the_ids_are_mapped_from_one_arrow_file(tmp_path: Path, make_tokenizer, made) -> None:
    ref = dataset(tmp_path / "table", texts(100))
    tokens = made(ref, make_tokenizer())
    assert [path.suffix for path in (tmp_path / "cache" / "tokens").iterdir() if path.name[0] != "."] == [
        ".arrow"
    ]
    (path,) = (tmp_path / "cache" / "tokens").glob("*.arrow")
    column = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column("ids")
    assert column.type == pa.large_list_view(pa.uint16())
    assert column.to_pylist() == listed(tokens)
    mapped = [line for line in Path("/proc/self/smaps").read_text().splitlines() if str(path) in line]
    assert mapped
    assert not tokens.values.flags.writeable


def test_everything_that_changes_the_ids_has_a_file_of_its_own(tmp_path: Path, make_tokenizer, made) -> None:
    ref, folder, other = dataset(tmp_path / "table", texts(50)), make_tokenizer(), make_tokenizer("other")
    changed = (other / "tokenizer.json").read_text().replace('"goal"', '"cafe"')
    (other / "tokenizer.json").write_text(changed)
    longer = ref.model_copy(update={"version": 1})
    write_deltalake(ref.uri, pa.table({"id": ["z"], "row": ["z"], "text": ["match"]}), mode="append")
    assert listed(made(ref, folder)) == expected(ref, folder)
    assert listed(made(ref, folder, max_length=4)) == expected(ref, folder, max_length=4)
    assert listed(made(ref, other)) == expected(ref, other) != expected(ref, folder)
    assert listed(made(longer, folder)) == expected(longer, folder)
    other_key = made(ref.model_copy(update={"key": "row"}), folder)
    assert listed(other_key) == listed(encode(load_tokenizer(folder, max_tokens=16), texts(50)))
    assert len(list((tmp_path / "cache" / "tokens").glob("*.arrow"))) == 5


def test_another_table_at_the_same_place_and_version_is_another_table(
    tmp_path: Path, make_tokenizer, made
) -> None:
    folder = make_tokenizer()
    before = made(dataset(tmp_path / "table", texts(50)), folder)
    shutil.rmtree(tmp_path / "table")
    ref = dataset(tmp_path / "table", texts(50, seed=9))
    assert listed(made(ref, folder)) == expected(ref, folder) != listed(before)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, make_tokenizer, made, damage: str) -> None:
    ref, folder = dataset(tmp_path / "table", texts(200)), make_tokenizer()
    made(ref, folder)
    (path,) = (tmp_path / "cache" / "tokens").glob("*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    harm = {"flipped": content, "cut": content[:-100], "empty": b""}
    path.write_bytes(harm[damage])
    lines: list[str] = []
    assert listed(made(ref, folder, lines=lines)) == expected(ref, folder)
    assert lines[0] == f"{path.name} is damaged: the texts are tokenised again"
    assert len(lines) == 2


def test_a_late_difference_starts_again_with_tokenizers(tmp_path: Path, make_tokenizer, made) -> None:
    # The word that the libraries disagree on comes after the rows that are compared at first.
    ref = dataset(tmp_path / "table", ["bank goals"] * 9000 + ["match"] * 9000)
    folder = make_tokenizer(wrong=True, more=5001)
    lines: list[str] = []
    assert listed(made(ref, folder, lines=lines)) == expected(ref, folder)
    assert lines[0] == (
        "texts are tokenised by tokenizers, the slower one; nanotoken cannot be used: its ids differ from "
        "those of tokenizers for the text 'match'"
    )
    assert lines[1].startswith("tokenised 18,000 texts: ")
    assert ", by tokenizers " in lines[1]
    assert len(lines) == 2


def test_a_dataset_without_rows_has_no_ids(tmp_path: Path, make_tokenizer, made) -> None:
    ref = dataset(tmp_path / "table", [])
    assert listed(made(ref, make_tokenizer())) == []
    assert listed(made(ref, make_tokenizer("again"))) == []


def test_empty_texts_alone_have_a_token_each(tmp_path: Path, make_tokenizer, made) -> None:
    ref = dataset(tmp_path / "table", ["", " "])
    assert listed(made(ref, make_tokenizer(special=False))) == [[0], [0]]


def test_what_cannot_be_tokenised_is_refused_and_leaves_nothing(tmp_path: Path, make_tokenizer, made) -> None:
    folder = make_tokenizer()
    ref = dataset(tmp_path / "table", ["goal", None, "bank"])
    with pytest.raises(DatasetError) as caught:
        made(ref, folder)
    keys = np.random.default_rng(1).permutation(3)
    assert str(caught.value) == (
        f"a row of a dataset must have a text ({ref}); got 'null in the row with the key {keys[1]:06d}'; "
        "build the dataset with build_dataset, which sets such rows aside"
    )
    numbers = tmp_path / "numbers"
    write_deltalake(str(numbers), pa.table({"id": ["a"], "text": [1]}))
    with pytest.raises(DatasetError, match=r"the text column must hold strings .* got 'text: int64'"):
        made(ref.model_copy(update={"uri": str(numbers)}), folder)
    with pytest.raises(TableError, match=r"must have the column .* got 'body'; allowed"):
        made(ref.model_copy(update={"text": "body"}), folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json must be one that the tokenizers library reads"):
        made(ref, folder)
    assert not [path for path in (tmp_path / "cache" / "tokens").iterdir() if path.suffix != ".lock"]


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, make_tokenizer, made) -> None:
    ref = dataset(tmp_path / "table", ["goal", "bank"])
    (path,) = (tmp_path / "table").glob("*.parquet")
    path.write_bytes(path.read_bytes().replace(b"goal", b"\xff\xfeal"))
    with pytest.raises(DatasetError, match=r"texts must be valid UTF-8 .* which sets such rows aside"):
        made(ref, make_tokenizer())


def test_a_damaged_table_is_refused(tmp_path: Path, make_tokenizer, made) -> None:
    ref = dataset(tmp_path / "table", texts(50))
    (path,) = (tmp_path / "table").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-200] + bytes(200))
    with pytest.raises(TableError, match="the table's files must be readable"):
        made(ref, make_tokenizer())


CHILD = """
import sys
from pathlib import Path
from modelmill.artifacts import DatasetRef
from modelmill.tokens.cache import DatasetTexts
from modelmill.workspace import Workspace
ref = DatasetRef.model_validate_json(sys.argv[1])
print("begin", flush=True)
texts = DatasetTexts(ref, Workspace(Path(sys.argv[3]), Path(sys.argv[3]), log=print))
tokens = texts.tokens(Path(sys.argv[2]), max_tokens=16)
print("rows", len(tokens), int(tokens.values.sum()), flush=True)
"""


def child(ref: DatasetRef, folder: Path, cache: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, ref.model_dump_json(), str(folder), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_processes_that_ask_at_the_same_time_one_works(tmp_path: Path, make_tokenizer) -> None:
    ref, folder = dataset(tmp_path / "table", texts(2000)), make_tokenizer()
    children = [child(ref, folder, tmp_path / "cache") for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in children]
    assert [process.returncode for process in children] == [0, 0, 0]
    assert "".join(outputs).count("tokenised 2,000 texts") == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1


def test_a_killed_builder_leaves_nothing_that_is_read(tmp_path: Path, make_tokenizer, made) -> None:
    ref, folder = dataset(tmp_path / "table", ["goal match"] * 100_000), make_tokenizer()
    process = child(ref, folder, tmp_path / "cache")
    place = tmp_path / "cache" / "tokens"
    deadline = time.monotonic() + 60
    while not list(place.glob(".*.values")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list(place.glob(".*.values")), "it was done before it could be killed"
    lines: list[str] = []
    found = made(ref, folder, lines=lines)
    assert len(lines) == 1
    assert listed(found.take(slice(0, 1000))) == expected(ref, folder)[:1000]
    assert sorted(path.suffix for path in place.iterdir()) == [".arrow", ".lock"]
