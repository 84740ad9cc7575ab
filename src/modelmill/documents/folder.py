"""Folders of documents, such as pipelines or rule sets: which files count, and what each is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import fsspec

from modelmill.documents.parsing import read_text
from modelmill.errors import ConfigError, DocumentError, Problem, shorten

SUFFIXES = (".yaml", ".yml", ".json")


class Named(Protocol):
    """What a document says once it has been checked."""

    @property
    def digest(self) -> str:
        """Changes with what it says, not with comments or the order of keys."""


ContentT = TypeVar("ContentT", bound=Named)


@dataclass(frozen=True)
class DocumentFile(Generic[ContentT]):
    """A file that has been read."""

    path: str
    """Relative to the folder: absolute paths differ between hosts and checkouts."""
    text: str
    """Empty where it could not be read."""
    content: ContentT | None
    """None: it is not valid."""
    problems: tuple[Problem, ...] = ()
    wanted: str = ""
    """Name that an invalid file asks for, if it asks for a possible one."""
    noun: ClassVar[str] = "document"
    """The field with its name, which is what it is called."""

    @property
    def stem(self) -> str:
        """The file's name without what a name cannot have."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", PurePosixPath(self.path).stem)

    @property
    def digest(self) -> str | None:
        """Digest of what it says; None if it is not valid."""
        return self.content.digest if self.content else None

    @property
    def name(self) -> str:
        """Its name; of an invalid file, the one it asks for, else that of the file."""
        return self.wanted or self.stem

    def refused(self, problem: str) -> Self:
        """Return the file as an invalid one.

        :param problem: what is wrong with it as a whole.
        :return: the file without its content.
        """
        refused = (Problem(0, 0, self.noun, problem),)
        return replace(self, content=None, problems=refused, wanted=self.name)


FileT = TypeVar("FileT", bound=DocumentFile[Any])


@dataclass(frozen=True)
class DocumentKind(Generic[FileT]):
    """What the files of a folder are."""

    noun: str
    """For messages, such as ``pipeline``."""
    variable: str
    """Environment variable that names the folder."""
    most_bytes: int
    error: type[DocumentError]
    make: Callable[[str, str], FileT]
    """From path and text to the file, valid or not."""
    unreadable: Callable[[str, tuple[Problem, ...]], FileT]
    """From path and problems to a file without text."""


def read_documents(folder: str, kind: DocumentKind[FileT]) -> tuple[dict[str, FileT], list[FileT]]:
    """Read every file below a folder; hidden files and folders are passed over.

    Of two files with the same name, the one whose file name is that name keeps it, else the first; the other
    one is invalid.

    :param folder: local folder or fsspec URL.
    :param kind: what the files are.
    :return: valid files by name, and the invalid ones.
    :raises ConfigError: if there is no such folder.
    """
    files = list(_files(folder, kind))
    valid: dict[str, FileT] = {}
    invalid = [file for file in files if file.content is None]
    named = [file for file in files if file.content]
    for file in sorted(named, key=lambda file: (file.stem != file.name, file.path)):
        first = valid.setdefault(file.name, file)
        if first is not file:
            message = f"a {kind.noun}'s name is unique; got {file.name!r}; see {first.path}"
            invalid.append(file.refused(message))
    return valid, sorted(invalid, key=lambda file: file.path)


def read_document(folder: str, name: str, kind: DocumentKind[FileT]) -> FileT | None:
    """Read the one file below a folder that keeps a name, if its file name is that name; no other is opened.

    :param folder: local folder or fsspec URL.
    :param name: the name.
    :param kind: what the files are.
    :return: the file, as :func:`read_documents` has it; None: only all the files together tell.
    :raises ConfigError: if there is no such folder.
    """
    for file in _files(folder, kind, stem=name):
        if file.content is not None and file.name == name:
            return file
    return None


def free_id(file: DocumentFile[Any], taken: Collection[str]) -> str:
    """Return the id of an invalid file.

    :param file: the file.
    :param taken: ids of other files.
    :return: the name it asks for, else its file name, else that with a number.
    """
    candidates = [file.name, file.stem, *(f"{file.stem}_{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _files(folder: str, kind: DocumentKind[FileT], *, stem: str | None = None) -> Iterator[FileT]:
    filesystem, root = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(root):
        raise ConfigError(
            f"the folder with the {kind.noun}s must exist",
            got=folder,
            remedy=f"make it, or set {kind.variable}",
        )
    root = root.rstrip("/")
    for path in sorted(filesystem.find(root)):
        relative = path.removeprefix(root).lstrip("/")
        hidden = any(part.startswith(".") for part in relative.split("/"))
        wanted = stem is None or PurePosixPath(relative).stem == stem
        if path.endswith(SUFFIXES) and wanted and not hidden:
            yield _file(filesystem.unstrip_protocol(path), relative, kind)


def _file(url: str, relative: str, kind: DocumentKind[FileT]) -> FileT:
    try:
        text = read_text(url, what=f"a {kind.noun}", most_bytes=kind.most_bytes, error=kind.error)
    except DocumentError as error:
        return kind.unreadable(relative, error.problems)
    try:
        return kind.make(relative, text)
    except Exception as error:  # a mistake of ours over one file must not hide the others
        message = f"the file must be a {kind.noun}; reading it ended with {type(error).__name__}: {error}"
        return kind.unreadable(relative, (Problem(0, 0, "", shorten(message, limit=500)),))
