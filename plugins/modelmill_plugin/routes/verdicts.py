"""What the gate has said of a version of a model: how good it is, what it gets wrong, what was not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.registry.gate_report import GATE_REPORT
from modelmill.registry.history import history
from modelmill.registry.ledger import LedgerRow
from modelmill.registry.versions import TAG_VERDICT
from modelmill.settings import Settings
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.mlflow_answers import mlflow_client, registered_version
from modelmill_plugin.report_files import REPORT, ReportFiles
from modelmill_plugin.reports_without_rows import without_rows
from modelmill_plugin.routes.models import ModelName, VersionNumber
from modelmill_plugin.security import READ, User
from modelmill_plugin.views import may

router = APIRouter(tags=["models"])


class VersionVerdict(BaseModel):
    """The report of the gate that a version has passed, and the step of the run that wrote it."""

    uri: str = Field(description="URI of the report; empty: no gate has judged the version.")
    content: Any = Field(
        description="The report; null: there is none, it is gone, longer than is shown, or not of a gate."
    )
    dag_id: str = Field(description="The pipeline; empty if it was made without Airflow.")
    dag_run: str = Field(description="The pipeline's run; empty likewise.")
    step: str = Field(description="The gate's task; empty likewise.")
    texts_hidden: bool = Field(description="Whether rows of data are left out: the user may not read them.")


@router.get("/models/{name}/versions/{version}/verdict", dependencies=[READ], responses=error_responses(404))
def read_verdict(name: ModelName, version: VersionNumber, user: User) -> VersionVerdict:
    """Return the report of the gate that a version has passed; a champion of before keeps its own."""
    rows = history(name, Settings.from_environment())
    with mlflow_client() as client:
        found = registered_version(client, name, version)
        uri = _evidence(version, rows, found.tags)
        parts, files = REPORT.fullmatch(uri), ReportFiles(client)
        if parts is None or parts[2] != GATE_REPORT or not files.has(parts[1], parts[2]):
            return VersionVerdict(uri=uri, content=None, dag_id="", dag_run="", step="", texts_hidden=False)
        tags = client.get_run(parts[1]).data.tags
        dag_id = str(tags.get("airflow.dag_id", ""))
        _check_may_see(dag_id, user)
        content = files.json(parts[1], parts[2])
    # Without a pipeline to ask for, only those who may edit all of them see rows.
    may_see_texts = may("PUT", dag_id or None, user)
    return VersionVerdict(
        uri=uri,
        content=content if may_see_texts else without_rows(content),
        dag_id=dag_id,
        dag_run=str(tags.get("airflow.run_id", "")),
        step=str(tags.get("airflow.task_id", "")),
        texts_hidden=not may_see_texts,
    )


def _evidence(version: int, rows: Sequence[LedgerRow], tags: Mapping[str, str]) -> str:
    """Return the URI of the report that a version was promoted on: the ledger's word comes first."""
    for row in reversed(rows):
        if row.action == "promote" and row.to_version == version and row.evidence:
            return row.evidence
    return str(tags.get(TAG_VERDICT, ""))


def _check_may_see(dag_id: str, user: User) -> None:
    # As for the step's result. The guard knows the DAG of the path or query only, and this is in neither.
    if dag_id and not all(
        may("GET", dag_id, user, entity) for entity in (DagAccessEntity.RUN, DagAccessEntity.XCOM)
    ):
        raise RefusedError(403, "the user must be allowed to see the pipeline's runs", got=dag_id)
