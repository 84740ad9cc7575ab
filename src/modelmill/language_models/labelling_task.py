"""A table to label with a language model: what is asked about its rows, and where everything goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import ConfigError
from modelmill.language_models.dialects import Parameters
from modelmill.language_models.labelled_columns import label_columns, review_columns
from modelmill.language_models.options import LlmLabellingOptions
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns
from modelmill.tables.storage import table_location
from modelmill.tables.write_checks import check_not_kept


@dataclass(frozen=True)
class LlmLabelling:
    """A table, what is asked about its rows, and where everything goes."""

    table: TableRef | DatasetRef
    options: LlmLabellingOptions
    to: str
    answers: str
    """The table of answers."""
    limits: Path
    """Folder with the state of the limits a minute, for all results that ask the same endpoint."""
    transaction: str
    fields: Mapping[str, JsonValue] = field(default_factory=dict)
    """More fields of each request than the options have: what answers follow from, too."""

    def parameters(self, *, questions: int) -> Parameters:
        """Return what is the same in every request.

        :param questions: how many each request holds.
        :return: the parameters.
        """
        asked = self.options.asking.parameters(questions=questions)
        return replace(asked, body={**asked.body, **self.fields})

    @property
    def disagreements(self) -> str:
        """The table for the rows that a person should see."""
        return f"{self.to}_disagreements"


def check_names(labelling: LlmLabelling) -> None:
    """Check the columns and places.

    :param labelling: the table, the question and the places.
    :raises ConfigError: if names collide, or the table would be written over itself.
    :raises TableError: if a column is missing, or a place is one that steps do not write to.
    """
    options, table = labelling.options, labelling.table
    names = table_schema(table).names
    gold = [signal.gold for signal in options.by_name.values() if signal.gold is not None]
    check_columns(names, [*options.columns, *gold], place=str(table))
    for label, signal in options.by_name.items():
        mine = label_columns(label, selected=options.select is not None)
        own = {name.lower() for name in (*mine, *review_columns(label))}
        taken = [name for name in names if name.lower() in own and not name == label == signal.gold]
        if taken:
            raise ConfigError(
                f"the columns of label {label!r} must not be in the table ({table})",
                got=", ".join(taken),
                remedy="choose another name under label or signals, or name the column under gold if it has "
                "labels by hand",
            )
    places = [table_location(place) for place in (labelling.to, labelling.disagreements, labelling.answers)]
    for place in places:
        check_not_kept(place)  # before anything is paid for
    if len({table_location(table.uri), *places}) < 4:
        raise ConfigError(
            "source, result and answers are different tables", got=labelling.to, remedy="name another table"
        )
