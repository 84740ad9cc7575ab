"""Reports among the artifacts of MLflow runs, as references name them."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.documents.json_content import as_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

REPORT = re.compile(r"runs:/([0-9a-f]{32})/((?:[a-z_]+/)?[a-z_]+\.json)")
"""A reference's URI: the run, and the path of the file."""

MOST_BYTES = 4_000_000
"""Longest report that is shown."""


class ReportFiles:
    """The artifacts of MLflow runs: each folder is listed once."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        self._sizes: dict[tuple[str, str], dict[str, int]] = {}

    def has(self, run_id: str, path: str) -> bool:
        """Return whether a run has such a file."""
        return path in self._listed(run_id, path.rpartition("/")[0])

    def json(self, run_id: str, path: str) -> Any:
        """Return the content of a JSON file; None if it is longer than is shown, or no JSON."""
        if self._listed(run_id, path.rpartition("/")[0])[path] > MOST_BYTES:
            return None
        with tempfile.TemporaryDirectory(prefix="modelmill-report-") as place:
            text = Path(self._client.download_artifacts(run_id, path, place)).read_text("utf-8")
        try:
            return as_json(json.loads(text))
        except ValueError:
            return None

    def _listed(self, run_id: str, folder: str) -> dict[str, int]:
        from mlflow.exceptions import MlflowException

        if (run_id, folder) not in self._sizes:
            try:
                found = self._client.list_artifacts(run_id, folder or None)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                found = []  # the run was deleted
            self._sizes[run_id, folder] = {item.path: item.file_size or 0 for item in found}
        return self._sizes[run_id, folder]
