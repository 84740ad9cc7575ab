"""Facets of modelmill's own for OpenLineage: imported only where Airflow's OpenLineage provider is.

Their schemas are the JSON files in the folder ``facets``, by the rules of OpenLineage's specification for
custom facets: the project's name stands before a facet's name and key, and ``_schemaURL`` never points at
another content. It is a name (a URN) and no address: a deployment of modelmill need not reach anybody.
"""

from __future__ import annotations

from typing import ClassVar

import attr
from openlineage.client.generated.base import DatasetFacet, RunFacet
from openlineage.client.utils import RedactMixin

MODEL_KEY = "modelmill_model"
STEP_KEY = "modelmill_step"


def _schema(name: str) -> str:
    return f"urn:modelmill:openlineage:1-0-0:{name}.json#/$defs/{name}"


@attr.define(kw_only=True)
class ModelmillModelDatasetFacet(DatasetFacet):
    """A model in MLflow, or the models of many signals. Fields: see the schema."""

    digest: str
    uri: str
    format: str
    mlflowRunId: str  # noqa: N815 (OpenLineage's spelling)
    role: str | None = None
    parent: str | None = None
    trunk: str | None = None
    signals: int | None = None

    _additional_skip_redact: ClassVar[list[str]] = ["digest", "uri", "format", "mlflowRunId"]

    @staticmethod
    def _get_schema() -> str:
        return _schema("ModelmillModelDatasetFacet")


@attr.define(kw_only=True)
class ModelmillVerdict(RedactMixin):
    """What a gate said. Fields: see the schema of :class:`ModelmillStepRunFacet`."""

    name: str
    passed: bool
    challenger: str
    challengerDigest: str  # noqa: N815 (OpenLineage's spelling)
    reasons: list[str]
    championVersion: int | None = None  # noqa: N815 (OpenLineage's spelling)


@attr.define(kw_only=True)
class ModelmillStepRunFacet(RunFacet):
    """How a step came to its result. Fields: see the schema."""

    component: str
    stepKey: str  # noqa: N815 (OpenLineage's spelling)
    mlflowRunId: str  # noqa: N815 (OpenLineage's spelling)
    reused: bool
    mlflowRunUrl: str | None = None  # noqa: N815 (OpenLineage's spelling)
    verdict: ModelmillVerdict | None = None

    _additional_skip_redact: ClassVar[list[str]] = ["component", "stepKey", "mlflowRunId", "reused"]

    @staticmethod
    def _get_schema() -> str:
        return _schema("ModelmillStepRunFacet")
