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

    It happens once for a task of a run, however often that is tried; of a mapped task, once for each copy.
    The ledger gets the reason, and the name of the user who started the run.

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
        key = f"{instance.dag_id}/{instance.run_id}/{instance.task_id}"
        if instance.map_index is not None and instance.map_index >= 0:
            key += f"/{instance.map_index}"
        command += [f"--why={self.why}", f"--step-key={key}"]
        command += [f"--to={self.to}"] if _is_given(self.to) else []
        command += [f"--at={self.at}"] if _is_given(self.at) else []
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
            said = [line for line in lines if any(map(str.isalnum, line))]  # the last one may be a frame's
            raise kind(said[-1] if said else f"rollback ended with {ended.returncode}")


def _is_given(text: str | int | None) -> bool:
    """Return whether a rendered field says something: Jinja writes a parameter without a value as None."""
    return text is not None and str(text).strip() not in ("", "None")
