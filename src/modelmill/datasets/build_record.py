"""What a build of a dataset says of itself in its commit: enough to process only changes the next night."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from modelmill.datasets.options import BuildOptions
from modelmill.datasets.prepared_columns import Preparation
from modelmill.datasets.summary import Summary
from modelmill.errors import TableError
from modelmill.tables.files import COMMIT_KEY, commit_actions, file_digests

if TYPE_CHECKING:
    from modelmill.tables.staged_files import DataFile

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


def recipe(options: BuildOptions, plan: Preparation) -> str:
    """Return what a build depends on besides the rows.

    :param options: what was chosen.
    :param plan: how rows are prepared.
    :return: SHA-256 over the options, the source's columns and the version of the algorithm.
    """
    chosen = set(BuildOptions.model_fields) - {"incremental"}
    content: list[Any] = [ALGORITHM, options.model_dump(mode="json", include=chosen)]
    content.append([[field.name, str(field.type)] for field in plan.schema])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def index_files(place: str, files: list[DataFile]) -> tuple[IndexFile, ...]:
    """Describe files of an index.

    :param place: the table's directory.
    :param files: the files.
    :return: with their digests.
    """
    digests = file_digests(place, [file.path for file in files])
    return tuple(IndexFile(path=file.path, rows=file.rows, sha256=digests[file.path]) for file in files)


def build_of(place: str, version: int) -> Build:
    """Return what the build says of itself that made a version of a dataset.

    :param place: the dataset's table.
    :param version: its version.
    :return: the build.
    :raises TableError: if that commit was not made by a build, or its log is gone.
    """
    found = find_build(place, version)
    if found is None:
        raise TableError(
            "a dataset's version must be made by build_dataset",
            got=f"{place}@{version}",
            remedy="build it again",
        )
    return found


def find_build(place: str, version: int) -> Build | None:
    """Return what the build says of itself, if that version was made by one of this release.

    :param place: the dataset's table.
    :param version: its version.
    :return: the build, or None.
    """
    for action in commit_actions(place, version) or ():
        content = action.get("commitInfo", {}).get(COMMIT_KEY, {}).get("build")
        if content is not None:
            try:
                return Build.model_validate(content)
            except ValidationError:  # another release
                return None
    return None
