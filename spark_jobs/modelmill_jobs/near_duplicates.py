"""Clusters of near-duplicate texts: candidates by buckets, checked exactly, joined into components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelmill.datasets.minhash import Banding
from modelmill.datasets.prepared_columns import BUCKETS, CONTENT
from modelmill.tables.lookup import Lookup
from modelmill_jobs.columns import quoted
from modelmill_jobs.staging import Stage, map_batches

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

ENTRIES_EACH = 3_500_000
"""Buckets of texts that one worker sorts at a time: about 100 MB."""

TEXT_BYTES = 128 << 20
"""Size of the files of clustered texts, compressed, up to which each worker holds them all."""
MOST_CROWDED = 10_000
"""Crowded buckets that a build records at most."""

_PAIRS_EACH = 2048
"""Pairs of texts that are compared at a time."""

_TEXT, _FIRST, _SECOND = "_mm_text", "_mm_first", "_mm_second"


def text_clusters(
    rows: DataFrame, stage: Stage, *, text: str, threshold: float, count: int
) -> tuple[DataFrame | None, list[int]]:
    """Find the clusters of near-duplicate texts.

    :param rows: prepared rows.
    :param stage: for intermediate results.
    :param text: column with the text.
    :param threshold: Jaccard similarity from which two texts belong together.
    :param count: number of rows.
    :return: identity of each clustered text, and of its cluster (the smallest of its texts), as columns
        ``_mm_content`` and ``_mm_cluster``, None if there are no clusters; the crowded buckets.
    """
    from pyspark.sql import functions as sql

    content = CONTENT[0]
    entries = map_batches(rows.select(content, BUCKETS), _entries, f"{content} bigint, bucket int")
    entry_count = count * Banding.for_threshold(threshold).bands
    schema = f"{_FIRST} bigint, {_SECOND} bigint, crowded boolean"
    pairs = stage.by_parts(entries, "bucket", "pairs", _pairs, schema, count=entry_count, each=ENTRIES_EACH)
    if not stage.rows("pairs"):
        return None, []
    crowded = [int(row[0]) for row in pairs.where("crowded").select(_FIRST).limit(MOST_CROWDED + 1).collect()]
    pairs = stage.write(pairs.where("not crowded").select(_FIRST, _SECOND).distinct(), "distinct_pairs")
    members = pairs.select(sql.explode(sql.array(_FIRST, _SECOND)).alias(content)).distinct()
    members = stage.write(members, "members")
    texts = rows.select(content, quoted(text).cast("string").alias(_TEXT))
    texts = _only(texts, members, stage.lookup("members", content), content)
    texts = stage.write(texts.dropDuplicates([content]), "texts")
    lookup = stage.lookup("texts", content, most_bytes=TEXT_BYTES)
    edges = _checked_pairs(pairs, texts, lookup, threshold)
    edges = stage.write(edges, "edges")
    if not stage.rows("edges"):
        return None, crowded
    return components(stage, "edges", edges, content, "_mm_cluster"), crowded


def _only(rows: DataFrame, members: DataFrame, lookup: Lookup | None, key: str) -> DataFrame:
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


def _entries(batches: Iterator[Any]) -> Iterator[Any]:
    """Return one row for each bucket of each text."""
    import pyarrow as pa

    from modelmill.datasets.minhash import unpacked

    for batch in batches:
        buckets, owners = unpacked(batch.column(1))
        yield pa.RecordBatch.from_arrays(
            [batch.column(0).take(pa.array(owners)), pa.array(buckets)], names=[CONTENT[0], "bucket"]
        )


def _pairs(entries: pa.Table) -> pa.Table:
    """Return pairs of texts, followed by the crowded buckets, each paired with itself."""
    import numpy as np
    import pyarrow as pa

    from modelmill.datasets.minhash import candidate_pairs

    pairs, crowded = candidate_pairs(
        entries.column("bucket").to_numpy(), entries.column(CONTENT[0]).to_numpy()
    )
    found = pa.table(
        {_FIRST: pairs[:, 0], _SECOND: pairs[:, 1], "crowded": pa.array([False] * len(pairs), pa.bool_())}
    )
    notes = pa.array(crowded.astype(np.int64))
    return pa.concat_tables(
        [
            found,
            pa.table({_FIRST: notes, _SECOND: notes, "crowded": pa.array([True] * len(crowded), pa.bool_())}),
        ]
    )


def _checked_pairs(pairs: DataFrame, texts: DataFrame, lookup: Lookup | None, threshold: float) -> DataFrame:
    """Return the pairs whose similarity reaches the threshold."""
    from pyspark.sql import functions as sql

    if lookup is None:
        # The engine sorts texts for this, and its memory must hold a batch of them for each of its sorts.
        first = texts.select(sql.col(CONTENT[0]).alias(_FIRST), sql.col(_TEXT).alias("one"))
        second = texts.select(sql.col(CONTENT[0]).alias(_SECOND), sql.col(_TEXT).alias("other"))
        pairs = pairs.join(first, _FIRST).join(second, _SECOND).select(_FIRST, _SECOND, "one", "other")

    def on_batches(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from modelmill.datasets.minhash import similarity

        for batch in batches:
            for start in range(0, batch.num_rows, _PAIRS_EACH):
                few = batch.slice(start, _PAIRS_EACH)
                found, places = _texts_of(few, lookup)
                near = similarity(found, *places.reshape(2, -1)) >= threshold
                yield few.select([_FIRST, _SECOND]).filter(pa.array(near))

    return map_batches(pairs, on_batches, f"{_FIRST} bigint, {_SECOND} bigint")


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
