"""A head for each of many signals, trained together on one trunk; each becomes a model of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence

import numpy as np

from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo
from modelmill.models.heads import STACKS
from modelmill.models.trunk import Trunk
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData, Rows
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.training.calibration import fit_calibration
from modelmill.training.features import Features, Keys, trunk_features
from modelmill.training.head_bundle import TrainedHead, save_head
from modelmill.training.head_group import BestHead
from modelmill.training.head_training import fit_heads
from modelmill.training.options import HeadTrainingOptions
from modelmill.training.trainable_heads import TRAINABLE_HEADS, TrainableHeads
from modelmill.version import __version__
from modelmill.workspace import Workspace


def train_heads(
    signals: Sequence[LabelledData],
    tokens: Tokens,
    trunk: Trunk,
    options: HeadTrainingOptions,
    workspace: Workspace,
    *,
    text: str = "text",
) -> dict[str, TrainedHead]:
    """Train a head for each of many signals.

    :param signals: the labelled rows of each signal; at least one signal.
    :param tokens: all texts, as the trunk's tokenizer makes them.
    :param trunk: the trunk; it runs once for each text, however many signals there are.
    :param options: how to train.
    :param workspace: gets the bundles and the progress; its cache keeps the trunk's features.
    :param text: column that holds the texts.
    :return: the heads by the signal's name, bundles of format ``head``.
    :raises ConfigError: if the heads read the features of tokens, which the trunk does not give.
    :raises ModelError: if a loss is no longer finite.
    """
    places = np.unique(
        np.concatenate([rows.places for signal in signals for rows in (signal.train, signal.validation)])
    )
    states = TRAINABLE_HEADS[type(options.head)].reads == "states"
    if states and not trunk.info.states:
        raise ConfigError(
            "heads with attention need a trunk that gives the features of each token",
            got=str(trunk.folder),
            remedy="set states: true in the trunk's step, or take another kind of head",
        )
    features = trunk_features(trunk, tokens.take(places), states=states, workspace=workspace)
    # From places among all texts to places among those that the trunk has read.
    moved = [_moved(signal, places) for signal in signals]
    blocks = [slice(None)] if states else _blocks(trunk.info)
    heads = _best_heads(moved, features, blocks, options=options, workspace=workspace)
    logits = _validation_logits(moved, heads, features, options)
    folder = workspace.workdir / "heads"
    shutil.rmtree(folder, ignore_errors=True)
    found = {}
    for number, signal in enumerate(moved):
        head, own = heads[signal.label], logits[signal.label]
        targets = signal.validation.targets
        place = folder / f"{number:05d}"
        calibration = fit_calibration(options.calibration, own, targets, task=signal.task)
        kind = options.head.kind
        save_head(place, head.weights, trunk, signal, kind=kind, text=text, calibration=calibration)
        metrics = {"epochs": float(head.epochs), "train_rows": float(len(signal.train))}
        if len(targets):
            measured = signal.task.quality(own, targets)
            metrics |= {f"validation_{name}": value for name, value in measured.items()}
        found[signal.label] = TrainedHead(place, metrics)
    return found


def _blocks(info: BundleInfo) -> list[slice]:
    """Return what a head may read: all features, or of images those of early layers or of the last one alone.

    Early layers tell how an image looks, the last one what it shows. To a head that needs one of the two, the
    other is noise, and there are more features than small signals have rows.
    """
    late = (info.features or 0) - info.early_features
    return [slice(None), slice(late, None), slice(late)] if info.early_features else [slice(None)]


def _best_heads(
    signals: Sequence[LabelledData],
    features: Features,
    blocks: Sequence[slice],
    *,
    options: HeadTrainingOptions,
    workspace: Workspace,
) -> dict[str, BestHead]:
    """Fit a head of each signal on each block of features; validation rows choose, without any the first."""
    judged = {signal.label for signal in signals if len(signal.validation)}
    best: dict[str, BestHead] = {}
    for block in blocks:
        part = features.block(block)
        chosen = [signal for signal in signals if block == blocks[0] or signal.label in judged]
        found = fit_heads(chosen, part, options=options, workspace=workspace) if chosen else {}
        for name, head in found.items():
            if name not in best or head.loss < best[name].loss:
                best[name] = _widened(head, block, features.size, by=TRAINABLE_HEADS[type(options.head)])
                if len(blocks) > 1:
                    workspace.log(f"{name}: {part.size:,} features, loss {head.loss:.4g}")
    return best


def _widened(head: BestHead, block: slice, size: int, *, by: type[TrainableHeads]) -> BestHead:
    """Return the same head for all features: it does not count those that it has not read."""
    if len(range(size)[block]) == size:
        return head
    narrow = head.weights[by.by_feature]
    wide = np.zeros((*narrow.shape[:-1], size), dtype=narrow.dtype)
    wide[..., block] = narrow
    return dataclasses.replace(head, weights={**head.weights, by.by_feature: wide})


def head_key(
    signal: LabelledData, rows: Keys, trunk: Trunk, options: HeadTrainingOptions, *, text: str
) -> str:
    """Return a digest of everything that a head is learned from: heads with the same one are the same.

    :param signal: the labelled rows of the signal.
    :param rows: a hash of each text, see :func:`modelmill.training.features.row_keys`.
    :param trunk: the trunk.
    :param options: how to train.
    :param text: column that holds the texts.
    :return: 64 hexadecimal digits.
    """
    settings = options.model_dump(mode="json", include=set(HeadTrainingOptions.model_fields))
    parts = [trunk.digest, text, signal.label, *signal.classes, signal.target]
    total = hashlib.sha256("\0".join([*parts, json.dumps(settings), __version__]).encode())
    for part in (signal.train, signal.validation):
        for values in (rows[part.places], part.targets):
            total.update(np.ascontiguousarray(values).tobytes() + b"\0")
    return total.hexdigest()


def _moved(signal: LabelledData, places: Places) -> LabelledData:
    train, validation = (
        Rows(np.searchsorted(places, rows.places), rows.targets) for rows in (signal.train, signal.validation)
    )
    return dataclasses.replace(signal, train=train, validation=validation)


def _validation_logits(
    signals: Sequence[LabelledData],
    heads: Mapping[str, BestHead],
    features: Features,
    options: HeadTrainingOptions,
) -> dict[str, FloatArray]:
    """Return each head's logits for its validation rows, computed as they will be when it serves."""
    rows = np.unique(np.concatenate([signal.validation.places for signal in signals]))
    stack = STACKS[options.head.kind]([heads[signal.label].weights for signal in signals])
    if stack.reads == "states":
        found = [stack(features.take_states(rows[index : index + 1])[0][0]) for index in range(len(rows))]
    else:
        found = [stack(row) for row in features.take(rows)]
    table = np.array(found, dtype=np.float32).reshape(len(rows), len(stack.bias))
    ends = np.cumsum([signal.outputs for signal in signals])
    return {
        signal.label: table[np.searchsorted(rows, signal.validation.places), end - signal.outputs : end]
        for signal, end in zip(signals, ends, strict=True)
    }
