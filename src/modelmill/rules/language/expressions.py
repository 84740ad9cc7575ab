"""SQL expressions over the columns of one row: parsed, checked against a schema, compiled for Arrow.

``docs/rules.md`` describes the language. It is a subset of SQL with SQL's three-valued logic and without
subqueries, aggregates, clock and randomness: the value of a row depends on nothing but the row. All mistakes
of an expression are reported at once, with their positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelmill.errors import ExpressionError, Problem
from modelmill.rules.language import calls, operators  # noqa: F401 (importing them registers the nodes)
from modelmill.rules.language.compiler import SHOWN, Compiler
from modelmill.rules.language.names import Names
from modelmill.rules.language.parsing import Mistake, parse
from modelmill.rules.language.program import Program, Result, Steps
from modelmill.signals.values import OPAQUE, Kind, common_kind

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlglot import exp


def compile_expressions(
    texts: Mapping[str, str], schema: pa.Schema, *, kind: Kind | None = None, what: str = "expressions"
) -> Program:
    """Check expressions against a schema, and compile them to one program.

    :param texts: the expressions by name.
    :param schema: the columns that they may read.
    :param kind: kind that each of them must have, such as ``boolean``; None for any.
    :param what: what to call them in messages, such as ``labelling functions``.
    :return: the program.
    :raises ExpressionError: if there are mistakes; all mistakes of all expressions are listed.
    """
    names, steps = Names(schema), Steps()
    results: dict[str, Result] = {}
    problems: list[Problem] = []
    for name, text in texts.items():
        tree = parse(text)
        compiled = [tree] if isinstance(tree, Mistake) else compile_tree(tree, names, steps, wanted=kind)
        if isinstance(compiled, Result):
            results[name] = Result(text, compiled.kind, compiled.columns, compiled.step)
        else:
            problems += [Problem(*one.position(text), name, one.message) for one in compiled]
    if problems:
        raise ExpressionError(problems, texts=texts, what=what)
    return Program(tuple(steps.steps), results, tuple(steps.columns))


def compile_tree(
    tree: exp.Expr, names: Names, steps: Steps, *, wanted: Kind | None
) -> Result | list[Mistake]:
    """Check a parsed expression, and add its steps to those of a program.

    :param tree: the tree that :func:`~modelmill.rules.language.parsing.parse` returned.
    :param names: the names that it may use.
    :param steps: the steps of the program.
    :param wanted: kind that the expression must have; None for any.
    :return: the result (without its text), or all mistakes.
    """
    compiler = Compiler(names, steps)
    typed = compiler.compile(tree)
    if typed is not None and wanted is not None:
        if common_kind([typed.kind, wanted]) in (wanted, "null"):
            typed = compiler.converted(typed, wanted)
        else:
            remedy = "; compare it with something, such as n > 0" if wanted == "boolean" else ""
            remedy = f"; {compiler.names.opaque}" if typed.kind in OPAQUE else remedy
            compiler.report(tree, f"the expression must be {SHOWN[wanted]}; got {SHOWN[typed.kind]}{remedy}")
    if compiler.mistakes or typed is None:
        return compiler.mistakes
    return Result("", typed.kind, steps.columns_of(typed.step), typed.step)
