"""The pipeline store: a folder of pipeline files with every version that was ever saved.

``NAME.yaml`` is what the loader reads. Beside it, ``.versions/NAME/00000001.json`` and so on hold each saved
text with its author and time; the loader passes over hidden folders. A version's number is taken by creating
its file, which two savers cannot both do: the second one is told, on a local disk and on an object store.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from modelmill.disk import flush
from modelmill.errors import ConfigError, PipelineError, StoreError, TransientError
from modelmill.locks import locked
from modelmill.pipeline.files import PipelineFile, free_id, read_folder
from modelmill.pipeline.spec import NAME_PATTERN, PipelineSpec
from modelmill.pipeline.validation import MAX_BYTES, parse_pipeline

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSIONS = ".versions"
OUTSIDE = "outside"
"""Author of a text that was put into the folder by other means than the store."""

_SAVING = timedelta(seconds=30)
"""A version that is this young and not yet the pipeline's text is somebody's save under way."""


class ConflictError(StoreError):
    """Somebody else has changed the pipeline.

    :param name: the pipeline.
    :param current: its present state; None if it is gone.
    :param author: who has changed it.
    :param text: the text that was to be saved.
    """

    def __init__(self, name: str, current: StoredPipeline | None, *, author: str, text: str) -> None:
        self.current = current
        self.author = author
        self.text = text
        super().__init__(
            "a pipeline is saved over the text that was read",
            got=name,
            remedy=f"{author} has changed it meanwhile: look at the difference, and save again",
        )


class NotFoundError(StoreError):
    """There is no such pipeline or version."""


class Version(BaseModel):
    """A text that was saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    """From 1, without gaps."""
    author: str
    time: AwareDatetime
    message: str = ""
    etag: str
    """SHA-256 of the text."""
    parent: str | None
    """:attr:`etag` of the text that it replaced; None if there was none."""
    digest: str | None
    """:attr:`~modelmill.pipeline.spec.PipelineSpec.digest`; None if the text was no valid pipeline."""
    deleted: bool = False
    """Whether the pipeline was deleted: the text is the last one."""
    text: str


@dataclass(frozen=True)
class StoredPipeline:
    """A pipeline as it is now."""

    dag_id: str
    file: PipelineFile

    @property
    def etag(self) -> str:
        """SHA-256 of the text: changes with every byte."""
        return text_digest(self.file.text)


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def difference(before: str, after: str, *, before_name: str = "before", after_name: str = "after") -> str:
    """Return what has changed, as a unified diff.

    :param before: one text.
    :param after: the other.
    :param before_name: what the first is called.
    :param after_name: what the second is called.
    :return: empty if they are the same.
    """
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), before_name, after_name, lineterm="", n=3
    )
    return "\n".join(lines)


class PipelineStore:
    """Pipelines in a folder.

    :param folder: local folder or fsspec URL.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._files: AbstractFileSystem
        self._files, root = fsspec.core.url_to_fs(folder)
        self._root: str = root.rstrip("/")

    def pipelines(self) -> dict[str, StoredPipeline]:
        """Return every pipeline by DAG id, the invalid ones too.

        :return: in the order of the ids.
        :raises ConfigError: if there is no such folder.
        :raises TransientError: if its store does not answer.
        """
        with self._answers("read"):
            valid, invalid = read_folder(self.folder)
        found = dict(valid)
        for file in invalid:
            found[free_id(file, found)] = file
        return {dag_id: StoredPipeline(dag_id, found[dag_id]) for dag_id in sorted(found)}

    def read(self, dag_id: str) -> StoredPipeline:
        """Return one pipeline.

        :param dag_id: its DAG id.
        :return: the pipeline.
        :raises NotFoundError: if there is none of that id.
        """
        found = self.pipelines().get(dag_id)
        if found is None:
            raise NotFoundError(
                "the pipeline must exist", got=dag_id, remedy="it may have been deleted, see its versions"
            )
        return found

    def save(
        self, dag_id: str, text: str, *, expected: str | None, author: str, message: str = ""
    ) -> StoredPipeline:
        """Save a pipeline's text as its next version.

        :param dag_id: the pipeline's DAG id; of a new one, its name.
        :param text: YAML or JSON of a valid pipeline of that name.
        :param expected: :attr:`StoredPipeline.etag` of the text that was read; None: there must be none.
        :param author: who saves it.
        :param message: why.
        :return: the pipeline.
        :raises PipelineError: if the text is no valid pipeline.
        :raises ConfigError: if the name is not the text's.
        :raises StoreError: if the store cannot be written.
        :raises ConflictError: if somebody else has saved meanwhile.
        """
        _check_size(text)
        spec = parse_pipeline(text)
        name = _checked_name(spec.pipeline)
        with self._exclusive():
            current = self._expected(dag_id, expected, text)
            if name != dag_id and (current is None or current.file.spec is not None):
                raise ConfigError(
                    "a pipeline's name does not change when it is saved",
                    got=name,
                    remedy=f"keep {dag_id!r}, or save it as a new pipeline",
                )
            if name != dag_id and name in self.pipelines():
                raise ConfigError("a pipeline's name is unique", got=name, remedy="choose another name")
            path = current.file.path if current else f"{name}.yaml"
            self._commit(dag_id, current, text, author=author, message=message, spec=spec)
            with self._answers("written"):
                self._write(f"{self._root}/{path}", text.encode())
        return StoredPipeline(name, PipelineFile(path, text, spec))

    def delete(self, dag_id: str, *, expected: str, author: str, message: str = "") -> None:
        """Delete a pipeline; its versions stay.

        :param dag_id: its DAG id.
        :param expected: :attr:`StoredPipeline.etag` of the text that was read.
        :param author: who deletes it.
        :param message: why.
        :raises NotFoundError: if there is none.
        :raises ConflictError: if somebody else has saved meanwhile.
        """
        with self._exclusive():
            current = self._expected(dag_id, expected)
            if current is not None:
                self._commit(dag_id, current, None, author=author, message=message, spec=current.file.spec)
                with self._answers("written"):
                    self._files.rm_file(f"{self._root}/{current.file.path}")

    def versions(self, dag_id: str) -> list[Version]:
        """Return the versions of a pipeline, the oldest first; none of one that was never saved here.

        :param dag_id: its DAG id.
        :return: versions.
        :raises StoreError: if they cannot be read.
        """
        return [self._version(path) for path in self._version_paths(dag_id)]

    def version(self, dag_id: str, number: int) -> Version:
        """Return one version.

        :param dag_id: the pipeline's DAG id.
        :param number: the version's number.
        :return: the version.
        :raises NotFoundError: if there is none of that number.
        """
        for path in self._version_paths(dag_id):
            if path.endswith(f"/{number:08d}.json"):
                return self._version(path)
        raise NotFoundError("the pipeline must have such a version", got=f"{dag_id} version {number}")

    def text_of(self, dag_id: str, digest: str) -> tuple[str, int | None] | None:
        """Return the text of a pipeline that has a digest: what a run, or a model, was made by.

        :param dag_id: the pipeline's DAG id.
        :param digest: :attr:`~modelmill.pipeline.spec.PipelineSpec.digest`.
        :return: the text and its version's number (None: never saved here); None if it is not known.
        """
        for version in reversed(self.versions(dag_id)):
            if version.digest == digest:
                return version.text, version.number
        with contextlib.suppress(NotFoundError):
            file = self.read(dag_id).file
            if file.spec and file.spec.digest == digest:
                return file.text, None
        return None

    def check_writable(self) -> None:
        """Make sure that a folder can be written; a store elsewhere says so only when it is tried.

        :raises StoreError: if it is read-only.
        """
        if isinstance(self._files, LocalFileSystem) and not os.access(self._root, os.W_OK):
            raise self._not("written", PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def _expected(self, dag_id: str, expected: str | None, text: str = "") -> StoredPipeline | None:
        """Return the present state, which must be the one that was read."""
        current = self.pipelines().get(dag_id)
        if current is None and expected is not None:
            raise NotFoundError(
                "the pipeline must exist", got=dag_id, remedy="somebody has deleted it: save it as a new one"
            )
        if (current.etag if current else None) != expected:
            author = self._last_author(dag_id, current)
            raise ConflictError(dag_id, current, author=author, text=text)
        with self._answers("read"):
            unread = (
                current and not current.file.text and self._files.size(f"{self._root}/{current.file.path}")
            )
        if current and unread:
            raise StoreError(
                "a file that is replaced must be text, so that it can be kept as a version",
                got=current.file.path,
                remedy="move it out of the folder",
            )
        return current

    def _last_author(self, dag_id: str, current: StoredPipeline | None) -> str:
        last = self._last_version(dag_id)
        return last.author if last and current and last.etag == current.etag else "somebody"

    def _commit(
        self,
        dag_id: str,
        current: StoredPipeline | None,
        text: str | None,
        *,
        author: str,
        message: str,
        spec: PipelineSpec | None,
    ) -> None:
        """Write the version; what came into the folder by other means is kept as a version before it."""
        name = spec.pipeline if spec else dag_id
        last = self._last_version(name)
        head = current.etag if current else None
        if last and last.etag != head and last.parent == head and _is_young(last) and not last.deleted:
            raise ConflictError(
                dag_id, StoredPipeline(dag_id, _file_of(last)), author=last.author, text=text or ""
            )
        number = last.number + 1 if last else 1
        if current and (last is None or last.etag != head or last.deleted):
            outside = current.file.spec.digest if current.file.spec else None
            found = Version(
                number=number,
                author=OUTSIDE,
                time=datetime.now(UTC),
                message="found in the folder",
                etag=current.etag,
                parent=last.etag if last else None,
                digest=outside,
                text=current.file.text,
            )
            self._create(name, found)
            number += 1
        kept = current.file.text if text is None and current else text or ""
        version = Version(
            number=number,
            author=author,
            time=datetime.now(UTC),
            message=message,
            etag=text_digest(kept),
            parent=head,
            digest=spec.digest if spec else None,
            deleted=text is None,
            text=kept,
        )
        self._create(name, version)

    def _create(self, name: str, version: Version) -> None:
        folder = f"{self._root}/{VERSIONS}/{_checked_name(name)}"
        path = f"{folder}/{version.number:08d}.json"
        with self._answers("written"):
            self._files.makedirs(folder, exist_ok=True)
            try:
                self._write(path, version.model_dump_json(indent=1).encode(), exclusive=True)
            except OSError:  # stores say in different ways that there is such a file
                other = self._version(path) if self._files.exists(path) else None
                if other is None:
                    raise
                raise ConflictError(
                    name, StoredPipeline(name, _file_of(other)), author=other.author, text=version.text
                ) from None

    def _write(self, path: str, content: bytes, *, exclusive: bool = False) -> None:
        """Write a whole file or nothing; an object store puts an object as a whole anyway."""
        if not isinstance(self._files, LocalFileSystem):
            self._files.pipe_file(path, content, mode="create" if exclusive else "overwrite")
            return
        target = Path(path)
        scratch = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            with scratch.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if exclusive and target.exists():  # nobody makes it meanwhile: the store is locked
                raise FileExistsError(target)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)
        flush(target.parent)

    def _version_paths(self, name: str) -> list[str]:
        """Return the files of a pipeline's versions, the oldest first."""
        if not re.fullmatch(NAME_PATTERN, name):  # a file that never had a pipeline's name
            return []
        folder = f"{self._root}/{VERSIONS}/{name}"
        with self._answers("read"):
            self._files.invalidate_cache()
            found = self._files.find(folder) if self._files.isdir(folder) else []
        return sorted(path for path in found if re.fullmatch(r"\d{8}\.json", path.split("/")[-1]))

    def _last_version(self, name: str) -> Version | None:
        paths = self._version_paths(name)
        return self._version(paths[-1]) if paths else None

    def _version(self, path: str) -> Version:
        try:
            with self._answers("read"):
                return Version.model_validate_json(self._files.cat_file(path))
        except ValidationError as error:
            raise ConfigError(
                "a version in the pipeline store must be what was saved",
                got=path,
                remedy="it is damaged: restore it, or move it out of the folder",
            ) from error

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the store's lock where it is a local folder; elsewhere the versions' numbers decide alone."""
        if not isinstance(self._files, LocalFileSystem):
            yield
            return
        with contextlib.ExitStack() as stack:
            with self._answers("written"):
                stack.enter_context(locked(Path(self._root) / VERSIONS / ".lock"))
            yield

    @contextlib.contextmanager
    def _answers(self, what: str) -> Iterator[None]:
        try:
            yield
        except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise self._not(what, error) from error
        except OSError as error:
            if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise self._not(what, error) from error
            raise TransientError(
                f"the pipeline store must answer ({error})", got=self.folder, remedy="try again"
            ) from error

    def _not(self, what: str, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        return StoreError(
            f"the pipeline store must be able to be {what} ({reason})",
            got=self.folder,
            remedy="give the API server's user the right to, or set MODELMILL_PIPELINES to another folder",
        )


def _file_of(version: Version) -> PipelineFile:
    spec = None
    with contextlib.suppress(PipelineError):
        spec = parse_pipeline(version.text)
    return PipelineFile("", version.text, spec)


def _is_young(version: Version) -> bool:
    return datetime.now(UTC) - version.time < _SAVING


def _check_size(text: str) -> None:
    if len(text.encode()) > MAX_BYTES:
        raise ConfigError(
            f"a pipeline has at most {MAX_BYTES:,} bytes", got=len(text.encode()), remedy="split it"
        )


def _checked_name(name: str) -> str:
    """Return a name that is one path component and nothing else."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(
            "a pipeline's name has at most 63 of a-z, 0-9 and _, and begins with a letter",
            got=name,
            remedy="rename it",
        )
    return name
