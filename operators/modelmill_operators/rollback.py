"""Going back to an earlier champion as a task of Airflow's."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from modelmill.errors import EXIT_REFUSED
from modelmill.redaction import redacted
from modelmill.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Context


class RollbackOperator(BaseOperator):
    """Make an earlier version of a registered model champion again, its files verified.

    It happens once for a task of a run, however often that is tried. The ledger gets the reason, and the
    name of the user who started the run.

    :param model: registered model.
    :param why: reason; rendered by Jinja, such as ``{{ params.why }}``.
    :param to: version to go back to; rendered. None or empty: the champion before.
    :param at: back to the champion at this time (ISO 8601); rendered. None or empty: not by time.
    :param **kwargs: as :class:`airflow.sdk.BaseOperator` takes them.
    """

    template_fields = ("model", "why", "to", "at")

    def __init__(
        self, *, model: str, why: str, to: str | int | None = None, at: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.why = why
        self.to = to
        self.at = at

    def execute(self, context: Context) -> None:
        """Go back.

        :param context: Airflow's.
        :raises AirflowFailException: if a retry cannot help.
        :raises AirflowException: if it can.
        """
        instance = context["ti"]
        user = getattr(context.get("dag_run"), "triggering_user_name", None)
        command = [Settings.from_environment().python, "-m", "modelmill", "registry", "rollback"]
        command += [f"--why={self.why}", f"--step-key={instance.dag_id}/{instance.run_id}/{instance.task_id}"]
        command += [f"--to={self.to}"] if self.to else []
        command += [f"--at={self.at}"] if self.at else []
        command += [f"--who={user}"] if user else []
        ended = subprocess.run(
            [*command, "--", self.model], capture_output=True, text=True, errors="replace", check=False
        )
        lines = [
            redacted(line)
            for line in (*ended.stdout.splitlines(), *ended.stderr.splitlines())
            if line.strip()
        ]
        for line in lines:
            self.log.info(line)
        if ended.returncode:
            kind = AirflowFailException if ended.returncode == EXIT_REFUSED else AirflowException
            raise kind(lines[-1] if lines else f"rollback ended with {ended.returncode}")
