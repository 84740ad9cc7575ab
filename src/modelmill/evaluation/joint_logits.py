"""Logits of many heads for a split: each trunk reads each row once, and every head's logits are cached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modelmill.artifacts import DatasetRef, ModelRef
from modelmill.evaluation.logits import keep_logits, logits_place
from modelmill.models.bundle import BundleInfo, trunk_folder
from modelmill.models.heads import load_head
from modelmill.models.trunk import Trunk, TrunkHeads
from modelmill.system.cpu import usable_cores
from modelmill.tasks.examples import split_places
from modelmill.tokens.cache import DatasetTexts
from modelmill.workspace import Workspace


def cache_logits_together(
    models: Sequence[tuple[ModelRef, Path]], dataset: DatasetRef, split: str, workspace: Workspace
) -> int:
    """Compute the logits of heads for all rows of a split, so that ``cached_logits`` finds them.

    A head's logits are the same bits whether it is asked alone or among others.

    :param models: models and their bundles; those that are no heads on a trunk are left out.
    :param dataset: the dataset.
    :param split: ``train``, ``validation`` or ``test``.
    :param workspace: where they are kept.
    :return: how many passes of a trunk it took; 0 if all logits were known.
    :raises ModelError: if a head or a trunk cannot be loaded.
    """
    rows = split_places(dataset, split)
    missing: dict[tuple[str, int], list[tuple[BundleInfo, Path, Path]]] = {}
    for model, folder in models:
        info = BundleInfo.load(folder)
        if info.trunk is None:
            continue
        place = logits_place(model, info, dataset, split, workspace)
        if not place.exists():
            missing.setdefault((info.trunk, info.max_tokens), []).append((info, folder, place))
    for (_, max_tokens), heads in missing.items():
        reader = trunk_folder(heads[0][1], heads[0][0])
        trunk = Trunk(reader, threads=usable_cores())
        tokens = DatasetTexts(dataset, workspace).tokens(reader, max_tokens=max_tokens).take(rows)
        workspace.log(f"{len(heads):,} heads on one trunk: scoring {len(rows):,} rows in one pass")
        named = {str(place): (info, load_head(folder, info)) for info, folder, place in heads}
        for name, logits in TrunkHeads(trunk, named).score(tokens).items():
            keep_logits(logits, Path(name))
    return len(missing)
