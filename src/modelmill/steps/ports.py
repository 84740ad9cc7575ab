"""Ports that several components have."""

from __future__ import annotations

from modelmill.artifacts import (
    ModelRef,
    ReportRef,
    SignalsRef,
    TableRef,
    VerdictRef,
)
from modelmill.component import Inputs, Outputs


class NoInputs(Inputs):
    """Nothing flows in."""


class TableOutputs(Outputs):
    """A Delta table at a version."""

    table: TableRef


class ReportOutputs(Outputs):
    """A JSON report."""

    report: ReportRef


class GateOutputs(Outputs):
    """What the gate says."""

    verdict: VerdictRef


class TrialInputs(Inputs):
    """The table, and the models that signals:NAME in the rule set stands for."""

    table: TableRef
    signals: SignalsRef | None = None


class ModelOutputs(Outputs):
    """A model."""

    model: ModelRef
