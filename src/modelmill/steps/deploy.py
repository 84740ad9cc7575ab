"""Tell a running service which model to serve, and wait until every instance of it answers with it."""

from __future__ import annotations

import re
import time
from typing import Annotated

from pydantic import Field, StringConstraints

from modelmill.artifacts import ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.errors import ConfigError
from modelmill.settings import Settings
from modelmill.steps.ports import ModelOutputs

_ADDRESS = r"^https?://[^\s/?#@\\]+(/[^\s?#\\]*)?$"
_REGISTERED = re.compile(r"models:/([^/]+)/(\d+)")


class DeployConfig(Config):
    """Have a running service (modelmill serve) answer with the champion, and wait until it does."""

    service: str = Field(
        "main", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name of the service."
    )
    urls: tuple[Annotated[str, StringConstraints(pattern=_ADDRESS)], ...] = Field(
        min_length=1, description="Address of each instance of the service, such as http://127.0.0.1:8080."
    )
    shadow: bool = Field(
        False, description="Score the version with the alias challenger beside the champion, too."
    )
    shadow_share: float = Field(1.0, gt=0, le=1, description="Share of the rows that the challenger scores.")
    timeout_seconds: float = Field(300.0, gt=0, description="How long all instances together may take.")


class DeployInputs(Inputs):
    """The champion, and a model that is scored beside it: it gets the alias challenger."""

    model: ModelRef
    challenger: ModelRef | None = None


def run(config: DeployConfig, inputs: DeployInputs, context: StepContext) -> ModelOutputs:
    """Have a service serve a champion.

    :param config: which service, and how.
    :param inputs: the champion, as ``promote`` yields it, and maybe a challenger.
    :param context: the step's context.
    :return: the same model: every instance answers with it.
    :raises ConfigError: if it is not a registered version, or an address is not allowed.
    :raises GateError: if it is not the champion, so that a service that follows the alias never serves it.
    :raises ModelError: if an instance refuses the version.
    :raises TransientError: if an instance does not serve it in time.
    """
    from modelmill.serving.addresses import ServiceAddress
    from modelmill.serving.deployments import Deployment, write_deployment
    from modelmill.serving.rollout import Target, check_champion, wait_for_instance

    model, settings = inputs.model, context.settings
    match = _REGISTERED.fullmatch(model.uri)
    if match is None:
        raise ConfigError(
            "a service serves registered versions", got=model.uri, remedy="connect the output of promote"
        )
    name, version = match[1], int(match[2])
    addresses = [ServiceAddress.of(url) for url in config.urls]  # before anything is changed
    check_champion(name, version, settings)
    challenger = _propose(name, inputs, context)
    deployment = Deployment(
        model=name,
        shadow=config.shadow or challenger is not None,
        shadow_share=config.shadow_share,
        pipeline=context.pipeline,
        step_key=context.step_key,
    )
    write_deployment(deployment, config.service, settings)
    context.run.log_json(deployment.model_dump(mode="json"), "deployment.json")
    began = time.monotonic()
    target = Target(name, version, model.digest, challenger)
    for place, address in enumerate(addresses):
        wait_for_instance(address, target, deadline=began + config.timeout_seconds, settings=settings)
        context.progress(place + 1, len(addresses), what="servers ready")
        context.log(f"{context.step}: {address.url} answers {name} with version {version}")
    context.run.log_metrics({"seconds": time.monotonic() - began, "instances": len(config.urls)})
    return ModelOutputs(model=model)


def _propose(name: str, inputs: DeployInputs, context: StepContext) -> int | None:
    """Register the challenger under the alias that services look for; return its version."""
    from modelmill.registry.versions import patiently, register
    from modelmill.serving.deployments import CHALLENGER

    model = inputs.challenger
    if model is None:
        return None
    if model.digest == inputs.model.digest:
        context.log(f"{context.step}: the challenger is the champion, so there is nothing to compare")
        return None
    version = int(register(context.run.client, name, model).version)
    patiently(lambda: context.run.client.set_registered_model_alias(name, CHALLENGER, str(version)))
    return version


def _never(_outputs: ModelOutputs, _settings: Settings) -> bool:
    """Return False: what a service serves can change without any step, so it is asked each time."""
    return False


deploy = Component(
    name="deploy",
    title="Deploy",
    group="Release",
    config=DeployConfig,
    inputs=DeployInputs,
    outputs=ModelOutputs,
    run=run,
    still_valid=_never,
    live=True,
)
