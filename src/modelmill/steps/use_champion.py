"""Take a registered model's champion, and its dataset, instead of training one."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef
from modelmill.component import MODEL_ASSET, Assets, Component, Config, Outputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.ports import NoInputs


class UseChampionConfig(Config):
    """Take the model that is in use, and the dataset that it learned from: a pipeline need not train it."""

    name: str = Field(pattern=MODEL_NAME_PATTERN, description="Name of the registered model.")


class UseChampionOutputs(Outputs):
    """The champion, and its dataset."""

    model: ModelRef
    dataset: DatasetRef


def _outside_state(config: UseChampionConfig, _inputs: NoInputs, settings: Settings) -> str:
    from modelmill.registry.promotion import champion_version

    return f"champion={champion_version(config.name, settings)}"


def run(config: UseChampionConfig, _inputs: NoInputs, context: StepContext) -> UseChampionOutputs:
    """Look up the champion."""
    from modelmill.registry.promotion import in_use

    model, dataset = in_use(config.name, context.run.client)
    context.log(f"{config.name}: {model.uri} is champion, made from {dataset}")
    return UseChampionOutputs(model=model, dataset=dataset)


def _assets(config: UseChampionConfig, _upstream: Mapping[str, Config]) -> Assets:
    return Assets(inlets=(f"{MODEL_ASSET}{config.name}",))


use_champion = Component(
    name="use_champion",
    title="Use champion",
    group="Release",
    config=UseChampionConfig,
    inputs=NoInputs,
    outputs=UseChampionOutputs,
    run=run,
    outside_state=_outside_state,
    assets=_assets,
)
