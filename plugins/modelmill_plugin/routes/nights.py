"""A model over the nights: what was judged, how good it was, what was promoted and what refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field

from modelmill.registry.history import history
from modelmill.registry.ledger import Action, LedgerRow
from modelmill.settings import Settings
from modelmill_plugin.errors import error_responses
from modelmill_plugin.mlflow_answers import mlflow_client
from modelmill_plugin.report_files import REPORT, ReportFiles
from modelmill_plugin.routes.models import ModelName
from modelmill_plugin.security import READ

if TYPE_CHECKING:
    from mlflow import MlflowClient

router = APIRouter(tags=["models"])

_MOST_NIGHTS = 60


class Night(BaseModel):
    """A row of the ledger, with the figure of what was judged."""

    number: int
    time: AwareDatetime
    action: Action
    to_version: int | None = Field(description="Champion after it; null if there is none.")
    metric: str = Field(
        description="What the gate judged by; empty where no gate did, or its report is gone."
    )
    unit: str = Field(description="share: from 0 to 1.")
    value: float | None = Field(description="The challenger's figure on the gate's test rows.")
    low: float | None = Field(description="Lower end of its confidence interval.")
    high: float | None


@router.get("/models/{name}/nights", dependencies=[READ], responses=error_responses())
def list_nights(name: ModelName) -> list[Night]:
    """Return what happened to a model, the oldest first, with the figures of those that a gate judged."""
    rows = history(name, Settings.from_environment())[-_MOST_NIGHTS:]
    with mlflow_client() as client:
        return [_night(row, client) for row in rows]


def _night(row: LedgerRow, client: MlflowClient) -> Night:
    link = _challenger(row.evidence, client)
    figures = {name: link.get(name) for name in ("value", "low", "high")}
    return Night(
        number=row.number,
        time=row.time,
        action=row.action,
        to_version=row.to_version,
        metric=str(link.get("metric", "")),
        unit=str(link.get("unit", "")),
        **{name: value if isinstance(value, int | float) else None for name, value in figures.items()},
    )


def _challenger(evidence: str, client: MlflowClient) -> dict[str, Any]:
    """Return what a gate's report says of its challenger: the last link of its chain."""
    parts = REPORT.fullmatch(evidence)
    files = ReportFiles(client)
    if parts is None or not files.has(parts[1], parts[2]):
        return {}
    report = files.json(parts[1], parts[2])
    chain = report.get("chain") if isinstance(report, dict) else None
    return chain[-1] if isinstance(chain, list) and chain and isinstance(chain[-1], dict) else {}
