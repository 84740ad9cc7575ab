"""Tables: a look at one before it is used."""

from __future__ import annotations

import logging
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from modelmill.errors import InputError
from modelmill.pipeline.placeholders import substitute
from modelmill.settings import environment_params
from modelmill.tables.listing import list_tables
from modelmill.tables.preview import check_below, preview
from modelmill.tables.storage import table_location
from modelmill_plugin.errors import error_responses
from modelmill_plugin.security import EDIT
from modelmill_plugin.settings import table_roots

router = APIRouter(tags=["tables"])
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
