"""The pipeline that a DAG was built from, in its documentation: Airflow keeps that for each DAG version."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from modelmill.documents.parsing import parse_document
from modelmill.errors import PipelineError
from modelmill.pipeline.spec import PipelineSpec

_FENCE = "````"
_DIGEST = re.compile(r"^Digest `([0-9a-f]{64})`$", re.MULTILINE)


def dag_document(spec: PipelineSpec) -> str:
    """Return the documentation of a pipeline's DAG.

    :param spec: the pipeline as it was written.
    :return: Markdown: its description, all that it says, and its digest.
    """
    # The digest makes a new DAG version of every change, also of one that Airflow does not serialise.
    document = spec.model_dump(mode="json", exclude_defaults=True)
    return f"{spec.description.strip()}\n\n{fenced(document)}\n\nDigest `{spec.digest}`\n"


def fenced(document: Mapping[str, Any]) -> str:
    """Return a document as a block of YAML within Markdown.

    :param document: the document.
    :return: the block; empty for an empty document.
    """
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=100)
    return f"{_FENCE}yaml\n{text}{_FENCE}" if document else ""


def digest_in(documentation: str) -> str | None:
    """Return the digest of the pipeline that a DAG's documentation is of.

    :param documentation: what :func:`dag_document` gave.
    :return: the digest; None: it is of no pipeline.
    """
    found: list[str] = _DIGEST.findall(documentation)
    return found[-1] if found else None  # the description stands above, and may say anything


@functools.lru_cache(maxsize=64)
def pipeline_in(documentation: str) -> PipelineSpec | None:
    """Return the pipeline that a DAG's documentation is of.

    :param documentation: what :func:`dag_document` gave.
    :return: the pipeline as it was written; None: it is of none, or of an earlier modelmill's.
    """
    # Lines of text within the block are indented, so that the last fence is its own, whatever a text says.
    block = documentation.rpartition(f"\n{_FENCE}yaml\n")[2].partition(f"\n{_FENCE}\n")[0]
    try:
        content = parse_document(block, source="documentation", error=PipelineError).content
        spec = PipelineSpec.model_validate(content)
    except (PipelineError, ValidationError):
        return None
    return spec if spec.digest == digest_in(documentation) else None
