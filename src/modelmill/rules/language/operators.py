"""How literals, names, operators and ``CASE`` are compiled."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from sqlglot import exp

from modelmill.rules.language import kernels
from modelmill.rules.language.compiler import NODES, Compiler, NodeSpec, node
from modelmill.rules.language.names import Refused, Typed
from modelmill.rules.language.program import Step
from modelmill.signals.values import NUMBERS, STORED, column_kind

_LEAST, _MOST = -(2**63), 2**63 - 1
"""The range of whole numbers."""


@node(exp.Paren, children=("this",))
def _paren(_compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    return operands[0]


@node(exp.Literal, options=("this", "is_string"))
def _literal(compiler: Compiler, node: exp.Literal, _operands: list[Typed]) -> Typed:
    text = str(node.this)
    if node.is_string:
        return compiler.literal(text, "text")
    if text.isdecimal() and len(text) <= 30:
        return _whole_number(compiler, int(text))
    try:
        number = float(text)
    except ValueError as error:
        raise Refused(f"a number is written as 12, 1.5 or 2e6; got {text[:20]!r}") from error
    if number in (float("inf"), float("-inf")):
        raise Refused(f"a number must be below 1.8e308; got {text[:20]}")
    return compiler.literal(number, "float")


def _whole_number(compiler: Compiler, number: int) -> Typed:
    if _LEAST <= number <= _MOST:
        return compiler.literal(number, "integer")
    # A double for all but comparisons, which know it exactly.
    return dataclasses.replace(compiler.literal(float(number), "float"), constant=number)


@node(exp.Boolean, options=("this",))
def _boolean(compiler: Compiler, node: exp.Boolean, _operands: list[Typed]) -> Typed:
    return compiler.literal(bool(node.this), "boolean")


@node(exp.Null)
def _null(compiler: Compiler, _node: exp.Null, _operands: list[Typed]) -> Typed:
    return compiler.literal(None, "null")


@node(exp.Cast, options=("this", "to", "_type"))
def _time_literal(compiler: Compiler, node: exp.Cast, _operands: list[Typed]) -> Typed:
    text, target = node.this, node.to.this
    known = (exp.DataType.Type.DATE, exp.DataType.Type.TIMESTAMP)
    if not isinstance(text, exp.Literal) or not text.is_string or target not in known:
        raise Refused("there are no casts, only DATE '2026-01-31' and TIMESTAMP '2026-01-31 12:00:00'")
    try:
        moment = datetime.fromisoformat(str(text.this))
    except ValueError as error:
        raise Refused(f"a time is written as 2026-01-31 or 2026-01-31 12:00:00; got {text.this!r}") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return compiler.literal(moment, "time")


@node(exp.Column, options=("this",))
def _column(compiler: Compiler, node: exp.Column, _operands: list[Typed]) -> Typed:
    names = compiler.names
    name = names.find(str(node.name), exactly=bool(node.this.quoted))
    if name in names.computed:
        return names.computed[name]
    arrow = names.fields[name]
    kind = column_kind(arrow)
    if kind is None:
        raise Refused(f"a {names.noun} must have a simple type; got {name!r} of type {arrow}")
    return Typed(kind, compiler.steps.column(name, kind))


@node(exp.And, children=("this", "expression"))
def _and(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    return compiler.call("boolean", kernels.conjunction, compiler.all_of(operands, "boolean", "AND"))


@node(exp.Or, children=("this", "expression"))
def _or(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    return compiler.call("boolean", kernels.disjunction, compiler.all_of(operands, "boolean", "OR"))


@node(exp.Not, children=("this",))
def _not(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    return compiler.call("boolean", kernels.negation, compiler.all_of(operands, "boolean", "NOT"))


_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def _is_bound(value: Typed, literal: Typed) -> bool:
    """Return whether a whole number is compared with a written one, itself whole but held as a double."""
    return (
        value.kind == "integer"
        and literal.literal
        and literal.kind == "float"
        and literal.constant is not None
        and literal.constant == math.trunc(literal.constant)
    )


def _compared(compiler: Compiler, operands: Sequence[Typed], operator: str) -> Typed:
    first, second = operands
    if _is_bound(second, first):
        return _compared(compiler, [second, first], _MIRRORED[operator])
    if _is_bound(first, second):
        if not _LEAST <= second.constant <= _MOST:  # the answer is the same for all whole numbers
            above = second.constant > _MOST
            true = operator == "<>" or operator.startswith("<" if above else ">")
            least = compiler.literal(_LEAST, "integer")
            return compiler.call("boolean", kernels.compare, [first, least], operator=">=" if true else "<")
        operands = [first, compiler.literal(int(second.constant), "integer")]
    kind, values = compiler.comparable(operands, operator)
    if kind == "boolean" and operator not in ("=", "<>"):
        raise Refused(f"conditions have no order; got {operator}; write = or <>")
    return compiler.call("boolean", kernels.compare, values, operator=operator)


@node(*_COMPARISONS, children=("this", "expression"))
def _comparison(compiler: Compiler, node: Any, operands: list[Typed]) -> Typed:
    return _compared(compiler, operands, _COMPARISONS[type(node)])


@node(exp.NullSafeEQ, exp.NullSafeNEQ, children=("this", "expression"))
def _distinct(compiler: Compiler, node: Any, operands: list[Typed]) -> Typed:
    first, second = operands
    if _is_bound(first, second) or _is_bound(second, first):
        # A number that is written is not NULL.
        equal = _compared(compiler, [first, second], "=")
        same = compiler.call("boolean", kernels.is_true, [equal])
    else:
        _, values = compiler.comparable(operands, "IS DISTINCT FROM")
        same = compiler.call("boolean", kernels.same, values)
    return same if isinstance(node, exp.NullSafeEQ) else compiler.call("boolean", kernels.negation, [same])


@node(exp.Between, children=("this", "low", "high"))
def _between(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    value, low, high = operands
    bounds = [_compared(compiler, [value, low], ">="), _compared(compiler, [value, high], "<=")]
    return compiler.call("boolean", kernels.conjunction, bounds)


@node(exp.In, children=("this", "expressions"))
def _in(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    kind, (value, *members) = compiler.comparable(operands, "IN")
    if operands[0].literal or not all(member.literal for member in members):
        found = [_compared(compiler, [operands[0], member], "=") for member in operands[1:]]
        return functools.reduce(
            lambda one, other: compiler.call("boolean", kernels.disjunction, [one, other]), found
        )
    constants = tuple(member.constant for member in members if member.constant is not None)
    or_null = len(constants) < len(members)
    if kind == "float":
        constants = tuple(float(one) + 0.0 for one in constants)  # Arrow compares bits: -0.0 becomes 0.0
    if operands[0].kind == "integer":
        kind, value = "integer", operands[0]
        known = [member.constant for member in operands[1:] if member.constant is not None]
        constants = tuple(int(one) for one in known if one == math.trunc(one) and _LEAST <= one <= _MOST)
    lookup = functools.partial(kernels.member, members=pa.array(constants, STORED[kind]), or_null=or_null)
    key = (kernels.member, kind, constants, or_null)
    step = Step(lookup, (value.step,), "boolean", kernel=kernels.member, members=lookup.keywords["members"])
    return Typed("boolean", compiler.steps.add(key, step))


@node(exp.Is, children=("this",), options=("expression",))
def _is(compiler: Compiler, node: exp.Is, operands: list[Typed]) -> Typed:
    wanted = node.expression
    if isinstance(wanted, exp.Null):
        return compiler.call("boolean", kernels.is_null, operands)
    if not isinstance(wanted, exp.Boolean):
        raise Refused("IS is followed by NULL, TRUE, FALSE or DISTINCT FROM; compare values with =")
    (value,) = compiler.all_of(operands, "boolean", "IS")
    if not wanted.this:
        value = compiler.call("boolean", kernels.negation, [value])
    return compiler.call("boolean", kernels.is_true, [value])


_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}


@node(*_ARITHMETIC, children=("this", "expression"), options=("typed", "safe"))
def _arithmetic(compiler: Compiler, node: Any, operands: list[Typed]) -> Typed:
    operator = _ARITHMETIC[type(node)]
    values = compiler.all_of(operands, "float", operator)
    return compiler.call("float", kernels.arithmetic, values, operator=operator)


@node(exp.Neg, children=("this",))
def _neg(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    (value,) = operands
    if value.literal and value.kind in NUMBERS:
        if isinstance(value.constant, int):
            return _whole_number(compiler, -value.constant)
        return compiler.literal(-value.constant, value.kind)
    return compiler.call("float", kernels.negate, compiler.all_of(operands, "float", "-"))


@node(exp.DPipe, children=("this", "expression"), options=("safe",))
def _pipe(compiler: Compiler, _node: Any, operands: list[Typed]) -> Typed:
    return compiler.call("text", kernels.concatenate, compiler.all_of(operands, "text", "||"))


def _case(compiler: Compiler, node: exp.Case, operands: list[Typed]) -> Typed:
    subject, default = node.args.get("this") is not None, node.args.get("default") is not None
    rest = operands[1:] if subject else operands
    otherwise = rest.pop() if default else compiler.literal(None, "null")
    conditions, values = rest[0::2], rest[1::2]
    if subject:
        conditions = [_compared(compiler, [operands[0], one], "=") for one in conditions]
    else:
        conditions = compiler.all_of(conditions, "boolean", "WHEN")
    kind, unified = compiler.unified([*values, otherwise], "CASE")
    if kind == "null":
        return otherwise
    flat = [part for pair in zip(conditions, unified[:-1], strict=True) for part in pair]
    return compiler.call(kind, kernels.choose, [*flat, unified[-1]])


def _case_children(node: exp.Case) -> list[Any]:
    found = [node.this] if node.args.get("this") is not None else []
    for branch in node.args["ifs"]:
        found += [branch.this, branch.args["true"]]
    return found + ([node.args["default"]] if node.args.get("default") is not None else [])


NODES[exp.Case] = NodeSpec(_case, _case_children, frozenset({"this", "ifs", "default"}))
