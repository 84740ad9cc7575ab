"""The task of a pipeline file that breaks a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


class InvalidPipelineOperator(BaseOperator):
    """Stands for a pipeline file that breaks a rule: it fails, and its error lists every problem.

    :param problems: one line each.
    :param **kwargs: as :class:`airflow.sdk.BaseOperator` takes them.
    """

    ui_color = "#fee2e2"

    def __init__(self, *, problems: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.problems = problems

    def execute(self, context: Context) -> None:  # noqa: ARG002 (the caller fixes the signature)
        """Fail without retries.

        :param context: Airflow's.
        :raises AirflowFailException: always, with every problem.
        """
        raise AirflowFailException("; ".join(self.problems))
