"""Typed decisions: named questions about one text, and an answer with a probability for each option."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from modelmill.language_models.dialects import (
    KEPT_CHARACTERS,
    Dialect,
    Parameters,
    Reply,
    Request,
    canonical,
    read_json,
    read_usage,
    together,
)
from modelmill.language_models.probabilities import decided
from modelmill.language_models.questions import Question

NOT_AS_AGREED = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is not of the protocol's form."""


class DecisionDialect(Dialect):
    """A protocol of typed decisions. Several questions about a row are one request."""

    path: ClassVar[str]
    """Below the endpoint's URL."""
    takes_several: ClassVar[bool] = True

    @abstractmethod
    def fields(self, questions: Sequence[Question], content: str) -> dict[str, Any]:
        """Return the request's fields, without the model.

        :param questions: what is asked, one or more of different names.
        :param content: the row, as it is rendered.
        :return: the fields.
        """

    @abstractmethod
    def answers(self, found: Any, questions: Sequence[Question]) -> Mapping[str, Any]:
        """Return the answers of a response by the names of their questions.

        :param found: the response, as JSON.
        :param questions: what was asked.
        :return: the answers that there are, each as it came; one that is not of the protocol's form raises
            one of :data:`NOT_AS_AGREED`.
        """

    @abstractmethod
    def probabilities(self, answer: Any) -> Any:
        """Return the probabilities of an answer.

        :param answer: as it came.
        :return: by option, not yet checked; one that is not of the protocol's form raises one of
            :data:`NOT_AS_AGREED`.
        """

    def is_refusal(self, answer: Any) -> bool:
        """Return whether an answer says that the endpoint does not take the content.

        :param answer: as it came; one that is not of the protocol's form may raise one of
            :data:`NOT_AS_AGREED`.
        :return: never, where the protocol has no such answer.
        """
        del answer
        return False

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        return self.request_about((question,), content, parameters)

    def request_about(self, questions: Sequence[Question], content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request_about`."""
        body = {"model": parameters.model, **self.fields(questions, content), **parameters.body}
        return Request(dialect=self.name, path=self.path, body=canonical(body), readings=len(questions))

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        return self.reply_about((question,), body)

    def reply_about(self, questions: Sequence[Question], body: bytes) -> Reply:
        """See :meth:`Dialect.reply_about`; of several, one question's refusal is that of its part alone."""
        shown = body.decode(errors="replace")[:KEPT_CHARACTERS]
        try:
            found = read_json(body)
            answers = self.answers(found, questions)
            model = str(found.get("model") or "")
        except NOT_AS_AGREED:
            return Reply("invalid", None, text=shown)
        usage = read_usage(found.get("usage"), names=("input_tokens", "output_tokens"))
        parts = {
            question.name: self._part(question, answers.get(question.name), shown) for question in questions
        }
        if len(questions) == 1:
            return replace(parts[questions[0].name], model=model, usage=usage)
        return together(Reply("invalid", None, model=model, usage=usage, text=shown), parts)

    def _part(self, question: Question, answer: Any, shown: str) -> Reply:
        try:
            if self.is_refusal(answer):
                return Reply("refused", None, text=shown)
            given = self.probabilities(answer)
        except NOT_AS_AGREED:
            return Reply("invalid", None, text=shown)
        return decided(question, given, model="", usage=None, shown=shown)
