"""Which steps are asked about in the triggerer before a worker starts them, and how their tasks say so.

Airflow's DAG processor reads this: nothing that the question itself needs is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from airflow.sdk import AssetAlias
from airflow.sdk.configuration import conf
from airflow.triggers.base import StartTriggerArgs

from modelmill.pipeline.catalogue import component_named
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.spec import Outcome, StepSpec
from modelmill.settings import Settings
from modelmill_operators.step import StepOperator

TRIGGER = "modelmill_operators.reuse.ReuseTrigger"
"""Its class: see :mod:`modelmill_operators.reuse`."""


def can_ask(task: StepOperator) -> bool:
    """Return whether the triggerer can ask whether a step's result is there already.

    It cannot where only the step's process gets the secrets of a store or of a language model, where another
    interpreter runs the step, and where the operator has something to do itself. The deployment says that
    there is a triggerer for it by ``[modelmill] ask_in_triggerer = True``.

    :param task: the step's task.
    :return: True if its task may begin in the triggerer.
    """
    return (
        _wanted()
        and type(task).execute is StepOperator.execute
        and task.storage_connection is None
        and component_named(task.component).connection is None
        and (task.python or Settings.from_environment().python) == sys.executable
    )


def _wanted() -> bool:
    return bool(conf.getboolean("modelmill", "ask_in_triggerer", fallback=False))


def ask_first(task: StepOperator, step: StepSpec, when: Mapping[Outcome, Sequence[str]]) -> None:
    """Let a step's task begin in the triggerer.

    :param task: the step's task.
    :param step: the step.
    :param when: edges, ``STEP.PORT``, of the verdicts on which the step runs, by outcome.
    """
    request = StepRequest(
        pipeline=str(task.pipeline),
        pipeline_digest=task.pipeline_digest,
        step=task.task_id,
        component=step.component,
        config=step.config,
    )
    arguments = {
        "request": request.model_dump_json(exclude_defaults=True),
        "inputs": {port: one if isinstance(one, str) else [*one] for port, one in step.inputs.items()},
        "when": {wanted: [*verdicts] for wanted, verdicts in when.items()},
        "links": [link.xcom_key for link in task.operator_extra_links],
        "outlets": not all(isinstance(outlet, AssetAlias) for outlet in task.outlets),
    }
    task.start_trigger_args = StartTriggerArgs(
        trigger_cls=TRIGGER, trigger_kwargs=arguments, next_method="after_question"
    )
    task.start_from_trigger = True
