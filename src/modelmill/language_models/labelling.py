"""Labelling a table with a language model: plan, pilot, forecast, ask, hold to gold, write."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modelmill.artifacts import TableRef
from modelmill.errors import ConfigError, DatasetError, TableError, TransientError
from modelmill.language_models.answers import AnswerOrigin, LabelAnswer, keep_answers, known_answers
from modelmill.language_models.asker import Ask, Asker, Tally
from modelmill.language_models.batches import BatchAsker
from modelmill.language_models.dialects import DIALECTS, Dialect, prompt_digest
from modelmill.language_models.forecast import Forecast, forecast
from modelmill.language_models.gold import GoldReport, GoldRow, held_to_gold
from modelmill.language_models.journal import Journal
from modelmill.language_models.labelled_rows import (
    LabellingOutcome,
    decide,
    write_labelled,
    write_review,
)
from modelmill.language_models.labelling_task import LlmLabelling, check_names
from modelmill.language_models.leaving import check_gold, check_leaving
from modelmill.language_models.options import RowSelection
from modelmill.language_models.pilot import check_pilot
from modelmill.language_models.places import Place
from modelmill.language_models.plan import Plan, Planner
from modelmill.language_models.prices import Tariff
from modelmill.language_models.rate_limits import RateLimits
from modelmill.language_models.report import (
    AnyLlmReport,
    Bill,
    Labelled,
    SignalReport,
    forecast_line,
    told,
)
from modelmill.language_models.room import check_room
from modelmill.language_models.selection import SelectableContent, Selected, select_in_rounds, units_of
from modelmill.language_models.votes import Vote, vote
from modelmill.system.disk import try_write
from modelmill.tables.opening import table_schema
from modelmill.workspace import Workspace


class AnyAsker(Protocol):
    """Asks an endpoint, one request after the other or in batches."""

    def ask(self, requests: Iterable[Ask], *, on_answer: Callable[[], None]) -> Tally:
        """See :meth:`~modelmill.language_models.asker.Asker.ask`."""


class NobodyAsked:
    """Leaves requests as an earlier attempt, which has asked all that it could, has left them.

    Its tables may be written already, and answers that come later would be paid for and not be in them.
    """

    def __init__(self, unanswered: Mapping[str, str]) -> None:
        self._unanswered = unanswered

    def ask(self, requests: Iterable[Ask], *, on_answer: Callable[[], None]) -> Tally:
        """See :meth:`~modelmill.language_models.asker.Asker.ask`."""
        tally = Tally()
        for one in requests:
            tally.unanswered[one.request.key] = self._unanswered.get(one.request.key, "lost")
            on_answer()
        return tally


MOST_LOST = 0.05
"""Share of the requests without an answer from which on a result is not made: a retry asks them again."""


@dataclass(frozen=True)
class LlmLabelled:
    """What was written."""

    table: TableRef
    disagreements: TableRef
    report: AnyLlmReport


def label_by_llm(labelling: LlmLabelling, *, workspace: Workspace, place: Place) -> LlmLabelled:
    """Label a table with a language model.

    :param labelling: the table, the question and the places.
    :param workspace: the journal is in its work directory, which all attempts have in common.
    :param place: where the language model answers.
    :return: the labelled table, the rows that a person should see, and what it cost.
    :raises ConfigError: if names collide, the forecast exceeds the budget, or the endpoint refuses.
    :raises TableError: if a table cannot be read or written, or has no such column.
    :raises DatasetError: if the table has no rows.
    :raises WaitingError: if it was asked in batches that have not ended: call it again when they have.
    :raises TransientError: if the endpoint does not answer; what it has answered is kept.
    """
    check_names(labelling)
    table = labelling.table
    options = labelling.options
    check_leaving(table_schema(table), options.columns, place=str(table))
    for signal in options.by_name.values():
        if signal.gold is not None:
            check_gold(table, signal.gold, signal.labels, needed=signal.precision is not None)
    work = Attempt.of(labelling, workspace)
    if not work.plan.rows:
        raise DatasetError(
            "a table to label must have rows", got=str(labelling.table), remedy="see what fills it"
        )
    work.ask(place)
    return work.written()


@dataclass
class Attempt:
    """One attempt at labelling a table: rows are planned, then asked about, then written."""

    labelling: LlmLabelling
    workspace: Workspace
    planner: Planner
    plan: Plan
    tariff: Tariff
    known: dict[str, LabelAnswer] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    selected: Selected | None = None
    forecast: Forecast | None = None
    bill: Bill | None = None

    @classmethod
    def of(cls, labelling: LlmLabelling, workspace: Workspace) -> Attempt:
        """Read the table, and plan its requests."""
        options = labelling.options
        dialect: Dialect = DIALECTS.load(options.asking.dialect)()
        asked = options.questionnaires(together=dialect.takes_several)
        parameters = labelling.parameters(questions=len(asked[0].questions))  # as many as the others have
        planner = Planner(labelling.table, options, dialect, asked, parameters)
        tariff = Tariff.of(options.budget, options.prices)
        return cls(labelling, workspace, planner, planner.plan(), tariff)

    def ask(self, place: Place) -> None:
        """Ask what is not known, and keep the answers in their table, whatever happens."""
        self.known = known_answers(self.labelling.answers, self.plan.sizes, together=self.planner.together)
        before = frozenset(self.known)
        with Journal(self.workspace.workdir / "journal", limit=self.tariff.limit) as journal:
            try:
                self._ask_all(place, journal)
            finally:
                keep_answers(self.labelling.answers, journal.answers(), self._origin(), self.tariff)
                self._take_answers(journal)
                self.bill = self._bill(journal, before)
        if not self.tally.unanswered or self._unanswered_path.exists():
            return
        self._check_lost()
        check_room(
            self.tally,
            self.plan,
            wanted=self._wanted(),
            per_minute=self.labelling.options.asking.tokens_per_minute,
            log=self.workspace.log,
        )
        try_write(self._unanswered_path, json.dumps(self.tally.unanswered))

    def _ask_all(self, place: Place, journal: Journal) -> None:
        self._take_answers(journal)
        todo = sorted(key for key in self.plan.sizes if key not in self.known)
        if not todo and self.labelling.options.select is None:
            return
        self.forecast = self._earlier_forecast()
        with self._asker(place, journal) as asker:
            selection = self.labelling.options.select
            if selection is None:
                self._log_worst_case(todo, journal)
                self._ask_with_pilot(asker, sorted(self.plan.sizes), todo, journal)
            else:
                self._ask_in_rounds(asker, selection, journal)

    @contextlib.contextmanager
    def _asker(self, place: Place, journal: Journal) -> Iterator[AnyAsker]:
        asking, planner = self.labelling.options.asking, self.planner
        if self._unanswered_path.exists():
            yield NobodyAsked(json.loads(self._unanswered_path.read_text()))
            return
        if asking.batch is not None:
            with place.batch_client(asking) as batches:
                yield BatchAsker(
                    client=batches,
                    dialect=planner.dialect,
                    parameters=planner.parameters,
                    journal=journal,
                    tariff=self.tariff,
                    folder=self.workspace.workdir / "batches",
                    batching=asking.batch,
                    questions_of=lambda key: planner.questionnaires[self.plan.numbers[key]].questions,
                    attempts=asking.attempts,
                    log=self.workspace.log,
                )
            return
        limits = RateLimits(
            self._limits_path(place), requests=asking.requests_per_minute, tokens=asking.tokens_per_minute
        )
        with place.client(asking) as client, limits:
            yield Asker(
                client=client,
                dialect=planner.dialect,
                parameters=planner.parameters,
                journal=journal,
                limits=limits,
                tariff=self.tariff,
                concurrency=asking.concurrency,
                attempts=asking.attempts,
            )

    def _ask_with_pilot(
        self, asker: AnyAsker, keys: Sequence[str], planned: Sequence[str], journal: Journal
    ) -> None:
        """Ask some keys; if there is no forecast yet, after a pilot, with one for all that is planned."""
        # What an earlier attempt at this result has asked belongs to the same pilot.
        mine = sorted(key for key in keys if key not in self.known or journal.is_known(key))
        if any(key not in self.known for key in mine) and self.forecast is None:
            # Keys are digests, so the first ones are a random sample.
            pilot = mine[: self.labelling.options.pilot_rows]
            self._ask_some(asker, [key for key in pilot if key not in self.known])
            self._take_answers(journal)
            if len(mine) > len(pilot):
                check_pilot(journal.answer(key) for key in pilot)
            self._check_forecast([key for key in planned if key not in self.known], journal)
            mine = mine[len(pilot) :]
        keys = [key for key in mine if key not in self.known]
        if keys:
            self._ask_some(asker, keys)
            self._take_answers(journal)

    def _ask_in_rounds(self, asker: AnyAsker, selection: RowSelection, journal: Journal) -> None:
        units = units_of(self.plan.signals.values(), self.planner.contents())
        asked, second_round = 0, 2 if any(unit.has_gold for unit in units) else 1
        rows = {row.keys[0]: number for number, row in enumerate(self.plan.rows) if row.keys}

        def ask(keys: Sequence[str], later: Sequence[str]) -> None:
            nonlocal asked
            if not keys:
                return
            planned = [*keys, *later]
            todo = [key for key in planned if key not in self.known]
            if not asked:
                self._log_worst_case(todo, journal)
            elif asked == second_round and not self._revised_path.exists():
                # The pilot's answers told little about which rows the rounds would be unsure of. Where the
                # pilot is still to come, its forecast is the only one: a later one counts what is open twice.
                if self.forecast is not None:
                    self._check_forecast(todo, journal)
                try_write(self._revised_path, "")
            self._ask_with_pilot(asker, keys, planned, journal)
            asked += 1

        def labels_of(unit: SelectableContent) -> list[str | None]:
            number = rows[unit.keys[0]]
            return [self._vote(name, found[number].keys).label for name, found in self.plan.signals.items()]

        self.selected = select_in_rounds(units, selection, ask=ask, labels_of=labels_of)

    def _ask_some(self, asker: AnyAsker, keys: Sequence[str]) -> None:
        wanted, done = frozenset(keys), 0

        def count() -> None:
            nonlocal done
            done += 1
            self.workspace.progress(done, len(wanted), what="language model's answers")

        tally = asker.ask(self.planner.asks(wanted), on_answer=count)
        self.tally.busy += tally.busy
        self.tally.without_usage += tally.without_usage
        self.tally.unanswered |= tally.unanswered
        self.tally.tokens_needed = max(self.tally.tokens_needed, tally.tokens_needed)

    def _log_worst_case(self, todo: Sequence[str], journal: Journal) -> None:
        if not journal.spent.accounted:
            found = self._forecast(todo, journal, {})
            self.workspace.log(f"before anything is sent: {forecast_line(found)}")

    def _check_forecast(self, todo: Sequence[str], journal: Journal) -> None:
        self.forecast = found = self._forecast(todo, journal, self.known)
        self.workspace.log(forecast_line(found))
        if not found.fits and self.labelling.options.over_budget == "refuse":
            raise ConfigError(
                "the forecast must be within the budget",
                got=forecast_line(found),
                remedy="raise the budget, label fewer rows, or say over_budget: spend; the pilot's answers "
                "are kept",
            )
        try_write(self._forecast_path, found.model_dump_json())

    @property
    def _forecast_path(self) -> Path:
        return self.workspace.workdir / "forecast.json"

    @property
    def _unanswered_path(self) -> Path:
        """Why there are no answers, by request, once all were asked about."""
        return self.workspace.workdir / "unanswered.json"

    @property
    def _revised_path(self) -> Path:
        """Once only: what was sent since is reserved at its worst case."""
        return self.workspace.workdir / "forecast_revised"

    def _earlier_forecast(self) -> Forecast | None:
        """Return what an earlier attempt has forecast after its pilot: a result has one pilot."""
        with contextlib.suppress(OSError, ValueError):
            return Forecast.model_validate_json(self._forecast_path.read_text())
        return None

    def _forecast(
        self, todo: Sequence[str], journal: Journal, answers: Mapping[str, LabelAnswer]
    ) -> Forecast:
        asking = self.labelling.options.asking
        return forecast(
            self.plan.sizes,
            todo,
            answers,
            tariff=self.tariff,
            max_tokens=self.planner.parameters.max_tokens,
            spent=journal.spent.accounted,
            per_minute=None if asking.batch is not None else asking.tokens_per_minute,
        )

    def _take_answers(self, journal: Journal) -> None:
        for key, entry in journal.answers():
            if key not in self.known:
                self.known[key] = LabelAnswer.of(entry)

    def _limits_path(self, place: Place) -> Path:
        model = hashlib.sha256(self.planner.parameters.model.encode()).hexdigest()[:12]
        return self.labelling.limits / f"{place.digest}-{model}"

    def _origin(self) -> AnswerOrigin:
        parameters, dialect = self.planner.parameters, self.planner.dialect
        digests = [
            prompt_digest(dialect, asked.questions, parameters) for asked in self.planner.questionnaires
        ]
        prompts = {key: digests[number] for key, number in self.plan.numbers.items()}
        return AnswerOrigin(dialect.name, parameters.model, prompts, self.planner.together)

    def _wanted(self) -> frozenset[str]:
        """Return the keys of the requests that rows need; where rows are selected, of those chosen."""
        if self.selected is None:
            return frozenset(self.plan.sizes)
        return frozenset(
            key
            for rows in self.plan.signals.values()
            for row, chance in zip(rows, self._inclusion() or (), strict=True)
            if chance is not None
            for key in row.keys
        )

    def _inclusion(self) -> list[float | None] | None:
        """Return each row's chance of being chosen, None if it was not; None where all are asked about."""
        if self.selected is None:
            return None
        chosen = self.selected.inclusion
        return [chosen.get(row.keys[0]) if row.keys else None for row in self.plan.rows]

    def _bill(self, journal: Journal, before: frozenset[str]) -> Bill:
        spent, show, wanted = journal.spent, self.tariff.shown, self._wanted()
        return Bill(
            unit=self.tariff.unit,
            budget=show(self.tariff.limit),
            accounted=show(spent.accounted),
            reserved_for_dead=show(spent.reserved),
            requests=len(wanted),
            from_table=len(before & wanted),
            answers=sum(1 for _ in journal.answers()),
            lost=spent.lost,
            orphans=spent.orphans,
            told_to_wait=self.tally.busy,
            without_usage=self.tally.without_usage,
        )

    def _check_lost(self) -> None:
        lost = sum(why == "lost" for why in self.tally.unanswered.values())
        wanted = len(self._wanted())
        if lost > MOST_LOST * wanted:
            raise TransientError(
                f"the endpoint must answer all but {MOST_LOST:.0%} of the requests",
                got=f"{lost:,} of {wanted:,} without an answer after all attempts",
                remedy="what it has answered is kept; try again when it answers",
            )

    def _vote(self, signal: str, keys: Sequence[str]) -> Vote:
        """Return the answers about a row; of what every row is asked, so that scores compare."""
        options = self.labelling.options
        asked = keys[: options.orders]
        if not asked:
            return Vote(None, 0.0)
        failures = [self.tally.unanswered.get(key, "lost") for key in asked if key not in self.known]
        return vote([self._answer(signal, key) for key in asked], failures, options.by_name[signal].labels)

    def _answer(self, signal: str, key: str) -> LabelAnswer | None:
        known = self.known.get(key)
        return None if known is None else known.about(signal)

    def _votes(self, signal: str) -> tuple[list[Vote], GoldReport | None]:
        options, how, rows = self.labelling.options, self.labelling.options.by_name[signal], []
        votes: list[Vote] = []
        seen: set[str] = set()
        for row in self.plan.signals[signal]:
            found = self._vote(signal, row.keys)
            votes.append(found)
            if row.gold is not None and row.keys and row.keys[0] not in seen:
                seen.add(row.keys[0])
                answers = [self._answer(signal, key) for key in row.keys]
                by_order = [answer for answer in answers if answer and answer.status == "answered"]
                rows.append(GoldRow(row.gold, found, tuple(answer.label for answer in by_order)))
        if how.gold is None:
            return votes, None
        report = held_to_gold(
            rows,
            tuple(how.labels),
            precision=how.precision,
            doubt=options.doubt,
            orders=options.all_orders([signal]),
        )
        return votes, report

    def _outcomes(self) -> tuple[dict[str, LabellingOutcome], dict[str, GoldReport | None]]:
        """Hold each signal's answers to its gold rows, and make labels of them."""
        outcomes, golds, inclusion = {}, {}, self._inclusion()
        for signal, rows in self.plan.signals.items():
            votes, gold = self._votes(signal)
            outcomes[signal], golds[signal] = decide(rows, votes, gold, inclusion=inclusion), gold
        return outcomes, golds

    def written(self) -> LlmLabelled:
        """Hold the answers to gold, and write both tables."""
        labelling, options = self.labelling, self.labelling.options
        outcomes, golds = self._outcomes()
        table = write_labelled(labelling.table, labelling.to, outcomes, transaction=labelling.transaction)
        disagreements, review = write_review(
            labelling.table,
            labelling.disagreements,
            outcomes,
            most=options.review_rows,
            transaction=labelling.transaction,
        )
        if self.bill is None:
            raise ValueError("rows are written after they were asked about")
        common = Labelled(
            source=str(labelling.table),
            model=options.asking.model,
            dialect=options.asking.dialect,
            columns=options.columns,
            rows=len(self.plan.rows),
            bill=self.bill,
            forecast=self.forecast,
        )
        reports = {
            name: SignalReport.of(outcome, review_rows=review[name], gold=golds[name])
            for name, outcome in outcomes.items()
        }
        for name, report in reports.items():
            if report.rows_counted != common.rows:
                got = f"{name}: {common.rows} and {report.rows_counted}"
                raise TableError("rows in = labelled + abstained + failed", got=got)
        return LlmLabelled(table, disagreements, told(common, reports, several=bool(options.signals)))
