"""The functions that an expression may call: their names, operands, results and kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from modelmill.rules.language import kernels
from modelmill.signals.values import Kind

Operand = Literal["text", "number", "time", "constant text", "regular expression", "constant integer"]
"""A constant must be written as a literal, so that it can be checked before anything runs."""


@dataclass(frozen=True)
class Function:
    """A function whose operands and result have fixed kinds."""

    name: str
    operands: tuple[Operand, ...]
    result: Kind
    compute: Callable[..., Any]
    optional: int = 0
    """How many operands at the end may be left out."""

    @property
    def usage(self) -> str:
        """Its signature, such as ``contains(text, constant text)``."""
        needed = self.operands[: len(self.operands) - self.optional]
        extra = "".join(f"[, {operand}]" for operand in self.operands[len(needed) :])
        return f"{self.name}({', '.join(needed)}{extra})"


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        function.name: function
        for function in (
            Function("lower", ("text",), "text", kernels.lower),
            Function("upper", ("text",), "text", kernels.upper),
            Function("trim", ("text",), "text", kernels.trim),
            Function("length", ("text",), "integer", kernels.length),
            Function("contains", ("text", "constant text"), "boolean", kernels.contains),
            Function("starts_with", ("text", "constant text"), "boolean", kernels.starts_with),
            Function("ends_with", ("text", "constant text"), "boolean", kernels.ends_with),
            Function("regexp_like", ("text", "regular expression"), "boolean", kernels.regexp_like),
            Function("regexp_count", ("text", "regular expression"), "integer", kernels.regexp_count),
            Function("abs", ("number",), "float", kernels.absolute),
            Function("floor", ("number",), "float", kernels.floor),
            Function("ceil", ("number",), "float", kernels.ceil),
            Function("year", ("time",), "integer", kernels.year),
            Function("month", ("time",), "integer", kernels.month),
            Function("day", ("time",), "integer", kernels.day),
            Function("hour", ("time",), "integer", kernels.hour),
            Function("weekday", ("time",), "integer", kernels.weekday),
            Function("seconds_between", ("time", "time"), "float", kernels.seconds_between),
            Function("days_between", ("time", "time"), "float", kernels.days_between),
            Function("round", ("number", "constant integer"), "float", kernels.rounded, optional=1),
        )
    }
)
"""By name, in lower case."""

POLYMORPHIC = ("coalesce", "nullif")
"""Further functions, whose result has the kind of their operands."""
