"""What is needed before what: an order, or a cycle."""

from __future__ import annotations

from collections.abc import Mapping, Set

Needs = Mapping[str, Set[str]]
"""By node, the nodes that come before it."""


def ordered(needs: Needs) -> list[str]:
    """Return the nodes, each after those that it needs (Kahn, 1962), else in the order of ``needs``.

    :param needs: by node, the nodes that come before it, each of them a node itself.
    :return: the nodes; those on a cycle, and those behind one, are left out.
    """
    position = {node: index for index, node in enumerate(needs)}
    followers: dict[str, list[str]] = {node: [] for node in needs}
    for node, before in needs.items():
        for other in before:
            followers[other].append(node)
    waiting = {node: len(before) for node, before in needs.items()}
    ready = [node for node, count in waiting.items() if not count]
    done: list[str] = []
    while ready:
        done += ready
        freed = []
        for follower in (follower for node in ready for follower in followers[node]):
            waiting[follower] -= 1
            if not waiting[follower]:
                freed.append(follower)
        ready = sorted(freed, key=position.__getitem__)
    return done


def cycle_in(needs: Needs) -> list[str]:
    """Return one cycle.

    :param needs: by node, the nodes that come before it.
    :return: its nodes, each followed by one that it needs; empty if there is no cycle.
    """
    left = needs.keys() - ordered(needs)
    if not left:
        return []
    # Each of them waits for another one of them, so following what it needs runs into a cycle.
    trail = [min(left)]
    while (before := min(needs[trail[-1]] & left)) not in trail:
        trail.append(before)
    return trail[trail.index(before) :]


def shown(cycle: list[str]) -> str:
    """Return a cycle as people read it.

    :param cycle: what :func:`cycle_in` gave.
    :return: its nodes in the order in which they run, the first one again at the end.
    """
    return " -> ".join([*reversed(cycle), cycle[-1]])
