"""What a dialect is: from a question and a row to a request's bytes, and from an answer's bytes to a label.

A dialect sends nothing and keeps nothing, so golden files of its requests show all that leaves. Another
distribution adds one with an entry point, whose name is the name that configurations use::

    [project.entry-points."modelmill.llm_dialects"]
    acme = "acme_mill.dialect:AcmeDialect"
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from modelmill.extensions import Extensions
from modelmill.language_models.questions import Question

DIALECTS = Extensions(
    "modelmill.llm_dialects",
    noun="dialect of language models",
    own={
        "chat": "modelmill.language_models.chat:ChatDialect",
        "decisions": "modelmill.language_models.decisions:DecisionsDialect",
        "local": "modelmill.language_models.local:LocalDialect",
        "systemone": "modelmill.language_models.systemone:SystemOneDialect",
    },
)

OVERHEAD_TOKENS = 256
"""What servers and chat templates put around a question and its options, beside the body's own bytes."""

_MOST_TOKENS = 1 << 53
"""Of one request: a larger number is none that was counted."""

KEPT_CHARACTERS = 500
"""Of an answer that is no label, for a person to look at."""

ReplyStatus = Literal["answered", "invalid", "refused"]
"""``invalid``: an answer that is none of the options; ``refused``: the endpoint does not take the content."""


@dataclass(frozen=True)
class Usage:
    """Tokens of one request."""

    input_tokens: int
    output_tokens: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True)
class Parameters:
    """How an endpoint is asked, the same for every row."""

    model: str
    """Name of the model, with its date or version: it is part of each answer's key."""
    max_tokens: int = 64
    """Tokens that an answer has at most."""
    seed: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)
    """More fields of the request, as an endpoint wants them, such as ``{"reasoning_effort": "none"}``."""


@dataclass(frozen=True)
class Request:
    """One request, as it is sent."""

    dialect: str
    path: str
    """Below the endpoint's URL."""
    body: bytes
    """JSON in one spelling: equal questions about equal rows have equal bytes."""
    readings: int = 1
    """How often the endpoint reads the body at most: some do so once for each question in it."""

    @property
    def key(self) -> str:
        """SHA-256 over the dialect and all that is sent: model, prompt, schema, parameters and content."""
        head = f"{self.dialect}\n{self.path}\n".encode()
        return hashlib.sha256(head + self.body).hexdigest()


@dataclass(frozen=True)
class Reply:
    """What an endpoint said about one row."""

    status: ReplyStatus
    label: str | None
    """One of the question's labels; None if it abstains, if it is not ``answered``, or if there are parts."""
    probabilities: Mapping[str, float] | None = None
    """By option, where the dialect gives them; they sum to 1."""
    model: str = ""
    """Model that answered, as the endpoint names it."""
    usage: Usage | None = None
    """None: the endpoint did not say."""
    text: str = ""
    """The answer as it came, shortened; of what is refused, why."""
    parts: Mapping[str, Reply] | None = None
    """By question, where several were asked; None: there was one, or the status is that of all of them."""


class Dialect(ABC):
    """One protocol."""

    name: ClassVar[str]
    takes_several: ClassVar[bool] = False
    """Whether one request holds several questions: :meth:`request_about` and :meth:`reply_about` say how."""

    @abstractmethod
    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """Return the request for one row.

        :param question: what is asked.
        :param content: the row, as it is rendered.
        :param parameters: how it is asked.
        :return: the request.
        """

    def worst_case(self, request: Request, parameters: Parameters) -> Usage:
        """Return tokens that a request is certainly not billed above: a token of text is a byte or more.

        :param request: the request.
        :param parameters: how it is asked.
        :return: upper bounds.
        """
        return Usage(request.readings * (len(request.body) + OVERHEAD_TOKENS), parameters.max_tokens)

    @abstractmethod
    def reply(self, question: Question, body: bytes) -> Reply:
        """Read an answer.

        :param question: what was asked.
        :param body: body of a response with status 200.
        :return: the label, if it is one of the question's.
        """

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """Return the request for one row with all that is asked about it.

        :param questions: one; where the dialect takes several, one or more of different names.
        :param content: the row, as it is rendered.
        :param parameters: how it is asked.
        :return: the request; about one question it is that of :meth:`request`.
        """
        (question,) = questions
        return self.request(question, content, parameters)

    def reply_about(self, questions: Sequence[Question], body: bytes) -> Reply:
        """Read the answer to a request of :meth:`request_about`.

        :param questions: what was asked.
        :param body: body of a response with status 200.
        :return: the label; of several questions one for each, in parts.
        """
        (question,) = questions
        return self.reply(question, body)


def canonical(content: object) -> bytes:
    """Return JSON in one spelling, UTF-8."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


def read_json(text: str | bytes) -> Any:
    """Read JSON that an endpoint wrote.

    :param text: the text.
    :return: its content.
    :raises ValueError: if it is none, or nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deep") from error


def prompt_digest(dialect: Dialect, questions: Sequence[Question], parameters: Parameters) -> str:
    """Return the digest of all that is the same in every request: prompt, schema and parameters."""
    return dialect.request_about(questions, "", parameters).key


def together(base: Reply, parts: Mapping[str, Reply]) -> Reply:
    """Return the reply to several questions.

    :param base: what they have in common: model, usage and text.
    :param parts: by question.
    :return: ``answered`` if one of them is; else what the first one is.
    """
    statuses = [part.status for part in parts.values()]
    return replace(base, status="answered" if "answered" in statuses else statuses[0], parts=parts)


def read_usage(found: object, *, names: tuple[str, str], least: int = 0) -> Usage | None:
    """Read the tokens of an answer.

    :param found: the answer's ``usage``.
    :param names: fields with the input and the output tokens.
    :param least: input tokens that an answer has at least. A server that counts nothing says 0, and bills all
        the same; typed decisions of a model of one's own cost nothing.
    :return: None unless both are whole numbers, 0 or more, that a table holds.
    """
    if not isinstance(found, dict):
        return None
    counts = [found.get(name) for name in names]
    if not all(type(count) is int and 0 <= count < _MOST_TOKENS for count in counts):
        return None
    used = Usage(*(int(count or 0) for count in counts))
    return used if used.input_tokens >= least else None
