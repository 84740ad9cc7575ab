"""The deploy step: say what a service should serve, and wait until every instance of it says so."""

from __future__ import annotations

import re
import time
import urllib.request
from typing import TYPE_CHECKING

from pydantic import ValidationError

from modelmill.artifacts import ModelRef
from modelmill.errors import ConfigError, GateError, ModelError, TransientError
from modelmill.registry.promotion import champion_version
from modelmill.registry.versions import patiently, register
from modelmill.serving.deployments import CHALLENGER, Deployment, write_deployment
from modelmill.serving.messages import ModelState, ServiceState
from modelmill.steps.deploy import DeployConfig, DeployInputs

if TYPE_CHECKING:
    from modelmill.component import StepContext

_REGISTERED = re.compile(r"models:/([^/]+)/(\d+)")
_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.5


def run(config: DeployConfig, inputs: DeployInputs, context: StepContext) -> ModelRef:
    """Have a service serve a champion.

    :param config: which service, and how.
    :param inputs: the champion, as ``promote`` hands it on, and maybe a challenger.
    :param context: the step's context.
    :return: the same model: every instance answers with it.
    :raises ConfigError: if it is no registered version.
    :raises GateError: if it is not the champion, so that a service that follows the alias never serves it.
    :raises ModelError: if an instance refuses the version.
    :raises TransientError: if an instance does not serve it in time.
    """
    model = inputs.model
    match = _REGISTERED.fullmatch(model.uri)
    if match is None:
        raise ConfigError(
            "a service serves registered versions", got=model.uri, remedy="connect the output of promote"
        )
    name, version = match[1], int(match[2])
    _check_champion(name, version, context)
    challenger = _propose(name, inputs, context)
    deployment = Deployment(
        model=name,
        shadow=config.shadow or challenger is not None,
        shadow_share=config.shadow_share,
        pipeline=context.pipeline,
        step_key=context.step_key,
    )
    write_deployment(deployment, config.service, context.settings)
    context.run.log_json(deployment.model_dump(mode="json"), "deployment.json")
    began = time.monotonic()
    for place, url in enumerate(config.urls):
        _wait(url, name, (version, challenger), model.digest, began + config.timeout_seconds, context)
        context.progress(place + 1, len(config.urls))
        context.log(f"{context.step}: {url} answers {name} with version {version}")
    context.run.log_metrics({"seconds": time.monotonic() - began, "instances": len(config.urls)})
    return model


def _check_champion(name: str, version: int, context: StepContext) -> None:
    current = champion_version(name, context.settings)
    if current != version:
        raise GateError(
            f"only a champion is served, and the champion of {name} is version {current}",
            got=version,
            remedy="somebody has moved it since: run the pipeline again, or leave it as it is",
        )


def _propose(name: str, inputs: DeployInputs, context: StepContext) -> int | None:
    """Give a model the alias that a service looks for challengers by; return its version."""
    model = inputs.challenger
    if model is None:
        return None
    if model.digest == inputs.model.digest:
        context.log(f"{context.step}: the challenger is the champion, so there is nothing to compare")
        return None
    version = int(register(context.run.client, name, model).version)
    patiently(lambda: context.run.client.set_registered_model_alias(name, CHALLENGER, str(version)))
    return version


def _wait(
    url: str,
    name: str,
    versions: tuple[int, int | None],
    digest: str,
    deadline: float,
    context: StepContext,
) -> None:
    """Wait until an instance has the champion and, if there is one to wait for, the challenger."""
    version, challenger = versions
    while True:
        state, seen = _asked(url, name)
        if state is not None:
            if (state.version, state.digest) == (version, digest) and challenger in (None, state.challenger):
                return
            if state.refused and state.champion == version:
                raise ModelError(
                    f"{url} must be able to load version {version} of {name} ({state.error})",
                    got=f"version {state.version} answers",
                    remedy="roll back, or make the model again",
                )
        if time.monotonic() > deadline:
            _check_champion(name, version, context)
            raise TransientError(
                f"{url} must serve version {version} of {name} in time",
                got=seen,
                remedy="see its log; service name, MODELMILL_DEPLOYMENTS and MLflow must be the same there",
            )
        time.sleep(_POLL_SECONDS)


def _asked(url: str, name: str) -> tuple[ModelState | None, str]:
    """Return what an instance has of a model, and what to say of it where it is not what it should be."""
    try:
        with urllib.request.urlopen(  # noqa: S310 (the configuration takes http and https only)
            f"{url.rstrip('/')}/v1/models", timeout=_TIMEOUT_SECONDS
        ) as answer:
            state = ServiceState.model_validate_json(answer.read(10_000_000))
    except (OSError, ValidationError) as error:  # URLError is an OSError
        return None, f"no answer ({getattr(error, 'reason', None) or type(error).__name__})"
    for model in state.models:
        if model.name == name:
            return model, f"version {model.version} answers ({model.error or 'no error'})"
    return None, f"it does not know the model ({state.error or 'no error'})"
