"""Pairs of videos that look alike: candidates by buckets of hashes, compared, joined into groups."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelmill.tables.lookup import Lookup
from modelmill.videos.duplicate_request import DISTANCE, GROUP, RELATION, TWIN
from modelmill.videos.duplicates import Fingerprint, likeness, relation
from modelmill_jobs.columns import quoted
from modelmill_jobs.staging import map_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from pyspark.sql import DataFrame

ID = "_mm_video"
"""Column with the identity of a video: 64 bits of a hash of its key."""
_FIRST, _SECOND = "_mm_first", "_mm_second"
CANDIDATES = f"{_FIRST} bigint, {_SECOND} bigint"
_ENDS = "one_key string, other_key string, one_prefer array<double>, other_prefer array<double>"
EDGES = f"{CANDIDATES}, distance double, crop double, {_ENDS}"
SETTLED = f"{ID} bigint, {GROUP} string, {TWIN} string, {DISTANCE} double, {RELATION} string"
PRINTS = ("key", "times", "hashes", "prefer")
"""Columns of fingerprints, beside :data:`ID`."""


def identified(rows: DataFrame, key: str) -> DataFrame:
    """Return rows with the identity of each video; NULL where its key is.

    :param rows: the rows.
    :param key: column with the key.
    :return: the rows, and the column :data:`ID`.
    """
    from pyspark.sql.types import LongType, StructField, StructType

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            keys = batch.column(batch.schema.get_field_index(key)).cast(pa.string()).to_pylist()
            ids = pa.array([None if one is None else _identity(one) for one in keys], pa.int64())
            yield pa.RecordBatch.from_arrays([*batch.columns, ids], names=[*batch.schema.names, ID])

    return map_batches(rows, on_batches, StructType([*rows.schema.fields, StructField(ID, LongType())]))


def _identity(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def bucket_entries(prints: DataFrame) -> DataFrame:
    """Return a row for each bucket of each video: :data:`ID` and ``bucket``."""

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        for batch in batches:
            found = [one.buckets() for one in _fingerprints(batch)]
            owners = np.repeat(np.asarray(batch.column(ID), np.int64), [len(one) for one in found])
            buckets = np.concatenate([np.empty(0, np.int32), *found])
            yield pa.RecordBatch.from_arrays([pa.array(owners), pa.array(buckets)], names=[ID, "bucket"])

    rows = prints.select(ID, "times", "hashes")
    return map_batches(rows, on_batches, f"{ID} bigint, bucket int")


def bucket_pairs(entries: pa.Table) -> pa.Table:
    """Return the pairs of videos that share a bucket; of a crowded one those with its first ones.

    :param entries: all entries of each bucket among them.
    :return: distinct pairs, the columns of :data:`CANDIDATES`.
    """
    import pyarrow as pa

    from modelmill.datasets.minhash import candidate_pairs

    pairs, _, _ = candidate_pairs(entries.column("bucket").to_numpy(), entries.column(ID).to_numpy())
    return pa.table({_FIRST: pairs[:, 0], _SECOND: pairs[:, 1]})


def compared(
    pairs: DataFrame, prints: DataFrame, lookup: Lookup | None, *, most: float, share: float
) -> DataFrame:
    """Compare pairs of videos.

    :param pairs: the columns of :data:`CANDIDATES`.
    :param prints: fingerprints: :data:`ID` and :data:`PRINTS`.
    :param lookup: the same for workers; None: the engine joins.
    :param most: distance of near-duplicates at most.
    :param share: share of the frames of the shorter one that both have, at least.
    :return: the near-duplicates, with the columns of :data:`EDGES`.
    """
    if lookup is None:
        for end, name in ((_FIRST, "one"), (_SECOND, "other")):
            named = [quoted(column).alias(f"{name}_{column}") for column in PRINTS]
            pairs = pairs.join(prints.select(quoted(ID).alias(end), *named), end)

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            one, other = _ends(batch, lookup)
            yield _near(batch, one, other, most=most, share=share)

    return map_batches(pairs, on_batches, EDGES)


def _ends(pairs: pa.RecordBatch, lookup: Lookup | None) -> tuple[pa.Table, pa.Table]:
    """Return the fingerprints of the first and of the second videos."""
    import numpy as np
    import pyarrow as pa

    if lookup is None:
        whole = pa.Table.from_batches([pairs])
        one, other = (
            whole.select([f"{name}_{column}" for column in PRINTS]).rename_columns(list(PRINTS))
            for name in ("one", "other")
        )
        return one, other
    one, other = (
        lookup.table()
        .take(pa.array(lookup.find(np.asarray(pairs.column(end), np.int64))))
        .select(list(PRINTS))
        for end in (_FIRST, _SECOND)
    )
    return one, other


def _near(
    pairs: pa.RecordBatch, one: pa.Table, other: pa.Table, *, most: float, share: float
) -> pa.RecordBatch:
    import pyarrow as pa

    distances, crops, near = list[float](), list[float](), list[bool]()
    for first, second in zip(_fingerprints(one), _fingerprints(other), strict=True):
        found = likeness(first, second)
        shorter = min(len(first.times), len(second.times))
        near.append(found is not None and found.distance <= most and found.frames >= share * shorter)
        distances.append(64.0 if found is None else found.distance)
        crops.append(0.0 if found is None else found.crop)
    columns = {
        _FIRST: pairs.column(_FIRST),
        _SECOND: pairs.column(_SECOND),
        "distance": pa.array(distances, pa.float64()),
        "crop": pa.array(crops, pa.float64()),
    }
    for part in ("key", "prefer"):  # in the order of EDGES: engines go by the place of a column
        columns |= {
            f"{name}_{part}": _whole(ends.column(part)) for name, ends in (("one", one), ("other", other))
        }
    return pa.RecordBatch.from_pydict(columns).filter(pa.array(near, pa.bool_()))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    found = column.combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _fingerprints(rows: pa.RecordBatch | pa.Table) -> Iterator[Fingerprint]:
    columns = (rows.column(name).to_pylist() for name in ("times", "hashes"))
    for times, packed in zip(*columns, strict=True):
        yield Fingerprint.unpacked(times, packed)


def settled(edges: pa.Table) -> pa.Table:
    """Say which of the videos of each group are kept, and which of these stands for each of the others.

    Videos are taken in the order in which they are preferred; each is kept unless a kept one is near it.

    :param edges: all pairs of near-duplicates, with the columns of :data:`EDGES`.
    :return: a row for each video with an edge, with the columns of :data:`SETTLED`.
    """
    import numpy as np
    import pyarrow as pa

    from modelmill.datasets.connected_components import connected
    from modelmill.datasets.near_copies import NearPairs, twins

    ends = np.stack([edges.column(name).to_numpy() for name in (_FIRST, _SECOND)])
    crop = edges.column("crop").to_numpy()
    distance = edges.column("distance").to_numpy()
    order, keys = _preferred(edges, ends, crop)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    nodes = np.unique(ends)
    one, other = (place[np.searchsorted(nodes, end)] for end in ends)
    pairs = NearPairs(one, other, 1 - distance / 64, np.zeros(len(one), bool))
    twin, _ = twins(pairs, count=len(nodes), fixed=0, compare=None)
    _, group = connected(one, other)  # named by its smallest number, which is kept
    found = _edge_of(twin, one, other)
    kept = twin < 0
    cropped = np.where(one[found] == twin, crop[found], -crop[found])
    names = [keys[number] for number in order]
    return pa.table(
        {
            ID: nodes[order],
            GROUP: [names[number] for number in group],
            TWIN: [None if number < 0 else names[number] for number in twin],
            DISTANCE: pa.array(np.round(distance[found], 3), mask=kept),
            RELATION: [
                None if stays else relation(share) for stays, share in zip(kept, cropped, strict=True)
            ],
        }
    )


def _preferred(
    edges: pa.Table, ends: npt.NDArray[np.int64], crop: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the order in which videos are preferred, as places among the sorted ones, and their keys."""
    import numpy as np

    nodes, first = np.unique(ends.ravel(), return_index=True)
    keys = edges.column("one_key").to_pylist() + edges.column("other_key").to_pylist()
    prefer = edges.column("one_prefer").to_pylist() + edges.column("other_prefer").to_pylist()
    most = np.zeros(len(nodes))
    for end, share in ((ends[1], crop), (ends[0], -crop)):
        np.maximum.at(most, np.searchsorted(nodes, end), share)
    named = [keys[place] for place in first]
    wanted = [[-np.inf if one is None else one for one in prefer[place]] for place in first]
    ranks = [(most[n], [-one for one in wanted[n]], named[n]) for n in range(len(nodes))]
    return np.array(sorted(range(len(nodes)), key=ranks.__getitem__), np.int64), named


def _edge_of(
    twin: npt.NDArray[np.int64], one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the edge between each video and its twin; 0 for videos that are kept."""
    import numpy as np

    count = len(twin)
    codes = np.minimum(one, other) * count + np.maximum(one, other)
    order = np.argsort(codes)
    numbers = np.arange(count)
    wanted = np.minimum(numbers, twin) * count + np.maximum(numbers, twin)
    places = np.searchsorted(codes[order], np.where(twin < 0, codes[order[0]], wanted))
    return np.asarray(order[places], np.int64)
