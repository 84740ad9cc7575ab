"""The answers of registered models to one text or image, computed in a process of their own within bounds.

A page asks for them, and the server behind it has other pages to answer: the process loads the models, and is
ended when it takes too long or too much memory.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from modelmill.artifacts import ContentKind, ModelRef
from modelmill.errors import ModelError, ModelmillError, TransientError
from modelmill.options import Record
from modelmill.settings import Settings
from modelmill.tokens.contents import CONTENTS, Content

SECONDS = 120.0
"""Until the process is ended; downloading and loading the models included."""
MEMORY_BYTES = 6 * 1024**3
"""Most memory that the process may write to."""
MOST_CLASSES = 10
_GIVEN: Mapping[ContentKind, str] = {"text": "a text", "image": "a picture"}
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")

_turn = threading.BoundedSemaphore(1)


class ClassProbability(Record):
    """How probable a model takes a class to be."""

    name: str
    probability: float


class ModelAnswer(Record):
    """A model's answer to a text or an image."""

    answer: str | float | tuple[str, ...] | None
    """The class, the classes or the number; None to a text without words."""
    score: float | None
    """Probability of the answer; the number itself for numbers."""
    classes: tuple[ClassProbability, ...]
    """The most probable ones first, at most :data:`MOST_CLASSES`; empty for numbers."""
    error: str = ""
    """Why there is no answer, in one line; empty if there is one."""


class _Task(BaseModel):
    """What the process is asked; bytes travel as base64."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    models: tuple[ModelRef, ...]
    text: str | None
    image: bytes | None
    memory: int

    @property
    def content(self) -> tuple[ContentKind, Content]:
        return ("text", self.text or "") if self.image is None else ("image", self.image)


def answers_of(
    models: Sequence[ModelRef], content: Content, *, seconds: float = SECONDS, memory: int = MEMORY_BYTES
) -> tuple[ModelAnswer, ...]:
    """Return what models answer to a text or an image; one caller at a time is served.

    :param models: the models; heads bring their trunks.
    :param content: the text, or the file of the image.
    :param seconds: until the process is ended.
    :param memory: bytes that the process may write to.
    :return: an answer for each model, in their order; what a single model cannot do is said in its answer.
    :raises TransientError: if another question is being answered.
    :raises ModelError: if the process ends without an answer: it took too long, or too much memory.
    """
    if not _turn.acquire(blocking=False):
        raise TransientError(
            "one question is answered at a time", got="another one", remedy="try again in some seconds"
        )
    text, image = (content, None) if isinstance(content, str) else (None, content)
    try:
        return _answers(_Task(models=tuple(models), text=text, image=image, memory=memory), seconds)
    finally:
        _turn.release()


def _answers(task: _Task, seconds: float) -> tuple[ModelAnswer, ...]:
    names = ", ".join(model.uri for model in task.models)
    command = [sys.executable, "-m", "modelmill.serving.answering"]
    environment = {**os.environ, **dict.fromkeys(_ONE_THREAD, "1"), "CUDA_VISIBLE_DEVICES": ""}
    try:
        done = subprocess.run(
            command,
            input=task.model_dump_json().encode(),
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"an answer is there within {seconds:.0f} s, downloading and loading included",
            got=names,
            remedy="try again: what was downloaded is kept; or score a table in a pipeline",
        ) from error
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return tuple(ModelAnswer.model_validate(one) for one in found)
    except (IndexError, ValueError, ValidationError) as error:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing was said"]
        raise ModelError(
            f"the process that loads the models must end with an answer; it ended with code "
            f"{done.returncode} ({lines[-1][:200]})",
            got=names,
            remedy=f"it may write to {task.memory / 1024**3:.2g} GB of memory: score a table in a pipeline",
        ) from error


def _answer(model: ModelRef, task: _Task, settings: Settings) -> ModelAnswer:
    """Load a model and ask it."""
    from modelmill.models.bundle import BundleInfo
    from modelmill.models.predictions import answers_to
    from modelmill.models.scorers import load_scorer
    from modelmill.registry.bundles import fetch_bundle

    try:
        folder = fetch_bundle(model, settings.cache)
        kind, content = task.content
        reads = BundleInfo.load(folder).content
        if reads != kind:
            raise ModelError(f"this model reads {reads}s", got=kind, remedy=f"give it {_GIVEN[reads]}")
        if CONTENTS[kind].is_there(content) and (problem := CONTENTS[kind].problem(content)):
            raise ModelError(
                f"the {kind} must be one that can be read", got=problem, remedy="give another one"
            )
        scorer = load_scorer(folder, threads=1)
        answers, scores = answers_to(scorer, [content])
        shares: Mapping[str, float] = {}
        if answers[0] is not None and scorer.info.task.has_classes:
            shares = dict(zip(scorer.info.classes, scorer.probabilities([content])[0].tolist(), strict=True))
    except ModelmillError as error:
        return ModelAnswer(answer=None, score=None, classes=(), error=str(error))
    known = [(name, share) for name, share in shares.items() if math.isfinite(share)]
    best = sorted(known, key=lambda item: (-item[1], item[0]))[:MOST_CLASSES]
    return ModelAnswer(
        answer=answers[0],
        score=scores[0],
        classes=tuple(ClassProbability(name=name, probability=share) for name, share in best),
    )


def main() -> None:
    """Read a task from standard input, and write the answers as the last line of standard output."""
    task = _Task.model_validate_json(sys.stdin.read())
    resource.setrlimit(resource.RLIMIT_DATA, (task.memory, task.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
    from modelmill.registry.tracking import tracking_client

    settings = Settings.from_environment()
    tracking_client(settings.tracking_uri)
    found: list[dict[str, Any]] = [
        _answer(model, task, settings).model_dump(mode="json") for model in task.models
    ]
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
