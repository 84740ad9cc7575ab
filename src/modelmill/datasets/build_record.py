"""What a build of a dataset says of itself in its commit: enough to process only changes the next night."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from modelmill.datasets.options import BuildDatasetConfig
from modelmill.datasets.preparation import Plan
from modelmill.datasets.summary import Summary

if TYPE_CHECKING:
    from modelmill.tables.commits import DataFile

INDEX = "_index"
"""Folder of a dataset's table for the prepared rows of its source, which incremental builds compare with.
Delta ignores folders that begin with ``_``."""

ALGORITHM = 4
"""Goes up with every change of what becomes of a row: older builds are then not continued."""


class IndexFile(BaseModel):
    """A file of the index."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    """Relative to the table's directory."""
    rows: int
    sha256: str


class Fates(BaseModel):
    """How many rows had which fate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows_in: int
    reasons: dict[str, int]
    """Quarantined rows by reason."""
    states: dict[str, int]
    """Rows by what was decided of them: duplicate, near-duplicate, leak, near-leak."""


class Build(BaseModel):
    """One build."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operation: str = "build_dataset"
    source: str
    """The table's place."""
    source_version: int
    algorithm: int = 0
    """See :data:`ALGORITHM`; 0 for builds that did not say it."""
    recipe: str
    """See :func:`recipe`."""
    mode: str
    """``full`` or ``incremental``."""
    own_validation: bool
    settled: bool
    """Whether changes can be processed on top: not if a class had no train rows, or too much is crowded."""
    crowded: tuple[int, ...]
    """Buckets of similar texts from which not all pairs were looked at."""
    fates: Fates
    summary: Summary
    quarantine_version: int
    index: tuple[IndexFile, ...]
    """The prepared rows; empty if the source has no change data feed."""
    decisions: tuple[IndexFile, ...]
    """What was decided of those that are not simply kept."""


def recipe(config: BuildDatasetConfig, plan: Plan) -> str:
    """Return what a build depends on besides the rows.

    :param config: the step's configuration.
    :param plan: how rows are prepared.
    :return: SHA-256 over the configuration, the source's columns and the version of the algorithm.
    """
    content: list[Any] = [ALGORITHM, config.model_dump(mode="json", exclude={"to", "incremental"})]
    content.append([[field.name, str(field.type)] for field in plan.schema])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def index_files(place: str, files: list[DataFile]) -> tuple[IndexFile, ...]:
    """Describe files of an index.

    :param place: the table's directory.
    :param files: the files.
    :return: with their digests.
    """
    from modelmill.tables.reading import file_digests

    digests = file_digests(place, [file.path for file in files])
    return tuple(IndexFile(path=file.path, rows=file.rows, sha256=digests[file.path]) for file in files)
