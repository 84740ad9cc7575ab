"""Documents that people write, in YAML or JSON: read within bounds, and every problem with its position."""

from __future__ import annotations

import contextlib
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import yaml
from pydantic import BaseModel

from modelmill.errors import DocumentError, Problem, did_you_mean, shorten

ALIASED_PLACES = 20_000
"""Places that aliases may add to a document, written out: a few lines of YAML can stand for billions."""
ALIASED_CHARACTERS = 1_000_000
"""Characters that they may add: a long text can be meant many thousand times."""

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
"""Place in the document, and message."""
ShownFinding = tuple[Path, str, str]
"""The same, and the line that it is about, with a caret."""


@dataclass(frozen=True)
class Document:
    """A text that has been parsed."""

    content: Any
    """What YAML or JSON gave."""
    positions: Mapping[Path, tuple[int, int]]
    """Line and column, from 1, of every place."""
    duplicates: tuple[Path, ...]
    """Keys that stand twice."""

    def problems(self, findings: Iterable[Finding | ShownFinding]) -> set[Problem]:
        """Give findings their positions.

        :param findings: what is wrong.
        :return: the same, and one more for each key that stands twice.
        """
        twice = [(path, "a key may stand once; remove or rename one of them") for path in self.duplicates]
        return {self._located(*finding) for finding in (*findings, *twice)}

    def _located(self, path: Path, message: str, excerpt: str = "") -> Problem:
        known = path
        while known and known not in self.positions:
            known = known[:-1]
        line, column = self.positions.get(known, (0, 0))
        return Problem(line, column, ".".join(map(str, path)), message, excerpt)


def read_text(url: str, *, what: str, most_bytes: int, error: type[DocumentError]) -> str:
    """Read a document's text.

    :param url: path or fsspec URL.
    :param what: what it is, for messages, such as ``a pipeline``.
    :param most_bytes: a longer text is refused.
    :param error: class of the error.
    :return: the text.
    :raises DocumentError: of that class, if it cannot be read.
    """
    try:
        with fsspec.open(url, "rb") as file:
            content: bytes = file.read(most_bytes + 1)
    except (OSError, ValueError, ImportError) as failure:
        raise error([Problem(0, 0, "", f"the file must be readable; {failure}")], source=url) from failure
    if len(content) > most_bytes:
        message = f"{what} has at most {most_bytes:,} bytes; split it into several"
        raise error([Problem(0, 0, "", message)], source=url)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as failure:
        raise error([Problem(0, 0, "", f"the text must be UTF-8; {failure}")], source=url) from failure


def parse_document(text: str, *, source: str, error: type[DocumentError]) -> Document:
    """Parse a document's text.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :param error: class of the error.
    :return: the document.
    :raises DocumentError: of that class, if it is not YAML.
    """
    try:
        return _parsed(_FastLoader, text)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        refusal = failure
    # JSON writes a character beyond U+FFFF as two escapes, which YAML refuses.
    whole = _SURROGATES.sub(_one_character, text)
    if half := _HALF_CHARACTER.search(whole):
        message = f"a text is made of whole characters; got {half[0]}, half a surrogate pair"
        place = whole.rfind("\n", 0, half.start(1))
        problem = Problem(whole.count("\n", 0, half.start(1)) + 1, half.start(1) - place, "", message)
        raise error([problem], source=source)
    if whole != text:
        with contextlib.suppress(yaml.YAMLError, ValueError, RecursionError):
            return _parsed(_FastLoader, whole)
    if len(whole) > _MOST_READ_SLOWLY:
        raise error([_syntax_problem(refusal)], source=source) from refusal
    # What the fast reader refuses is read again by the slow one, whose messages say more.
    try:
        return _parsed(_SlowLoader, whole)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        raise error([_syntax_problem(failure)], source=source) from failure


_MOST_READ_SLOWLY = 100_000
"""Characters of a text that PyYAML's own reader sees: of a million it takes a quarter of a minute."""
_ESCAPE = r"(?<!\\)(?:\\\\)*(?=\\u[dD])"
_SURROGATES = re.compile(_ESCAPE + r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_HALF_CHARACTER = re.compile(_ESCAPE + r"(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")


def _one_character(escapes: re.Match[str]) -> str:
    pair = bytes.fromhex(escapes[1] + escapes[2])
    return f"{escapes[0][: escapes.start(1) - 2 - escapes.start()]}{pair.decode('utf-16-be')}"


def wanted_name(text: str, key: str, pattern: str) -> str:
    """Return the name that a text asks for, however invalid it is.

    :param text: YAML or JSON.
    :param key: the key with the name.
    :param pattern: what a name looks like.
    :return: the name; empty if there is none, or an impossible one.
    """
    try:
        loader = _SlowLoader if len(text) <= _MOST_READ_SLOWLY else _FastLoader
        name: Any = yaml.load(text, loader)[key]  # noqa: S506 (both are safe)
    except Exception:  # what exactly is wrong with the text has been reported already
        return ""
    return name if isinstance(name, str) and re.fullmatch(pattern, name) else ""


class _Scalars(yaml.constructor.SafeConstructor):
    """Values that are what their tag says, and numbers within bounds.

    Of ``1:1:1…``, which is base 60, Python would make a number of any size. Of a text with a tag that does
    not fit it (``!!bool x``), PyYAML fails with whatever its own code runs into.
    """

    def checked(self, node: Any) -> Any:
        """Return the value that a node stands for."""
        kind = node.tag.rpartition(":")[2]
        if kind in ("int", "float") and len(node.value) > _MOST_DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number has at most {_MOST_DIGITS} characters: quote a text", node.start_mark
            )
        try:
            return getattr(self, f"construct_yaml_{kind}")(node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            said = f"a value must be what its tag says (!!{kind}); got {shorten(node.value)}; quote a text"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from error


_MOST_DIGITS = 64
for _kind in ("bool", "int", "float", "timestamp"):
    _Scalars.add_constructor(f"tag:yaml.org,2002:{_kind}", _Scalars.checked)  # type: ignore[type-var] # PyYAML's stubs bind it to the class it is called on


class _SlowLoader(_Scalars, yaml.SafeLoader):
    """PyYAML's own reader."""


_Quick: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML may lack libyaml


class _FastLoader(_Scalars, _Quick):  # type: ignore[misc] # a base that is chosen at run time
    """libyaml's reader. It recurses on the C stack, which Python does not guard: so depth is bounded."""

    _most_deep = 100
    _depth = 0

    def descend_resolver(self, *_: Any) -> None:
        """Go one collection deeper."""
        self._depth += 1
        if self._depth > self._most_deep:
            raise RecursionError("too deep for the fast reader")

    def ascend_resolver(self) -> None:
        """Come back from it."""
        self._depth -= 1


def _parsed(loader_type: Any, text: str) -> Document:
    loader = loader_type(text)
    node = loader.get_single_node()
    positions, duplicates = _positions(node, len(text))
    content = None if node is None else loader.construct_document(node)
    return Document(content, positions, tuple(duplicates))


def shape_message(detail: Any, allowed: Iterable[str]) -> str:
    """Say what pydantic found in a sentence.

    :param detail: one of a validation error's errors.
    :param allowed: the keys that are allowed there, for a key that is not.
    :return: rule, value and remedy.
    """
    if detail["type"] == "extra_forbidden":
        key = detail["loc"][-1]
        return f"unknown key; got {key!r}; {did_you_mean(str(key), allowed)}"
    if detail["type"] == "missing":
        return f"{detail['loc'][-1]!r} is required; add it"
    if detail["type"] == "union_tag_invalid":
        given = detail["ctx"]
        tags = re.findall(r"'([^']*)'", given["expected_tags"])
        what = f"{given['discriminator']} must be known; got {given['tag']!r}"
        return f"{what}; {did_you_mean(given['tag'], tags)}"
    if detail["type"] == "union_tag_not_found":
        return f"{detail['ctx']['discriminator']} is required; add it"
    return f"{_sentence(detail)}; got {shorten(detail['input'])}"


_RULES = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "must be a mapping of keys to values"),
    "string_type": "must be text",
    **dict.fromkeys(
        ("date_type", "date_parsing", "date_from_datetime_parsing"), "must be a date, such as 2026-11-30"
    ),
    **dict.fromkeys(
        ("datetime_type", "datetime_parsing", "datetime_from_date_parsing"),
        "must be a time, such as 2026-11-30T02:00:00Z",
    ),
}
"""pydantic's rules by the type of the error, in the words of this package."""


def _subject(location: Path) -> str:
    """Return what an error is about: a key, or an entry of a list."""
    for index, part in enumerate(reversed(location)):
        if isinstance(part, str) and "[" not in part:
            return repr(part) if index == 0 else f"an entry of {part!r}"
    return "the value"


def _sentence(detail: Any) -> str:
    subject = _subject(detail["loc"])
    given = detail.get("ctx") or {}
    # A bound of 0.0 is written 0.
    context = {name: f"{value:g}" if isinstance(value, float) else value for name, value in given.items()}
    if context.get("min_length") == 1 and detail["type"] in ("too_short", "string_too_short"):
        return f"{subject} must not be empty"
    if detail["type"] in _RULES:
        return f"{subject} {_RULES[detail['type']].format(**context)}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


def fields_at(model: type[BaseModel], location: Path) -> list[str]:
    """Return the keys that are allowed at a place of a document."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            info = current.model_fields.get(str(part))
            current = info.annotation if info else None
        else:
            current = _model_within(current)
    found = _model_within(current)
    return list(found.model_fields) if found else []


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _model_within(argument)
        if found:
            return found
    return None


class _Size:
    """How large a document is, its aliases written out.

    :param length: characters of its text. Without aliases it has fewer places and characters than that.
    """

    def __init__(self, length: int) -> None:
        self._places = length + ALIASED_PLACES
        self._characters = length + ALIASED_CHARACTERS

    def add(self, node: yaml.Node) -> None:
        """Count a place; ValueError if there are too many."""
        self._places -= 1
        if isinstance(node, yaml.ScalarNode):
            self._characters -= len(node.value)
        if self._places < 0:
            raise _too_large(ALIASED_PLACES, "places")
        if self._characters < 0:
            raise _too_large(ALIASED_CHARACTERS, "characters")


def _too_large(most: int, what: str) -> ValueError:
    return ValueError(f"aliases may add at most {most:,} {what}; write less by aliases")


def _positions(node: yaml.Node | None, length: int) -> tuple[dict[Path, tuple[int, int]], list[Path]]:
    """Return line and column (from 1) of every place in a document, and the keys that stand twice."""
    positions: dict[Path, tuple[int, int]] = {}
    duplicates: list[Path] = []
    size = _Size(length)

    def visit(item: yaml.Node, path: Path, mark: yaml.Mark, *, is_twice: bool) -> None:
        size.add(item)
        if not is_twice:
            positions[path] = (mark.line + 1, mark.column + 1)
        if isinstance(item, yaml.MappingNode):
            for key, value in item.value:
                inner = (*path, _key(key))
                again = inner in positions
                if again and not is_twice:
                    duplicates.append(inner)
                # What is below it is not told of as well; but it counts, since its aliases are written out.
                visit(value, inner, key.start_mark, is_twice=is_twice or again)
        elif isinstance(item, yaml.SequenceNode):
            for index, value in enumerate(item.value):
                visit(value, (*path, index), value.start_mark, is_twice=is_twice)

    if node is not None:
        visit(node, (), node.start_mark, is_twice=False)
    return positions, duplicates


def _key(node: yaml.Node) -> str:
    """Return a key as it is written. A list's aliases would be written out, however many places they have."""
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    raise yaml.constructor.ConstructorError(
        None, None, "a key is one text or number; got a list or a mapping", node.start_mark
    )


def _syntax_problem(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(line, column, "", f"the text must be YAML; {reason}")
