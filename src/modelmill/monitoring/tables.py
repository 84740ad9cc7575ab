"""The tables that monitoring compares: scored rows, training rows, and held-out rows with answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import DatasetRef, ModelRef, TableRef
from modelmill.errors import ConfigError, DatasetError, TableError
from modelmill.monitoring.options import MonitorOptions
from modelmill.serving.scoring import RESULT_COLUMNS
from modelmill.tables.opening import table_schema
from modelmill.tables.reading import check_columns, read_arrow
from modelmill.tokens.cache import checked_contents
from modelmill.tokens.contents import BLANKS, CONTENTS, check_utf8
from modelmill.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

TRUTH = "modelmill_truth"
"""Column with the label of a scored row, null until it is known."""


@dataclass(frozen=True)
class MonitoredTables:
    """The scored table, and what it is compared with."""

    scored: TableRef
    dataset: DatasetRef
    """What the model learned from."""
    model: ModelRef
    labels: TableRef | None = None
    """Labels that came later; None: they are a column of the scored table, or there are none."""


@dataclass(frozen=True)
class HeldOut:
    """Rows of the dataset that the model did not learn from, and its answers to them."""

    texts: pa.ChunkedArray
    predictions: Sequence[Any]
    scores: Sequence[float]
    truth: Sequence[str]


def read_scored(tables: MonitoredTables, options: MonitorOptions) -> pa.Table:
    """Read the columns of the scored table that are needed.

    :param tables: labels that are a table of their own become the column :data:`TRUTH`.
    :param options: which columns.
    :return: the rows.
    :raises ConfigError: if the options and the tables do not go together.
    :raises TableError: if a table cannot be read, lacks a column, or has several labels for a row.
    """
    import pyarrow.compute as pc

    text = tables.dataset.text_column
    names = table_schema(tables.scored).names
    place = str(tables.scored)
    check_columns(names, [text, *RESULT_COLUMNS[:2]], place=place)
    if RESULT_COLUMNS[2] in names:
        _check_scored_by(tables)
    shared = options.columns or [name for name in _dataset_columns(tables.dataset) if name in names]
    wanted = [text, *RESULT_COLUMNS[:2], *shared]
    if options.time:
        wanted.append(options.time)
    elif options.label_delay_hours:
        raise ConfigError(
            "label_delay_hours needs the age of a row", remedy="name the column with its time under time"
        )
    if options.label and tables.labels is None:
        wanted.append(options.label)
    elif tables.labels is not None:
        if not (options.key and options.label):
            raise ConfigError(
                "a table of labels needs the columns key and label",
                got=str(tables.labels),
                remedy="name both in the configuration",
            )
        wanted.append(options.key)
    check_columns(names, wanted, place=place)
    table = read_arrow(tables.scored, columns=list(dict.fromkeys(wanted)))
    _check_texts(table.column(text), text, place)
    if options.label is None:
        return table
    if tables.labels is None:
        return table.append_column(TRUTH, _as_text(table.column(options.label), options.label, place))
    labels = read_arrow(tables.labels, columns=[str(options.key), options.label])
    keys = labels.column(str(options.key)).combine_chunks()
    if pc.count_distinct(keys).as_py() != len(keys):
        raise TableError(
            f"a row has one label: the keys of {tables.labels} must be unique",
            got=f"{len(keys)} rows with {pc.count_distinct(keys).as_py()} keys in {options.key!r}",
            remedy="keep the newest label of each key",
        )
    places = pc.index_in(table.column(str(options.key)).cast(keys.type), value_set=keys)
    truth = _as_text(labels.column(options.label), options.label, str(tables.labels))
    return table.append_column(TRUTH, truth.take(places))


def _check_scored_by(tables: MonitoredTables) -> None:
    import pyarrow.compute as pc

    column = read_arrow(tables.scored, columns=[RESULT_COLUMNS[2]]).column(0)
    others = [uri for uri in pc.unique(column).to_pylist() if uri not in (None, tables.model.uri)]
    if others:
        raise ConfigError(
            f"scores are compared with those of the model that gave them ({tables.scored})",
            got=f"rows scored by {others[0]}, and the model {tables.model.uri}",
            remedy="connect the model that score_table had, or score the table again",
        )


def _check_texts(texts: pa.ChunkedArray, name: str, place: str) -> None:
    """Check that scored texts can be compared with those of a dataset; a row may be without one."""
    if not CONTENTS["text"].fits(texts.type):
        raise TableError(
            f"the text column of a scored table must hold strings ({place})",
            got=f"{name}: {texts.type}",
            remedy="cast it when the table is made, and score it again",
        )
    rule, remedy = f"scored texts must be valid UTF-8 ({place})", "decode the texts when they are loaded"
    check_utf8(texts, name, rule=rule, error=TableError, remedy=remedy)


def _as_text(values: pa.ChunkedArray, name: str, place: str) -> pa.ChunkedArray:
    """Return labels as a dataset has them: without blanks around them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_nested(values.type) or pa.types.is_floating(values.type):
        raise ConfigError(
            f"quality is judged by a label of kind class: one class a row ({place})",
            got=f"{name}: {values.type}",
            remedy="leave label out, or name another column",
        )
    return pc.utf8_trim(values.cast(pa.string()), characters=BLANKS)


def _dataset_columns(dataset: DatasetRef) -> list[str]:
    """Return the dataset's columns that have no role: those that were carried along."""
    own = {dataset.key, dataset.text, dataset.image, dataset.split, *dataset.labels, *RESULT_COLUMNS}
    return [name for name in table_schema(dataset).names if name not in own]


def read_train(dataset: DatasetRef, options: MonitorOptions, scored: pa.Table) -> pa.Table:
    """Read the train split: the text, and the columns that are compared."""
    import pyarrow.compute as pc

    shared = options.columns or [name for name in _dataset_columns(dataset) if name in scored.column_names]
    wanted = list(dict.fromkeys([dataset.text_column, dataset.split, *shared]))
    table = read_arrow(dataset, columns=list(dict.fromkeys([*wanted, dataset.key])))
    table = table.filter(pc.equal(table.column(dataset.split), "train"))
    checked_contents(table, dataset, CONTENTS["text"])
    return table.select(wanted)


def read_held_out(tables: MonitoredTables, workspace: Workspace) -> HeldOut:
    """Read rows that the model did not learn from, and score them.

    :param tables: the dataset and the model.
    :param workspace: keeps the logits.
    :return: the test rows, or the validation rows if there is no test split.
    :raises DatasetError: if the dataset has neither.
    """
    import pyarrow as pa

    from modelmill.evaluation.logits import cached_logits
    from modelmill.evaluation.rows import judged_label, labelled_rows
    from modelmill.models.bundle import BundleInfo
    from modelmill.registry.bundles import fetch_bundle

    dataset = tables.dataset
    folder = fetch_bundle(tables.model, workspace.cache)
    info = BundleInfo.load(folder)
    label = judged_label(dataset, [info])
    for split in ("test", "validation"):
        rows = labelled_rows(dataset, split, label)
        if rows.texts:
            found = info.answers(
                cached_logits(tables.model, folder, dataset, split, workspace)[rows.labelled]
            )
            truth = [str(value) for value in rows.values]
            return HeldOut(pa.chunked_array([rows.texts], pa.string()), *found, truth)
    raise DatasetError(
        "a dataset must have test or validation rows to compare scores with",
        got=str(dataset),
        remedy="change the split",
    )
