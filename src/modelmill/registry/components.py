"""Components that decide whether a model goes into use, and put it there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Union

from pydantic import Field

from modelmill.artifacts import MODEL_NAME_PATTERN, DatasetRef, ModelRef, ReportRef, VerdictRef
from modelmill.pipeline.component import Assets, Component, Config, Inputs, Outputs, Resources, StepContext
from modelmill.registry.checks import CheckConfig, gate_checks
from modelmill.settings import Settings
from modelmill.training.components import ModelOutputs

if TYPE_CHECKING:
    AnyCheck = CheckConfig
else:  # the types are known once every module that declares checks has been imported
    AnyCheck = Annotated[
        Union[tuple(check.config for check in gate_checks().values())],  # noqa: UP007 (a union of a tuple)
        Field(discriminator="check"),
    ]


class GateConfig(Config):
    """Compare a challenger with the champion, its parent and the baselines on the same test rows."""

    name: str = Field(
        pattern=MODEL_NAME_PATTERN,
        description="Name of the registered model it is proposed for.",
    )
    metric: Literal["accuracy", "macro_f1"] = Field("accuracy", description="Metric that is compared.")
    max_drop: float = Field(
        0.005, ge=0, lt=1, description="Largest accepted drop of the metric (0.005: half a point)."
    )
    max_below_baseline: float = Field(
        0.0, ge=0, lt=1, description="How far the metric may lie below the best baseline."
    )
    max_class_drop: float | None = Field(
        0.1, ge=0, lt=1, description="Largest accepted drop of the recall of a class; empty: any."
    )
    proof: bool = Field(
        False,
        description="Also refuse where the rows are too few to show that the metric drops by no more than "
        "max_drop: the whole confidence interval has to lie within it.",
    )
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Confidence of all comparisons together: an equal challenger is refused less often than "
        "in one minus this.",
    )
    may_lose_classes: bool = Field(
        False, description="Whether a class that the champion answers may be one that the challenger cannot."
    )
    resamples: int = Field(2000, ge=200, description="Bootstrap resamples.")
    checks: tuple[AnyCheck, ...] = Field((), description="Further checks.")


class GateInputs(Inputs):
    """The dataset whose test split is judged on, and the exported model."""

    dataset: DatasetRef
    challenger: ModelRef


class GateOutputs(Outputs):
    """What the gate says."""

    verdict: VerdictRef


def _gate_state(config: GateConfig, _inputs: GateInputs, settings: Settings) -> str:
    from modelmill.registry.checks import outside_state
    from modelmill.registry.promotion import champion_version

    read = "".join(f" {outside_state(check, config.name, settings)}" for check in config.checks)
    return f"champion={champion_version(config.name, settings)}{read}".rstrip()


def _run_gate(config: GateConfig, inputs: GateInputs, context: StepContext) -> GateOutputs:
    from modelmill.registry.gate import run

    return GateOutputs(verdict=run(config, inputs.dataset, inputs.challenger, context))


gate = Component(
    name="gate",
    title="Gate",
    group="Check",
    config=GateConfig,
    inputs=GateInputs,
    outputs=GateOutputs,
    run=_run_gate,
    version=4,
    resources=Resources(cpus=2, memory_gb=4),
    outside_state=_gate_state,
)


class ApproveConfig(Config):
    """Ask a person before the promotion, with the gate's report: approve, or reject with a reason.

    Airflow shows the question under required actions; while it waits it holds no worker and no slot. A
    challenger that the gate refused, or that is champion already, passes on without a question.
    """

    timeout_hours: float = Field(
        24, gt=0, le=24 * 60, description="Hours after which no answer counts as a rejection."
    )
    assigned_to: tuple[str, ...] = Field(
        (), description="Ids of the Airflow users who may answer; empty: whoever may act on the DAG."
    )
    without_airflow: Literal["reject", "approve"] = Field(
        "reject", description="Answer where nobody can be asked: modelmill run."
    )


class ApproveInputs(Inputs):
    """The gate's verdict."""

    verdict: VerdictRef


def _run_approve(config: ApproveConfig, inputs: ApproveInputs, context: StepContext) -> GateOutputs:
    from modelmill.registry.approval import answered, needs_answer

    verdict = inputs.verdict
    if not needs_answer(verdict):
        context.log(f"{verdict.name}: there is nothing to approve")
        return GateOutputs(verdict=verdict)
    approved = config.without_airflow == "approve"
    context.log(
        f"{verdict.name}: nobody can be asked outside Airflow, so the challenger is "
        f"{'approved' if approved else 'rejected'} as the step's without_airflow says"
    )
    why = "nobody can be asked outside Airflow (see without_airflow)"
    return GateOutputs(verdict=answered(verdict, approved=approved, who="modelmill run", why=why))


approve = Component(
    name="approve",
    title="Approve",
    group="Release",
    config=ApproveConfig,
    inputs=ApproveInputs,
    outputs=GateOutputs,
    run=_run_approve,
    hands_on="verdict",
)


class GuardConfig(Config):
    """Find champions that did not come through the gate, moves left half-done, and damaged files."""

    names: tuple[str, ...] = Field(
        (), description="Registered models; empty: all that the ledger has rows of."
    )
    on_hand_move: Literal["report", "revert"] = Field(
        "report", description="revert: move an alias that was moved by hand back to the gate's champion."
    )
    verify_files: bool = Field(
        True, description="Download the champions' files and compare them with their digests."
    )
    fail: bool = Field(
        True, description="Fail the step if something was found that a person has to put right."
    )


class GuardInputs(Inputs):
    """None."""


class GuardOutputs(Outputs):
    """A JSON report."""

    report: ReportRef


def _run_guard(config: GuardConfig, _inputs: GuardInputs, context: StepContext) -> GuardOutputs:
    from modelmill.registry.guard import run

    return GuardOutputs(report=run(config, context))


def _never(_outputs: GuardOutputs, _settings: Settings) -> bool:
    return False


guard = Component(
    name="guard",
    title="Guard",
    group="Release",
    config=GuardConfig,
    inputs=GuardInputs,
    outputs=GuardOutputs,
    run=_run_guard,
    still_true=_never,
)


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


class PromoteConfig(Config):
    """Register a challenger that passed the gate and make it the champion; a refused one changes nothing.

    Either way the champion is handed on, and the ledger gets a row.
    """


class PromoteInputs(Inputs):
    """The gate's verdict."""

    verdict: VerdictRef


def _run_promote(_config: PromoteConfig, inputs: PromoteInputs, context: StepContext) -> ModelOutputs:
    from modelmill.registry.promotion import run

    return ModelOutputs(model=run(inputs.verdict, context))


def _still_champion(outputs: ModelOutputs, settings: Settings) -> bool:
    from modelmill.registry.promotion import champion_version

    _, name, version = outputs.model.uri.rsplit("/", 2)
    return champion_version(name, settings) == int(version)


def _promote_assets(_config: PromoteConfig, upstream: Mapping[str, Config]) -> Assets:
    verdict = upstream.get("verdict")
    return (
        Assets(outlets=(f"mlflow-model://{verdict.name}",)) if isinstance(verdict, GateConfig) else Assets()
    )


promote = Component(
    name="promote",
    title="Promote",
    group="Release",
    config=PromoteConfig,
    inputs=PromoteInputs,
    outputs=ModelOutputs,
    run=_run_promote,
    still_true=_still_champion,
    assets=_promote_assets,
)
