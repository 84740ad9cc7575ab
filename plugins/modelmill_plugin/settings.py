"""Where the plugin finds what it shows; read at each request, so that tests and deployments can differ."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from modelmill.errors import ConfigError
from modelmill.pipeline.pipeline_store import PipelineStore
from modelmill.settings import Settings, environment_params

if TYPE_CHECKING:
    from modelmill.labels.queue_store import LabelQueues
    from modelmill.rules.lifecycle.rule_set_store import RuleSetStore


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


def rule_set_store() -> RuleSetStore:
    """Return the rule sets' folder: the deployment's parameter ``rules``, which pipelines name them by.

    :return: the store.
    :raises ConfigError: if the parameter has no value.
    """
    folder = environment_params().get("rules")
    if not folder:
        raise ConfigError(
            "the API server must know the rule sets' folder",
            remedy="set MODELMILL_PARAM_RULES, for all of Airflow's processes, to a folder or an fsspec URL",
        )
    return _rule_set_store(folder)


def table_roots() -> list[str]:
    """Return the places below which tables may be shown.

    :return: paths and URIs of ``MODELMILL_TABLES``, separated by commas; without it, that of the parameter
        ``data``.
    """
    roots = os.environ.get("MODELMILL_TABLES") or os.environ.get("MODELMILL_PARAM_DATA") or ""
    return [root.strip() for root in roots.split(",") if root.strip()]


def label_queues() -> LabelQueues:
    """Return the queues of rows that people label.

    :return: the store that ``MODELMILL_LABELLING`` names, or that in modelmill's home.
    """
    return _label_queues(Settings.from_environment().queues)


@functools.cache
def _store(folder: str) -> PipelineStore:
    return PipelineStore(folder)


@functools.cache
def _rule_set_store(folder: str) -> RuleSetStore:
    from modelmill.rules.lifecycle.rule_set_store import RuleSetStore

    return RuleSetStore(folder)


@functools.cache
def _label_queues(root: str) -> LabelQueues:
    from modelmill.labels.queue_store import LabelQueues

    return LabelQueues(root)
