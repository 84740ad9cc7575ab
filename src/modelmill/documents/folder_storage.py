"""The files of a folder of documents, on a local disk or in an object store."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import fsspec
from fsspec.implementations.local import LocalFileSystem

from modelmill.errors import StoreError, TransientError
from modelmill.system.disk import flush
from modelmill.system.locks import locked

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSIONS = ".versions"
"""Folder with the versions of all documents."""


class FolderStorage:
    """Whole-file writes, the lock, and errors in plain words.

    :param folder: local folder or fsspec URL.
    :param noun: what the documents are, such as ``pipeline``.
    :param variable: environment variable that names the folder.
    """

    def __init__(self, folder: str, *, noun: str, variable: str) -> None:
        self.folder = folder
        self.noun = noun
        self.variable = variable
        self.files: AbstractFileSystem
        self.files, root = fsspec.core.url_to_fs(folder)
        self.root: str = root.rstrip("/")

    def check_writable(self) -> None:
        """Check that a local folder can be written; other stores report it when something is written.

        :raises StoreError: if it is read-only.
        """
        if isinstance(self.files, LocalFileSystem) and not os.access(self.root, os.W_OK):
            raise self._error("written", PermissionError(errno.EACCES, os.strerror(errno.EACCES)))

    def write(self, path: str, content: bytes, *, exclusive: bool = False) -> None:
        """Write a whole file or nothing, as object stores always do.

        :param path: the file.
        :param content: its bytes.
        :param exclusive: fail if there is such a file.
        :raises OSError: if it cannot be written.
        """
        if not isinstance(self.files, LocalFileSystem):
            self.files.pipe_file(path, content, mode="create" if exclusive else "overwrite")
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

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of a local folder; in an object store the numbers of the versions decide alone."""
        if not isinstance(self.files, LocalFileSystem):
            yield
            return
        with contextlib.ExitStack() as stack:
            with self.errors("written"):
                stack.enter_context(locked(Path(self.root) / VERSIONS / ".lock"))
            yield

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Raise the errors of the file system as modelmill's own.

        :param what: ``read`` or ``written``.
        :yield: while files are used.
        :raises StoreError: if a retry cannot help.
        :raises TransientError: if it can.
        """
        try:
            yield
        except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise self._error(what, error) from error
        except OSError as error:
            if error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise self._error(what, error) from error
            raise TransientError(
                f"the folder of {self.noun}s must answer ({error})", got=self.folder, remedy="try again"
            ) from error

    def _error(self, what: str, error: OSError) -> StoreError:
        reason = error.strerror or str(error)
        return StoreError(
            f"the folder of {self.noun}s must be able to be {what} ({reason})",
            got=self.folder,
            remedy=f"give the API server's user the right to, or set {self.variable} to another folder",
        )
