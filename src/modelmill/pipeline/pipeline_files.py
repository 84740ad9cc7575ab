"""The folder of pipeline files: which files count, and which DAG id each of them has."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from modelmill.documents.folder import DocumentFile, DocumentKind, free_id, read_document, read_documents
from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.parsing import wanted_name
from modelmill.errors import PipelineError, Problem
from modelmill.pipeline.spec import PipelineSpec
from modelmill.pipeline.validation import MAX_BYTES, parse_pipeline
from modelmill.settings import environment_params

__all__ = ["PIPELINES", "PipelineFile", "free_id", "read_file_of", "read_folder"]


@dataclass(frozen=True)
class PipelineFile(DocumentFile[PipelineSpec]):
    """A pipeline file that has been read."""

    noun = "pipeline"

    @property
    def spec(self) -> PipelineSpec | None:
        """The pipeline; None: it is not valid."""
        return self.content

    @property
    def name(self) -> str:
        """The pipeline's name; of an invalid file, the one that its text asks for, else that of the file."""
        return self.content.pipeline if self.content else super().name


def read_folder(folder: str) -> tuple[dict[str, PipelineFile], list[PipelineFile]]:
    """Read every pipeline file below a folder; hidden files and folders are passed over.

    :param folder: local folder or fsspec URL.
    :return: valid files by the pipeline's name, and the invalid ones.
    :raises ConfigError: if there is no such folder.
    """
    return read_documents(folder, PIPELINES)


def read_file_of(folder: str, name: str) -> PipelineFile | None:
    """Read the valid file of one pipeline, if its file name is the pipeline's name; no other is opened.

    :param folder: local folder or fsspec URL.
    :param name: the pipeline's name.
    :return: the file; None: only :func:`read_folder` tells.
    :raises ConfigError: if there is no such folder.
    """
    return read_document(folder, name, PIPELINES)


def _made(path: str, text: str) -> PipelineFile:
    spec, problems, wanted = _parsed(text, tuple(environment_params().items()))
    return PipelineFile(path, text, spec, problems, wanted)


def _unreadable(path: str, problems: tuple[Problem, ...]) -> PipelineFile:
    return PipelineFile(path, "", None, problems)


PIPELINES: DocumentKind[PipelineFile] = DocumentKind(
    noun="pipeline",
    variable="MODELMILL_PIPELINES",
    most_bytes=MAX_BYTES,
    error=PipelineError,
    make=_made,
    unreadable=_unreadable,
)


@functools.lru_cache(maxsize=512)
def _parsed(
    text: str, _defaults: tuple[tuple[str, str], ...]
) -> tuple[PipelineSpec | None, tuple[Problem, ...], str]:
    """Parse a text once: a server reads the same files again and again.

    What is valid depends on the deployment's parameters, too.
    """
    try:
        return parse_pipeline(text), (), ""
    except PipelineError as error:
        return None, error.problems, wanted_name(text, "pipeline", NAME_PATTERN)
