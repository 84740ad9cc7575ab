"""A folder of documents, such as pipelines or rule sets, with every version that was ever saved.

``NAME.yaml`` is what others read. Beside it, ``.versions/NAME/00000001.json`` and so on hold each saved
text with its author and time; readers pass over hidden folders. A version's number is taken by creating
its file, which two savers cannot both do: the second one is told, on a local disk and on an object store.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Generic

from pydantic import ValidationError

from modelmill.documents.folder import DocumentKind, FileT, free_id, read_documents
from modelmill.documents.folder_storage import VERSIONS, FolderStorage
from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.versions import ConflictError, NotFoundError, Stored, Version, text_digest
from modelmill.errors import ConfigError, StoreError

OUTSIDE = "outside"
"""Author of a text that was put into the folder by other means than the store."""

_SAVING = timedelta(seconds=30)
"""A version that is this young and not yet the document's text is somebody's save under way."""


class VersionedFolder(Generic[FileT]):
    """Documents in a folder.

    :param folder: local folder or fsspec URL.
    :param kind: what they are.
    """

    def __init__(self, folder: str, kind: DocumentKind[FileT]) -> None:
        self.folder = folder
        self.kind = kind
        self._storage = FolderStorage(folder, noun=kind.noun, variable=kind.variable)

    def documents(self) -> dict[str, Stored[FileT]]:
        """Return every document by name, the invalid ones too.

        :return: in the order of the names.
        :raises ConfigError: if there is no such folder.
        :raises TransientError: if its store does not answer.
        """
        with self._storage.errors("read"):
            valid, invalid = read_documents(self.folder, self.kind)
        found = dict(valid)
        for file in invalid:
            found[free_id(file, found)] = file
        return {name: Stored(name, found[name]) for name in sorted(found)}

    def read(self, name: str) -> Stored[FileT]:
        """Return the document with a name; NotFoundError if there is none."""
        found = self.documents().get(name)
        if found is None:
            raise NotFoundError(
                f"the {self.kind.noun} must exist",
                got=name,
                remedy="it may have been deleted, see its versions",
            )
        return found

    def save(
        self, name: str, text: str, *, expected: str | None, author: str, message: str = ""
    ) -> Stored[FileT]:
        """Save a document's text as its next version.

        :param name: its name; of one that was never valid, what :meth:`documents` calls it.
        :param text: YAML or JSON of a valid document of that name.
        :param expected: :attr:`Stored.etag` of the text that was read; None: there must be none.
        :param author: who saves it.
        :param message: why.
        :return: the document.
        :raises DocumentError: if the text is not valid; the kind's own class.
        :raises ConfigError: if the name is not the text's.
        :raises StoreError: if the store cannot be written.
        :raises ConflictError: if somebody else has saved meanwhile.
        """
        noun = self.kind.noun
        self._check_size(text)
        made = self.kind.make("", text)
        if made.content is None:
            raise self.kind.error(made.problems)
        own = self._checked_name(made.name)
        with self._storage.lock():
            current = self._expected(name, expected, text)
            if own != name and (current is None or current.file.content is not None):
                raise ConfigError(
                    f"a {noun}'s name does not change when it is saved",
                    got=own,
                    remedy=f"keep {name!r}, or save it as a new {noun}",
                )
            if own != name and own in self.documents():
                raise ConfigError(f"a {noun}'s name is unique", got=own, remedy="choose another name")
            path = current.file.path if current else f"{own}.yaml"
            self._commit(name, current, text, author=author, message=message, made=made)
            with self._storage.errors("written"):
                self._storage.write(f"{self._storage.root}/{path}", text.encode())
        return Stored(own, replace(made, path=path))

    def delete(self, name: str, *, expected: str, author: str, message: str = "") -> None:
        """Delete a document; its versions stay.

        :param name: its name.
        :param expected: :attr:`Stored.etag` of the text that was read.
        :param author: who deletes it.
        :param message: why.
        :raises NotFoundError: if there is none.
        :raises ConflictError: if somebody else has saved meanwhile.
        """
        with self._storage.lock():
            current = self._expected(name, expected)
            if current is not None:
                made, text = current.file, current.file.text
                self._commit(name, current, text, author=author, message=message, made=made, deleted=True)
                with self._storage.errors("written"):
                    self._storage.files.rm_file(f"{self._storage.root}/{current.file.path}")

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a document, the oldest first; none of one that was never saved here.

        :param name: its name.
        :return: versions.
        :raises StoreError: if they cannot be read.
        """
        return [self._version(path) for path in self._version_paths(name)]

    def version(self, name: str, number: int) -> Version:
        """Return one version.

        :param name: the document's name.
        :param number: the version's number.
        :return: the version.
        :raises NotFoundError: if there is none of that number.
        """
        for path in self._version_paths(name):
            if path.endswith(f"/{number:08d}.json"):
                return self._version(path)
        raise NotFoundError(f"the {self.kind.noun} must have such a version", got=f"{name} version {number}")

    def text_of(self, name: str, digest: str) -> tuple[str, int | None] | None:
        """Return the text of a document that has a digest: what a run, or a model, was made by.

        :param name: the document's name.
        :param digest: digest of what the text says.
        :return: the text and its version's number (None: never saved here); None if it is not known.
        """
        for version in reversed(self.versions(name)):
            if version.digest == digest:
                return version.text, version.number
        with contextlib.suppress(NotFoundError):
            file = self.read(name).file
            if file.digest == digest:
                return file.text, None
        return None

    def check_writable(self) -> None:
        """Check that a local folder can be written; other stores report it when something is written.

        :raises StoreError: if it is read-only.
        """
        self._storage.check_writable()

    def _expected(self, name: str, expected: str | None, text: str = "") -> Stored[FileT] | None:
        """Return the present state, which must be the one that was read."""
        current = self.documents().get(name)
        if current is None and expected is not None:
            raise NotFoundError(
                f"the {self.kind.noun} must exist",
                got=name,
                remedy="somebody has deleted it: save it as a new one",
            )
        if (current.etag if current else None) != expected:
            author = self._last_author(name, current)
            raise ConflictError(self.kind.noun, name, current, author=author, text=text)
        with self._storage.errors("read"):
            unread = (
                current
                and not current.file.text
                and self._storage.files.size(f"{self._storage.root}/{current.file.path}")
            )
        if current and unread:
            raise StoreError(
                "a file that is replaced must be text, so that it can be kept as a version",
                got=current.file.path,
                remedy="move it out of the folder",
            )
        return current

    def _overtaken(self, name: str, other: Version, *, text: str) -> ConflictError:
        """Return the error of who wanted to save a text when somebody else's version was already written."""
        current = Stored(name, self.kind.make("", other.text))
        return ConflictError(self.kind.noun, name, current, author=other.author, text=text)

    def _last_author(self, name: str, current: Stored[FileT] | None) -> str:
        last = self._last_version(name)
        return last.author if last and current and last.etag == current.etag else "somebody"

    def _commit(
        self,
        name: str,
        current: Stored[FileT] | None,
        text: str,
        *,
        author: str,
        message: str,
        made: FileT,
        deleted: bool = False,
    ) -> None:
        """Write the version; what came into the folder by other means is kept as a version before it."""
        own = made.name if made.content else name
        last = self._last_version(own)
        head = current.etag if current else None
        if last and last.etag != head and last.parent == head and _is_young(last) and not last.deleted:
            raise self._overtaken(name, last, text="" if deleted else text)
        number = last.number + 1 if last else 1
        if current and (last is None or last.etag != head or last.deleted):
            found = Version(
                number=number,
                author=OUTSIDE,
                time=datetime.now(UTC),
                message="found in the folder",
                etag=current.etag,
                parent=last.etag if last else None,
                digest=current.file.digest,
                text=current.file.text,
            )
            self._create(own, found)
            number += 1
        version = Version(
            number=number,
            author=author,
            time=datetime.now(UTC),
            message=message,
            etag=text_digest(text),
            parent=head,
            digest=made.digest,
            deleted=deleted,
            text=text,
        )
        self._create(own, version)

    def _create(self, name: str, version: Version) -> None:
        folder = f"{self._storage.root}/{VERSIONS}/{self._checked_name(name)}"
        path = f"{folder}/{version.number:08d}.json"
        with self._storage.errors("written"):
            self._storage.files.makedirs(folder, exist_ok=True)
            try:
                content = version.sealed().model_dump_json(indent=1).encode()
                self._storage.write(path, content, exclusive=True)
            except OSError:  # stores say in different ways that there is such a file
                other = self._version(path) if self._storage.files.exists(path) else None
                if other is None:
                    raise
                refused = "" if version.deleted else version.text
                raise self._overtaken(name, other, text=refused) from None

    def _version_paths(self, name: str) -> list[str]:
        """Return the files of a document's versions, the oldest first."""
        if not re.fullmatch(NAME_PATTERN, name):  # a file that never had a possible name
            return []
        folder = f"{self._storage.root}/{VERSIONS}/{name}"
        with self._storage.errors("read"):
            self._storage.files.invalidate_cache()
            found = self._storage.files.find(folder) if self._storage.files.isdir(folder) else []
        return sorted(path for path in found if re.fullmatch(r"\d{8}\.json", path.split("/")[-1]))

    def _last_version(self, name: str) -> Version | None:
        paths = self._version_paths(name)
        return self._version(paths[-1]) if paths else None

    def _version(self, path: str) -> Version:
        with self._storage.errors("read"):
            content = self._storage.files.cat_file(path)
        found: Version | None = None
        cause: ValidationError | None = None
        try:
            found = Version.model_validate_json(content)
        except ValidationError as error:
            cause = error
        if found is None or not found.is_as_saved:
            raise ConfigError(
                f"a version of a {self.kind.noun} must be what was saved",
                got=path,
                remedy="it is damaged: restore it, or move it out of the folder",
            ) from cause
        return found

    def _check_size(self, text: str) -> None:
        noun, most, got = self.kind.noun, self.kind.most_bytes, len(text.encode())
        if got > most:
            raise ConfigError(f"a {noun} has at most {most:,} bytes", got=got, remedy="split it")

    def _checked_name(self, name: str) -> str:
        """Return a name that is one path component and nothing else."""
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"a {self.kind.noun}'s name has at most 63 of a-z, 0-9 and _, and begins with a letter",
                got=name,
                remedy="rename it",
            )
        return name


def _is_young(version: Version) -> bool:
    # One from a clock that is ahead is not young for as long as that: nobody could save.
    return abs(datetime.now(UTC) - version.time) < _SAVING
