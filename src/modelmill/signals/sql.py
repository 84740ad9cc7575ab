"""Signals that are expressions over other signals: the rules compute them themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pyarrow as pa
from pydantic import Field

from modelmill.signals.groups import SignalContext, SignalGroup
from modelmill.signals.kinds import Operand, Signal, SignalKind
from modelmill.signals.values import Kind


class SqlSignal(Signal):
    """An expression over other signals."""

    kind: Literal["sql"] = "sql"
    expression: str = Field(
        min_length=1,
        description="SQL over other signals; see the language of rules.",
        json_schema_extra={"format": "sql"},
    )


def _no_operands(_name: str, _signal: SqlSignal) -> tuple[Operand, ...]:
    return ()


def _no_groups(_signals: Mapping[str, SqlSignal], _context: SignalContext) -> tuple[SignalGroup, ...]:
    return ()  # the rules compute them, together with their conditions


def _result(_name: str, _signal: SqlSignal, _schema: pa.Schema | None) -> Kind | None:
    return None  # the rules check the expression, and know then


sql = SignalKind(
    title="Expression", config=SqlSignal, operands=_no_operands, result=_result, groups=_no_groups
)
