"""The folder of pipeline files: which files count, and which DAG id each of them has."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import fsspec
import yaml

from modelmill.documents import read_text
from modelmill.errors import ConfigError, PipelineError, Problem
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.spec import NAME_PATTERN, PipelineSpec
from modelmill.pipeline.validation import MAX_BYTES, parse_pipeline
from modelmill.settings import environment_params

SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class PipelineFile:
    """A pipeline file that has been read."""

    path: str
    """Relative to the folder: absolute paths differ between hosts and checkouts."""
    text: str
    """Empty where it could not be read."""
    spec: PipelineSpec | None
    """None: it is no valid pipeline."""
    problems: tuple[Problem, ...] = ()
    wanted: str = ""
    """Name that an invalid file asks for, if it asks for a possible one."""

    @property
    def stem(self) -> str:
        """The file's name as a DAG id."""
        return re.sub(r"[^A-Za-z0-9_.-]", "_", PurePosixPath(self.path).stem)

    @property
    def name(self) -> str:
        """The pipeline's name; of an invalid file, the one it asks for, else that of the file."""
        return self.spec.pipeline if self.spec else self.wanted or self.stem

    def refused(self, problem: str) -> PipelineFile:
        """Return the file as an invalid one.

        :param problem: what is wrong with the pipeline as a whole.
        :return: the file without a pipeline.
        """
        return replace(self, spec=None, problems=(Problem(0, 0, "pipeline", problem),), wanted=self.name)


def read_folder(folder: str) -> tuple[dict[str, PipelineFile], list[PipelineFile]]:
    """Read every pipeline file below a folder; hidden files and folders are passed over.

    Of two files with the same pipeline name, the one whose file name is the pipeline's name keeps it, else
    the first; the other one is invalid.

    :param folder: local folder or fsspec URL.
    :return: valid files by the pipeline's name, and the invalid ones.
    :raises ConfigError: if there is no such folder.
    """
    files = list(_files(folder))
    valid: dict[str, PipelineFile] = {}
    invalid = [file for file in files if file.spec is None]
    named = [file for file in files if file.spec]
    for file in sorted(named, key=lambda file: (file.stem != file.name, file.path)):
        first = valid.setdefault(file.name, file)
        if first is not file:
            invalid.append(file.refused(f"a pipeline's name is unique; got {file.name!r}; see {first.path}"))
    return valid, sorted(invalid, key=lambda file: file.path)


def free_id(file: PipelineFile, taken: Collection[str]) -> str:
    """Return the DAG id of an invalid file.

    :param file: the file.
    :param taken: ids of other files.
    :return: the name it asks for, else its file name, else that with a number.
    """
    candidates = [file.name, file.stem, *(f"{file.stem}_{number}" for number in range(2, len(taken) + 3))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _files(folder: str) -> Iterator[PipelineFile]:
    filesystem, root = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()
    if not filesystem.isdir(root):
        raise ConfigError(
            "the folder with the pipelines must exist",
            got=folder,
            remedy="make it, or set MODELMILL_PIPELINES",
        )
    root = root.rstrip("/")
    for path in sorted(filesystem.find(root)):
        relative = path.removeprefix(root).lstrip("/")
        hidden = any(part.startswith(".") for part in relative.split("/"))
        if path.endswith(SUFFIXES) and not hidden:
            yield _file(filesystem.unstrip_protocol(path), relative)


def _file(url: str, relative: str) -> PipelineFile:
    try:
        text = read_text(url, what="a pipeline", most_bytes=MAX_BYTES, error=PipelineError)
    except PipelineError as error:
        return PipelineFile(relative, "", None, error.problems)
    spec, problems, wanted = _parsed(text, tuple(environment_params().items()), tuple(catalogue()))
    return PipelineFile(relative, text, spec, problems, wanted)


@functools.lru_cache(maxsize=512)
def _parsed(
    text: str,
    _defaults: tuple[tuple[str, str], ...],
    _components: tuple[str, ...],
) -> tuple[PipelineSpec | None, tuple[Problem, ...], str]:
    """Parse a text once: a server reads the same files again and again.

    What is valid depends on the deployment's parameters and components, too.
    """
    try:
        return parse_pipeline(text), (), ""
    except PipelineError as error:
        return None, error.problems, _wanted_name(text)


def _wanted_name(text: str) -> str:
    """Return the name under ``pipeline`` of a text that is invalid for whatever reason, or nothing."""
    try:
        name: Any = yaml.safe_load(text)["pipeline"]
    except Exception:  # what exactly is wrong with the file has been reported already
        return ""
    return name if isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) else ""
