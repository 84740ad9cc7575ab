"""Rule sets on data frames, for notebooks and scripts: no table, no step, no MLflow.

rule_set = load_rule_set("rules.yaml")
decisions = decide(rule_set, frame)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import pyarrow as pa

from modelmill.rules.engine import Engine
from modelmill.rules.pinned_rule_set import PinnedRuleSet
from modelmill.rules.planning.cost_measurement import SAMPLE_ROWS, sample_rows
from modelmill.rules.reading import load_rule_set
from modelmill.rules.rule_set import RuleSet
from modelmill.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["decide", "load_rule_set"]


@overload
def decide(
    rule_set: RuleSet | PinnedRuleSet,
    frame: pd.DataFrame,
    *,
    explain: bool = True,
    settings: Settings | None = None,
) -> pd.DataFrame: ...


@overload
def decide(
    rule_set: RuleSet | PinnedRuleSet,
    frame: pa.Table,
    *,
    explain: bool = True,
    settings: Settings | None = None,
) -> pa.Table: ...


def decide(
    rule_set: RuleSet | PinnedRuleSet,
    frame: pd.DataFrame | pa.Table,
    *,
    explain: bool = True,
    settings: Settings | None = None,
) -> pd.DataFrame | pa.Table:
    """Decide on every row of a data frame.

    :param rule_set: the rule set; models that it reads are looked up in MLflow, or loaded from their folders.
    :param frame: rows with the columns that the rule set reads, its key among them.
    :param explain: whether there is a column ``explanation``:
        :func:`~modelmill.rules.explanation.rendering.explanation_text` shows it as text.
    :param settings: where MLflow and the caches are; None for the environment's.
    :return: one row for each, in their order and with their index, in the type of ``frame``: the key,
        ``decision``, ``rule``, ``severity``, ``reason``, ``because`` and ``rule_set``.
    :raises RuleSetError: if the rule set is not valid for these columns; all mistakes are listed.
    :raises SignalError: if a signal cannot be made of the columns.
    :raises TableError: if the key is not among the columns.
    """
    table = frame if isinstance(frame, pa.Table) else pa.Table.from_pandas(frame, preserve_index=False)
    batch = one_batch(table)
    if isinstance(rule_set, PinnedRuleSet):
        engine = rule_set.engine(batch.schema, settings)
    else:
        engine = Engine(rule_set, batch.schema, settings=settings)
    if batch.num_rows > SAMPLE_ROWS:
        engine.use(engine.measure_plan(sample_rows(batch)))
    found = pa.Table.from_batches([engine.decide(batch, explain=explain)])
    return found if isinstance(frame, pa.Table) else found.to_pandas().set_index(frame.index)


def one_batch(rows: pa.Table) -> pa.RecordBatch:
    """Return the rows of a table as one batch."""
    batches = rows.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema)
