"""Deciding on closed sets of rows in memory: each row comes with all rows that share something with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from modelmill.datasets.connected_components import connected
from modelmill.datasets.deduplication import SET, decide, decisions_schema
from modelmill.datasets.index import FullBuildNeededError
from modelmill.datasets.minhash import pairs_by_band, similarity, unpacked_bands
from modelmill.datasets.near_copies import NearPairs
from modelmill.datasets.prepared_columns import (
    BUCKETS,
    CONTENT,
    HASH,
    IDENTITY,
    ORDER,
    REASON,
    ROW,
    SHIPPED,
    Preparation,
    label_column,
)

if TYPE_CHECKING:
    import pyarrow as pa


def decide_closed_sets(rows: pa.Table, plan: Preparation, *, crowded: Sequence[int]) -> pa.Table:
    """Decide what becomes of rows.

    :param rows: prepared rows, each with all rows that share its key, its content or a bucket.
    :param plan: how they were prepared.
    :param crowded: buckets of similar texts from which not all pairs were looked at.
    :return: see :func:`modelmill.datasets.deduplication.decide`.
    :raises FullBuildNeededError: if a row is in a crowded bucket.
    """
    options = plan.options
    usable = rows.filter(rows.column(REASON).is_null())
    labels = [label_column(index) for index in range(len(options.labels))]
    if not usable.num_rows:
        return decisions_schema(plan.label_types).empty_table()
    content = np.asarray(usable.column(CONTENT[0]), np.int64)
    pairs = _near_pairs(usable, content, plan, crowded)
    cluster = _renamed(content, *connected(pairs.first, pairs.second))
    sets = _sets(usable, cluster) if options.key is not None else cluster
    slim = usable.select([ROW, HASH, ORDER, *CONTENT, *IDENTITY, SHIPPED, *labels])
    return decide(slim.append_column(SET, [sets]), plan, pairs)


def _near_pairs(rows: pa.Table, content: np.ndarray, plan: Preparation, crowded: Sequence[int]) -> NearPairs:
    """Return the pairs of contents whose texts are nearly the same."""
    import pyarrow as pa

    text, threshold = plan.options.text, plan.options.similar_texts
    if threshold is None or text is None:
        return NearPairs.none()
    buckets, owners = unpacked_bands(rows.column(BUCKETS).combine_chunks())
    pairs, _, more = pairs_by_band(buckets, content[owners])
    # There not all pairs are looked at, and which ones depends on texts that are not at hand.
    if len(more) or np.isin(crowded, buckets).any():
        raise FullBuildNeededError("very many texts are alike")
    known, places = np.unique(content, return_index=True)
    members, inverse = np.unique(pairs, return_inverse=True)
    if not len(members):
        return NearPairs.none()
    chosen = pa.array(places[np.searchsorted(known, members)])
    texts = rows.column(text).cast(pa.large_string()).take(chosen).combine_chunks()
    ends = inverse.reshape(pairs.shape)
    found = similarity(texts, ends[:, 0], ends[:, 1])
    near = found >= threshold
    return NearPairs(pairs[near, 0], pairs[near, 1], found[near], np.zeros(int(near.sum()), bool), threshold)


def _sets(rows: pa.Table, cluster: np.ndarray) -> np.ndarray:
    """Return the sets into which clusters fall that share a key."""
    key = np.asarray(rows.column(IDENTITY[0]), np.int64)
    order = np.argsort(key, kind="stable")
    same = np.flatnonzero(key[order][1:] == key[order][:-1])
    one, other = cluster[order][same], cluster[order][same + 1]
    return _renamed(cluster, *connected(one[one != other], other[one != other]))


def _renamed(values: np.ndarray, known: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return values with those that are known replaced by their names."""
    if not len(known):
        return values
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[places] == values, names[places], values)
