"""What a kind of signal is, declared once: its configuration, the columns it reads, and what computes it.

Every :class:`SignalKind` at the top level of one of modelmill's own modules, or of a module that another
distribution names in the entry point group ``modelmill.signals``, can be used in rule sets: see
:mod:`modelmill.signals.registry`. Validation, planning, explanations and the canvas read the declaration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import pyarrow as pa
from pydantic import Field

from modelmill.errors import SignalError, did_you_mean
from modelmill.options import Options
from modelmill.signals.groups import SignalContext, SignalGroup
from modelmill.signals.values import Kind, column_kind

ColumnName = Annotated[
    str, Field(min_length=1, description="Column of the input table.", json_schema_extra={"format": "column"})
]


class Signal(Options):
    """Base of a signal's configuration. A subclass has a field ``kind``, a ``Literal``: its name in YAML."""

    description: str = Field("", description="What the signal says, for people.")
    kind: str


SignalT = TypeVar("SignalT", bound=Signal)


@dataclass(frozen=True)
class Operand:
    """A column that a signal reads."""

    column: str
    kinds: tuple[Kind, ...] = ()
    """Kinds of column that will do; empty: any. A column without a type, all of it NULL, always does."""

    def check(self, signal: str, schema: pa.Schema) -> None:
        """Check that the input has the column.

        :param signal: the name of the signal that reads it.
        :param schema: columns of the input.
        :raises SignalError: if it has no such column, or one of another kind.
        """
        count = len(schema.get_all_field_indices(self.column))
        if count != 1:
            raise SignalError(
                f"the column of signal {signal!r} must be in the input{', once' if count else ''}",
                got=self.column,
                remedy="rename one of them" if count else did_you_mean(self.column, schema.names),
            )
        arrow = schema.field(self.column).type
        kind = column_kind(arrow)
        if kind is None:
            raise SignalError(
                f"the column of signal {signal!r} must have a simple type",
                got=f"{self.column}: {arrow}",
                remedy="signals read booleans, numbers, texts, times, bytes, and lists of texts or of "
                "numbers; cast it when the table is made",
            )
        if self.kinds and kind not in (*self.kinds, "null"):
            raise SignalError(
                f"the column of signal {signal!r} must be of kind {' or '.join(self.kinds)}",
                got=f"{self.column}: {arrow}",
                remedy="name another column, or cast it when the table is made",
            )


def _no_models(_signal: Signal) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class SignalKind(Generic[SignalT]):
    """A kind of signal."""

    title: str
    """What the canvas calls it."""
    config: type[SignalT]
    """Its docstring says what the kind is; the canvas makes a form of its JSON schema."""
    operands: Callable[[str, SignalT], Sequence[Operand]]
    """The columns that a signal reads, from its name and configuration."""
    result: Callable[[str, SignalT, pa.Schema | None], Kind | None]
    """The kind of a signal's values, from its name, its configuration and the input's columns (None: not
    known yet). None if it cannot be said: then only names are checked in expressions that read the signal."""
    groups: Callable[[Mapping[str, SignalT], SignalContext], Sequence[SignalGroup]]
    """Makes the groups of all signals of the kind, each signal in one group. Kinds that share the function
    are computed together: it gets the signals of all of them. Raises ``SignalError`` for what the rule set
    says wrongly, such as a bad pattern. What may fail without a fault of the rule set, such as a model
    version that has disappeared, fails in ``Evaluation.compute``: there ``on_failure`` says what becomes of
    it."""
    models: Callable[[SignalT], Sequence[str]] = _no_models
    """Names of the models that a signal asks. They are looked up once for each run: what ``groups`` finds in
    :attr:`SignalContext.pins`."""

    @property
    def name(self) -> str:
        """What it is called in YAML."""
        return str(self.config.model_fields["kind"].default)

    @property
    def help(self) -> str:
        """First paragraph of the configuration's docstring."""
        return (self.config.__doc__ or "").strip().split("\n\n")[0]


AnySignalKind = SignalKind[Any]
