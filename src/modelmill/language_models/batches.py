"""Asking in batches: requests go out together, the step ends as waiting, and the same step takes the answers.

What is on the disk before the next thing happens: the reservation of each request, then the batch with its
keys, then the id of its file, then its own. So a process that dies before it has written the batch's id looks
for it at the endpoint, by a name that it gave it and by the file, and sends nothing a second time.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from modelmill.errors import ConfigError, WaitingError
from modelmill.language_models.asker import Ask, Tally, answer_entry, check_bill, takes_nothing
from modelmill.language_models.batch_endpoint import ENDED, Batch, BatchClient, BatchLine
from modelmill.language_models.dialects import Dialect, Parameters, Reply, Usage
from modelmill.language_models.journal import Journal, Reservation, Settlement
from modelmill.language_models.options import Batching
from modelmill.language_models.prices import Tariff
from modelmill.language_models.questions import Question
from modelmill.options import Record
from modelmill.system.disk import flush
from modelmill.system.locks import locked

_MOST_BYTES = 150_000_000
"""Of a batch's file: OpenAI takes 200 MB."""
_LISTED_SECONDS = 10.0
"""After which a batch that was made is certainly in the endpoint's list."""
_FEWEST_REFUSED = 5
"""Requests that are not taken, of a batch in which none is, that are no chance."""


class SubmittedBatch(Record):
    """A batch, as this result's folder has it."""

    name: str
    keys: tuple[str, ...]
    file: str | None = None
    """Id of the file with its requests; None: nothing was made of them."""
    id: str | None = None
    """At the endpoint; None: it may be there, or not."""
    has_ended: bool = False
    """Whether all of it is settled."""


@dataclass(frozen=True)
class BatchAsker:
    """All that is needed to ask in batches. For one process at a time, by a lock."""

    client: BatchClient
    dialect: Dialect
    parameters: Parameters
    journal: Journal
    tariff: Tariff
    folder: Path
    """Where the batches of this result are kept, for all its attempts."""
    batching: Batching
    questions_of: Callable[[str], Sequence[Question]]
    """The questions of a key."""
    attempts: int
    """Batches at most that one content goes into."""
    log: Callable[[str], None]

    def ask(self, requests: Iterable[Ask], *, on_answer: Callable[[], None] = lambda: None) -> Tally:
        """Take the answers of batches that have ended, and send what is still to be asked.

        :param requests: distinct ones. What the journal has answered is not asked again.
        :param on_answer: called for each of them that has an answer, or will have none.
        :return: what happened, when no batch is open; the answers are in the journal.
        :raises WaitingError: as long as one is.
        :raises ConfigError: if the endpoint takes no batches, or not these.
        :raises TransientError: if it does not answer.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):
            tally = Tally()
            self._free_unsent()
            still_open = [batch for one in self._open() if (batch := self._taken(one, tally)) is not None]
            if not still_open:
                still_open = self._send(requests, tally, on_answer)
            if still_open:
                raise self._waiting(still_open)
            return tally

    def _waiting(self, batches: list[Batch]) -> WaitingError:
        done, total = sum(batch.done for batch in batches), sum(batch.total for batch in batches)
        several = "a batch" if len(batches) == 1 else f"{len(batches)} batches"
        return WaitingError(
            f"waits for {several} of the language model, and looks every {self.batching.poll_seconds:g} s",
            got=f"{batches[0].id} {batches[0].status}; {done:,} of {total:,} requests are done",
            path=f"batches/{batches[0].id}",
            until=ENDED,
            seconds=self.batching.poll_seconds,
        )

    # What is on the disk.

    def _all(self) -> Iterator[SubmittedBatch]:
        for path in sorted(self.folder.glob("batch-*.json")):
            yield SubmittedBatch.model_validate_json(path.read_text())

    def _open(self) -> list[SubmittedBatch]:
        return [one for one in self._all() if not one.has_ended]

    def _keep(self, submitted: SubmittedBatch) -> None:
        path = self._state_path(submitted.name)
        aside = path.with_suffix(".new")
        aside.write_text(submitted.model_dump_json())
        flush(aside)
        aside.replace(path)
        flush(self.folder)

    def _state_path(self, name: str) -> Path:
        return self.folder / f"batch-{name}.json"

    def _lines_path(self, name: str) -> Path:
        return self.folder / f"requests-{name}.jsonl"

    def _free_unsent(self) -> None:
        """Give back what was reserved for batches of which nothing was sent: their process died before."""
        known = {one.name for one in self._all()}
        for name, reservations in self.journal.batches().items():
            if name not in known:
                self._settle(reservations, "free")
        for path in self.folder.glob("requests-*.jsonl"):
            if path.stem.removeprefix("requests-") not in known:
                path.unlink()

    # What the endpoint has.

    def _taken(self, submitted: SubmittedBatch, tally: Tally) -> Batch | None:
        """Settle a batch if it has ended; return it if it has not."""
        batch = self._found(submitted)
        if batch is None:  # it has never come there
            self.client.forget(submitted.file)  # should it come there all the same, nothing is answered
            self._settle(self._reserved(submitted).values(), "free")
            self._state_path(submitted.name).unlink()
            self._lines_path(submitted.name).unlink(missing_ok=True)
            return None
        if submitted.id is None:
            submitted = submitted.model_copy(update={"id": batch.id})
            self._keep(submitted)
            self._lines_path(submitted.name).unlink(missing_ok=True)
        if not batch.has_ended:
            return batch
        refusal = self._take(submitted, batch, tally)
        self._keep(submitted.model_copy(update={"has_ended": True}))
        self.client.forget(batch.input, batch.output, batch.errors)
        if refusal is not None:
            raise takes_nothing(refusal)
        if batch.status == "failed" and not batch.done:
            raise ConfigError(
                "the language model's endpoint must take a batch",
                got=batch.message or batch.status,
                remedy="nothing was billed; see the model's name, the dialect and the parameters",
            )
        return None

    def _found(self, submitted: SubmittedBatch) -> Batch | None:
        if submitted.id is not None:
            return self.client.look(submitted.id)
        found = self.client.find(submitted.name, submitted.file)
        # The state was written last when the file was there, just before the batch was asked for.
        wait = self._state_path(submitted.name).stat().st_mtime + _LISTED_SECONDS - time.time()
        if found is None and wait > 0:
            time.sleep(min(wait, _LISTED_SECONDS))
            found = self.client.find(submitted.name, submitted.file)
        return found

    def _take(self, submitted: SubmittedBatch, batch: Batch, tally: Tally) -> str | None:
        """Settle each request: at what its answer was billed; the others as the batch ended.

        :param submitted: the batch, as it is on the disk.
        :param batch: as the endpoint tells of it.
        :param tally: gets what happened.
        :return: a refusal, if the endpoint takes nothing: then none of them is kept as an answer.
        """
        reserved, answered = self._reserved(submitted), 0
        dear: list[tuple[int, Reservation]] = []
        refused: list[tuple[Reservation, Reply]] = []
        for line in self.client.lines(batch, requests=len(submitted.keys)):
            reservation = reserved.pop(line.name, None)
            if reservation is None:
                continue
            reply = self._reply(line)
            if reply is None:  # asked again
                tally.lost += line.may_be_billed
                how: Settlement = "lost" if line.may_be_billed else "free"
                self.journal.settle(reservation, how, together=True)
                continue
            answered += 1
            tally.replies[reply.status] += 1
            if line.status != 200:
                refused.append((reservation, reply))
                continue
            tally.without_usage += reply.usage is None
            cost = self.tariff.cost(reply.usage) if reply.usage else None
            self.journal.settle(
                reservation,
                "answered",
                cost=cost,
                answer=answer_entry(reply, cost, reservation),
                together=True,
            )
            if cost is not None and cost > reservation.cost:
                dear.append((cost, reservation))
        takes_none = len(refused) == answered >= _FEWEST_REFUSED and not self.journal.has_replies()
        for reservation, reply in refused:
            if takes_none:
                self.journal.settle(reservation, "free", together=True)
            else:
                entry = answer_entry(reply, 0, reservation)
                self.journal.settle(reservation, "answered", cost=0, answer=entry, together=True)
        # Of a batch that was completed each request has a line; one without may have been billed.
        self._settle(reserved.values(), "lost" if batch.status == "completed" else "free")
        tally.lost += len(reserved) if batch.status == "completed" else 0
        self.log(f"batch {batch.id} {batch.status}: {answered:,} of {len(submitted.keys):,} answered")
        for cost, reservation in dear[:1]:
            check_bill(cost, reservation, self.tariff)
        return refused[0][1].text if takes_none else None

    def _reply(self, line: BatchLine) -> Reply | None:
        if line.status == 200:
            return self.dialect.reply_about(self.questions_of(line.name), line.body)
        if line.status is not None and 400 <= line.status < 500 and line.status not in (408, 425, 429):
            shown = line.body[:300].decode(errors="replace")  # the cut may go through a letter
            return Reply("refused", None, text=f"status {line.status} {shown}", usage=Usage(0, 0))
        return None

    def _reserved(self, submitted: SubmittedBatch) -> dict[str, Reservation]:
        return {one.key: one for one in self.journal.batches().get(submitted.name, ())}

    def _settle(self, reservations: Iterable[Reservation], how: Settlement) -> None:
        for reservation in reservations:
            self.journal.settle(reservation, how, together=True)
        self.journal.flush()

    # What is sent.

    def _send(self, requests: Iterable[Ask], tally: Tally, on_answer: Callable[[], None]) -> list[Batch]:
        """Send what is not answered yet, as far as the budget reaches; return the batches."""
        tried = Counter(key for one in self._all() for key in one.keys)
        sent: list[Batch] = []
        unanswered: dict[str, str] = {}
        for draft in self._drafts(self._to_ask(requests, tried, unanswered, on_answer), unanswered):
            self.journal.flush()
            submitted = SubmittedBatch(name=draft.name, keys=tuple(draft.keys))
            self._keep(submitted)
            lines = self._lines_path(draft.name)
            file = self.client.upload(draft.name, lines)
            submitted = submitted.model_copy(update={"file": file})
            self._keep(submitted)
            batch = self.client.submit(draft.name, file, path=draft.path, window=self.batching.window)
            self._keep(submitted.model_copy(update={"id": batch.id}))
            lines.unlink()
            self.log(f"batch {batch.id}: {len(draft.keys):,} requests are sent")
            sent.append(batch)
        tally.unanswered |= unanswered
        return sent

    def _to_ask(
        self,
        requests: Iterable[Ask],
        tried: Mapping[str, int],
        unanswered: dict[str, str],
        on_answer: Callable[[], None],
    ) -> Iterator[Ask]:
        for ask in requests:
            key = ask.request.key
            if self.journal.is_known(key):
                on_answer()
            elif tried.get(key, 0) >= self.attempts:
                unanswered[key] = "lost"
                on_answer()
            else:
                yield ask

    def _drafts(self, asks: Iterable[Ask], unanswered: dict[str, str]) -> Iterator[_Draft]:
        """Write the files of batches, each request with a reservation.

        What the budget has no room for is asked when it has: answers are billed far below their worst case.
        """
        draft: _Draft | None = None
        for ask in asks:
            if draft is None:
                name = uuid.uuid4().hex
                draft = _Draft(name, ask.request.path, self._lines_path(name).open("wb"))
            cost = self.tariff.cost(self.dialect.worst_case(ask.request, self.parameters))
            reserved = self.journal.reserve(ask.request.key, cost, batch=draft.name)
            if not isinstance(reserved, Reservation):
                if reserved != "known":
                    unanswered[ask.request.key] = "budget"
                continue
            draft.add(ask)
            if len(draft.keys) == self.batching.requests or draft.size > _MOST_BYTES:
                yield draft.closed()
                draft = None
        if draft is not None:
            if draft.closed().keys:
                yield draft
            else:
                self._lines_path(draft.name).unlink()


@dataclass
class _Draft:
    """A batch's file while it is written."""

    name: str
    path: str
    file: BinaryIO
    keys: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, ask: Ask) -> None:
        head = {"custom_id": ask.request.key, "method": "POST", "url": f"/v1/{ask.request.path}"}
        # The body goes out as its bytes are: they are what the key is the digest of.
        line = json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"body":' + ask.request.body + b"}\n"
        self.size += self.file.write(line)
        self.keys.append(ask.request.key)

    def closed(self) -> _Draft:
        if not self.file.closed:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
        return self
