"""Loading files into a Delta table, each exactly once: what is known before Spark starts, and the step."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.artifacts import TableRef
from modelmill.data.tables import open_table, table_exists, table_location
from modelmill.errors import TableError

if TYPE_CHECKING:
    from modelmill.data.components import IngestConfig
    from modelmill.pipeline.component import StepContext


@dataclass(frozen=True)
class SourceFile:
    """One file to load."""

    path: str
    """Absolute path or URI."""
    size: int
    """In bytes."""
    digest: str
    """SHA-256 of the content; for a remote file, of what its store gives as its identity."""

    @property
    def transaction(self) -> str:
        """Application transaction id: the same name with the same content is loaded once."""
        content = f"{self.path}\0{self.digest}"
        return "modelmill-file-" + hashlib.sha256(content.encode()).hexdigest()


def list_files(source: str) -> list[SourceFile]:
    """Find the files that a path or glob names.

    :param source: path, glob or fsspec URL. Names that begin with ``.`` or ``_`` are skipped, as Spark does.
    :return: the files in the order of their paths.
    :raises TableError: if the place cannot be read.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    try:
        store, pattern = fsspec.core.url_to_fs(table_location(source))
        found = {pattern: store.info(pattern)} if store.isfile(pattern) else store.glob(pattern, detail=True)
        local = isinstance(store, LocalFileSystem)
        files = []
        for path, info in sorted(found.items()):
            if info["type"] == "file" and not path.rsplit("/", 1)[-1].startswith((".", "_")):
                digest = _digest(path) if local else str(store.ukey(path))
                name = path if local else store.unstrip_protocol(path)
                files.append(SourceFile(path=name, size=int(info["size"]), digest=digest))
    except (OSError, ValueError, ImportError) as error:
        raise TableError(
            f"the files to load must be readable ({error})",
            got=source,
            remedy="check the path and its rights",
        ) from error
    return files


def _digest(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 (a path of the file system's own making)
        return hashlib.file_digest(file, "sha256").hexdigest()


def outside_state(config: IngestConfig) -> str:
    """Return the fingerprint of the files and of the table: the step runs again if either has changed.

    :param config: the step's configuration.
    :return: SHA-256 over the file list and the table's newest version.
    :raises TableError: if files or table cannot be read.
    """
    version = open_table(config.to).version() if table_exists(config.to) else None
    content = [[file.path, file.size, file.digest] for file in list_files(config.source)]
    return hashlib.sha256(json.dumps([content, version]).encode()).hexdigest()


def run(config: IngestConfig, context: StepContext) -> TableRef:
    """Load the files that have not been loaded yet.

    :param config: the step's configuration.
    :param context: the step's context.
    :return: the table at its newest version, whoever wrote it.
    :raises TableError: if there are neither files nor a table, or they do not go together.
    """
    from modelmill.data.spark import run_job

    argv = ["--source", config.source, "--to", config.to, "--format", config.format]
    argv += ["--options", json.dumps(config.options), "--select", json.dumps(config.select)]
    argv += ["--where", config.where] if config.where else []
    result = run_job("ingest", argv, settings=context.settings)
    table = TableRef.model_validate(result["table"])
    context.log(
        f"{context.step}: {result['files']} new files of {result['files_found']}, "
        f"{result['rows']} rows; {table}"
    )
    context.run.log_dataset(table, context="source")
    context.run.log_metrics({name: result[name] for name in ("files", "files_found", "rows")})
    return table
