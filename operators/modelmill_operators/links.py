"""Buttons on a task's page: to its MLflow run, and to the version that it registered.

Airflow asks a link on the worker once the task has ended, and keeps the answer as an XCom: so nothing has to
be registered anywhere else.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

from modelmill.pipeline.request import StepResult
from modelmill.redaction import public_url
from modelmill.settings import MODEL_TRAINING, Settings, is_served

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

XCOM_STEP = "modelmill_step"
"""XCom of a finished step: ``step_key``, ``run_id``, ``run_url`` and ``reused``."""


class ResultLink(BaseOperatorLink, abc.ABC):
    """A link whose target follows from the step's result."""

    @abc.abstractmethod
    def target(self, result: StepResult) -> str:
        """Return the page that the link leads to.

        :param result: what the step has yielded.
        :return: a URL; empty if there is no page.
        """


class MlflowRunLink(ResultLink):
    """To the page of the MLflow run that made the step's outputs."""

    name = "MLflow run"

    def target(self, result: StepResult) -> str:
        """Return the run's page; see :meth:`ResultLink.target`."""
        return result.run_url

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 (the caller fixes the signature)
        """Return the run's page.

        :param operator: the task.
        :param ti_key: the task instance.
        :return: a URL; empty if the step did not finish, or the tracking store has no pages.
        """
        step: dict[str, Any] = XCom.get_value(ti_key=ti_key, key=XCOM_STEP) or {}
        return str(step.get("run_url", ""))


class RegisteredModelLink(ResultLink):
    """To the page of the registered model's version that the step handed on."""

    name = "Registered model"

    def target(self, result: StepResult) -> str:
        """Return the version's page; see :meth:`ResultLink.target`."""
        model = result.outputs.get("model")
        return version_url(Settings.from_environment().tracking_uri, model.uri) if model else ""

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 (the caller fixes the signature)
        """Return the version's page.

        :param operator: the task.
        :param ti_key: the task instance.
        :return: a URL; empty if no version was handed on, or the registry has no pages.
        """
        model: dict[str, Any] = XCom.get_value(ti_key=ti_key, key="model") or {}
        return version_url(Settings.from_environment().tracking_uri, str(model.get("uri", "")))


def version_url(tracking_uri: str, model_uri: str) -> str:
    """Return the page of a registered model's version in the MLflow UI.

    :param tracking_uri: as in ``MLFLOW_TRACKING_URI``.
    :param model_uri: ``models:/NAME/VERSION``.
    :return: the URL; empty where the store has no UI, or the URI names no version.
    """
    name, _, version = model_uri.removeprefix("models:/").partition("/")
    if not is_served(tracking_uri) or not version.isdecimal():
        return ""
    return f"{public_url(tracking_uri)}/#/models/{name}/versions/{version}{MODEL_TRAINING}"
