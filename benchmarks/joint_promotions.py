"""Promotions of many models at one moment, as benchmarks and tests write them into the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelmill.registry.joint_ledger import key_of
from modelmill.registry.ledger import Entry, Head


def promotions_to(version: int, step_key: str) -> Callable[[Mapping[str, Head], int], list[Entry]]:
    """Return what makes the rows of a joint move.

    :param version: of each model, to become champion.
    :param step_key: of the move.
    :return: a function for :func:`modelmill.registry.joint_moves.move_together`.
    """

    def entries(heads: Mapping[str, Head], number: int) -> list[Entry]:
        return [
            Entry(
                action="promote",
                model=name,
                from_version=head.champion,
                to_version=version,
                digest="",
                step_key=key_of(number, step_key),
            )
            for name, head in heads.items()
        ]

    return entries
