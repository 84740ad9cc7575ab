"""Many signals' models as one reference: a JSON file in MLflow that lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from modelmill.artifacts import ModelRef, SignalsRef
from modelmill.errors import ConfigError, ModelError, TransientError
from modelmill.registry.bundles import TAG_TRUNK_DIGEST, model_reference
from modelmill.registry.tracking import StepRun, TrackedRun

SIGNALS_FILE = "signals.json"
TAG_HEAD_KEY = "modelmill.head_key"
"""On a head's model: digest of everything that it was learned from."""


def log_signals(models: Mapping[str, ModelRef], context: StepRun) -> SignalsRef:
    """Write the list of signals into the step's run.

    :param models: model of each signal, by name.
    :param context: the step that makes them.
    :return: the reference to hand on.
    """
    content = {name: model.model_dump(mode="json") for name, model in models.items()}
    uri = context.run.log_json(content, SIGNALS_FILE)
    return SignalsRef(uri=uri, run_id=context.run.run_id, digest=_digest(models), count=len(models))


def read_signals(signals: SignalsRef) -> dict[str, ModelRef]:
    """Return the model of each signal, by name, from the tracking server of this process.

    :param signals: the reference.
    :return: the models, in the order in which they were listed.
    :raises ModelError: if the list is not the one that was logged.
    :raises TransientError: if MLflow does not hand it out.
    """
    from mlflow.artifacts import load_text
    from mlflow.exceptions import MlflowException

    try:
        text = load_text(signals.uri)
    except (MlflowException, OSError) as error:
        raise TransientError(
            f"MLflow must hand out the list of signals ({error})",
            got=signals.uri,
            remedy="check that its run still exists and that the MLflow server answers",
        ) from error
    models = {name: ModelRef.model_validate(value) for name, value in json.loads(text).items()}
    if _digest(models) != signals.digest:
        raise ModelError(
            f"the list of signals must have the digest {signals.digest[:16]}… that was logged",
            got=signals.uri,
            remedy="it was changed afterwards: train the heads again",
        )
    return models


def signal_named(signals: SignalsRef, name: str) -> ModelRef:
    """Return one signal's model.

    :param signals: the reference.
    :param name: the signal.
    :return: the model.
    :raises ConfigError: if there is no such signal.
    """
    models = read_signals(signals)
    if name not in models:
        raise ConfigError("a signal must be one of the list", got=name, choices=models)
    return models[name]


def logged_heads(trunk: ModelRef, run: TrackedRun) -> dict[str, ModelRef]:
    """Return the heads on a trunk that runs of the same experiment have logged.

    :param trunk: the trunk.
    :param run: a run of the experiment.
    :return: the heads by their :data:`TAG_HEAD_KEY`.
    """
    found, page = {}, None
    while True:
        models = run.client.search_logged_models(
            [run.experiment_id],
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


def _digest(models: Mapping[str, ModelRef]) -> str:
    parts = json.dumps({name: model.digest for name, model in models.items()}, sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()
