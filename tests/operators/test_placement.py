"""Where steps run: the choice of a profile, what each executor gets, and what nobody can ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from airflow.sdk import DAG

from modelmill.errors import ConfigError, PipelineError
from modelmill.pipeline.validation import parse_pipeline
from modelmill.system.resources import Resources
from modelmill_operators.placement import Placement, place
from modelmill_operators.profiles import Profile, load_profiles

FILE = Path(__file__).with_name("profiles.yaml")
GOLDEN = Path(__file__).with_name("pods.golden.yaml")
KUBERNETES = "1.34"
NEEDS = {
    "light": Resources(cpus=2, memory_gb=4),
    "gpu": Resources(gpus=1, cpus=4, memory_gb=16),
    "large": Resources(gpus=8, gpu_memory_gb=60, cpus=64, memory_gb=500),
}
Parse = Callable[[], dict[str, DAG]]

PIPELINE = """
pipeline: placed
steps:
  raw: {component: delta_table, config: {uri: /data/raw}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l], to: /data/d}}
  teacher:
    component: fine_tune
    inputs: {dataset: dataset.dataset}
    config: {base_model: /m}
    resources: %s
"""


@pytest.fixture
def profiles(monkeypatch: pytest.MonkeyPatch) -> dict[str, Profile]:
    monkeypatch.setenv("AIRFLOW__MODELMILL__PROFILES", str(FILE))
    return load_profiles(FILE)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "profiles.yaml"
    path.write_text(text)
    return path


def test_without_profiles_nothing_is_said() -> None:
    assert place(Resources(gpus=8), {}) == Placement()


def test_the_first_profile_that_has_enough_is_taken(profiles: dict[str, Profile]) -> None:
    chosen = {name: place(needs, profiles) for name, needs in NEEDS.items()}
    assert {name: placement.profile for name, placement in chosen.items()} == {name: name for name in NEEDS}
    assert [chosen[name].queue for name in NEEDS] == ["cpu", "gpu", "large"]
    assert [(chosen[name].pool, chosen[name].pool_slots) for name in NEEDS] == [
        (None, 1),
        (None, 1),
        ("h100", 8),
    ]
    assert chosen["gpu"].python == "/opt/steps/bin/python"
    assert place(NEEDS["light"], profiles, profile="large").pool_slots == 1


def test_a_deployment_without_gpus_runs_the_step_on_the_cpu(profiles: dict[str, Profile]) -> None:
    only = {"light": profiles["light"]}
    for placement in (place(NEEDS["gpu"], only), place(NEEDS["gpu"], only, profile="light")):
        assert placement.profile == "light"
        assert placement.pod is not None
        assert "nvidia.com/gpu" not in json.dumps(placement.pod)


@pytest.mark.parametrize(
    ("needs", "profile", "message"),
    [
        (Resources(gpus=9), None, "large: gpus 8 of 9"),
        (Resources(memory_gb=5000), None, "large: memory_gb 2000 of 5000"),
        (Resources(gpus=1, gpu_memory_gb=200), None, "gpu: gpu_memory_gb 24 of 200"),
        (Resources(gpus=2), "gpu", "profile 'gpu' must have what the step needs, gpus; got 'gpus 1 of 2'"),
        (Resources(memory_gb=64), "light", "got 'memory_gb 32 of 64'"),
        (Resources(), "gpus", "did you mean 'gpu'"),
    ],
)
def test_what_cannot_be_had_is_an_error(
    profiles: dict[str, Profile], needs: Resources, profile: str | None, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        place(needs, profiles, profile=profile)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_profile_without_profiles_names_the_option() -> None:
    with pytest.raises(ConfigError, match="set \\[modelmill\\] profiles in Airflow"):
        place(Resources(), {}, profile="gpu")


def test_pods_are_as_the_golden_file_has_them(profiles: dict[str, Profile]) -> None:
    pods = {name: place(needs, profiles).pod for name, needs in NEEDS.items()}
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(yaml.safe_dump(pods, sort_keys=False))
    assert pods == yaml.safe_load(GOLDEN.read_text())


def test_pods_fit_the_schema_of_the_kubernetes_api(profiles: dict[str, Profile]) -> None:
    for needs in NEEDS.values():
        found = dict(place(needs, profiles).pod or {})
        kubernetes_validate.validate(
            {**found, "metadata": {**found["metadata"], "name": "x"}}, KUBERNETES, strict=True
        )
    broken = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "base", "imagee": "x"}]}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES, strict=True)


FORBIDDEN: dict[str, Any] = {
    "hostNetwork": True,
    "hostPID": True,
    "hostIPC": True,
    "host_path": "/",
    "volumes": [{"name": "root", "hostPath": {"path": "/"}}],
    "privileged": True,
    "securityContext": {"privileged": True},
    "command": ["sh"],
    "args": ["-c", "id"],
    "initContainers": [{"name": "x", "image": "x"}],
    "serviceAccountName": "cluster-admin",
    "image": "evil.example/x",
    "service_account": "cluster-admin",
    "env": {"AIRFLOW__CORE__FERNET_KEY": "x"},
    "node_selector": {"role": "control-plane"},
    "pod": {"image": "x"},
    "executor_config": {"pod_override": {}},
}


@pytest.mark.parametrize("field", FORBIDDEN)
def test_a_pipeline_chooses_a_profile_and_nothing_else(field: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(PIPELINE % json.dumps({field: FORBIDDEN[field]}))
    [problem] = caught.value.problems
    assert problem.path == f"steps.teacher.resources.{field}"
    assert "an administrator describes machines in profiles" in problem.message


@pytest.mark.parametrize("field", list(FORBIDDEN)[:11])
def test_a_profile_cannot_give_a_step_the_node(tmp_path: Path, field: str) -> None:
    text = yaml.safe_dump({"gpu": {"pod": {"image": "x:1", field: FORBIDDEN[field]}}})
    with pytest.raises(ConfigError, match=f"gpu.pod.{field}: Extra inputs are not permitted"):
        load_profiles(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: {que: x}", "did you mean 'queue'"),
        ("gpu: {gpus: -1}", "gpu.gpus"),
        ("gpu: {pool: p}", "a pool must have slots"),
        ("gpu: {python: bin/python}", "gpu.python"),
        ("- a", "should be a valid dictionary"),
        ("gpu: {pod: {}}", "gpu.pod.image: Field required"),
        ("gpu: {pod: {image: x, claims: {relative: y}}}", "gpu.pod.claims"),
        ("Bad Name: {}", "Bad Name"),
        ("gpu: [", "must name a YAML file"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_profiles(written(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must name a YAML file"):
        load_profiles(tmp_path / "none.yaml")


def test_an_empty_file_has_no_profiles(tmp_path: Path) -> None:
    assert load_profiles(written(tmp_path, "")) == {}


def test_tasks_get_what_their_profile_says(
    profiles: dict[str, Profile], pipelines: Path, parsed: Parse
) -> None:
    (pipelines / "placed.yaml").write_text(PIPELINE % "{gpus: 4, profile: large}")
    dag = parsed()["placed"]
    teacher = dag.get_task("teacher")
    assert (teacher.queue, teacher.pool, teacher.pool_slots) == ("large", "h100", 4)
    pod = teacher.executor_config["pod_override"]
    assert pod.spec.containers[0].resources.limits["nvidia.com/gpu"] == "4"
    raw = dag.get_task("raw")
    assert (raw.queue, raw.pool, raw.pool_slots) == ("cpu", "default_pool", 1)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        (
            "{gpus: 9}",
            "steps.teacher.resources: one of the deployment's profiles must have what a step needs",
        ),
        ("{profile: gpuu}", "steps.teacher.resources: a step's profile must be one of the deployment's"),
    ],
)
def test_a_pipeline_that_cannot_be_placed_is_shown_as_invalid(
    profiles: dict[str, Profile], pipelines: Path, parsed: Parse, resources: str, message: str
) -> None:
    (pipelines / "placed.yaml").write_text(PIPELINE % resources)
    (pipelines / "fine.yaml").write_text(
        "pipeline: fine\nsteps:\n  raw: {component: delta_table, config: {uri: /d}}\n"
    )
    dags = parsed()
    assert "invalid" in dags["placed"].tags
    assert message in (dags["placed"].doc_md or "")
    assert "invalid" not in dags["fine"].tags


def test_an_executor_that_is_not_there_is_named(
    tmp_path: Path, pipelines: Path, parsed: Parse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW__MODELMILL__PROFILES", str(written(tmp_path, "gpu: {executor: CeleryExecutr}"))
    )
    (pipelines / "placed.yaml").write_text(PIPELINE % "{}")
    assert "a profile's executor must be one of [core] executor; got 'CeleryExecutr'" in (
        parsed()["placed"].doc_md or ""
    )


def test_a_parse_is_the_same_each_time(profiles: dict[str, Profile], pipelines: Path, parsed: Parse) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    (pipelines / "placed.yaml").write_text(PIPELINE % "{gpus: 1}")
    first, second = (
        json.dumps(DagSerialization.to_dict(parsed()["placed"]), sort_keys=True) for _ in range(2)
    )
    assert first == second
