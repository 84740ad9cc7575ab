"""Building a dataset of a table: from the rows that changed, or with Spark from all rows."""

from __future__ import annotations

from collections.abc import Callable

from modelmill.datasets.incremental import update
from modelmill.datasets.request import BuildDatasetRequest, BuildDatasetResult
from modelmill.datasets.source import check_options
from modelmill.jobs import run_job
from modelmill.settings import Settings


def build_dataset(
    request: BuildDatasetRequest, *, settings: Settings | None = None, log: Callable[[str], None] = print
) -> BuildDatasetResult:
    """Make a dataset and a table of quarantined rows.

    :param request: the source, the options and the place.
    :param settings: which Spark engine to use; None: from the environment.
    :param log: gets a line that says which rows are processed.
    :return: the dataset and the quarantined rows with their reasons.
    :raises ConfigError: if the options and the table's columns do not go together.
    :raises TableError: if the table cannot be read, or has no such column.
    :raises DatasetError: if the rows are not enough to learn from and to check on; nothing is written.
    """
    check_options(request.options, request.table, to=request.to)
    version = update(request, log=log)
    return request.result(version) if version is not None else run_job(request, settings=settings)
