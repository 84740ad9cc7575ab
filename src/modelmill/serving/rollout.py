"""Waiting until every instance of a service answers with the version that was deployed."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pydantic import ValidationError

from modelmill.errors import GateError, ModelError, TransientError
from modelmill.registry.promotion import champion_version
from modelmill.serving.addresses import NoAnswerError, ServiceAddress
from modelmill.serving.messages import ModelState, ServiceState
from modelmill.settings import Settings

_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Target:
    """The versions of a registered model that an instance should have."""

    model: str
    champion: int
    digest: str
    """SHA-256 over the champion's files."""
    challenger: int | None = None
    """Version that is scored beside it; None: any or none."""


def check_champion(name: str, version: int, settings: Settings) -> None:
    """Check that a version is the champion: a service that follows the alias serves no other one.

    :param name: registered model.
    :param version: the version.
    :param settings: where MLflow is.
    :raises GateError: if it is not.
    """
    current = champion_version(name, settings)
    if current != version:
        raise GateError(
            f"only a champion is served, and the champion of {name} is version {current}",
            got=version,
            remedy="somebody has moved it since: run the pipeline again, or leave it as it is",
        )


def wait_for_instance(
    address: ServiceAddress, target: Target, *, deadline: float, settings: Settings
) -> None:
    """Wait until an instance of a service has the versions that it should have.

    :param address: address of the instance.
    :param target: the versions.
    :param deadline: time on the monotonic clock, in seconds.
    :param settings: where MLflow is.
    :raises ConfigError: if its name stands for an address that may not be asked.
    :raises ModelError: if it refuses the champion.
    :raises GateError: if the deadline has passed, and the version is no longer champion.
    :raises TransientError: if the deadline has passed.
    """
    url = address.url
    while True:
        state, seen = _model_state(address, target.model)
        if state is not None:
            is_champion = (state.version, state.digest) == (target.champion, target.digest)
            if is_champion and target.challenger in (None, state.challenger):
                return
            if state.refused and state.champion == target.champion:
                raise ModelError(
                    f"{url} must be able to load version {target.champion} of {target.model} ({state.error})",
                    got=f"version {state.version} answers",
                    remedy="roll back, or make the model again",
                )
        if time.monotonic() > deadline:
            check_champion(target.model, target.champion, settings)
            raise TransientError(
                f"{url} must serve version {target.champion} of {target.model} in time",
                got=seen,
                remedy="see its log; service name, MODELMILL_DEPLOYMENTS and MLflow must be the same there",
            )
        time.sleep(_POLL_SECONDS)


def _model_state(address: ServiceAddress, name: str) -> tuple[ModelState | None, str]:
    """Return what an instance says about a model, and a summary of it for an error."""
    try:
        content = address.get("/v1/models", seconds=_TIMEOUT_SECONDS)
        state = ServiceState.model_validate_json(content)
    except (NoAnswerError, ValidationError) as error:
        if not address.is_named:
            return None, "no answer of a service (it says why if MODELMILL_SERVICES has the address)"
        return None, f"no answer ({error if isinstance(error, NoAnswerError) else type(error).__name__})"
    for model in state.models:
        if model.name == name:
            return model, f"version {model.version} answers ({model.error or 'no error'})"
    return None, f"it does not know the model ({state.error or 'no error'})"
