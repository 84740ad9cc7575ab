"""The record of a build in its commit: what the next build needs to process only changes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from modelmill.datasets.options import BuildOptions
from modelmill.datasets.prepared_columns import Preparation
from modelmill.datasets.summary import Summary
from modelmill.errors import TableError
from modelmill.options import Record
from modelmill.tables.files import COMMIT_KEY, commit_actions, commit_file, file_digests

if TYPE_CHECKING:
    from modelmill.tables.staged_files import DataFile

INDEX = "_index"
"""Folder in a dataset's table for the prepared rows of its source, which the next build compares with. Delta
ignores folders whose name begins with ``_``."""

ALGORITHM = 6
"""Raised when the same row would be treated otherwise: a build by other rules is not continued."""


_RECORD, _DIGEST = "build", "build_sha256"
"""Keys in what modelmill records about a commit."""


class IndexFile(Record):
    """A file of the index."""

    path: str
    """Relative to the table's directory."""
    rows: int
    sha256: str


class Fates(Record):
    """How many rows were refused, and how many another row stands for."""

    rows_in: int
    reasons: dict[str, int]
    """Quarantined rows by reason."""
    states: dict[str, int]
    """Rows that are left out, by the decision: duplicate, near-duplicate, leak, near-leak."""
    merged: dict[str, int] = {}
    """Kept rows whose copies disagree, by what a label is now: ``unknown:LABEL`` or ``median:LABEL``."""


class Build(Record):
    """The record of one build."""

    operation: str = "build_dataset"
    source: str
    """The table's place."""
    source_version: int
    source_state: str = ""
    """Of that version, see :func:`~modelmill.tables.versions.table_states`."""
    algorithm: int = 0
    """See :data:`ALGORITHM`; 0 for builds of before it was recorded."""
    recipe: str
    """See :func:`recipe`."""
    mode: str
    """``full`` or ``incremental``."""
    own_validation: bool
    similar_texts: float | None = None
    """Similarity from which two texts counted as one; None if only equal ones did."""
    settled: bool
    """Whether the next build may process only changes: not if a class had no train rows, or very many buckets
    are crowded."""
    crowded: tuple[int, ...]
    """Buckets of similar texts from which not all pairs were looked at."""
    fates: Fates
    summary: Summary
    quarantine_version: int
    duplicates_version: int
    index: tuple[IndexFile, ...]
    """The prepared rows; empty if the source has no change data feed."""
    decisions: tuple[IndexFile, ...]
    """Decisions on those that share something with others."""


def recipe(options: BuildOptions, plan: Preparation) -> str:
    """Return a digest of what a build depends on besides the rows.

    :param options: how the dataset is built.
    :param plan: how rows are prepared.
    :return: SHA-256 over the options, the source's columns and the version of the algorithm.
    """
    chosen = set(BuildOptions.model_fields) - {"incremental"}
    content: list[Any] = [ALGORITHM, options.model_dump(mode="json", include=chosen)]
    content.append([[field.name, str(field.type)] for field in plan.schema])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def index_files(place: str, files: list[DataFile]) -> tuple[IndexFile, ...]:
    """Describe files of an index."""
    digests = file_digests(place, [file.path for file in files])
    return tuple(IndexFile(path=file.path, rows=file.rows, sha256=digests[file.path]) for file in files)


def build_metadata(build: Build) -> dict[str, Any]:
    """Return what the commit of a build says of it: the record, and by what it is seen to be whole.

    :param build: the record.
    :return: metadata of the commit, JSON.
    """
    content = build.model_dump(mode="json")
    return {_RECORD: content, _DIGEST: _digest(content)}


def _digest(content: Any) -> str:
    """Return the SHA-256 of JSON. What writes the log may give a number's last digits otherwise."""
    text = json.dumps(_rounded(content), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _rounded(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _rounded(value) for name, value in content.items()}
    if isinstance(content, list):
        return list(map(_rounded, content))
    return f"{content:.12g}" if isinstance(content, float) else content


def build_of(place: str, version: int) -> Build:
    """Return the record of the build that made a version of a dataset.

    :param place: the dataset's table.
    :param version: its version.
    :return: the record.
    :raises TableError: if that commit was not made by a build, its log is gone, or the record is damaged.
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
    """Return the record of a build, if this release can read it.

    :param place: the dataset's table.
    :param version: its version.
    :return: the record; None if the version was made otherwise, or by another release.
    :raises TableError: if the record is damaged.
    """
    for action in commit_actions(place, version) or ():
        about = action.get("commitInfo", {}).get(COMMIT_KEY, {})
        content = about.get(_RECORD)
        if content is not None:
            # Releases of before it was recorded have no digest.
            if _DIGEST in about and about[_DIGEST] != _digest(content):
                raise TableError(
                    f"the record of a dataset's build must be as it was written ({place}@{version})",
                    got=commit_file(version),
                    remedy="restore the commit file from a copy, or build the dataset again",
                )
            try:
                return Build.model_validate(content)
            except ValidationError:  # another release
                return None
    return None
