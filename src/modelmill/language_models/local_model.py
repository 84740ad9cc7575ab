"""Asking a language model of a folder in this process: no endpoint, no secret, nothing leaves the machine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import numpy as np
import numpy.typing as npt

from modelmill.errors import ConfigError
from modelmill.language_models.client import RequestOutcome, Sender
from modelmill.language_models.dialects import Request, canonical, read_json
from modelmill.language_models.local import CONTENT_FREE, LocalPrompt, local_prompt
from modelmill.language_models.options import Asking

if TYPE_CHECKING:
    from modelmill.models.causal_language_model import CausalLanguageModel, Prefix, Scores


@dataclass(frozen=True)
class LocalPlace:
    """A folder with a language model."""

    folder: Path
    questions: int = 8
    """That each row is asked about, with their orders: so many are kept in memory once they are read."""

    @property
    def digest(self) -> str:
        """Names the folder in file names."""
        return hashlib.sha256(f"local {self.folder.absolute()}".encode()).hexdigest()[:24]

    @contextlib.contextmanager
    def client(self, asking: Asking) -> Iterator[Sender]:  # noqa: ARG002 (all places are asked alike)
        """Load the model.

        :param asking: how it is asked.
        :yield: what asks it; it is released afterwards.
        """
        from modelmill.models.causal_language_model import load_causal_language_model

        yield LocalSender(load_causal_language_model(self.folder), self.questions)

    def batch_client(self, asking: Asking) -> Never:
        """Take no batches."""
        raise ConfigError(
            "only an endpoint takes batches", got=f"dialect {asking.dialect}", remedy="leave out batch"
        )


@dataclass(frozen=True)
class _Read:
    """A question that was read."""

    prompt: LocalPrompt
    prefix: Prefix
    answers: tuple[tuple[int, ...], ...]
    """Ids of each option's answer."""
    without_content: npt.NDArray[np.float64]
    """Score of each option where the row says nothing; 0 if they are not calibrated."""


@dataclass
class LocalSender:
    """Answers requests of the dialect ``local``, one at a time.

    One answer's products keep all cores of a machine busy, and an answer does not depend on those that are
    computed beside it.
    """

    model: CausalLanguageModel
    kept: int = 8
    """Questions that stay read. Each has the keys and values of its tokens in memory."""
    _questions: dict[str, _Read] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, request: Request) -> RequestOutcome:
        """Answer a request.

        :param request: of the dialect ``local``.
        :return: the answer; ``rejected`` if the model cannot read so long a text.
        :raises ConfigError: if its tokenizer makes the same of two options, or nothing of one.
        """
        body = read_json(request.body)
        ((name, asked),) = body["questions"].items()
        with self._lock:
            read = self._read(body, asked)
            rest = body["state"] + read.prompt.ending
            too_long = self._too_long(read, rest)
            if too_long:
                return RequestOutcome("rejected", detail=too_long)
            scores = self.model.score(read.prefix, rest, read.answers)
        probabilities = _softmax(_of(scores) - read.without_content)
        answer = {"type": "choice", "probabilities": dict(zip(asked["criteria"], probabilities, strict=True))}
        usage = {"input_tokens": scores.prompt_tokens + scores.scored_tokens, "output_tokens": 0}
        content = {"model": body["model"], "answers": {name: answer}, "usage": usage}
        return RequestOutcome("answered", body=canonical(content))

    def _read(self, body: dict[str, Any], asked: dict[str, Any]) -> _Read:
        key = json.dumps([asked, body["scoring"], body["calibrated"]])  # the order of the options counts
        found = self._questions.get(key)
        if found is None:
            while len(self._questions) >= self.kept:
                del self._questions[next(iter(self._questions))]
            prompt = local_prompt(asked, scoring=body["scoring"])
            answers = tuple(self.model.tokens(answer) for answer in prompt.answers)
            if not all(answers) or len(set(answers)) < len(answers):
                raise ConfigError(
                    "the language model's tokenizer must tell the answers apart",
                    got=", ".join(prompt.answers),
                    remedy="name the labels otherwise, or use another way of scoring",
                )
            prefix = self.model.prefix(prompt.question)
            without = np.zeros(len(answers))
            if body["calibrated"]:
                without = np.mean(
                    [_of(self.model.score(prefix, row + prompt.ending, answers)) for row in CONTENT_FREE],
                    axis=0,
                )
            found = self._questions[key] = _Read(prompt, prefix, answers, without)
        return found

    def _too_long(self, read: _Read, rest: str) -> str | None:
        most = self.model.max_tokens
        longest = max(len(answer) for answer in read.answers)
        needed = self.model.prompt_tokens(read.prefix, rest) + longest
        if most is None or needed <= most:
            return None
        return f"the model reads {most:,} tokens, and the row needs {needed:,}"


def _of(scores: Scores) -> npt.NDArray[np.float64]:
    return np.array(scores.mean, np.float64)


def _softmax(scores: npt.NDArray[np.float64]) -> list[float]:
    shifted = np.exp(scores - scores.max())
    found: list[float] = (shifted / shifted.sum()).tolist()
    return found
