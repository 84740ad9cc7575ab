"""The protocol of typed decisions, ``POST /v1/systemone``, answered by champions.

A client that asks a language model for decisions asks a small model by changing a URL. The format is that of
transformers 5.24 (``cli/serving/systemone.py``) and vLLM 0.32, as far as a classifier has answers for it:
text, and questions of type ``choice``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from modelmill.errors import ConfigError, did_you_mean
from modelmill.models.predictions import read_column
from modelmill.options import Record
from modelmill.serving.batching import QueueFullError
from modelmill.serving.requests import RowError
from modelmill.tokens.contents import CONTENTS

if TYPE_CHECKING:
    from modelmill.serving.loaded_versions import LoadedVersions
    from modelmill.serving.metrics import Metrics


class Choice(Record):
    """A question with options."""

    type: Literal["choice"] = Field(description="A classifier answers this type alone.")
    instructions: Any = Field(None, description="Not read: the model has learnt its question.")
    criteria: dict[str, Any] = Field(
        min_length=1, description="The options, with descriptions that are not read."
    )


class SystemOneRequest(Record):
    """A text, and questions that models in use answer with a probability for each option."""

    model: str = Field("", description="Not read: the name of a question says which model answers it.")
    state: str | dict[str, Any] = Field(
        description="The text; or an object with it under the name of the column that the model was trained "
        "on, or under text."
    )
    questions: dict[str, Choice] = Field(
        min_length=1,
        max_length=64,
        description="By the name of a registered model that is served here, or of its label column.",
    )

    @property
    def rows(self) -> list[object]:
        """What a request's size is measured by."""
        return [self.state]


class ChoiceAnswer(Record):
    """The answer to a question."""

    type: Literal["choice"] = "choice"
    choice: str = Field(description="The most probable option.")
    confidence: float = Field(description="0 if all options are level, 1 if one is certain.")
    probabilities: dict[str, float] = Field(description="By option; they sum to 1.")


class SystemOneResponse(Record):
    """The answers."""

    model: str = Field(description="The versions that answered, such as models:/desks/7.")
    answers: dict[str, ChoiceAnswer] = Field(description="By the name of the question.")
    usage: dict[str, int] = Field(description="input_tokens and output_tokens, both 0: nothing is billed.")


class TypedDecisions:
    """Answers typed decisions with the models in use.

    :param metrics: count the rows.
    :param threads: requests that are scored at the same time.
    :param most_waiting: requests that may wait.
    """

    def __init__(self, metrics: Metrics, *, threads: int, most_waiting: int) -> None:
        self._metrics = metrics
        self._scoring = threading.Semaphore(threads)
        self._most = most_waiting
        self._waiting = 0
        self._changing = threading.Lock()

    def answer(self, asked: SystemOneRequest, champions: LoadedVersions) -> SystemOneResponse:
        """Answer a request.

        :param asked: the request.
        :param champions: the models in use.
        :return: the answers.
        :raises ConfigError: if no model here, or more than one, answers a question.
        :raises RowError: if there is no text, or no option is one of the model's classes.
        :raises QueueFullError: if too many requests wait.
        """
        infos = champions.scorer.infos
        names = {question: _model_for(question, champions) for question in asked.questions}
        texts = {name: _text(asked.state, infos[name].text) for name in names.values()}
        with self._changing:
            if self._waiting >= self._most:
                raise QueueFullError(1)
            self._waiting += 1
        try:
            with self._scoring:
                by_text: dict[str, list[str]] = {}
                for name, text in texts.items():
                    by_text.setdefault(text, []).append(name)
                found = {
                    name: dict(zip(infos[name].classes, map(float, scores[0]), strict=True))
                    for text, together in by_text.items()
                    for name, scores in champions.scorer.scores([text], together).items()
                }
        finally:
            with self._changing:
                self._waiting -= 1
        answers = {
            question: _chosen(question, asked.questions[question], found[name])
            for question, name in names.items()
        }
        versions = [f"models:/{name}/{champions.models[name].version}" for name in texts]
        for name in texts:
            self._metrics.rows.labels(name, champions.models[name].version).inc()
        return SystemOneResponse(
            model=", ".join(versions), answers=answers, usage={"input_tokens": 0, "output_tokens": 0}
        )


def _model_for(question: str, champions: LoadedVersions) -> str:
    infos = champions.scorer.infos
    named = [question] if question in infos else [n for n, info in infos.items() if info.label == question]
    known = [name for name, info in infos.items() if info.target == "class" and info.content == "text"]
    fitting = [name for name in named if name in known]
    if len(fitting) == 1:
        return fitting[0]
    raise ConfigError(
        "a question must be the name of one model of texts and a class that is served here, or of its label",
        got=question,
        remedy=f"it is the label of {', '.join(fitting)}" if fitting else did_you_mean(question, known),
    )


def _text(state: str | Mapping[str, Any], trained: str) -> str:
    column = None if isinstance(state, str) else read_column(state, trained)
    text = state if isinstance(state, str) else state.get(column or "")
    if not isinstance(text, str) or not CONTENTS["text"].is_there(text):
        raise RowError(f"state: must be a text that is not blank, or an object with one as {trained} or text")
    return text


def _chosen(question: str, asked: Choice, probabilities: Mapping[str, float]) -> ChoiceAnswer:
    """Return the probabilities of the options, given that it is one of them; what is no class has none."""
    found = {option: probabilities.get(option, 0.0) for option in asked.criteria}
    total = math.fsum(found.values())
    if not math.isfinite(total) or total <= 0:
        raise RowError(
            f"questions.{question}.criteria: an option must be one of the model's classes, "
            f"{', '.join(sorted(probabilities))}"
        )
    found = {option: value / total for option, value in found.items()}
    best = max(found, key=lambda option: found[option])
    level = 1 / len(found)
    confidence = 1.0 if len(found) == 1 else max(0.0, (found[best] - level) / (1 - level))
    return ChoiceAnswer(choice=best, confidence=confidence, probabilities=found)
