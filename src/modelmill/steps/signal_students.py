"""Make cheap static students of the models of a rule set."""

from __future__ import annotations

from pydantic import Field

from modelmill.artifacts import SignalsRef
from modelmill.component import Component, Config, Outputs, StepContext
from modelmill.settings import Settings
from modelmill.signals import EXTENSIONS
from modelmill.steps.ports import TrialInputs
from modelmill.system.resources import Resources


class SignalStudentsConfig(Config):
    """Make a static student of each model signal of a rule set: what tier_rules asks first."""

    rule_set: str = Field(min_length=1, description="Path or URL of the rule set, or models:/NAME@ALIAS.")
    signals: tuple[str, ...] = Field(
        (), description="Signals that get one; empty: all that the rules compare with thresholds alone."
    )
    rows: int = Field(100_000, ge=1, description="Rows that teach, from all over the table.")
    penalty: float = Field(
        0.2, gt=0, description="Weight of the squared norm of what a student learns, in units of one row."
    )


class SignalStudentsOutputs(Outputs):
    """A student by the signal's name."""

    signals: SignalsRef


def run(config: SignalStudentsConfig, inputs: TrialInputs, context: StepContext) -> SignalStudentsOutputs:
    """Fit a static student of each model signal, and log them."""
    import shutil

    from modelmill.registry.bundles import Draft, log_models
    from modelmill.registry.signal_models import log_signals
    from modelmill.rules.cascade.static_students import fit_students
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set
    from modelmill.rules.lifecycle.table_sample import sample_table
    from modelmill.rules.pinned_rule_set import pin_rule_set, pin_step_models
    from modelmill.tables.reading import check_columns

    rule_set = open_rule_set(config.rule_set, context.settings)
    rows = sample_table(inputs.table, rows=config.rows)
    check_columns(rows.schema.names, [rule_set.key], place="the input")
    models = pin_step_models(inputs.signals, context.cache)
    pinned = pin_rule_set(rule_set, context.settings, models=models)
    root = context.workdir / "students"
    shutil.rmtree(root, ignore_errors=True)
    context.log(f"the models read {rows.num_rows:,} rows")
    folders = fit_students(
        pinned, rows, root, signals=config.signals, penalty=config.penalty, log=context.log
    )
    context.log(f"{len(folders)} students: {', '.join(folders)}")
    context.run.log_dataset(inputs.table, context="training", rows=rows.num_rows)
    found = log_models([Draft(folder) for folder in folders.values()], role="student", context=context)
    signals = log_signals(dict(zip(folders, found, strict=True)), context)
    return SignalStudentsOutputs(signals=signals)


def _outside_state(config: SignalStudentsConfig, _inputs: TrialInputs, settings: Settings) -> str:
    from modelmill.rules.lifecycle.registered_rule_sets import rule_set_state

    return rule_set_state(config.rule_set, settings)


signal_students = Component(
    name="signal_students",
    title="Students of signals",
    group="Compress",
    config=SignalStudentsConfig,
    inputs=TrialInputs,
    outputs=SignalStudentsOutputs,
    run=run,
    extensions=EXTENSIONS,
    outside_state=_outside_state,
    resources=Resources(cpus=2, memory_gb=8),
)
