"""MLflow, asked from the API server: one that does not answer is said within seconds, as one line."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelmill.documents.versions import NotFoundError
from modelmill.errors import TransientError
from modelmill.redaction import redacted
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import version_numbered
from modelmill.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@contextlib.contextmanager
def mlflow_client() -> Iterator[MlflowClient]:
    """Give MLflow's client to a block; its errors become ours.

    :yield: the client.
    :raises TransientError: if MLflow does not answer.
    """
    # MLflow's own defaults let a page wait for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    uri = Settings.from_environment().tracking_uri
    try:
        yield tracking_client(uri)
    except (MlflowException, SQLAlchemyError) as error:  # the latter where MLflow is a database
        reason = redacted(" ".join(str(error).split()))[:200]
        raise TransientError(
            f"MLflow must answer ({reason})",
            got=redacted(uri),
            remedy="see its log, try again",
        ) from error


def registered_version(client: MlflowClient, name: str, number: int) -> ModelVersion:
    """Return a version of a registered model.

    :param client: MLflow's client.
    :param name: registered model.
    :param number: of the version.
    :return: the version.
    :raises NotFoundError: if there is none.
    """
    version = version_numbered(client, name, number)
    if version is None:
        raise NotFoundError("the version must be registered", got=f"{name} version {number}")
    return version
