"""Where the plugin finds what it shows; read at each request, so that tests and deployments can differ."""

from __future__ import annotations

import functools
import os

from modelmill.errors import ConfigError
from modelmill.pipeline.store import PipelineStore


def pipeline_store() -> PipelineStore:
    """Return the store that ``MODELMILL_PIPELINES`` names.

    :return: the store.
    :raises ConfigError: if the variable is not set.
    """
    folder = os.environ.get("MODELMILL_PIPELINES")
    if not folder:
        raise ConfigError(
            "the API server must know the pipelines' folder",
            remedy="set MODELMILL_PIPELINES, for all of Airflow's processes, to a folder or an fsspec URL",
        )
    return _store(folder)


@functools.cache
def _store(folder: str) -> PipelineStore:
    return PipelineStore(folder)
