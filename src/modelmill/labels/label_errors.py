"""Finding rows whose label is probably wrong, by confident learning.

C. G. Northcutt, L. Jiang and I. L. Chuang, *Confident learning: estimating uncertainty in dataset labels*,
Journal of Artificial Intelligence Research 70 (2021), as the library cleanlab implements it: a row is
suspicious if a model that has not seen it gives another label a higher probability than it gives, on average,
to rows of that label. The model is TF-IDF with logistic regression: fitted in seconds, and well calibrated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.errors import ConfigError, DatasetError
from modelmill.labels.options import LabelErrorOptions
from modelmill.system.imports import needing_extra
from modelmill.tables.commits import write_rows
from modelmill.tables.reading import read_arrow
from modelmill.tables.storage import table_location
from modelmill.tasks.examples import choose_label
from modelmill.tokens.cache import checked_contents
from modelmill.tokens.contents import CONTENTS

if TYPE_CHECKING:
    import pyarrow as pa

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RankedLabelErrors:
    """The rows whose label is probably wrong."""

    table: TableRef
    """Keys, texts, labels and what they should probably be, the most suspicious row first."""
    rows: int
    """Labelled rows of the split."""
    judged: int
    """Of these: rows that could be judged by the others."""
    suspicious: int
    """Of these: rows whose label is probably wrong; the table may have fewer."""


def rank_label_errors(
    dataset: DatasetRef, options: LabelErrorOptions, *, to: str, transaction: str
) -> RankedLabelErrors:
    """List the rows of a split whose label is probably wrong.

    :param dataset: the dataset.
    :param options: which labels are checked, and how.
    :param to: table to write.
    :param transaction: id under which the result is committed once.
    :return: the table, and how many rows were judged.
    :raises ConfigError: if cleanlab is not installed, or the label column is unknown.
    :raises DatasetError: if there are not enough rows to judge one by the others, or a row has no text.
    """
    with needing_extra("ranking label errors needs", "labels"):
        import cleanlab  # noqa: F401 (before anything is read)
    place = table_location(to)
    if place == dataset.uri:
        raise ConfigError("a table is not written over its source", got=place, remedy="name another table")
    rows, label = _labelled(options, dataset)
    labels = [str(value) for value in rows.column(label).to_pylist()]
    judged = np.array(judged_rows(labels, folds=options.folds))
    if len({labels[index] for index in judged}) < 2:
        raise DatasetError(
            f"two labels must have {options.folds} rows or more each in split {options.split} of {dataset}",
            got=f"{len(judged)} rows of such labels",
            remedy="set fewer folds, or check another split",
        )
    texts = checked_contents(rows, dataset, CONTENTS["text"]).to_pylist()
    known = [labels[index] for index in judged]
    classes = tuple(sorted(set(known)))
    probabilities = out_of_fold_probabilities([texts[index] for index in judged], known, folds=options.folds)
    found = find_label_errors(known, probabilities, classes)
    shown = found[: options.rows]
    table = _table(
        rows.select(list(dict.fromkeys([dataset.key, dataset.text_column, label]))).take(judged[shown]),
        [known[index] for index in shown],
        probabilities[shown],
        classes,
    )
    about = {"operation": "rank_label_errors", "source": str(dataset), "rows": table.num_rows}
    version = write_rows(place, table, mode="overwrite", transaction=transaction, metadata=about)
    return RankedLabelErrors(
        table=TableRef(uri=place, version=version),
        rows=len(labels),
        judged=len(judged),
        suspicious=len(found),
    )


def _table(rows: pa.Table, labels: Sequence[str], probabilities: Floats, classes: Sequence[str]) -> pa.Table:
    """Add the model's answers to rows: ``probabilities`` is ``(rows, classes)``."""
    import pyarrow as pa

    numbers = {name: number for number, name in enumerate(classes)}
    given = np.array([numbers[label] for label in labels], dtype=np.int64)
    best, places = probabilities.argmax(axis=1), np.arange(len(labels))
    columns = {
        "suggested_label": pa.array([classes[index] for index in best], pa.string()),
        "label_probability": pa.array(probabilities[places, given], pa.float64()),
        "suggested_probability": pa.array(probabilities[places, best], pa.float64()),
        "rank": pa.array(places + 1, pa.int64()),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return rows


def _labelled(options: LabelErrorOptions, dataset: DatasetRef) -> tuple[pa.Table, str]:
    import pyarrow.compute as pc

    label = choose_label(dataset, options.label)
    table = read_arrow(dataset, columns=[dataset.key, dataset.text_column, label, dataset.split])
    wanted = pc.and_(pc.equal(table.column(dataset.split), options.split), pc.is_valid(table.column(label)))
    return table.filter(wanted), label


def judged_rows(labels: Sequence[str], *, folds: int) -> list[int]:
    """Return the rows whose label has a row in every fold: the others cannot be judged by the rest."""
    counts = Counter(labels)
    return [index for index, label in enumerate(labels) if counts[label] >= folds]


def out_of_fold_probabilities(texts: Sequence[str], labels: Sequence[str], *, folds: int) -> Floats:
    """Return the probabilities that a model which has not seen a row gives to the labels.

    :param texts: the texts.
    :param labels: their labels; each stands in ``folds`` rows or more.
    :param folds: number of folds.
    :return: ``(rows, classes)``; the classes are sorted.
    :raises DatasetError: if the texts have no words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from threadpoolctl import threadpool_limits

    # Weak regularisation: TF-IDF rows are short, and a model that is never sure finds no errors.
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    try:
        # With threads, these small matrices take ten times the CPU time (Reuters R8: 48 s instead of 5 s).
        with threadpool_limits(1):
            found: Floats = cross_val_predict(
                model, list(texts), list(labels), cv=parts, method="predict_proba"
            )
    except ValueError as error:
        if "empty vocabulary" not in str(error):
            raise
        raise DatasetError(
            "the texts must have words of two letters or more", got=f"{len(texts)} rows without any"
        ) from error
    return found


def find_label_errors(
    labels: Sequence[str], probabilities: Floats, classes: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the rows whose label is probably wrong.

    :param labels: label of each row.
    :param probabilities: of a model that has not seen them, ``(rows, classes)``.
    :param classes: the classes of its columns.
    :return: numbers of the rows, the most suspicious first: the label's own probability decides.
    """
    from cleanlab.filter import find_label_issues

    numbers = {name: number for number, name in enumerate(classes)}
    given = np.array([numbers[label] for label in labels])
    issues = find_label_issues(
        given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1, verbose=False
    )
    return np.asarray(issues, dtype=np.int64)
