"""Compiles the tree of an expression to the steps of a program, and collects every mistake on the way.

The tree is walked without recursion, children first. A node with a mistake below it is not checked itself,
so that one mistake is reported once. A kind of node, or an option of one, that is not registered in
:data:`NODES` is not part of the language and is refused, whatever sqlglot understands by it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from modelmill.errors import did_you_mean
from modelmill.rules.language import kernels
from modelmill.rules.language.functions import FUNCTIONS, POLYMORPHIC
from modelmill.rules.language.names import Names, Refused, Typed, UnknownName
from modelmill.rules.language.parsing import Mistake
from modelmill.rules.language.program import Step, Steps
from modelmill.signals.values import NUMBERS, OPAQUE, Kind, common_kind

MAX_MISTAKES = 20
"""Mistakes of one expression that are listed."""

SHOWN: dict[Kind, str] = {
    "boolean": "a condition",
    "integer": "a number",
    "float": "a number",
    "text": "text",
    "time": "a time",
    "bytes": "bytes",
    "texts": "a list of texts",
    "numbers": "a list of numbers",
    "null": "NULL",
}


Build = Callable[["Compiler", Any, list[Typed]], Typed]


@dataclass(frozen=True)
class NodeSpec:
    """How one kind of node is compiled."""

    build: Build
    """Compiles the node, given its compiled children."""
    children: Callable[[Any], list[Any]]
    """Returns the nodes below that are values."""
    options: frozenset[str]
    """Arguments of the sqlglot node that may be set."""


NODES: dict[type[exp.Expr], NodeSpec] = {}
"""Every kind of node of the language, registered by :mod:`.operators` and :mod:`.calls`."""


def node(
    *nodes: type[exp.Expr], children: Sequence[str] = (), options: Sequence[str] = ()
) -> Callable[[Build], Build]:
    """Register the decorated function as the compiler of some kinds of node.

    :param *nodes: the kinds, types of sqlglot.
    :param children: arguments of the sqlglot node that hold the values it is made of.
    :param options: other arguments that may be set.
    :return: a decorator.
    """

    def register(build: Build) -> Build:
        allowed = frozenset({*children, *options})
        for kind in nodes:
            NODES[kind] = NodeSpec(build, functools.partial(_named_children, names=children), allowed)
        return build

    return register


def _named_children(node: exp.Expr, names: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for name in names:
        value = node.args.get(name)
        found += value if isinstance(value, list) else [] if value is None else [value]
    return found


class Compiler:
    """Compiles one tree.

    :param names: the names that it may use.
    :param steps: the steps of the program, to which those of the tree are added.
    """

    def __init__(self, names: Names, steps: Steps) -> None:
        self.names = names
        self.steps = steps
        self.mistakes: list[Mistake] = []

    def compile(self, tree: exp.Expr) -> Typed | None:
        """Compile a tree, children first; None if there is a mistake."""
        done: dict[int, Typed | None] = {}
        stack: list[tuple[Any, list[Any] | None]] = [(tree, None)]
        while stack and len(self.mistakes) < MAX_MISTAKES:
            node, children = stack.pop()
            if children is None:
                children = self._children(node)
                if children is None:
                    done[id(node)] = None
                    continue
                stack.append((node, children))
                stack += [(child, None) for child in reversed(children)]
                continue
            operands = [done.pop(id(child)) for child in children]
            known = [operand for operand in operands if operand is not None]
            done[id(node)] = self._build(node, known) if len(known) == len(operands) else None
        return done.get(id(tree))

    def _children(self, node: Any) -> list[Any] | None:
        """Return the nodes to compile before this one; None if the node is not part of the language."""
        found = NODES.get(type(node))
        if found is None:
            self.report(node, _foreign(node))
            return None
        options = [name for name, value in node.args.items() if value and name not in found.options]
        if options:
            self.report(node, _foreign(node, options[0]))
            return None
        if isinstance(node, exp.Anonymous) and node.name.lower() not in (*FUNCTIONS, *POLYMORPHIC):
            choices = did_you_mean(node.name.lower(), [*FUNCTIONS, *POLYMORPHIC])
            self.report(node, f"a function must be on the list; got {node.name!r}; {choices}")
            return None
        return found.children(node)

    def _build(self, node: Any, operands: list[Typed]) -> Typed | None:
        if not isinstance(node, exp.Paren | exp.Is):
            for child, operand in zip(NODES[type(node)].children(node), operands, strict=True):
                if operand.kind in OPAQUE:
                    self.report(child, f"{child.sql()[:60]} is {SHOWN[operand.kind]}: {self.names.opaque}")
                    return None
        try:
            return NODES[type(node)].build(self, node, operands)
        except Refused as refusal:
            self.report(node, str(refusal), unknown_name=isinstance(refusal, UnknownName))
            return None

    def report(self, node: Any, message: str, *, unknown_name: bool = False) -> None:
        """Add a mistake to the list, with the position of the node."""
        starts = (part.meta.get("start") for part in node.walk() if part.meta)
        offset = min((start for start in starts if start is not None), default=0)
        self.mistakes.append(Mistake(offset, message, unknown_name))

    def call(
        self, result: Kind, compute: Callable[..., Any], operands: Sequence[Typed], **options: Any
    ) -> Typed:
        """Add a step that calls a kernel."""
        made = functools.partial(compute, **options) if options else compute
        numbers = tuple(operand.step for operand in operands)
        key = (compute, result, *sorted(options.items()))
        return Typed(result, self.steps.add(key, Step(made, numbers, result, kernel=compute)))

    def literal(self, value: Any, kind: Kind) -> Typed:
        """Add a constant."""
        return Typed(kind, self.steps.constant(value, kind), constant=value, literal=True)

    def converted(self, value: Typed, kind: Kind) -> Typed:
        """Convert a value to another kind.

        :param value: the value.
        :param kind: its own kind, or one that holds all its values.
        :return: the converted value.
        """
        if value.kind == kind:
            return value
        if value.literal:
            return self.literal(
                float(value.constant) if kind == "float" and value.constant is not None else None, kind
            )
        return self.call(kind, kernels.convert, [value], kind=kind)

    def unified(self, values: Sequence[Typed], what: str) -> tuple[Kind, list[Typed]]:
        """Convert values to their common kind.

        :param values: the values.
        :param what: the operator, for the message.
        :return: the kind, and the converted values.
        :raises Refused: if they have no common kind.
        """
        kind = common_kind([value.kind for value in values])
        if kind is None:
            shown = " and ".join(dict.fromkeys(SHOWN[value.kind] for value in values if value.kind != "null"))
            raise Refused(f"{what} takes values of one kind; got {shown}")
        return kind, [self.converted(value, kind) for value in values]

    def comparable(self, values: Sequence[Typed], what: str) -> tuple[Kind, list[Typed]]:
        """Convert values to a common kind that can be compared; if all are NULL, to numbers.

        :param values: the values.
        :param what: the operator, for the message.
        :return: the kind, and the converted values.
        """
        kind, unified = self.unified(values, what)
        return (kind, unified) if kind != "null" else ("float", self.all_of(values, "float", what))

    def all_of(self, values: Sequence[Typed], kind: Kind, what: str) -> list[Typed]:
        """Convert values to the kind that an operator takes.

        :param values: the values.
        :param kind: the kind.
        :param what: the operator, for the message.
        :return: the converted values.
        :raises Refused: if one of them is of another kind.
        """
        for value in values:
            fits = NUMBERS if kind == "float" else {kind}
            if value.kind not in fits and value.kind != "null":
                raise Refused(f"{what} takes {SHOWN[kind]}; got {SHOWN[value.kind]}")
        return [self.converted(value, kind) for value in values]


def _foreign(node: Any, option: str = "") -> str:
    if isinstance(node, exp.Select | exp.Subquery | exp.Exists | exp.Query) or option == "query":
        return "an expression reads one row: it has no subqueries; join the other table before"
    if isinstance(node, exp.Window):
        return "an expression reads one row: it has no window functions; compute the column before"
    if isinstance(node, exp.Escape):
        return "LIKE has one escape character, the backslash; leave out ESCAPE"
    if isinstance(node, exp.Column):
        return "a column is named without its table; a name that has a dot stands in double quotes"
    what = node.key.upper() + (f" with {option.upper()}" if option else "")
    return f"{what} is not part of the language; docs/rules.md lists what is"
