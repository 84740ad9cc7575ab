"""Ports that several components have."""

from __future__ import annotations

from modelmill.artifacts import (
    DatasetRef,
    ModelRef,
    ReportRef,
    SignalsRef,
    TableRef,
    VerdictRef,
)
from modelmill.component import Inputs, Outputs
from modelmill.errors import InputError
from modelmill.settings import Settings


class NoInputs(Inputs):
    """Nothing flows in."""


class TableOutputs(Outputs):
    """A Delta table at a version."""

    table: TableRef


def tables_exist(outputs: Outputs, _settings: Settings) -> bool:
    """Return whether every table that a step made is still there, at its version.

    :param outputs: the step's outputs; those that are no tables do not count.
    :param _settings: not needed: a reference names its table.
    :return: False if one is gone.
    """
    from modelmill.tables.opening import open_table

    for name in type(outputs).model_fields:
        reference = getattr(outputs, name)
        if isinstance(reference, TableRef | DatasetRef):
            try:
                open_table(reference.uri, version=reference.version)
            except InputError:
                return False
    return True


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
