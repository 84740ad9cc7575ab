"""The service without its web framework: from validated requests to answers."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modelmill.errors import ConfigError
from modelmill.models.predictions import or_null
from modelmill.serving.batching import RowQueue
from modelmill.serving.config import ServeConfig
from modelmill.serving.deployments import Deployment, read_deployments
from modelmill.serving.follower import Follower
from modelmill.serving.loaded_versions import ActiveVersions
from modelmill.serving.messages import ServiceState
from modelmill.serving.metrics import Metrics
from modelmill.serving.requests import Contents, PredictRequest
from modelmill.serving.shadow_scoring import AnsweredRow, ShadowScorer
from modelmill.serving.typed_decisions import TypedDecisions
from modelmill.settings import Settings
from modelmill.system.cpu import usable_cores
from modelmill.tokens.contents import CONTENTS

if TYPE_CHECKING:
    from modelmill.serving.deciding import Decider

_log = logging.getLogger(__name__)

_NOTHING: dict[str, Any] = {"prediction": None, "score": None}


class PendingRequest:
    """A request that waits for its rows.

    :param active: the models that answer all of its rows.
    :param contents: of each signal what it reads of each row; None where there is none.
    :param finished: called once, in any thread, when the last row is answered or one has failed.
    """

    def __init__(
        self,
        active: ActiveVersions,
        contents: Mapping[str, Contents],
        finished: Callable[[], None],
    ) -> None:
        self.active = active
        self.contents = contents
        infos = active.champions.scorer.infos
        self._is_there = {name: CONTENTS[infos[name].content].is_there for name in contents}
        self.failed = False
        rows = len(next(iter(contents.values()), ()))
        self._answers: list[dict[str, Any]] = [dict.fromkeys(contents, _NOTHING) for _ in range(rows)]
        self._finished = finished
        self.waiting = [row for row in range(rows) if any(self.asks(name, row) for name in contents)]
        """Rows to answer: those that have a text or image."""
        self._left = len(self.waiting)
        self._lock = threading.Lock()

    def asks(self, name: str, row: int) -> bool:
        """Return whether a signal is asked for and there is something for it to read in a row."""
        return name in self.contents and self._is_there[name](self.contents[name][row])

    def answer(self, row: int, answers: Mapping[str, tuple[Any, float]]) -> None:
        """Store the answers to one row.

        :param row: position of the row.
        :param answers: prediction and score by signal.
        """
        for name, answer in answers.items():
            self._answers[row][name] = dict(zip(_NOTHING, or_null(*answer), strict=True))
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last:
            self._finished()

    def fail(self) -> None:
        """Mark the request as failed: one of its rows could not be scored."""
        with self._lock:
            first, self.failed = not self.failed, True
        if first:
            self._finished()

    def content(self) -> dict[str, Any]:
        """Return the answer as a :class:`~modelmill.serving.messages.PredictResponse`'s content."""
        known = self.active.champions.models
        models = {
            name: {"version": known[name].version, "digest": known[name].digest} for name in self.contents
        }
        return {"rows": self._answers, "models": models}


PendingRow = tuple[PendingRequest, int]


class Service:
    """Champions that are kept up to date, and the threads that answer with them.

    :param config: what to serve, and the limits.
    :param settings: where MLflow, the cache and the deployments are.
    """

    def __init__(self, config: ServeConfig, settings: Settings) -> None:
        self.config = config
        self.metrics = Metrics()
        self.leaving = False
        """Whether it is about to end: it still answers, and says that it is not ready."""
        self._settings = settings
        self._fixed = {name: Deployment(model=name) for name in config.models}
        self.follower = Follower(
            self._deployments, settings=settings, metrics=self.metrics, poll_seconds=config.poll_seconds
        )
        self._queue: RowQueue[PendingRow] = RowQueue(
            self._answer,
            threads=config.threads or usable_cores(),
            limit=config.queue_rows,
            batch_rows=config.batch_rows,
        )
        self.metrics.queue_rows.set_function(self._queue.__len__)
        self._shadow = ShadowScorer(
            config.shadow_table or str(settings.home / "shadow" / config.service),
            service=config.service,
            metrics=self.metrics,
        )

        self.typed_decisions = TypedDecisions(
            self.metrics, threads=config.threads or usable_cores(), most_waiting=config.queue_rows
        )
        self.decider: Decider | None = None
        if config.rules:
            from modelmill.serving.deciding import Decider

            self.decider = Decider(config.rules, settings, most_rows=config.queue_rows)

    def start(self) -> None:
        """Begin to follow the registry."""
        self.follower.start()

    def close(self) -> None:
        """Answer the waiting requests, write comparisons down, and end all threads."""
        self.follower.close()
        self._queue.close()
        self._shadow.close()

    def state(self) -> ServiceState:
        """Return which versions are in use, and which should be."""
        state = self.follower.state()
        if self.decider and not state.models:
            state = state.model_copy(update={"ready": True, "error": None})
        return state.model_copy(update={"ready": False, "error": "it is ending"}) if self.leaving else state

    @property
    def reads_images(self) -> bool:
        """Whether one of the champions in use reads images."""
        return any(info.content == "image" for info in self.follower.active.champions.scorer.infos.values())

    def submit(self, asked: PredictRequest, finished: Callable[[], None]) -> PendingRequest:
        """Take a request.

        :param asked: the request.
        :param finished: see :class:`PendingRequest`; may be called before this returns.
        :return: the request as it waits.
        :raises ConfigError: if it asks for a signal that is not served.
        :raises RowError: if a row has no text or image.
        :raises QueueFullError: if there is no room for its rows.
        """
        active = self.follower.active
        known = active.champions.models
        # A dictionary keeps the order, and looks a name up in constant time.
        names = dict.fromkeys(known if asked.signals is None else asked.signals)
        for name in names:
            if name not in known:
                raise ConfigError("a signal must be served here", got=name, choices=known)
        infos = active.champions.scorer.infos
        reads = {name: (infos[name].text, infos[name].content) for name in names}
        found = {one: asked.contents(*one) for one in dict.fromkeys(reads.values())}
        pending = PendingRequest(active, {name: found[reads[name]] for name in names}, finished)
        if pending.waiting:
            self._queue.put([(pending, row) for row in pending.waiting])
        else:
            finished()
        return pending

    def _deployments(self) -> Mapping[str, Deployment]:
        return self._fixed or read_deployments(self.config.service, self._settings)

    def _answer(self, batch: Sequence[PendingRow]) -> None:
        self.metrics.batch_rows.observe(len(batch))
        by_active: dict[int, list[PendingRow]] = {}
        for row in batch:
            by_active.setdefault(id(row[0].active), []).append(row)
        for rows in by_active.values():
            try:
                self._answer_with(rows[0][0].active, rows)
            except Exception:  # whatever it is, no request must wait for ever, and the thread must go on
                _log.exception("%d rows could not be scored", len(rows))
                for pending, _ in rows:
                    pending.fail()

    def _answer_with(self, active: ActiveVersions, rows: Sequence[PendingRow]) -> None:
        champions = active.champions
        answers: list[dict[str, tuple[Any, float]]] = [{} for _ in rows]
        for together in champions.passes:
            asked = [
                (place, name, pending.contents[name][row] or "")
                for place, (pending, row) in enumerate(rows)
                for name in together
                if pending.asks(name, row)
            ]
            if not asked:
                continue
            contents = list(dict.fromkeys(content for _, _, content in asked))
            found = champions.answer(contents, list(dict.fromkeys(name for _, name, _ in asked)))
            places = {content: place for place, content in enumerate(contents)}
            for place, name, content in asked:
                answers[place][name] = found[name][places[content]]
        for name, count in Counter(name for found in answers for name in found).items():
            self.metrics.rows.labels(name, champions.models[name].version).inc(count)
        for (pending, row), given in zip(rows, answers, strict=True):
            pending.answer(row, given)
        self._offer(active, rows, answers)

    def _offer(
        self,
        active: ActiveVersions,
        rows: Sequence[PendingRow],
        answers: Sequence[Mapping[str, tuple[Any, float]]],
    ) -> None:
        deployments = self.follower.deployments  # the follower may replace them meanwhile
        offered = [
            AnsweredRow(
                loaded=active.challengers,
                champion=active.champions.models[name],
                share=deployments[name].shadow_share,
                content=pending.contents[name][row] or "",
                prediction=found[name][0],
                score=found[name][1],
            )
            for name in active.challengers.models
            for (pending, row), found in zip(rows, answers, strict=True)
            if name in found and name in deployments
        ]
        if offered:
            self._shadow.offer(offered)
