"""Asking an endpoint many requests at once, each until it is answered, within the budget and the limits."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from modelmill.errors import ConfigError, TransientError
from modelmill.language_models.client import RequestOutcome, Sender
from modelmill.language_models.dialects import Dialect, Parameters, Reply, Request, Usage
from modelmill.language_models.journal import Journal, Reservation
from modelmill.language_models.prices import Tariff
from modelmill.language_models.questions import Question
from modelmill.language_models.rate_limits import RateLimits

Unanswered = str
"""``budget``: not asked, the budget is used up; ``lost``: no answer after :attr:`Asker.attempts` requests, or
told to come later for too long; ``too long``: not asked, a minute has not so many tokens."""

_LONGEST_PAUSE = 20.0
_POLL = 0.05
_OWN_REFUSALS = 5
"""Times in a row that one request is told to come later, from which on it is taken for its own matter."""
_FEWEST_REFUSED = 5
_MOST_REFUSED = 50
"""Requests that are not taken while none is answered, which is no chance: at the end, and at any time."""


@dataclass(frozen=True)
class Ask:
    """A request, and the questions whose options its answers must be one of."""

    request: Request
    questions: tuple[Question, ...]


@dataclass
class Tally:
    """What happened while requests were asked, by this process."""

    sent: int = 0
    busy: int = 0
    lost: int = 0
    unsent: int = 0
    without_usage: int = 0
    unanswered: dict[str, Unanswered] = field(default_factory=dict)
    """Why there is no answer, by key."""
    tokens_needed: float = 0.0
    """Of the largest request that is too long, about."""
    replies: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Asker:
    """All that is needed to ask. One object serves all threads."""

    client: Sender
    dialect: Dialect
    parameters: Parameters
    journal: Journal
    limits: RateLimits
    tariff: Tariff
    concurrency: int = 8
    attempts: int = 6
    """Requests at most for one content: each may be lost after it was billed."""
    pause: float = 0.5
    """Seconds to wait at first before a request that failed is tried again; doubled each time."""
    patience: float = 900.0
    """Seconds without any answer, while the endpoint asks to come later, after which it is given up."""

    def ask(self, requests: Iterable[Ask], *, on_answer: Callable[[], None] = lambda: None) -> Tally:
        """Ask until every request is answered, or will not be.

        :param requests: distinct ones; taken one by one, as threads have room for them. What the journal has
            answered is not asked again.
        :param on_answer: called after each of them, by one thread at a time.
        :return: what happened; the answers are in the journal.
        :raises ConfigError: if the endpoint takes no request, or bills more than a request's worst case.
        :raises TransientError: if it does not answer for a long time.
        """
        run = _Run(self, iter(requests), on_answer)
        threads = [threading.Thread(target=run.work, daemon=True) for _ in range(self.concurrency)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            run.stop.set()
        if run.error is not None:
            raise run.error
        run.end()
        return run.tally


class _Run:
    """The state that the threads share."""

    def __init__(self, asker: Asker, requests: Iterator[Ask], on_answer: Callable[[], None]) -> None:
        self.asker = asker
        self.requests = requests
        self.on_answer = on_answer
        self.tally = Tally()
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._failures = 0  # since the last answer
        self._refused: dict[str, dict[str, Any]] = {}
        """Refusals that came before any answer: they are nothing to keep if the endpoint takes nothing."""
        self._last_answer = time.monotonic()

    def work(self) -> None:
        """Take requests and ask them, until there are no more."""
        try:
            while not self.stop.is_set():
                with self._lock:
                    ask = next(self.requests, None)
                if ask is None:
                    return
                self._ask(ask)
                with self._lock:
                    self.on_answer()
        except BaseException as error:
            with self._lock:
                self.error = self.error or error
            self.stop.set()

    def end(self) -> None:
        """Keep the refusals, or say that the endpoint takes nothing."""
        if len(self._refused) >= _FEWEST_REFUSED and not self.asker.journal.has_replies():
            raise takes_nothing(next(iter(self._refused.values()))["text"])
        self._keep_refusals()

    def _ask(self, ask: Ask) -> None:
        asker, request = self.asker, ask.request
        if asker.journal.is_known(request.key):
            return
        worst = asker.dialect.worst_case(request, asker.parameters)
        needed = asker.limits.beyond(worst.total)
        if needed is not None:
            with self._lock:
                self.tally.tokens_needed = max(needed, self.tally.tokens_needed)
            self._leave(request.key, "too long")
            return
        failed, told_later, began = 0, 0, time.monotonic()
        while not self.stop.is_set():
            reserved = self._reserve(request.key, worst)
            if not isinstance(reserved, _Sendable):
                if reserved is not None:
                    self._leave(request.key, reserved)
                return
            outcome = self._send(ask, reserved, worst)
            if outcome.kind in ("answered", "rejected"):
                return
            if outcome.kind == "busy":
                told_later += 1
                # A little less than the patience with all requests, which would end the step.
                left = began + 0.9 * asker.patience - time.monotonic()
                if not self._wait_as_asked(outcome, told_later, left):
                    self._leave(request.key, "lost")
                    return
                continue
            failed, told_later = failed + 1, 0
            if failed >= asker.attempts:
                self._leave(request.key, "lost")
                return
            self._sleep(min(_LONGEST_PAUSE, asker.pause * 2 ** (failed - 1)) * random.uniform(0.5, 1))  # noqa: S311 (no secret)

    def _reserve(self, key: str, worst: Usage) -> _Sendable | Unanswered | None:
        """Wait for the limits and reserve; None: it is answered, or all stop; a text: why it is not asked."""
        wait, taken = self.asker.limits.take(worst.total)
        self._sleep(wait)
        while not self.stop.is_set() and self.asker.limits.paused() > 0:
            # Another request was asked to come later: this one's place is past when the pause is, as those of
            # all threads that wait are, which would go at once.
            self.asker.limits.correct(worst.total, taken, 0)
            wait, taken = self.asker.limits.take(worst.total)
            self._sleep(wait)
        cost = self.asker.tariff.cost(worst)
        while not self.stop.is_set():
            reserved = self.asker.journal.reserve(key, cost)
            if isinstance(reserved, Reservation):
                return _Sendable(reserved, taken)
            if reserved in ("known", "exhausted"):
                self.asker.limits.correct(worst.total, taken, 0)
                return None if reserved == "known" else "budget"
            self._sleep(_POLL)
        return None

    def _send(self, ask: Ask, sendable: _Sendable, worst: Usage) -> RequestOutcome:
        """Send, and settle whatever comes of it."""
        journal, reservation = self.asker.journal, sendable.reservation
        try:
            outcome = self.asker.client.send(ask.request)
        except ConfigError:  # a refusal is not billed
            journal.settle(reservation, "free")
            raise
        except BaseException:
            journal.settle(reservation, "lost")
            raise
        reply = self._reply(ask, outcome)
        used = reply.usage.total if reply and reply.usage else None
        cost = self.asker.tariff.cost(reply.usage) if reply and reply.usage else None
        if outcome.kind == "answered" and reply is not None:
            journal.settle(reservation, "answered", cost=cost, answer=answer_entry(reply, cost, reservation))
        elif outcome.kind == "rejected" and reply is not None:
            used = 0
            self._refuse(reservation, answer_entry(reply, 0, reservation))
        elif outcome.kind == "lost":
            journal.settle(reservation, "lost")
        else:
            used = 0
            journal.settle(reservation, "free")
        self.asker.limits.correct(worst.total, sendable.taken, used)
        self._count(outcome, reply)
        check_bill(cost, reservation, self.asker.tariff)
        return outcome

    def _refuse(self, reservation: Reservation, entry: dict[str, Any]) -> None:
        """Keep a refusal as the answer, if the endpoint is known to answer."""
        journal = self.asker.journal
        with self._lock:
            if not self.tally.replies["answered"] and not self.tally.replies["invalid"]:
                self._refused[reservation.key] = entry
        if reservation.key in self._refused:
            journal.settle(reservation, "free")
        else:
            journal.settle(reservation, "answered", cost=0, answer=entry)

    def _keep_refusals(self) -> None:
        with self._lock:
            refused, self._refused = self._refused, {}
        for key, entry in refused.items():
            reservation = self.asker.journal.reserve(key, 0)
            if isinstance(reservation, Reservation):  # else another process has asked it
                self.asker.journal.settle(reservation, "answered", cost=0, answer=entry)

    def _reply(self, ask: Ask, outcome: RequestOutcome) -> Reply | None:
        if outcome.kind == "answered":
            return self.asker.dialect.reply_about(ask.questions, outcome.body)
        if outcome.kind == "rejected":
            return Reply("refused", None, text=outcome.detail, usage=Usage(0, 0))
        return None

    def _count(self, outcome: RequestOutcome, reply: Reply | None) -> None:
        most = max(10, 3 * self.asker.concurrency)
        with self._lock:
            tally = self.tally
            tally.sent += outcome.kind != "unsent"
            tally.busy += outcome.kind == "busy"
            tally.lost += outcome.kind == "lost"
            tally.unsent += outcome.kind == "unsent"
            if reply is not None:
                tally.replies[reply.status] += 1
                tally.without_usage += reply.usage is None
                self._last_answer = time.monotonic()
            if reply is not None:
                self._failures = 0
            elif outcome.kind != "busy":
                self._failures += 1
            failures = self._failures
            silent = time.monotonic() - self._last_answer
            none_ever = not tally.replies["answered"] and not tally.replies["invalid"]
            refused = len(self._refused) if none_ever else 0
        if outcome.kind == "rejected" and refused >= _MOST_REFUSED and not self.asker.journal.has_replies():
            raise takes_nothing(outcome.detail)
        if outcome.kind != "rejected" and (failures >= most or silent > self.asker.patience):
            raise TransientError(
                f"the language model's endpoint must answer; {failures} requests in a row failed, and it was "
                f"silent for {silent:.0f} s",
                got=outcome.detail,
                remedy="what it has answered is kept; try again when it answers",
            )

    def _wait_as_asked(self, outcome: RequestOutcome, told_later: int, left: float) -> bool:
        """Wait, if it is asked again.

        :param outcome: when to come.
        :param told_later: how often in a row it was told to.
        :param left: seconds for which this request is still asked.
        :return: whether it is.
        """
        seconds = min(self.asker.pause if outcome.retry_after is None else outcome.retry_after, 3600.0)
        if told_later <= _OWN_REFUSALS:
            self.asker.limits.pause(seconds)
            self._sleep(random.uniform(0, 0.05))  # noqa: S311 (no secret)
            return True
        # The others need not wait for what may be too large for the endpoint at any time.
        seconds = max(seconds, min(_LONGEST_PAUSE, 0.01 * 2**told_later))
        if seconds > left:
            return False
        self._sleep(seconds)
        return True

    def _leave(self, key: str, why: Unanswered) -> None:
        with self._lock:
            self.tally.unanswered[key] = why

    def _sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.stop.wait(seconds)


@dataclass(frozen=True)
class _Sendable:
    reservation: Reservation
    taken: float


def takes_nothing(detail: str) -> ConfigError:
    """Return the error for an endpoint that refuses every request.

    :param detail: one of its refusals.
    :return: the error.
    """
    return ConfigError(
        "the language model's endpoint must take the requests",
        got=detail,
        remedy="see the model's name, the dialect and the parameters; nothing was answered yet",
    )


def check_bill(cost: int | None, reservation: Reservation, tariff: Tariff) -> None:
    """Check that a request was not billed above its worst case.

    :param cost: what was billed, in units; None: unknown.
    :param reservation: of the request.
    :param tariff: what the units are.
    :raises ConfigError: if it was.
    """
    if cost is not None and cost > reservation.cost:
        raise ConfigError(
            "an endpoint must not bill more than a request's worst case, or no budget can hold",
            got=f"{tariff.shown(cost):g} instead of {tariff.shown(reservation.cost):g} {tariff.unit} at most",
            remedy="use a model that keeps to max_tokens, such as one without hidden reasoning",
        )


def answer_entry(reply: Reply, cost: int | None, reservation: Reservation) -> dict[str, Any]:
    """Return what the journal keeps of an answer.

    :param reply: what the endpoint said.
    :param cost: what was billed, in units; None: unknown.
    :param reservation: of the request.
    :return: the entry, as JSON.
    """
    usage = reply.usage
    entry = {
        **_said(reply),
        "model": reply.model,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "units": reservation.cost if cost is None else cost,
    }
    parts = (
        {} if reply.parts is None else {"parts": {name: _said(part) for name, part in reply.parts.items()}}
    )
    return entry | parts


def _said(reply: Reply) -> dict[str, Any]:
    return {
        "status": reply.status,
        "label": reply.label,
        "probabilities": None if reply.probabilities is None else dict(reply.probabilities),
        "text": reply.text,
    }
