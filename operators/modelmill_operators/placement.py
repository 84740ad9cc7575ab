"""From what a step needs to what Airflow's executors understand: one pure function.

===================  ===========================================================================
LocalExecutor        a pool with a slot for each device (``pool``, ``pool_slots``)
CeleryExecutor       the queue that machines of the right kind listen on
KubernetesExecutor   what is changed in the pod template: image, limits, node selector, …
several at once      the executor's name, besides
===================  ===========================================================================

``python -m modelmill_operators profiles --apply`` makes the pools, ``--check`` says what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelmill.errors import ConfigError, did_you_mean
from modelmill.system.resources import Resources
from modelmill_operators.profiles import PodProfile, Profile, Profiles

BASE_CONTAINER = "base"
"""Airflow's name for the container that runs the task."""


@dataclass(frozen=True)
class Placement:
    """Where a step runs."""

    profile: str | None = None
    """None: the deployment has no profiles."""
    executor: str | None = None
    queue: str | None = None
    pool: str | None = None
    pool_slots: int = 1
    python: str | None = None
    pod: Mapping[str, Any] | None = field(default=None, hash=False)
    """What a pod of this step has besides its template, as the Kubernetes API writes it."""


def place(resources: Resources, profiles: Profiles, *, profile: str | None = None) -> Placement:
    """Choose a profile, and say what Airflow has to know.

    Without a name, the first profile is taken that has all that the step needs. In a deployment without a
    GPU, or on a profile that the pipeline names and that has none, the step runs on the CPU.

    :param resources: what the step needs.
    :param profiles: what the deployment has.
    :param profile: the one that the pipeline names.
    :return: the placement.
    :raises ConfigError: if there is no such profile, or none has what the step needs.
    """
    if profile is None and not profiles:
        return Placement()
    name = _named(resources, profiles, profile) if profile else _fitting(resources, profiles)
    chosen = profiles[name]
    gpus = resources.gpus if chosen.gpus else 0
    return Placement(
        profile=name,
        executor=chosen.executor,
        queue=chosen.queue,
        pool=chosen.pool,
        pool_slots=max(1, gpus) if chosen.pool else 1,
        python=chosen.python,
        pod=pod(resources, chosen.pod, gpus=gpus) if chosen.pod else None,
    )


def _named(resources: Resources, profiles: Profiles, name: str) -> str:
    if name not in profiles:
        raise ConfigError(
            "a step's profile must be one of the deployment's",
            got=name,
            remedy=did_you_mean(name, profiles) if profiles else "set [modelmill] profiles in Airflow",
        )
    lacks = _lacks(resources, profiles[name])
    if "gpus" in lacks and not profiles[name].gpus:
        del lacks["gpus"]  # without a device the step runs on the CPU
    if lacks:
        raise ConfigError(
            f"profile {name!r} must have what the step needs, {', '.join(lacks)}",
            got=", ".join(lacks.values()),
            remedy="lower the step's resources, or choose another profile",
        )
    return name


def _fitting(resources: Resources, profiles: Profiles) -> str:
    lacking = {name: _lacks(resources, profile) for name, profile in profiles.items()}
    on_cpu = not any(profile.gpus for profile in profiles.values())
    for name, lacks in lacking.items():
        if not set(lacks) - ({"gpus"} if on_cpu else set()):
            return name
    raise ConfigError(
        "one of the deployment's profiles must have what a step needs",
        got="; ".join(f"{name}: {', '.join(lacks.values())}" for name, lacks in lacking.items()),
        remedy="lower the step's resources, or add a profile",
    )


def _lacks(resources: Resources, profile: Profile) -> dict[str, str]:
    """Return what a machine has too little of, and how much it has and should have."""
    found = {}
    for name in ("gpus", "gpu_memory_gb", "cpus", "memory_gb"):
        wanted, has = getattr(resources, name), getattr(profile, name)
        if name == "gpu_memory_gb" and not (resources.gpus and profile.gpus):
            continue
        if has is not None and wanted > has:
            found[name] = f"{name} {has:g} of {wanted:g}"
    return found


def pod(resources: Resources, profile: PodProfile, *, gpus: int) -> dict[str, Any]:
    """Return what a step's pod has besides the executor's pod template.

    :param resources: what the step needs: requests, and limits for memory and devices.
    :param profile: the profile's part for Kubernetes.
    :param gpus: devices to ask for.
    :return: a pod, as the Kubernetes API (v1) writes it.
    """
    memory = f"{round(resources.memory_gb * 1000)}M"
    devices = {profile.gpu_resource: str(gpus)} if gpus else {}
    container: dict[str, Any] = {
        "name": BASE_CONTAINER,
        "image": profile.image,
        "resources": {
            "requests": {"cpu": f"{resources.cpus:g}", "memory": memory, **devices},
            "limits": {"memory": memory, **devices},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": True,
        },
    }
    _set(container, "env", [{"name": name, "value": value} for name, value in profile.env.items()])
    _set(container, "envFrom", [{"secretRef": {"name": name}} for name in profile.env_secrets])
    volumes, mounts = _volumes(profile)
    _set(container, "volumeMounts", mounts)
    spec: dict[str, Any] = {"containers": [container]}
    _set(spec, "volumes", volumes)
    _set(spec, "serviceAccountName", profile.service_account)
    _set(spec, "nodeSelector", dict(profile.node_selector))
    _set(spec, "tolerations", [item.model_dump(exclude_none=True) for item in profile.tolerations])
    _set(spec, "imagePullSecrets", [{"name": name} for name in profile.pull_secrets])
    metadata: dict[str, Any] = {}
    _set(metadata, "namespace", profile.namespace)
    _set(metadata, "labels", dict(profile.labels))
    _set(metadata, "annotations", dict(profile.annotations))
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _volumes(profile: PodProfile) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = []
    mounts: list[dict[str, Any]] = []
    for place_, claim in profile.claims.items():
        name = f"claim-{len(volumes)}"
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": name, "mountPath": place_})
    if profile.shared_memory_gb:
        size = f"{round(profile.shared_memory_gb * 1000)}M"
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": size}})
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108 (the container's own)
    return volumes, mounts


def _set(target: dict[str, Any], name: str, value: Any) -> None:
    if value:
        target[name] = value


def pod_override(pod: Mapping[str, Any]) -> Any:
    """Return a pod as KubernetesExecutor takes it.

    :param pod: as the Kubernetes API writes it.
    :return: a ``V1Pod``.
    :raises ConfigError: if Airflow's provider for Kubernetes is not installed.
    """
    try:
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    except ImportError as error:
        raise ConfigError(
            f"a profile with a pod needs Airflow's provider for Kubernetes ({error})",
            remedy="pip install 'modelmill[airflow,kubernetes]'",
        ) from error
    return PodGenerator.deserialize_model_dict(dict(pod))


def check_executor(name: str) -> None:
    """Check that a profile's executor is one of this Airflow's: a DAG that names another one hides its file.

    :param name: executor, by its name or alias.
    :raises ConfigError: if it is not in ``[core] executor``.
    """
    from airflow.exceptions import UnknownExecutorException
    from airflow.executors.executor_loader import ExecutorLoader

    try:
        ExecutorLoader.lookup_executor_name_by_str(name, validate_teams=False)
    except UnknownExecutorException as error:
        known = [
            str(found.alias or found.module_path)
            for found in ExecutorLoader.get_executor_names(validate_teams=False)
        ]
        raise ConfigError(
            "a profile's executor must be one of [core] executor",
            got=name,
            choices=known,
        ) from error
