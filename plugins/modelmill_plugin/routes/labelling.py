"""Labelling: people label the rows that a step has put forward, several at once, a key each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter
from fastapi import Path as InPath
from pydantic import BaseModel, Field, JsonValue

from modelmill.documents.names import NAME_PATTERN, Name
from modelmill.errors import InputError
from modelmill.labels.queue import MOST_CLASSES, LabelQueue, QueueRow
from modelmill.labels.queue_rows import take_rows
from modelmill.labels.queue_state import QueueState
from modelmill.labels.queue_store import Given
from modelmill.pipeline.placeholders import substitute
from modelmill.settings import Settings, environment_params
from modelmill.tables.preview import check_below
from modelmill_plugin.audit import record
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.security import EDIT_ALL, READ, User
from modelmill_plugin.settings import label_queues, table_roots

router = APIRouter(tags=["labelling"])

QueueName = Annotated[str, InPath(pattern=NAME_PATTERN, description="Name of the queue.")]

_MOST_PUT_FORWARD = 10_000
_MOST_HANDED = 20
_MOST_HELD = 50
_MOST_GIVEN = 200


class AgreementView(BaseModel):
    """How two people agree, or all pairs of people."""

    people: list[str] = Field(description="Two names; empty: all pairs together.")
    rows: int = Field(description="Rows that both have labelled.")
    share: float = Field(description="Share of them with the same label.")
    kappa: float | None = Field(
        description="Cohen's kappa: 1 is full agreement, 0 chance. Null: undefined, or labels are numbers."
    )


class QueueView(BaseModel):
    """A queue of rows that people label, and how far it is."""

    queue: LabelQueue
    table: str = Field(description="The table of labels: what the next night reads.")
    rows: int
    labelled: int = Field(description="Rows that somebody has labelled.")
    complete: int = Field(description="Rows that as many people have labelled as are wanted.")
    contested: int = Field(description="Rows that people labelled differently.")
    skipped: int = Field(description="Rows that somebody skipped and nobody has labelled.")
    people: dict[str, int] = Field(description="Rows that each person has labelled.")
    agreement: list[AgreementView]


class RowView(BaseModel):
    """A row that is handed to a person."""

    key: str
    text: str
    label: str | None = Field(description="The label that it has; null: none.")
    suggestion: str | None = Field(description="What functions or a model say; null: nothing.")
    why: str
    second: bool = Field(description="Whether two people label it.")


class HandedRows(BaseModel):
    """Rows that are with a person for ten minutes, and how far the queue is."""

    rows: list[RowView]
    who: str = Field(description="The person.")
    queue: QueueView


class HandRequest(BaseModel):
    """How many rows a person wants."""

    rows: int = Field(
        10, ge=0, le=_MOST_HANDED, description="Rows, those held among them; 0: none but those held."
    )
    holding: list[str] = Field(
        [], max_length=_MOST_HELD, description="Keys of rows in front of the person, to be kept for them."
    )


class PutForward(BaseModel):
    """A table whose rows are to be labelled."""

    name: Name
    table: str = Field(min_length=1, max_length=2000, description="Path or URI; ${name} is a parameter.")
    version: int | None = Field(None, ge=0, description="Version; null: the newest.")
    key: str = Field(min_length=1, max_length=250, description="Column that identifies a row.")
    text: str = Field(min_length=1, max_length=250, description="Column that people read.")
    label: str = Field(
        "", max_length=250, description="Name of what is labelled; empty: that of the label column found."
    )
    kind: Literal["class", "set", "number"] = "class"
    classes: list[str] = Field(
        [], description=f"At most {MOST_CLASSES:,}. Empty: the labels and suggestions in the table."
    )
    second_opinion: float | None = Field(
        None, ge=0, le=1, description="Share of the rows that two people label; null: the queue's, or none."
    )
    rows: int = Field(1000, ge=1, le=_MOST_PUT_FORWARD, description="The first rows of the table.")


class PutForwardAnswer(BaseModel):
    """What became of the rows."""

    queue: QueueView
    added: int
    left_out: int = Field(description="Rows without key or text, or with the key of an earlier row.")
    second_opinion_not_taken: float | None = Field(
        description="The share that was asked for, where the queue was there and keeps another."
    )


class GivenLabel(BaseModel):
    """One thing that a person did with a row."""

    id: str = Field(pattern="^[0-9A-Za-z-]{8,64}$", description="Unique: the same is kept once.")
    key: str
    action: Literal["label", "undo", "skip", "unskip"] = Field(
        description="undo takes the person's label back, unskip that they skipped the row."
    )
    value: JsonValue = Field(
        None, description="The class, the classes, or the number; null unless action is label."
    )


class GivenLabels(BaseModel):
    """What a person did, in its order."""

    given: list[GivenLabel] = Field(min_length=1, max_length=_MOST_GIVEN)
    who: str | None = Field(
        None, description="Who did it: nobody else's is kept in their name. Null: who is logged in."
    )


class OtherUserError(RefusedError):
    """What one person did, sent while another is logged in: it waits for the one who did it.

    :param did: who did it.
    :param user: who is logged in.
    """

    def __init__(self, did: str, user: str) -> None:
        rule = f"what {did} did is kept in the name of {did} alone"
        super().__init__(409, rule, got=f"the login of {user}", remedy=f"log in as {did}")


_MEANT: dict[str, Literal["label", "skip", "unskip"]] = {
    "label": "label",
    "undo": "label",
    "skip": "skip",
    "unskip": "unskip",
}


class KeptLabels(BaseModel):
    """What was kept."""

    kept: int = Field(description="Those that were not sent before.")
    queue: QueueView


@router.get("/labelling", dependencies=[READ], responses=error_responses())
def list_queues() -> list[QueueView]:
    """Return the queues of rows to label, the newest first."""
    store = label_queues()
    return [queue_view(store.state(queue.name)) for queue in store.queues()]


# As for a table's preview: whoever may edit pipelines can read these tables by running one.
@router.post("/labelling", dependencies=[EDIT_ALL], responses=error_responses())
def put_rows_forward(request: PutForward, user: User, session: SessionDep) -> PutForwardAnswer:
    """Put the first rows of a table forward: a new queue, or more rows of one."""
    place = substitute(request.table, environment_params())
    if not isinstance(place, str):
        raise InputError("a table's place is text", got=place)
    taken = take_rows(
        shown_table(place),
        key=request.key,
        text=request.text,
        most=request.rows,
        label=request.label,
        version=request.version,
    )
    queue = LabelQueue.of_fields(
        name=request.name,
        kind=request.kind,
        classes=() if request.kind == "number" else tuple(request.classes) or taken.classes,
        label=request.label or taken.label or "label",
        key=request.key,
        source=str(taken.source),
        second_opinion=request.second_opinion or 0.0,
    )
    answer = put_forward(queue, taken.rows, user, session)
    asked, kept = request.second_opinion, answer.queue.queue.second_opinion
    not_taken = asked if asked is not None and asked != kept else None
    return answer.model_copy(update={"left_out": taken.left_out, "second_opinion_not_taken": not_taken})


@router.get("/labelling/{name}", dependencies=[READ], responses=error_responses(404))
def read_queue(name: QueueName) -> QueueView:
    """Return how far a queue is, and how people agree."""
    return queue_view(label_queues().state(name))


@router.post("/labelling/{name}/rows", dependencies=[EDIT_ALL], responses=error_responses(404))
def hand_out_rows(name: QueueName, request: HandRequest, user: User) -> HandedRows:
    """Hand rows to the user, those already with them first; nobody else gets them for ten minutes."""
    who = user.get_name()
    rows, state = label_queues().hand_out(name, who, most=request.rows, holding=request.holding)
    shown = [RowView(**row.model_dump(), second=state.queue.wanted(row.key) > 1) for row in rows]
    return HandedRows(rows=shown, who=who, queue=queue_view(state))


@router.post("/labelling/{name}/labels", dependencies=[EDIT_ALL], responses=error_responses(404, 409))
def keep_labels(name: QueueName, request: GivenLabels, user: User, session: SessionDep) -> KeptLabels:
    """Keep what a person did: labels and skips, and that they were taken back; what is sent again, once."""
    if request.who is not None and request.who != user.get_name():
        raise OtherUserError(request.who, user.get_name())
    for one in request.given:
        if (one.value is None) == (one.action == "label"):
            raise InputError("a label has a value, and nothing else has", got=f"{one.action} {one.value}")
    store = label_queues()
    record(session, user, "label_rows", queue=name, rows=len(request.given))
    given = [Given(one.id, one.key, one.value, _MEANT[one.action]) for one in request.given]
    kept = store.give(name, user.get_name(), given)
    return KeptLabels(kept=kept, queue=queue_view(store.state(name)))


def shown_table(place: str) -> str:
    """Return the place of a table whose rows may be put forward.

    :param place: path or URI.
    :return: the place: below those that are shown, or in modelmill's home, where steps write.
    :raises TableError: if it lies elsewhere.
    """
    return check_below(place, [*table_roots(), str(Settings.from_environment().home)])


def put_forward(
    queue: LabelQueue, rows: Sequence[QueueRow], user: User, session: SessionDep
) -> PutForwardAnswer:
    """Put rows into a queue, and write down who did it.

    :param queue: what is asked.
    :param rows: the rows.
    :param user: who does it.
    :param session: Airflow's database.
    :return: the queue, and how many rows are new.
    """
    store = label_queues()
    record(session, user, "put_rows_forward", queue=queue.name, source=queue.source, rows=len(rows))
    added = store.put_forward(queue, rows, who=user.get_name())
    return PutForwardAnswer(
        queue=queue_view(store.state(queue.name)), added=added, left_out=0, second_opinion_not_taken=None
    )


def queue_view(state: QueueState) -> QueueView:
    """Return a queue as routes show it."""
    queue, progress = state.queue, state.progress()
    agreement = [
        AgreementView(
            people=list(one.people),
            rows=one.rows,
            share=one.share,
            kappa=None if queue.kind == "number" else one.kappa,
        )
        for one in state.agreements()
    ]
    return QueueView(
        queue=queue,
        table=label_queues().place(queue.name),
        agreement=agreement,
        rows=progress.rows,
        labelled=progress.labelled,
        complete=progress.complete,
        contested=progress.contested,
        skipped=progress.skipped,
        people=dict(progress.people),
    )
