"""The step ``deploy``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from modelmill.artifacts import ModelRef
from modelmill.component import Component, Config, Inputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import ModelOutputs


class DeployConfig(Config):
    """Have a running service (modelmill serve) answer with the champion, and wait until it does."""

    service: str = Field(
        "main", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$", description="Name of the service."
    )
    urls: tuple[Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/[^\s?#]*)?$")], ...] = Field(
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


def _run_deploy(config: DeployConfig, inputs: DeployInputs, context: StepContext) -> ModelOutputs:
    from modelmill.serving.deploying import run

    return ModelOutputs(model=run(config, inputs, context))


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
    run=_run_deploy,
    still_valid=_never,
)
