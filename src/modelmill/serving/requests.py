"""Requests for predictions: the service's own form, and those that MLflow's server takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field, model_validator

from modelmill.artifacts import ContentKind
from modelmill.errors import InputError
from modelmill.models.predictions import read_column
from modelmill.options import Record
from modelmill.tokens.contents import CONTENTS, Content

Contents = list[Content | None]
"""What a model reads of each row; None where the row has none."""
_ROW_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {"type": "null"},
        {
            "type": "object",
            "properties": {
                "text": {
                    "type": ["string", "null"],
                    "description": "The text, here or under the name of the column that the model was "
                    "trained on; without one (null, or blanks alone) the answer is null.",
                },
                "image": {
                    "type": ["string", "null"],
                    "description": "For models of images: the file (PNG, JPEG, WEBP, BMP, GIF, TIFF) in "
                    "base64, or as a data URL; likewise.",
                },
            },
        },
    ]
}


class RowError(InputError):
    """Rows without a text or image, or with something else in its place."""


class _RowsRequest(Record):
    """Rows: under ``rows``, as a plain list, or in a form that MLflow's server takes (``dataframe_records``,
    ``dataframe_split``, ``instances``, ``inputs``).
    """

    @model_validator(mode="before")
    @classmethod
    def _of_other_forms(cls, given: Any) -> Any:
        if isinstance(given, list):
            return {"rows": given}
        forms = [name for name in _FORMS if isinstance(given, dict) and name in given]
        if len(forms) != 1 or "rows" in given:
            return given  # the fields are checked next
        others = {name: value for name, value in given.items() if name != forms[0]}
        return {**others, "rows": _FORMS[forms[0]](given[forms[0]])}


class DecideRequest(_RowsRequest):
    """Rows to decide on."""

    rows: list[dict[str, Any]] = Field(min_length=1, description="Values by column; decided in their order.")
    explain: bool = Field(False, description="Whether each decision comes with its explanation.")


class PredictRequest(_RowsRequest):
    """Rows, and the signals to answer for each of them."""

    rows: list[Any] = Field(
        min_length=1,
        description="Texts, or rows with a text or an image; answered in their order.",
        json_schema_extra={"items": _ROW_SCHEMA},
    )
    signals: list[str] | None = Field(
        None, min_length=1, description="Registered models to ask; null, or left out: all that are served."
    )

    def contents(self, trained: str, kind: ContentKind = "text") -> Contents:
        """Return what one model reads of each row.

        :param trained: the column that the model was trained on.
        :param kind: what it reads.
        :return: of each row.
        :raises RowError: naming the rows that lack one, or have something else.
        """
        content = CONTENTS[kind]
        columns = {name for row in self.rows if isinstance(row, dict) for name in row}
        column = read_column(columns, trained, kind)
        found: Contents = []
        problems = []
        for number, row in enumerate(self.rows):
            if isinstance(row, dict) and column not in row:
                names = " or ".join(dict.fromkeys([column or trained, content.common]))
                problems.append(f"rows.{number}: must have the field {names}")
                continue
            try:
                found.append(content.of_json(row[column] if isinstance(row, dict) else row))
            except ValueError as error:
                place = f"rows.{number}.{column}" if isinstance(row, dict) else f"rows.{number}"
                problems.append(f"{place}: {error}")
        if problems:
            more = len(problems) - _MOST_PROBLEMS
            raise RowError("; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""))
        return found


def _split_rows(given: Any) -> Any:
    """Return the rows of ``dataframe_split``."""
    if not isinstance(given, dict) or not isinstance(given.get("data"), list):
        raise ValueError("dataframe_split is an object with columns and data")
    rows, columns = given["data"], given.get("columns")
    if columns is None:
        columns = [0]
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise ValueError("dataframe_split.data is a list of rows, each a list with one value a column")
    return (
        [row[0] for row in rows] if columns == [0] else [dict(zip(columns, row, strict=True)) for row in rows]
    )


def _columns_rows(given: Any) -> Any:
    """Return the rows of ``inputs`` or ``instances``: a list of them, or a list of values for each column."""
    if not isinstance(given, dict):
        return given if isinstance(given, list) else [given]
    columns = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    if len({len(values) for values in columns.values()}) > 1:
        raise ValueError("each column has as many values as the others")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


_FORMS: Mapping[str, Callable[[Any], Any]] = {
    "dataframe_records": lambda given: given,
    "dataframe_split": _split_rows,
    "inputs": _columns_rows,
    "instances": _columns_rows,
}
_MOST_PROBLEMS = 10
"""Problems of a request that its answer lists."""
