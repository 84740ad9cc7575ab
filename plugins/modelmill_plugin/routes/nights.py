"""A model over the nights: what was judged, how good it was, what was promoted and what refused."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, Field

from modelmill.documents.json_content import as_json
from modelmill.registry.finished_runs import run_filter
from modelmill.registry.gate_report import GATE_REPORT, TAG_JUDGED
from modelmill.registry.history import history
from modelmill.registry.ledger import Action, LedgerRow
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import all_pages
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
        judged = _judged([row.evidence for row in rows], client)
        return [_night(row, judged.get(row.evidence, {})) for row in rows]


def _night(row: LedgerRow, link: Mapping[str, Any]) -> Night:
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


def _judged(evidence: Sequence[str], client: MlflowClient) -> dict[str, Mapping[str, Any]]:
    """Return what gates have said of their challengers, by the URI of the report.

    The runs say it in a tag: all of them in two requests. Of gates of earlier versions the report is read,
    once in the life of this process.
    """
    reports = {uri: parts for uri in evidence if (parts := REPORT.fullmatch(uri)) is not None}
    tagged = _tagged({parts[1] for parts in reports.values() if parts[2] == GATE_REPORT}, client)
    found: dict[str, Mapping[str, Any]] = {}
    for uri, parts in reports.items():
        link = tagged.get(parts[1]) if parts[2] == GATE_REPORT else None
        with contextlib.suppress(LookupError):
            found[uri] = _reported(Settings.from_environment().tracking_uri, uri) if link is None else link
    return found


def _tagged(runs: Collection[str], client: MlflowClient) -> dict[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    if not runs:
        return found
    experiments = [str(one.experiment_id) for one in all_pages(client.search_experiments)]
    asked = client.search_runs(experiments, filter_string=run_filter(sorted(runs)), max_results=len(runs))
    for run in asked:
        with contextlib.suppress(ValueError):
            link = json.loads(run.data.tags.get(TAG_JUDGED, ""))
            if isinstance(link, dict):
                found[str(run.info.run_id)] = as_json(link)
    return found


@functools.lru_cache(maxsize=1024)
def _reported(tracking_uri: str, uri: str) -> Mapping[str, Any]:
    """Return what a gate's report says of its challenger: the last link of its chain. A report never changes.

    :param tracking_uri: where MLflow is.
    :param uri: of the report.
    :return: the link; empty if it has none, as that of a rule set.
    :raises LookupError: if there is no report; that is not kept, it may be on its way.
    """
    parts, files = REPORT.fullmatch(uri), ReportFiles(tracking_client(tracking_uri))
    if parts is None or not files.has(parts[1], parts[2]):
        raise LookupError(uri)
    report = files.json(parts[1], parts[2])
    chain = report.get("chain") if isinstance(report, dict) else None
    link: Any = chain[-1] if isinstance(chain, list) and chain else None
    return link if isinstance(link, dict) else {}
