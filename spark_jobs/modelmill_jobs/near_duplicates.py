"""Near-duplicate texts: candidates by buckets, checked exactly, joined into connected components."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.datasets.minhash import Banding
from modelmill.datasets.prepared_columns import BUCKETS, CONTENT
from modelmill.tables.lookup import Lookup
from modelmill_jobs.columns import quoted
from modelmill_jobs.parts import Cut, by_part
from modelmill_jobs.staging import Stage, map_batches, read_batches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from modelmill.datasets.near_copies import NearPairs

ENTRIES_EACH = 3_500_000
"""Buckets of texts that one worker sorts at a time: about 100 MB."""

TEXT_BYTES = 128 << 20
"""Size of the files of clustered texts, compressed, up to which each worker holds them all."""
MOST_CROWDED = 10_000
"""Crowded buckets that a build records at most."""

_PAIRS_EACH = 2048
"""Pairs of texts that are compared at a time."""

_LEADERS_EACH = 8192
"""Texts that a worker holds to compare all others with them."""

_TEXT, _FIRST, _SECOND = "_mm_text", "_mm_first", "_mm_second"
_CROWDED, _SIMILARITY = "crowded", "similarity"
_EDGES = f"{_FIRST} bigint, {_SECOND} bigint, {_SIMILARITY} double, {_CROWDED} boolean"
_PAIRS = f"{_FIRST} bigint, {_SECOND} bigint, kind tinyint"
_OF_BUCKET, _OF_CROWDED_BUCKET, _BUCKET = 0, 1, 2
"""What a candidate is: a pair, a pair of a crowded bucket, or such a bucket, paired with itself."""


@dataclass(frozen=True)
class StagedPairs:
    """The pairs of nearly equal texts, and the texts, in files that workers read."""

    place: str
    pairs: tuple[str, ...]
    texts: tuple[str, ...]
    threshold: float

    def among(self, contents: npt.NDArray[np.int64]) -> NearPairs:
        """Return the pairs of some texts.

        :param contents: identities of the texts, with all that belong together.
        :return: the pairs.
        """
        import numpy as np

        from modelmill.datasets.near_copies import NearPairs

        first, second, similarity, crowded = ([np.empty(0, kind)] for kind in ("i8", "i8", "f8", "?"))
        known = np.unique(contents)
        for batch in read_batches(self.place, self.pairs):
            one = np.asarray(batch.column(_FIRST), np.int64)
            chosen = known.take(np.searchsorted(known, one), mode="clip") == one
            first.append(one[chosen])
            second.append(np.asarray(batch.column(_SECOND), np.int64)[chosen])
            similarity.append(np.asarray(batch.column(_SIMILARITY), np.float64)[chosen])
            crowded.append(batch.column(_CROWDED).to_numpy(zero_copy_only=False)[chosen])
        ends = np.concatenate(first), np.concatenate(second)
        return NearPairs(*ends, np.concatenate(similarity), np.concatenate(crowded), self.threshold)

    def compare(self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the similarity of pairs of texts: some first ones are held, all second ones pass by."""
        import numpy as np

        found = np.zeros(len(first))
        leaders = np.unique(first)
        for start in range(0, len(leaders), _LEADERS_EACH):
            few = leaders[start : start + _LEADERS_EACH]
            chosen = np.flatnonzero(np.isin(first, few))
            held = [_chosen(batch, few) for batch in read_batches(self.place, self.texts)]
            for batch in read_batches(self.place, self.texts):
                passing = _chosen(batch, second[chosen])
                here = chosen[np.isin(second[chosen], passing.column(CONTENT[0]))]
                if len(here):
                    found[here] = _similarity([*held, passing], first[here], second[here])
        return found


def near_pairs(
    rows: DataFrame, stage: Stage, *, text: str, threshold: float, count: int
) -> tuple[StagedPairs | None, list[int]]:
    """Find the pairs of nearly equal texts.

    :param rows: prepared rows.
    :param stage: for intermediate results.
    :param text: column with the text.
    :param threshold: Jaccard similarity from which two texts belong together.
    :param count: number of rows.
    :return: the pairs, staged as ``edges``, None if there are none; the crowded buckets.
    """
    from pyspark.sql import functions as sql

    content = CONTENT[0]
    pairs = _pairs_by_buckets(rows, stage, bands=Banding.for_threshold(threshold).bands, count=count)
    if not stage.rows("pairs"):
        return None, []
    notes = pairs.where(sql.col("kind") == _BUCKET).select(_FIRST)
    crowded = [int(row[0]) for row in notes.limit(MOST_CROWDED + 1).collect()]
    pairs = (
        pairs.where(sql.col("kind") != _BUCKET).groupBy(_FIRST, _SECOND).agg(sql.max("kind").alias("kind"))
    )
    pairs = stage.write(pairs, "distinct_pairs")
    members = pairs.select(sql.explode(sql.array(_FIRST, _SECOND)).alias(content)).distinct()
    members = stage.write(members, "members")
    texts = rows.select(content, quoted(text).cast("string").alias(_TEXT))
    texts = only(texts, members, stage.lookup("members", content), content)
    texts, staged = stage.write(texts, "texts"), "texts"
    # A lookup takes the first of equal texts. To drop the others, the embedded engine would group texts, and
    # its writer finds no memory while groups fill it.
    lookup = stage.lookup(staged, content, most_bytes=TEXT_BYTES)
    if lookup is None:
        texts, staged = _distinct_texts(texts, stage), "distinct_texts"
        lookup = stage.lookup(staged, content, most_bytes=TEXT_BYTES)
    stage.write(_checked_pairs(pairs, texts, lookup, threshold), "edges")
    if not stage.rows("edges"):
        return None, crowded
    edges, held = (tuple(file.path for file in stage.files(name)) for name in ("edges", staged))
    return StagedPairs(stage.place, edges, held, threshold), crowded


def only(rows: DataFrame, members: DataFrame, lookup: Lookup | None, key: str) -> DataFrame:
    """Return the rows whose key is among the members: a semi-join."""
    if lookup is None:
        return rows.join(members, key, "left_semi")

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        for batch in batches:
            found = lookup.find(np.asarray(batch.column(key), np.int64)) >= 0
            if found.any():
                yield batch.filter(pa.array(found))

    return rows.mapInArrow(on_batches, rows.schema)


def _distinct_texts(texts: DataFrame, stage: Stage) -> DataFrame:
    """Keep one row of each text; a worker holds some of them at a time."""
    files = stage.files("texts")
    rows = sum(file.rows for file in files)
    each = max(1, rows * TEXT_BYTES // sum(file.size for file in files))
    return stage.by_parts(
        texts, CONTENT[0], "distinct_texts", _first_of_each, texts.schema, count=rows, each=each
    )


def _first_of_each(texts: pa.Table) -> pa.Table:
    import numpy as np

    _, first = np.unique(texts.column(CONTENT[0]).to_numpy(), return_index=True)
    return texts.take(first)


def text_clusters(stage: Stage) -> DataFrame:
    """Return the clusters of nearly equal texts: ``_mm_content``, and its smallest one as ``_mm_cluster``."""
    edges = stage.read("edges", _EDGES).select(_FIRST, _SECOND)
    return components(stage, "edges", edges, CONTENT[0], "_mm_cluster")


def components(stage: Stage, name: str, edges: DataFrame, member: str, component: str) -> DataFrame:
    """Return the connected components of a graph; one worker holds its edges, 16 bytes each.

    :param stage: for the result.
    :param name: of the edges among the intermediate results.
    :param edges: pairs of nodes, 64-bit integers, in two columns.
    :param member: name of the column of nodes.
    :param component: name of the column of components; a component's name is its smallest node.
    :return: nodes with an edge, each once.
    """

    def join(table: pa.Table) -> pa.Table:
        import pyarrow as pa

        from modelmill.datasets.connected_components import connected

        nodes, labels = connected(table.column(0).to_numpy(), table.column(1).to_numpy())
        return pa.table({member: nodes, component: labels})

    schema = f"{member} bigint, {component} bigint"
    count = stage.rows(name)
    return stage.by_parts(
        edges, edges.columns[0], f"{name}_joined", join, schema, count=count, each=max(count, 1)
    )


def _pairs_by_buckets(rows: DataFrame, stage: Stage, *, bands: int, count: int) -> DataFrame:
    """Return pairs of texts that share a bucket, staged as ``pairs``.

    A part is some bands of all texts, or a share of the buckets of one band.
    """
    at_once = min(max(1, ENTRIES_EACH // max(1, count)), bands)
    shares = math.ceil(count / ENTRIES_EACH) if at_once == 1 else 1
    # All parts have as many bands: those of the last one may be in the part before, too.
    firsts = [min(first, bands - at_once) for first in range(0, bands, at_once)]
    cut = _by_bands(firsts, at_once, shares)
    found = rows.select(CONTENT[0], BUCKETS)
    return stage.cut(found, cut, "pairs", _pairs, _PAIRS, parts=len(firsts) * shares)


def _by_bands(firsts: Sequence[int], at_once: int, shares: int) -> Cut:
    """Return a function that cuts texts into parts: identities, and some buckets, of those with words.

    :param firsts: first band of each part.
    :param at_once: number of bands in a part.
    :param shares: into how many parts the buckets of these bands are cut; 1 if there are several bands.
    :return: the function.
    """

    def cut(rows: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        import numpy as np
        import pyarrow as pa

        from modelmill.datasets.minhash import unpacked_bands

        buckets, places = unpacked_bands(rows.column(1))
        text = rows.column(0).take(pa.array(places)).to_numpy()
        names = [CONTENT[0], *(f"band_{number}" for number in range(at_once))]
        whole = np.empty((firsts[-1] + at_once, 0), np.int32)
        whole = np.ascontiguousarray(buckets) if len(places) else whole
        for first in firsts:
            columns = [text, *whole[first : first + at_once]]
            ends = [0, len(text)]
            if shares > 1:
                order, ends = by_part(columns[1], shares)
                columns = [column[order] for column in columns]
            found = pa.RecordBatch.from_arrays([pa.array(column) for column in columns], names=names)
            yield from (found.slice(start, end - start) for start, end in itertools.pairwise(ends))

    return cut


def _pairs(entries: pa.Table) -> pa.Table:
    """Return pairs of texts, followed by the crowded buckets, each paired with itself."""
    import numpy as np
    import pyarrow as pa

    from modelmill.datasets.minhash import pairs_by_band

    text, *bands = (column.to_numpy() for column in entries.columns)
    pairs, in_crowded, crowded = pairs_by_band(bands, text)
    more = crowded.astype(np.int64)
    kind = np.append(np.where(in_crowded, _OF_CROWDED_BUCKET, _OF_BUCKET), np.full(len(more), _BUCKET))
    ends = (np.concatenate([pairs[:, place], more]) for place in (0, 1))
    return pa.table(dict(zip((_FIRST, _SECOND, "kind"), (*ends, kind.astype(np.int8)), strict=True)))


def _checked_pairs(pairs: DataFrame, texts: DataFrame, lookup: Lookup | None, threshold: float) -> DataFrame:
    """Return the pairs whose similarity reaches the threshold."""
    from pyspark.sql import functions as sql

    if lookup is None:
        # The engine sorts texts for this, and its memory must hold a batch of them for each of its sorts.
        first = texts.select(sql.col(CONTENT[0]).alias(_FIRST), sql.col(_TEXT).alias("one"))
        second = texts.select(sql.col(CONTENT[0]).alias(_SECOND), sql.col(_TEXT).alias("other"))
        pairs = pairs.join(first, _FIRST).join(second, _SECOND)
        pairs = pairs.select(_FIRST, _SECOND, "kind", "one", "other")

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import numpy as np
        import pyarrow as pa

        from modelmill.datasets.minhash import similarity

        for batch in batches:
            for start in range(0, batch.num_rows, _PAIRS_EACH):
                few = batch.slice(start, _PAIRS_EACH)
                found, places = _texts_of(few, lookup)
                alike = similarity(found, *places.reshape(2, -1))
                crowded = np.asarray(few.column("kind")) == _OF_CROWDED_BUCKET
                arrays = [few.column(_FIRST), few.column(_SECOND), pa.array(alike), pa.array(crowded)]
                names = [_FIRST, _SECOND, _SIMILARITY, _CROWDED]
                yield pa.RecordBatch.from_arrays(arrays, names=names).filter(pa.array(alike >= threshold))

    return map_batches(pairs, on_batches, _EDGES)


def _chosen(texts: pa.RecordBatch, contents: npt.NDArray[np.int64]) -> pa.RecordBatch:
    import numpy as np
    import pyarrow as pa

    return texts.filter(pa.array(np.isin(texts.column(CONTENT[0]), contents)))


def _similarity(
    texts: list[pa.RecordBatch], first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the similarity of pairs of texts, by their identities."""
    import numpy as np
    import pyarrow as pa

    from modelmill.datasets.minhash import similarity

    table = pa.Table.from_batches(texts)
    known, places = np.unique(table.column(CONTENT[0]).to_numpy(), return_index=True)
    found = table.column(_TEXT).cast(pa.large_string()).combine_chunks()
    return similarity(found, *(places[np.searchsorted(known, ends)] for ends in (first, second)))


def _texts_of(pairs: pa.RecordBatch, lookup: Lookup | None) -> tuple[pa.Array, Any]:
    """Return the texts of pairs, each once, and where all first and then all second texts are among them."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if lookup is None:
        texts = pa.concat_arrays([pairs.column(name).cast(pa.large_string()) for name in ("one", "other")])
        encoded = pc.dictionary_encode(texts)
        return encoded.dictionary, np.asarray(encoded.indices, np.int64)
    keys = np.concatenate([np.asarray(pairs.column(name), np.int64) for name in (_FIRST, _SECOND)])
    chosen, places = np.unique(lookup.find(keys), return_inverse=True)
    texts = lookup.table().column(_TEXT).take(pa.array(chosen)).cast(pa.large_string())
    return texts.combine_chunks(), places
