"""Many signals on one trunk: a head for each label column, each a model of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from modelmill.artifacts import DatasetRef, ModelRef, SignalsRef
from modelmill.errors import ConfigError
from modelmill.models.bundle import BundleInfo
from modelmill.models.heads import STACKS, WEIGHTS_FILE
from modelmill.models.trunk import Trunk
from modelmill.steps.train_heads import TrainHeadsConfig
from modelmill.system.cpu import usable_cores
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData, Rows, read_all_labelled
from modelmill.tokens.cache import tokenised
from modelmill.tokens.token_ids import Tokens
from modelmill.training.calibration import fit_calibration
from modelmill.training.features import Features, Keys, row_keys, trunk_features
from modelmill.training.heads import TRAINED_STACKS, TrainedHead, train_stack
from modelmill.version import __version__

if TYPE_CHECKING:
    from modelmill.component import StepContext

TAG_HEAD_KEY = "modelmill.head_key"
"""On a head's model: digest of what it has learned."""

_FORBIDDEN_IN_NAMES = "/:"


@dataclass(frozen=True)
class _Signal:
    """One signal to be answered."""

    data: LabelledData
    key: str
    """Digest of what its head learns: a head with the same one is kept."""


def run(config: TrainHeadsConfig, dataset: DatasetRef, trunk: ModelRef, context: StepContext) -> SignalsRef:
    """Train a head for each label column, and register each as a version of its own model.

    Nothing is logged before every head is trained, and nothing is registered before every head is logged.

    :param config: how.
    :param dataset: what to learn; a row without a label in a column counts for the others only.
    :param trunk: a model of format ``trunk``.
    :param context: the step.
    :return: the signals' models, those that were trained before among them.
    :raises InputError: if the trunk, a label column or its rows cannot be used.
    """
    from modelmill.registry.bundles import fetch_bundle
    from modelmill.registry.signal_models import log_signals
    from modelmill.registry.versions import register_all

    folder = fetch_bundle(trunk, context.cache)
    loaded = Trunk(folder, threads=usable_cores())
    _check_names(config, dataset)
    tasks = read_all_labelled(dataset, labels=config.labels or dataset.labels)
    tokens = tokenised(
        dataset, folder, max_length=loaded.info.max_tokens, cache=context.cache, log=context.log
    )
    rows = row_keys(tokens)
    keys = [_key(task, rows, config, trunk, text=dataset.text_column) for task in tasks]
    signals = [_Signal(task, key) for task, key in zip(tasks, keys, strict=True)]
    known = _known_heads(trunk, context)
    new = [signal.data for signal in signals if signal.key not in known]
    context.log(f"{len(signals)} signals: {len(new)} to train, {len(signals) - len(new)} known already")
    context.run.log_dataset(dataset, context="training", rows=len(tokens))
    plan = _Plan(config, dataset.text_column, loaded, trunk, context)
    trained = _train(new, tokens, plan) if new else {}
    logged = _log([signal for signal in signals if signal.key not in known], trained, dataset, plan)
    models = {signal.data.label: known.get(signal.key) or logged[signal.data.label] for signal in signals}
    register_all(
        context.run.client,
        {f"{config.prefix}{label}": model for label, model in models.items()},
        experiment=context.run.experiment_id,
    )
    context.run.log_metrics({"signals": len(models), "heads_trained": len(new)})
    return log_signals(models, context)


@dataclass(frozen=True)
class _Plan:
    """What all heads of a step have in common."""

    config: TrainHeadsConfig
    text: str
    trunk: Trunk
    reference: ModelRef
    """The trunk's."""
    context: StepContext


@dataclass(frozen=True)
class _Bundle:
    """A trained head's bundle, and how it does on its validation rows."""

    folder: Path
    metrics: Mapping[str, float]


def _train(tasks: Sequence[LabelledData], tokens: Tokens, plan: _Plan) -> dict[str, _Bundle]:
    places = np.unique(
        np.concatenate([rows.places for task in tasks for rows in (task.train, task.validation)])
    )
    states = TRAINED_STACKS[type(plan.config.head)].reads == "states"
    if states and not plan.trunk.info.states:
        raise ConfigError(
            "heads with attention need a trunk that gives the features of each token",
            got=plan.reference.uri,
            remedy="set states: true in the trunk's step, or take another kind of head",
        )
    features = trunk_features(
        plan.trunk, plan.reference.digest, tokens.take(places), states=states, context=plan.context
    )
    # From places among all rows to places among those that the trunk has read.
    moved = [_moved(task, places) for task in tasks]
    heads = train_stack(moved, features, config=plan.config, context=plan.context)
    logits = _validation_logits(moved, heads, features, plan.config)
    folder = plan.context.workdir / "heads"
    shutil.rmtree(folder, ignore_errors=True)
    return {
        task.label: _write(folder / f"{number:05d}", task, heads[task.label], logits[task.label], plan)
        for number, task in enumerate(moved)
    }


def _moved(task: LabelledData, places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> LabelledData:
    parts = [
        Rows(np.searchsorted(places, rows.places), rows.targets) for rows in (task.train, task.validation)
    ]
    return dataclasses.replace(task, train=parts[0], validation=parts[1])


def _validation_logits(
    tasks: Sequence[LabelledData],
    heads: Mapping[str, TrainedHead],
    features: Features,
    config: TrainHeadsConfig,
) -> dict[str, FloatArray]:
    """Return each head's logits for its validation rows, computed by what serves."""
    rows = np.unique(np.concatenate([task.validation.places for task in tasks]))
    stack = STACKS[config.head.kind]([heads[task.label].weights for task in tasks])
    if stack.reads == "states":
        found = [stack(features.take_states(rows[index : index + 1])[0][0]) for index in range(len(rows))]
    else:
        found = [stack(row) for row in features.take(rows)]
    table = np.array(found, dtype=np.float32).reshape(len(rows), len(stack.bias))
    ends = np.cumsum([task.outputs for task in tasks])
    return {
        task.label: table[np.searchsorted(rows, task.validation.places), end - task.outputs : end]
        for task, end in zip(tasks, ends, strict=True)
    }


def _write(folder: Path, task: LabelledData, head: TrainedHead, logits: FloatArray, plan: _Plan) -> _Bundle:
    folder.mkdir(parents=True)
    save_file(dict(head.weights), folder / WEIGHTS_FILE)
    targets = task.validation.targets
    info = BundleInfo(
        format="head",
        label=task.label,
        classes=task.classes,
        target=task.target,
        calibration=fit_calibration(plan.config.calibration, logits, targets, target=task.target),
        text=plan.text,
        max_tokens=plan.trunk.info.max_tokens,
        parameters=sum(value.size for value in head.weights.values()),
        features=plan.trunk.features,
        head=plan.config.head.kind,
        trunk=plan.reference.digest,
    )
    info.save(folder)
    metrics = {"epochs": float(head.epochs), "train_rows": float(len(task.train))}
    if len(targets):
        found = task.task.quality(logits, targets)
        metrics |= {f"validation_{name}": value for name, value in found.items()}
    return _Bundle(folder, metrics)


def _key(task: LabelledData, keys: Keys, config: TrainHeadsConfig, trunk: ModelRef, *, text: str) -> str:
    settings = config.model_dump(mode="json", exclude={"labels", "prefix"})
    parts = [trunk.digest, text, task.label, *task.classes, task.target, json.dumps(settings), __version__]
    total = hashlib.sha256("\0".join(parts).encode())
    for rows in (task.train, task.validation):
        for values in (keys[rows.places], rows.targets):
            total.update(np.ascontiguousarray(values).tobytes() + b"\0")
    return total.hexdigest()


def _known_heads(trunk: ModelRef, context: StepContext) -> dict[str, ModelRef]:
    """Return the heads on this trunk that were logged before, by their keys."""
    from modelmill.registry.bundles import TAG_TRUNK_DIGEST, model_reference

    client, found, page = context.run.client, {}, None
    while True:
        models = client.search_logged_models(
            [context.run.experiment_id],
            filter_string=f"tags.`{TAG_TRUNK_DIGEST}` = '{trunk.digest}'",
            max_results=1000,
            page_token=page,
        )
        for model in models:
            if TAG_HEAD_KEY in model.tags and model.status == "READY":
                found[model.tags[TAG_HEAD_KEY]] = model_reference(model)
        page = models.token
        if not page:
            return found


def _log(
    signals: Sequence[_Signal], bundles: Mapping[str, _Bundle], dataset: DatasetRef, plan: _Plan
) -> dict[str, ModelRef]:
    from modelmill.registry.bundles import Draft, log_models

    labels = [signal.data.label for signal in signals]
    drafts = [
        Draft(
            bundles[label].folder,
            trunk=plan.reference,
            metrics={f"{name}/{label}": value for name, value in bundles[label].metrics.items()},
            tags={TAG_HEAD_KEY: signal.key},
        )
        for label, signal in zip(labels, signals, strict=True)
    ]
    found = log_models(drafts, role="head", context=plan.context, dataset=dataset) if drafts else []
    return dict(zip(labels, found, strict=True))


def _check_names(config: TrainHeadsConfig, dataset: DatasetRef) -> None:
    bad = [
        f"{config.prefix}{label}"
        for label in config.labels or dataset.labels
        if set(f"{config.prefix}{label}") & set(_FORBIDDEN_IN_NAMES)
    ]
    if bad:
        raise ConfigError(
            "the name of a registered model, prefix and label column, has no / and no :",
            got=", ".join(bad),
            remedy="change the prefix, or rename the column",
        )
