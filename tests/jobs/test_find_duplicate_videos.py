"""Near-duplicate videos on the embedded engine: found, settled, and told what they are."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.library.videos.clips import moving, write_frames

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, TableError
from modelmill.tables.reading import read_arrow
from modelmill.videos.duplicate_request import DuplicateVideosResult, FindDuplicateVideosRequest
from modelmill.videos.fingerprints import CROPS
from modelmill_jobs import find_duplicate_videos

pytest.importorskip("av")

Find = Callable[..., DuplicateVideosResult]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("hash_times", pa.list_(pa.float64())),
        ("hashes", pa.binary()),
        ("width", pa.int64()),
    ]
)


class Hashes:
    """Makes hashes of videos that never were."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(3)

    def source(self, frames: int = 12) -> np.ndarray:
        return self.random.integers(0, 2**63, (frames, len(CROPS)), np.uint64)

    def changed(self, hashes: np.ndarray, bits: int) -> np.ndarray:
        """Flip some bits of each hash."""
        found = hashes.copy()
        for place in np.ndindex(*found.shape):
            for bit in self.random.choice(64, bits, replace=False):
                found[place] ^= np.uint64(1) << np.uint64(bit)
        return found


def row(key: str | None, hashes: np.ndarray | None, *, width: int = 100) -> dict[str, Any]:
    times = [] if hashes is None else [0.5 * place for place in range(len(hashes))]
    packed = b"" if hashes is None else hashes.astype(">u8").tobytes()
    return {"key": key, "hash_times": times, "hashes": packed, "width": width}


@pytest.fixture
def find(sail: Any, tmp_path: Path) -> Find:
    def found(rows: list[dict[str, Any]] | pa.Table, **more: Any) -> DuplicateVideosResult:
        place = str(tmp_path / "measured")
        table = pa.Table.from_pylist(rows, SCHEMA) if isinstance(rows, list) else rows
        write_deltalake(place, table, mode="overwrite", schema_mode="overwrite")
        source = TableRef(uri=place, version=DeltaTable(place).version())
        request = FindDuplicateVideosRequest(table=source, to=str(tmp_path / "unique"), **more)
        return find_duplicate_videos.main(request, sail)

    return found


def settled(result: DuplicateVideosResult) -> dict[str, tuple[str | None, str, str | None]]:
    rows = read_arrow(result.table).to_pylist()
    return {
        one["key"]: tuple(one[f"duplicate_{name}"] for name in ("of", "group", "relation")) for one in rows
    }


def test_copies_and_crops_are_told_from_other_videos(find: Find) -> None:
    made = Hashes()
    source, other = made.source(), made.source()
    cropped = made.source()
    cropped[:, 0] = made.changed(source[:, 3:4], 1)[:, 0]
    rows = [
        row("copy", made.changed(source, 2)),
        row("source", source),
        row("crop", cropped),
        row("other", other),
        row("flat", None),
    ]
    found = find(rows)
    assert (found.videos, found.duplicates, found.groups, found.without_hashes) == (5, 2, 1, 1)
    assert found.relations == {"copy": 1, "cropped": 1}
    assert settled(found) == {
        "copy": (None, "copy", None),
        "source": ("copy", "copy", "copy"),
        "crop": ("copy", "copy", "cropped"),
        "other": (None, "other", None),
        "flat": (None, "flat", None),
    }


def test_the_preferred_one_is_kept_but_never_a_crop(find: Find) -> None:
    made = Hashes()
    source, cropped = made.source(), made.source()
    cropped[:, 0] = source[:, 3]
    rows = [
        row("small", made.changed(source, 1), width=50),
        row("large", source, width=200),
        row("crop", cropped, width=900),
    ]
    found = find(rows, prefer=("width",))
    assert {key: twin for key, (twin, _, _) in settled(found).items()} == {
        "small": "large",
        "large": None,
        "crop": "large",
    }


def test_of_a_chain_those_stay_that_no_kept_one_is_near(find: Find) -> None:
    made = Hashes()
    first = made.source()
    chain = [first]
    for _ in range(3):
        chain.append(made.changed(chain[-1], 6))
    found = find([row(f"v{place}", hashes) for place, hashes in enumerate(chain)])
    twins = {key: twin for key, (twin, _, _) in settled(found).items()}
    assert twins == {"v0": None, "v1": "v0", "v2": None, "v3": "v2"}


def test_the_order_of_the_rows_decides_nothing(find: Find) -> None:
    made = Hashes()
    sources = [made.source() for _ in range(40)]
    rows = [row(f"s{place:02}", hashes) for place, hashes in enumerate(sources)]
    rows += [row(f"t{place:02}", made.changed(hashes, 2)) for place, hashes in enumerate(sources[:15])]
    one = find(rows)
    assert (one.duplicates, one.groups) == (15, 15)
    twins = settled(one)
    assert settled(find(rows[::-1])) == twins


def test_a_retry_writes_nothing_again(find: Find) -> None:
    rows = [row("a", Hashes().source())]
    first = find(rows, transaction="night")
    # What an attempt leaves that is killed between its commit and its end.
    left = Path(first.table.uri) / f"_stage-{uuid.uuid5(uuid.NAMESPACE_OID, 'night').hex}"
    left.mkdir()
    again = find(rows, transaction="night")
    assert again == first
    assert not left.exists()
    assert first.table.version == 0


@pytest.mark.parametrize(
    ("rows", "more", "kind", "said"),
    [
        ([row("a", None), row("a", None)], {}, TableError, "1 keys that stand twice"),
        ([row(None, None)], {}, TableError, "1 without a key"),
        ([row("a", None) | {"hashes": b"12345678"}], {}, TableError, "measure the videos again"),
        ([row("a", None)], {"prefer": ("widht",)}, TableError, "did you mean 'width'"),
        (
            pa.table({"key": ["a"], "hash_times": [[0.0]], "hashes": [b""], "duplicate_of": ["b"]}),
            {},
            ConfigError,
            "duplicate_of",
        ),
    ],
)
def test_wrong_tables_are_refused(
    find: Find, rows: Any, more: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        find(rows, **more)


def test_real_copies_are_found_by_what_measure_videos_writes(sail: Any, step: Any, tmp_path: Path) -> None:
    frames = {
        name: [moving(seed, (192, 144))(number) for number in range(50)]
        for name, seed in (("a", 1), ("b", 2))
    }
    dark = np.zeros((208, 192, 3), np.uint8)

    def letterboxed(frame: np.ndarray) -> np.ndarray:
        found = dark.copy()
        found[32:176] = frame
        return found

    made = {
        "source": frames["a"],
        "other": frames["b"],
        "brighter": [np.minimum(frame * 1.1, 255).astype(np.uint8) for frame in frames["a"]],
        "letterboxed": [letterboxed(frame) for frame in frames["a"]],
        "cropped": [frame[14:-14, 18:-18] for frame in frames["a"]],
    }
    paths = [str(write_frames(tmp_path / f"{name}.mp4", pictures)) for name, pictures in made.items()]
    write_deltalake(str(tmp_path / "clips"), pa.table({"key": list(made), "path": paths}))
    clips = TableRef(uri=str(tmp_path / "clips"), version=0)
    config = {"to": str(tmp_path / "measured"), "quarantine": str(tmp_path / "refused"), "sound": False}
    measured = step("measure_videos", config, table=clips).outputs["table"]
    found = step("find_duplicate_videos", {"to": str(tmp_path / "unique")}, table=measured).outputs["table"]
    rows = {one["key"]: one for one in read_arrow(found).to_pylist()}
    assert {key: one["duplicate_group"] for key, one in rows.items()} == {
        "source": "brighter",
        "brighter": "brighter",
        "letterboxed": "brighter",
        "cropped": "brighter",
        "other": "other",
    }
    assert {key: one["duplicate_relation"] for key, one in rows.items()} == {
        "source": "copy",
        "brighter": None,
        "letterboxed": "copy",
        "cropped": "cropped",
        "other": None,
    }
    assert rows["letterboxed"]["border"] == "letterbox"
