"""Make a challenger that passed the gate the champion of its registered model."""

from __future__ import annotations

from collections.abc import Mapping

from modelmill.artifacts import VerdictRef
from modelmill.component import MODEL_ASSET, Assets, Component, Config, Inputs, StepContext
from modelmill.settings import Settings
from modelmill.steps.gate import GateConfig
from modelmill.steps.ports import ModelOutputs


class PromoteConfig(Config):
    """Register a challenger that passed the gate and make it the champion; a refused one changes nothing.

    Either way the champion is handed on, and the ledger gets a row.
    """


class PromoteInputs(Inputs):
    """The gate's verdict."""

    verdict: VerdictRef


def run(_config: PromoteConfig, inputs: PromoteInputs, context: StepContext) -> ModelOutputs:
    """Promote the challenger, or write down that it was refused."""
    from modelmill.registry import promotion

    return ModelOutputs(model=promotion.promote(inputs.verdict, context))


def _still_champion(outputs: ModelOutputs, settings: Settings) -> bool:
    from modelmill.registry.champion_look import champion_version, has_rows

    _, name, version = outputs.model.uri.rsplit("/", 2)
    return champion_version(name, settings) == int(version) and has_rows(name, settings)


def _assets(_config: PromoteConfig, upstream: Mapping[str, Config]) -> Assets:
    verdict = upstream.get("verdict")
    return Assets(outlets=(f"{MODEL_ASSET}{verdict.name}",)) if isinstance(verdict, GateConfig) else Assets()


promote = Component(
    name="promote",
    title="Promote",
    group="Release",
    config=PromoteConfig,
    inputs=PromoteInputs,
    outputs=ModelOutputs,
    run=run,
    still_valid=_still_champion,
    assets=_assets,
    live=True,
)
