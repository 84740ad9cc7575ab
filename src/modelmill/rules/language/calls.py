"""How function calls and text patterns (``LIKE``, ``RLIKE``) are compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from sqlglot import exp

from modelmill.rules.language import kernels
from modelmill.rules.language.compiler import Compiler, node
from modelmill.rules.language.functions import FUNCTIONS, POLYMORPHIC, Function, Operand
from modelmill.rules.language.names import Refused, Typed
from modelmill.rules.language.program import Step
from modelmill.signals.values import Kind


@node(exp.Like, exp.ILike, children=("this", "expression"), options=("negate",))
def _like(compiler: Compiler, node: Any, operands: list[Typed]) -> Typed:
    value, pattern = compiler.all_of(operands, "text", node.key.upper())
    text = _constant_text(pattern, node.key.upper())
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise Refused(
            f"the pattern of {node.key.upper()} must not end in an escape; got {text[-20:]!r}; "
            "write two backslashes for one"
        )
    ignore_case = isinstance(node, exp.ILike)
    found = compiler.call("boolean", kernels.like, [value], pattern=text, ignore_case=ignore_case)
    return compiler.call("boolean", kernels.negation, [found]) if node.args.get("negate") else found


@node(exp.RegexpLike, children=("this", "expression"), options=("negate",))
def _rlike(compiler: Compiler, node: Any, operands: list[Typed]) -> Typed:
    found = _called(compiler, FUNCTIONS["regexp_like"], operands)
    return compiler.call("boolean", kernels.negation, [found]) if node.args.get("negate") else found


@node(exp.Anonymous, children=("expressions",), options=("this",))
def _function(compiler: Compiler, node: exp.Anonymous, operands: list[Typed]) -> Typed:
    name = node.name.lower()
    if name in POLYMORPHIC:
        if len(operands) < 1 or (name == "nullif" and len(operands) != 2):
            raise Refused(f"{name} takes {'two values' if name == 'nullif' else 'one value or more'}")
        kind, values = compiler.unified(operands, name)
        if kind == "null":
            return operands[0]
        return compiler.call(kind, kernels.null_if if name == "nullif" else kernels.coalesce, values)
    return _called(compiler, FUNCTIONS[name], operands)


_KINDS: dict[Operand, Kind] = {"text": "text", "number": "float", "time": "time"}


def _called(compiler: Compiler, function: Function, operands: list[Typed]) -> Typed:
    most = len(function.operands)
    if not most - function.optional <= len(operands) <= most:
        raise Refused(f"call it as {function.usage}; got {len(operands)} operands")
    values: list[Typed] = []
    constants: list[Any] = []
    for operand, wanted in zip(operands, function.operands, strict=False):
        if wanted in _KINDS:
            kind = _KINDS[wanted]
            values += compiler.all_of([operand], kind, function.name)
        else:
            constants.append(_constant(operand, wanted, function.name))
    compute = (
        functools.partial(_with_constants, compute=function.compute, constants=tuple(constants))
        if constants
        else function.compute
    )
    key = (function.name, tuple(constants))
    numbers = tuple(value.step for value in values)
    step = Step(compute, numbers, function.result, kernel=function.compute)
    return Typed(function.result, compiler.steps.add(key, step))


def _with_constants(*values: Any, compute: Callable[..., Any], constants: tuple[Any, ...]) -> Any:
    return compute(*values, *constants)


def _constant(operand: Typed, wanted: Operand, what: str) -> Any:
    if wanted == "constant integer":
        if not operand.literal or operand.kind != "integer" or abs(operand.constant) > 15:
            raise Refused(f"{what} takes a number of digits from -15 to 15, written as a number")
        return operand.constant
    text = _constant_text(operand, what)
    if wanted == "regular expression":
        _check_pattern(text)
    return text


def _constant_text(operand: Typed, what: str) -> str:
    if not operand.literal or not isinstance(operand.constant, str):
        raise Refused(f"the pattern of {what} must be a text in quotes")
    return operand.constant


def _check_pattern(pattern: str) -> None:
    try:
        kernels.regexp_like(pa.array([""], pa.large_string()), pattern)
    except pa.ArrowInvalid as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise Refused(
            f"a pattern must be a regular expression of RE2 ({reason[:100]}); got {pattern[:60]!r}"
        ) from error
