"""The names that an expression may use, and the compiled values that they stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.errors import did_you_mean
from modelmill.signals.values import Kind

if TYPE_CHECKING:
    import pyarrow as pa


class Refused(Exception):  # noqa: N818 (never leaves this package)
    """A node is not valid; the message says why."""


class UnknownName(Refused):
    """A node is a name that does not exist."""


@dataclass(frozen=True)
class Typed:
    """A compiled node: the step with its value, and the kind of that value."""

    kind: Kind
    step: int
    constant: Any = None
    """Value of a literal; None for NULL and for everything that is not a literal."""
    literal: bool = False


class Names:
    """The names that an expression may use: columns of a schema, and values that are computed before.

    :param schema: the columns.
    :param noun: what to call them in messages.
    :param computed: compiled values by name; no column has the same name.
    """

    def __init__(
        self, schema: pa.Schema, *, noun: str = "column", computed: Mapping[str, Typed] | None = None
    ) -> None:
        self.noun = noun
        self.opaque = "an expression can only test whether it is NULL; " + (
            "read its column with a signal of another kind, such as a measure"
            if noun == "signal"
            else "compute what you need of it into a column when the table is made"
        )
        """Remark for messages about a value that expressions cannot look into."""
        self.fields = {field.name: field.type for field in schema}
        self.computed = computed or {}
        self.all = [*self.fields, *self.computed]
        self.twice = {name for name, count in Counter(schema.names).items() if count > 1}
        self._alike: dict[str, list[str]] = {}
        for name in self.all:
            self._alike.setdefault(name.lower(), []).append(name)

    def find(self, name: str, *, exactly: bool) -> str:
        """Return the column or value that a name in an expression refers to.

        :param name: the name as written.
        :param exactly: whether upper and lower case must match.
        :return: the name as defined.
        :raises Refused: if it does not exist, or is ambiguous.
        """
        if name not in self.fields and name not in self.computed:
            alike = self._alike.get(name.lower(), [])
            if len(alike) != 1 or exactly:
                raise UnknownName(f"a {self.noun} must exist; got {name!r}; {did_you_mean(name, self.all)}")
            name = alike[0]
        if name in self.twice:
            raise Refused(f"a {self.noun}'s name must stand once in the table; got {name!r}")
        return name
