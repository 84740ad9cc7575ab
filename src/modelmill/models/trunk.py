"""A trunk and the heads on it: one pass of the trunk answers for all of them.

The trunk runs row by row (see :mod:`modelmill.models.onnx_session`), and all heads of one kind are evaluated
as one stack (see :mod:`modelmill.models.heads`).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_digest, trunk_folder
from modelmill.models.heads import STACKS, HeadStack, Weights, load_head
from modelmill.models.onnx_session import RowSession
from modelmill.models.scorer import Scorer
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.contents import load_reader
from modelmill.tokens.token_ids import Tokens


class Trunk:
    """A loaded trunk.

    :param folder: its bundle.
    :param threads: rows that run at the same time.
    :raises ModelError: if the folder is no trunk.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        self.info = BundleInfo.load(folder)
        self.folder = folder
        if self.info.format != "trunk" or self.info.features is None:
            raise ModelError(
                "heads stand on a bundle of format trunk",
                got=f"{self.info.format} in {folder}",
                remedy="make one with the component trunk",
            )
        self.features: int = self.info.features
        self.session = RowSession(folder / "model.onnx", threads=threads)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of its bundle: heads name their trunk by it."""
        return bundle_digest(self.folder)


class _Group:
    """Heads of one kind and width on one trunk, as one stack."""

    def __init__(self, names: Sequence[str], stack: HeadStack, outputs: Sequence[int]) -> None:
        self.stack = stack
        ends = np.cumsum(outputs)
        self.columns = {
            name: slice(int(end - count), int(end))
            for name, end, count in zip(names, ends, outputs, strict=True)
        }


class TrunkHeads:
    """All heads on one trunk.

    :param trunk: the trunk.
    :param heads: what each head's bundle says, and its weights, by name.
    :raises ModelError: if a head does not fit the trunk.
    """

    def __init__(self, trunk: Trunk, heads: Mapping[str, tuple[BundleInfo, Weights]]) -> None:
        self.trunk = trunk
        self.infos = {name: info for name, (info, _) in heads.items()}
        found: dict[tuple[Any, int], list[str]] = {}
        for name, (info, weights) in heads.items():
            _check_fit(name, info, trunk)
            found.setdefault((info.head, len(weights.get("hidden.bias", ()))), []).append(name)
        self._groups = [
            _Group(
                names,
                STACKS[kind]([heads[name][1] for name in names]),
                [self.infos[name].outputs for name in names],
            )
            for (kind, _), names in found.items()
        ]

    def score(self, tokens: Tokens, names: Collection[str] | None = None) -> dict[str, FloatArray]:
        """Return the logits of heads for rows: one pass of the trunk.

        :param tokens: any number of rows, as the trunk's reader makes them.
        :param names: the heads that are wanted; None: all.
        :return: logits by name, ``(rows, outputs)`` each.
        """
        wanted = set(self.infos if names is None else names)
        groups = [group for group in self._groups if wanted & set(group.columns)]
        tables = [
            np.zeros((len(tokens), len(group.stack.bias)), dtype=np.float32) for group in groups
        ]  # (rows, columns) each
        outputs = sorted({group.stack.reads for group in groups})
        order = [outputs.index(group.stack.reads) for group in groups]

        def use(row: int, values: Sequence[FloatArray]) -> None:
            for group, table, index in zip(groups, tables, order, strict=True):
                table[row] = group.stack(values[index])

        self.trunk.session.run(tokens, outputs, use)
        return {
            name: table[:, columns]
            for group, table in zip(groups, tables, strict=True)
            for name, columns in group.columns.items()
            if name in wanted
        }


def _check_fit(name: str, info: BundleInfo, trunk: Trunk) -> None:
    if info.features != trunk.features:
        raise ModelError(
            f"a head reads as many features as its trunk makes, {trunk.features}",
            got=f"{info.features} in {name}",
            remedy="train the head again",
        )
    if info.head is not None and STACKS[info.head].reads == "states" and not trunk.info.states:
        raise ModelError(
            f"a head of kind {info.head} needs a trunk that gives the features of each token",
            got=f"{name} on {trunk.folder}",
            remedy="make the trunk again with states: true, and train the head on it",
        )


class HeadScorer(Scorer):
    """One head on its trunk, as any other bundle.

    :param folder: the head's bundle; the trunk's lies beside it.
    :param info: what the head's bundle says of itself.
    :param threads: rows that are scored at the same time.
    """

    def __init__(self, folder: Path, info: BundleInfo, *, threads: int) -> None:
        place = trunk_folder(folder, info)
        trunk = Trunk(place, threads=threads)
        super().__init__(info, load_reader(place, max_tokens=trunk.info.max_tokens))
        self._heads = TrunkHeads(trunk, {info.label: (info, load_head(folder, info))})

    def score(self, tokens: Tokens) -> FloatArray:
        """See :meth:`Scorer.score`."""
        return self._heads.score(tokens)[self.info.label]
