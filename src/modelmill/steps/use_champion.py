"""The step ``use_champion``."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef
from modelmill.component import Assets, Component, Config, Inputs, Outputs, StepContext
from modelmill.settings import Settings


class UseChampionConfig(Config):
    """Take the model that is in use, and the dataset that it learned from: a pipeline need not train it."""

    name: str = Field(pattern=MODEL_NAME_PATTERN, description="Name of the registered model.")


class UseChampionInputs(Inputs):
    """None."""


class UseChampionOutputs(Outputs):
    """The champion, and its dataset."""

    model: ModelRef
    dataset: DatasetRef


def _champion_state(config: UseChampionConfig, _inputs: UseChampionInputs, settings: Settings) -> str:
    from modelmill.registry.promotion import champion_version

    return f"champion={champion_version(config.name, settings)}"


def _run_use_champion(
    config: UseChampionConfig, _inputs: UseChampionInputs, context: StepContext
) -> UseChampionOutputs:
    from modelmill.registry.promotion import in_use

    model, dataset = in_use(config.name, context.run.client)
    context.log(f"{config.name}: {model.uri} is champion, made from {dataset}")
    return UseChampionOutputs(model=model, dataset=dataset)


def _use_champion_assets(config: UseChampionConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(inlets=(f"mlflow-model://{config.name}",))


use_champion = Component(
    name="use_champion",
    title="Use champion",
    group="Release",
    config=UseChampionConfig,
    inputs=UseChampionInputs,
    outputs=UseChampionOutputs,
    run=_run_use_champion,
    outside_state=_champion_state,
    assets=_use_champion_assets,
)
