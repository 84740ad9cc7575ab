"""Connected components of graphs whose nodes are 64-bit identities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


def connected(first: Ids, second: Ids) -> tuple[Ids, Ids]:
    """Return the connected components of a graph.

    :param first: one node of each edge, ``(edges,)``.
    :param second: the other.
    :return: the nodes, sorted; for each the smallest node of its component.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    one, other = places[: len(first)], places[len(first) :]
    graph = coo_array((np.ones(len(first), np.int8), (one, other)), shape=(len(nodes), len(nodes)))
    count, label = connected_components(graph, directed=False)
    smallest = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(smallest, label, nodes)
    return nodes, smallest[label]
