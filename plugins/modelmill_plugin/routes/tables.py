"""Tables: a look at one before it is used."""

from __future__ import annotations

import logging
import threading
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from modelmill.documents.names import NAME_PATTERN
from modelmill.errors import InputError, TableError
from modelmill.pipeline.placeholders import substitute
from modelmill.settings import environment_params
from modelmill.tables.conditional_append import Proposal, append_if
from modelmill.tables.csv_text import table_of_csv
from modelmill.tables.listing import list_tables
from modelmill.tables.preview import check_below, preview
from modelmill.tables.storage import table_exists, table_location
from modelmill_plugin.audit import record
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.security import EDIT, EDIT_ALL, User
from modelmill_plugin.settings import table_roots

router = APIRouter(tags=["tables"])

MOST_CHARACTERS = 3_000_000
"""What fits into a request; for larger files there is the component Ingest files."""
_UPLOADS = "${data}/uploads"
_READING = threading.BoundedSemaphore(2)
"""A file's cells take up to 200 MB while they are read."""
_log = logging.getLogger(__name__)

Uri = Annotated[
    str,
    Query(max_length=2000, description="Path or URI; ${name} stands for the deployment's parameter."),
]


class ColumnView(BaseModel):
    """A column of a table."""

    name: str
    type: str = Field(description="As Arrow calls it, such as string or list<double>.")
    nullable: bool


class ClassView(BaseModel):
    """Rows of one class."""

    value: str | None = Field(description="Null: rows without a label.")
    rows: int


class TableView(BaseModel):
    """A look at a table."""

    uri: str
    version: int
    rows: int | None = Field(description="Rows in all; null where the table's log does not say.")
    columns: list[ColumnView]
    sample: list[dict[str, Any]] = Field(description="First rows; long values are cut.")
    balance: dict[str, list[ClassView]] = Field(description="By label column: its classes, frequent first.")
    counted: int = Field(description="Rows in which classes were counted, from the beginning.")


class TablesView(BaseModel):
    """Tables that a form may offer."""

    uris: list[str] = Field(description="As a pipeline names them: ${data}/tickets; near the root first.")
    is_complete: bool = Field(description="Whether all folders could be looked into.")


class Upload(BaseModel):
    """A file that becomes a table."""

    name: str = Field(pattern=NAME_PATTERN, description="Of the table, below the folder of uploads.")
    text: str = Field(
        max_length=MOST_CHARACTERS, description="Content of a CSV file; its first line names the columns."
    )


class Uploaded(BaseModel):
    """The table that was made."""

    uri: str = Field(description="As a pipeline names it.")
    rows: int
    columns: list[str]


@router.get("/tables", dependencies=[EDIT], responses=error_responses())
def list_shown_tables() -> TablesView:
    """Return the tables below the places that may be shown."""
    params, uris, is_complete = environment_params(), [], True
    for root in table_roots():
        place = table_location(root)
        names = [name for name, value in params.items() if table_location(value) == place]
        shown = f"${{{min(names)}}}" if names else root.rstrip("/")
        try:
            listing = list_tables(root)
        except OSError as error:
            _log.warning("the folder of tables %s cannot be listed: %s", root, error)
            is_complete = False
            continue
        uris += [f"{shown}/{name}" if name else shown for name in listing.names]
        is_complete = is_complete and listing.is_complete
    return TablesView(uris=sorted(uris, key=lambda uri: (uri.count("/"), uri)), is_complete=is_complete)


# Whoever may edit pipelines can read these tables by running one; a viewer cannot.
@router.get("/tables/preview", dependencies=[EDIT], responses=error_responses())
def preview_table(
    uri: Uri,
    version: Annotated[int | None, Query(ge=0)] = None,
    label: Annotated[list[str] | None, Query(max_length=20)] = None,
    rows: Annotated[int, Query(ge=1, le=100)] = 20,
) -> TableView:
    """Return a table's schema, its first rows, and how many rows each class has."""
    shown = preview(shown_place(uri), version=version, labels=label or (), rows=rows)
    return TableView.model_validate(shown, from_attributes=True)


@router.post("/tables", dependencies=[EDIT_ALL], responses=error_responses(409))
def upload_table(body: Upload, user: User, session: SessionDep) -> Uploaded:
    """Make a table of a small CSV file. A table that is there is never changed."""
    uri = f"{_UPLOADS}/{body.name}"
    place = shown_place(uri)
    with _READING:
        rows = table_of_csv(body.text)
    taken = RefusedError(
        409, "a file becomes a new table", got=uri, remedy="there is one of this name: choose another name"
    )
    if table_exists(place):
        raise taken
    record(session, user, "upload_table", uri=uri, rows=rows.num_rows)

    def propose(table: object | None) -> Proposal | None:
        return Proposal(rows, {}) if table is None else None

    try:
        is_made = append_if(place, propose, schema=rows.schema)
    except TableError as error:  # of a table with other columns, if somebody else was faster
        raise (taken if table_exists(place) else error) from error
    if not is_made:
        raise taken
    return Uploaded(uri=uri, rows=rows.num_rows, columns=rows.column_names)


def shown_place(uri: str) -> str:
    """Return the place of a table that may be shown.

    :param uri: path or URI, with ``${name}`` for the deployment's parameters.
    :return: the place.
    :raises InputError: if a parameter has no value, or the table lies elsewhere.
    """
    place = substitute(uri, environment_params())
    if not isinstance(place, str):
        raise InputError("a table's place is text", got=place)
    return check_below(place, table_roots())
