"""Going back as a task of Airflow's, run by Airflow in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from airflow.sdk import DAG

from modelmill.artifacts import DatasetRef, VerdictRef
from modelmill.component import StepContext
from modelmill.registry import promotion
from modelmill.registry.bundles import log_model
from modelmill.registry.history import history
from modelmill.registry.tracking import open_run

DAG_FILE = """
from airflow.sdk import DAG, Param
from modelmill_operators import RollbackOperator

PARAMS = {name: Param("", type="string") for name in ("why", "to")}
with DAG("going_back", schedule=None, params=PARAMS):
    RollbackOperator(
        task_id="back", model="topics", why="{{ params.why }}", to="{{ params.to }}", retries=1
    )
"""

MAPPED_DAG_FILE = """
from airflow.sdk import DAG, Param
from modelmill_operators import RollbackOperator

PARAMS = {"why": Param("slow", type="string"), "to": Param(None, type=["null", "string"])}
with DAG("going_back_many", schedule=None, params=PARAMS):
    RollbackOperator.partial(
        task_id="back", why="{{ params.why }}", to="{{ params.to }}", at="{{ params.to }}"
    ).expand(model=["desks", "topics"])
"""


@pytest.fixture
def going_back(parsed: Callable[[], dict[str, DAG]], airflow_home: Path) -> Iterator[DAG]:
    file = airflow_home / "dags" / "going_back.py"
    file.write_text(DAG_FILE)
    yield parsed()["going_back"]
    file.unlink()


@pytest.fixture
def going_back_many(parsed: Callable[[], dict[str, DAG]], airflow_home: Path) -> Iterator[DAG]:
    file = airflow_home / "dags" / "going_back_many.py"
    file.write_text(MAPPED_DAG_FILE)
    yield parsed()["going_back_many"]
    file.unlink()


@pytest.fixture
def two_champions(
    make_bundle: Callable[..., Path], topic_dataset: DatasetRef, step_context: StepContext
) -> StepContext:
    promote_twice("topics", make_bundle, topic_dataset, step_context)
    return step_context


def promote_twice(
    name: str, make_bundle: Callable[..., Path], dataset: DatasetRef, step_context: StepContext
) -> None:
    client, experiment = step_context.run.client, step_context.run.experiment_id
    for number in range(2):
        key = f"{name}-{number}"
        run = open_run(client, experiment, key, name="promote", tags={})
        context = replace(step_context, run=run, step_key=key)
        bundle = make_bundle(f"{name}-{number}", tweak=number / 1000)
        verdict = VerdictRef(
            passed=True,
            name=name,
            challenger=log_model(bundle, role="exported", dataset=dataset, context=context),
            champion_version=number or None,
            reasons=(),
            uri="runs:/r/gate/verdict.json",
            run_id=run.run_id,
        )
        promotion.promote(verdict, context)


def test_a_task_goes_back_once_and_says_why(going_back: DAG, two_champions: StepContext) -> None:
    run = going_back.test(run_conf={"why": "too slow; {{ macros }} --to=9"})
    assert [str(ti.state) for ti in run.get_task_instances()] == ["success"]
    row = history("topics", two_champions.settings)[-1]
    assert (row.action, row.from_version, row.to_version) == ("rollback", 2, 1)
    assert row.reasons == ("too slow; {{ macros }} --to=9",)
    assert row.step_key == f"going_back/{run.run_id}/back"


def test_a_refused_rollback_is_not_tried_again(
    going_back: DAG, two_champions: StepContext, capfd: pytest.CaptureFixture[str]
) -> None:
    run = going_back.test(run_conf={"why": "x", "to": "9"})
    (instance,) = run.get_task_instances()
    assert (str(instance.state), instance.try_number) == ("failed", 1)
    assert (
        "the version of topics that becomes champion, or is it, must exist; got 9" in capfd.readouterr().out
    )
    assert len(history("topics", two_champions.settings)) == 2


def test_a_mapped_task_goes_back_with_each_model(
    going_back_many: DAG,
    two_champions: StepContext,
    make_bundle: Callable[..., Path],
    topic_dataset: DatasetRef,
) -> None:
    promote_twice("desks", make_bundle, topic_dataset, two_champions)
    run = going_back_many.test()
    assert [str(ti.state) for ti in run.get_task_instances()] == ["success", "success"]
    for index, name in enumerate(("desks", "topics")):
        row = history(name, two_champions.settings)[-1]
        assert (row.action, row.from_version, row.to_version) == ("rollback", 2, 1)
        assert row.step_key == f"going_back_many/{run.run_id}/back/{index}"
