"""SQL expressions over the columns of one row: parsed, checked against a schema, compiled for Arrow.

The language is the subset of SQL that ``docs/rules.md`` describes. It has SQL's three-valued logic, no
subqueries, no aggregates, no clock and no randomness: the same row gives the same value, alone and in any
batch. Everything that is wrong is reported at once, with its position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelmill.errors import ExpressionError, Problem
from modelmill.rules.language.compiler import Names
from modelmill.rules.language.nodes import compile_tree
from modelmill.rules.language.parsing import Finding, parse
from modelmill.rules.language.program import Program, Result, Steps
from modelmill.signals.values import Kind

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Kind", "Program", "compile_expressions"]


def compile_expressions(
    texts: Mapping[str, str], schema: pa.Schema, *, kind: Kind | None = None, what: str = "expressions"
) -> Program:
    """Check expressions against a schema, and make one program of them.

    :param texts: the expressions by name.
    :param schema: the columns that they may read.
    :param kind: kind that each of them must have, such as ``boolean``; None: any.
    :param what: what they are, for the message, such as ``labelling functions``.
    :return: the program.
    :raises ExpressionError: if one of them breaks a rule; all problems of all of them are listed.
    """
    names, steps = Names(schema), Steps()
    results: dict[str, Result] = {}
    problems: list[Problem] = []
    for name, text in texts.items():
        tree = parse(text)
        compiled = tree if isinstance(tree, Finding) else compile_tree(tree, names, steps, wanted=kind)
        if isinstance(compiled, Result):
            results[name] = Result(text, compiled.kind, compiled.columns, compiled.step)
            continue
        findings = [compiled] if isinstance(compiled, Finding) else compiled
        problems += [Problem(*place(text, finding), name, finding.message) for finding in findings]
    if problems:
        raise ExpressionError(problems, texts=texts, what=what)
    return Program(tuple(steps.steps), results, tuple(steps.columns))


def place(text: str, finding: Finding) -> tuple[int, int]:
    """Return where a finding is.

    :param text: the expression.
    :param finding: what is wrong in it.
    :return: line and column, from 1.
    """
    before = text[: finding.offset]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
