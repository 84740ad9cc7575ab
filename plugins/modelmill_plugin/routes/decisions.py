"""Decisions: search a row by its key, read why it was decided so."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from modelmill.tables.preview import rows_with, shown_value
from modelmill_plugin.errors import error_responses
from modelmill_plugin.routes.tables import Uri, shown_place
from modelmill_plugin.security import EDIT

router = APIRouter(tags=["decisions"])


class FoundDecision(BaseModel):
    """A decision of a table."""

    decision: dict[str, Any] = Field(
        description="All columns of the row; the explanation with its structure."
    )
    text: str = Field(description="The explanation, for people; empty where the table has none.")


class FoundDecisions(BaseModel):
    """The rows that have a key."""

    table: str
    version: int
    rows: list[FoundDecision] = Field(description="At most 100.")
    is_cut: bool = Field(description="Whether the table has more rows with this key.")


@router.get("/decisions", dependencies=[EDIT], responses=error_responses())
def find_decisions(
    uri: Uri,
    column: Annotated[str, Query(min_length=1, max_length=250, description="Column with the key.")],
    key: Annotated[str, Query(max_length=1000)],
    version: Annotated[int | None, Query(ge=0, description="Version; null: the newest.")] = None,
) -> FoundDecisions:
    """Return the rows of a table that have a key, with the explanation of the decision where there is one."""
    found = rows_with(shown_place(uri), column=column, key=key, version=version)
    rows = [_found(row) for row in found.rows]
    return FoundDecisions(table=found.uri, version=found.version, rows=rows, is_cut=found.is_cut)


def shown_decision(decision: dict[str, Any]) -> dict[str, Any]:
    """Return a decision as JSON; the explanation keeps its structure.

    :param decision: a row of decisions, as Arrow gives it.
    :return: the same.
    """
    return {name: value if name == "explanation" else shown_value(value) for name, value in decision.items()}


def _found(row: dict[str, Any]) -> FoundDecision:
    text = ""
    if isinstance(row.get("explanation"), dict) and "because" in row:
        from modelmill.rules.explanation.rendering import explanation_text

        text = explanation_text(row)
    return FoundDecision(decision=shown_decision(row), text=text)
