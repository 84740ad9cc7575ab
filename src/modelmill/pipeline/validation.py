"""Reading a pipeline's text and listing everything that is wrong with it, each problem with its position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from modelmill.documents.parsing import Finding, parse_document, read_text
from modelmill.errors import PipelineError, Problem, bounded_remedies, shorten
from modelmill.pipeline.catalogue import catalogue
from modelmill.pipeline.group_checks import (
    group_findings,
    size_findings,
    when_findings,
)
from modelmill.pipeline.shape_checks import salvaged, shape_findings
from modelmill.pipeline.spec import PipelineSpec
from modelmill.pipeline.step_checks import step_findings

MAX_BYTES = 1_000_000
"""A longer text is not a pipeline that a person has written or can read."""


def load_pipeline(url: str) -> PipelineSpec:
    """Read and validate a pipeline.

    :param url: path or fsspec URL of a YAML or JSON file.
    :return: the pipeline.
    :raises PipelineError: if it cannot be read or breaks a rule; all problems are listed.
    """
    text = read_text(url, what="a pipeline", most_bytes=MAX_BYTES, error=PipelineError)
    return parse_pipeline(text, source=url)


def parse_pipeline(text: str, *, source: str = "pipeline") -> PipelineSpec:
    """Parse and validate a pipeline's text.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :return: the pipeline.
    :raises PipelineError: if it breaks a rule; all problems are listed.
    """
    _, spec, problems = check_text(text, source=source)
    if spec is None:
        raise PipelineError(problems, source=source)
    return spec


def check_text(text: str, *, source: str = "pipeline") -> tuple[Any, PipelineSpec | None, set[Problem]]:
    """Parse and check a pipeline's text in one go.

    :param text: YAML or JSON.
    :param source: name of the text, for messages.
    :return: the parsed document, the pipeline (None if there are problems), and everything that is wrong.
    :raises PipelineError: if it is not YAML.
    """
    document = parse_document(text, source=source, error=PipelineError)
    with bounded_remedies():
        spec, findings = check_document(document.content)
    problems = document.problems(findings)
    return document.content, None if problems else spec, problems


def check_document(document: Any) -> tuple[PipelineSpec | None, list[Finding]]:
    """Check a pipeline that has been parsed: its shape, its components, configurations, edges and parameters.

    :param document: as YAML or JSON was parsed.
    :return: the pipeline, or None if it does not have the right shape, and everything that is wrong.
    """
    if not isinstance(document, Mapping):
        return None, [((), f"a pipeline is a mapping; got {shorten(document)}")]
    try:
        spec = PipelineSpec.model_validate(document)
    except ValidationError as error:
        findings = shape_findings(error, PipelineSpec)
        # The parts of the right shape are checked all the same, so that one pass lists everything.
        usable = salvaged(document, error)
        return None, findings + (_semantic_findings(usable) if usable else [])
    return spec, _semantic_findings(spec)


def _semantic_findings(spec: PipelineSpec) -> list[Finding]:
    if too_many := list(size_findings(spec)):
        return too_many
    return [*group_findings(spec), *when_findings(spec, catalogue()), *step_findings(spec)]
