"""From the tree of an expression to steps: names are looked up, kinds are checked, every problem is noted.

The tree is walked without recursion, children first. A node whose children are wrong is not judged: one
mistake gives one problem. A node, or an option of one, that is not in the table below is not part of the
language: what sqlglot understands beyond it is refused, never guessed.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from modelmill.errors import did_you_mean
from modelmill.rules.language import kernels
from modelmill.rules.language.functions import FUNCTIONS, POLYMORPHIC
from modelmill.rules.language.parsing import Finding
from modelmill.rules.language.program import Step, Steps
from modelmill.signals.values import NUMBERS, OPAQUE, Kind, common_kind

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FINDINGS = 20
"""Problems of one expression that are listed."""

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


class Refused(Exception):  # noqa: N818 (never leaves this module)
    """What a rule says of a node."""


@dataclass(frozen=True)
class Typed:
    """A node that has been compiled."""

    kind: Kind
    step: int
    constant: Any = None
    """Value of a literal; None for NULL and for everything that is not a literal."""
    literal: bool = False


Build = Callable[["Compiler", Any, list[Typed]], Typed]


@dataclass(frozen=True)
class Rule:
    """What one kind of node means."""

    build: Build
    """Makes the node, given its children."""
    children: Callable[[Any], list[Any]]
    """Gives the nodes below that are values."""
    options: frozenset[str]
    """Arguments of the sqlglot node that may be set."""


RULES: dict[type[exp.Expr], Rule] = {}
"""The language, filled in by :mod:`modelmill.rules.language.nodes`."""


def rule(
    *nodes: type[exp.Expr], children: Sequence[str] = (), options: Sequence[str] = ()
) -> Callable[[Build], Build]:
    """Register the function below as what some kinds of node mean.

    :param *nodes: the kinds.
    :param children: arguments of the node that are values.
    :param options: other arguments that may be set.
    :return: a decorator.
    """

    def register(build: Build) -> Build:
        allowed = frozenset({*children, *options})
        for node in nodes:
            RULES[node] = Rule(build, functools.partial(_named_children, names=children), allowed)
        return build

    return register


def _named_children(node: exp.Expr, names: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for name in names:
        value = node.args.get(name)
        found += value if isinstance(value, list) else [] if value is None else [value]
    return found


class Names:
    """What the names in an expression stand for: columns of a schema, or values that are computed before.

    :param schema: the columns.
    :param noun: what they are, for messages.
    :param computed: values by name; a name is not also that of a column.
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
        """What is said of a value that expressions cannot look into."""
        self.fields = {field.name: field.type for field in schema}
        self.computed = computed or {}
        self.all = [*self.fields, *self.computed]
        self.twice = {name for name, count in Counter(schema.names).items() if count > 1}
        self._alike: dict[str, list[str]] = {}
        for name in self.all:
            self._alike.setdefault(name.lower(), []).append(name)

    def find(self, name: str, *, exactly: bool) -> str:
        """Return the name that is meant.

        :param name: what is written.
        :param exactly: whether the case counts.
        :return: the name.
        :raises Refused: if there is none.
        """
        if name not in self.fields and name not in self.computed:
            alike = self._alike.get(name.lower(), [])
            if len(alike) != 1 or exactly:
                raise Refused(f"a {self.noun} must exist; got {name!r}; {did_you_mean(name, self.all)}")
            name = alike[0]
        if name in self.twice:
            raise Refused(f"a {self.noun}'s name must stand once in the table; got {name!r}")
        return name


class Compiler:
    """Compiles one tree.

    :param names: what names stand for.
    :param steps: where the steps go.
    """

    def __init__(self, names: Names, steps: Steps) -> None:
        self.names = names
        self.steps = steps
        self.findings: list[Finding] = []

    def compile(self, tree: exp.Expr) -> Typed | None:
        """Compile a tree, children first.

        :param tree: the tree.
        :return: the root, or None if anything is wrong.
        """
        done: dict[int, Typed | None] = {}
        stack: list[tuple[Any, list[Any] | None]] = [(tree, None)]
        while stack and len(self.findings) < MOST_FINDINGS:
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
        """Return the nodes to compile before this one, or None if it is no part of the language."""
        found = RULES.get(type(node))
        if found is None:
            self.find(node, _foreign(node))
            return None
        options = [name for name, value in node.args.items() if value and name not in found.options]
        if options:
            self.find(node, _foreign(node, options[0]))
            return None
        if isinstance(node, exp.Anonymous) and node.name.lower() not in (*FUNCTIONS, *POLYMORPHIC):
            choices = did_you_mean(node.name.lower(), [*FUNCTIONS, *POLYMORPHIC])
            self.find(node, f"a function must be on the list; got {node.name!r}; {choices}")
            return None
        return found.children(node)

    def _build(self, node: Any, operands: list[Typed]) -> Typed | None:
        if not isinstance(node, exp.Paren | exp.Is):
            for child, operand in zip(RULES[type(node)].children(node), operands, strict=True):
                if operand.kind in OPAQUE:
                    self.find(child, f"{child.sql()[:60]} is {SHOWN[operand.kind]}: {self.names.opaque}")
                    return None
        try:
            return RULES[type(node)].build(self, node, operands)
        except Refused as refusal:
            self.find(node, str(refusal))
            return None

    def find(self, node: Any, message: str) -> None:
        """Note a problem.

        :param node: where it is.
        :param message: what it is.
        """
        starts = (part.meta.get("start") for part in node.walk() if part.meta)
        self.findings.append(
            Finding(min((start for start in starts if start is not None), default=0), message)
        )

    def call(
        self, result: Kind, compute: Callable[..., Any], operands: Sequence[Typed], **options: Any
    ) -> Typed:
        """Add the step that computes something.

        :param result: kind of the result.
        :param compute: what computes it.
        :param operands: its operands.
        :param **options: what else it takes; hashable.
        :return: the result.
        """
        made = functools.partial(compute, **options) if options else compute
        numbers = tuple(operand.step for operand in operands)
        key = (compute, result, *sorted(options.items()))
        return Typed(result, self.steps.add(key, Step(made, numbers, result, kernel=compute)))

    def literal(self, value: Any, kind: Kind) -> Typed:
        """Add a constant.

        :param value: its value.
        :param kind: its kind.
        :return: the constant.
        """
        return Typed(kind, self.steps.constant(value, kind), constant=value, literal=True)

    def converted(self, value: Typed, kind: Kind) -> Typed:
        """Bring a value to another kind.

        :param value: the value.
        :param kind: its own kind, or one that it fits into.
        :return: the value in that kind.
        """
        if value.kind == kind:
            return value
        if value.literal:
            return self.literal(
                float(value.constant) if kind == "float" and value.constant is not None else None, kind
            )
        return self.call(kind, kernels.convert, [value], kind=kind)

    def unified(self, values: Sequence[Typed], what: str) -> tuple[Kind, list[Typed]]:
        """Bring values to the one kind that they can be compared in.

        :param values: the values.
        :param what: what wants that, for the message.
        :return: the kind, and the values in it.
        :raises Refused: if they have none in common.
        """
        kind = common_kind([value.kind for value in values])
        if kind is None:
            shown = " and ".join(dict.fromkeys(SHOWN[value.kind] for value in values if value.kind != "null"))
            raise Refused(f"{what} takes values of one kind; got {shown}")
        return kind, [self.converted(value, kind) for value in values]

    def comparable(self, values: Sequence[Typed], what: str) -> tuple[Kind, list[Typed]]:
        """Bring values to a kind that can be compared: several NULL are taken for numbers.

        :param values: the values.
        :param what: what compares them, for the message.
        :return: the kind, and the values in it.
        """
        kind, unified = self.unified(values, what)
        return (kind, unified) if kind != "null" else ("float", self.all_of(values, "float", what))

    def all_of(self, values: Sequence[Typed], kind: Kind, what: str) -> list[Typed]:
        """Bring values to a kind that an operator asks for.

        :param values: the values.
        :param kind: the kind.
        :param what: the operator, for the message.
        :return: the values in that kind.
        :raises Refused: if one of them does not fit.
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
