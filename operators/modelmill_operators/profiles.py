"""Profiles: the kinds of machines that a deployment has, by name.

The option ``profiles`` in the section ``[modelmill]`` of Airflow's configuration names a YAML file. An
administrator writes it, and pipelines choose from it: a pipeline can never name an image, a command, a host's
folder or a service account. See ``docs/placement.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from airflow.sdk.configuration import conf
from pydantic import Field, StringConstraints, TypeAdapter, ValidationError

from modelmill.documents.names import Name
from modelmill.errors import ConfigError, did_you_mean
from modelmill.options import Record

_KUBERNETES_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
KubernetesName = Annotated[str, StringConstraints(pattern=_KUBERNETES_NAME)]
QueueName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,250}$")]
AbsolutePath = Annotated[str, StringConstraints(pattern=r"^/[^\x00]*$")]


class Toleration(Record):
    """A taint that a pod may run beside."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class PodProfile(Record):
    """What KubernetesExecutor changes in its pod template for steps of a profile.

    A few fields on purpose: whatever would give a step the node it runs on (host paths and host namespaces,
    privileged containers, another user than the template's) cannot be said here.
    """

    image: str = Field(min_length=1)
    """With a tag or a digest."""
    namespace: KubernetesName | None = None
    service_account: KubernetesName | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    pull_secrets: tuple[KubernetesName, ...] = ()
    env: dict[str, str] = {}
    env_secrets: tuple[KubernetesName, ...] = ()
    """Secrets whose keys become environment variables."""
    claims: dict[AbsolutePath, KubernetesName] = {}
    """Persistent volume claims by the folder where they are mounted: the shared work directory."""
    shared_memory_gb: float = Field(0, ge=0)
    """Size of ``/dev/shm``, which data loaders need; 0: the node's default, 64 MB."""
    gpu_resource: str = "nvidia.com/gpu"
    """What the device plugin calls a GPU."""


class Profile(Record):
    """A kind of machine."""

    description: str = ""
    executor: str | None = None
    """One of the executors in ``[core] executor``; None: the first one."""
    queue: QueueName | None = None
    """Queue of CeleryExecutor that machines of this kind listen on."""
    pool: QueueName | None = None
    """Airflow pool with a slot for each device: a step takes as many as it uses."""
    pool_slots: int = Field(0, ge=0)
    """Slots of that pool: all devices of this kind. ``placement apply`` makes the pool."""
    python: AbsolutePath | None = None
    """Interpreter that runs the steps on these machines; None: ``MODELMILL_PYTHON`` of the worker."""
    gpus: int = Field(0, ge=0)
    """Devices that one machine has."""
    gpu_memory_gb: float | None = Field(None, gt=0)
    """Memory of each device; None: not known here."""
    cpus: float | None = Field(None, gt=0)
    memory_gb: float | None = Field(None, gt=0)
    pod: PodProfile | None = None
    """For KubernetesExecutor."""


Profiles = dict[Name, Profile]
"""Profiles in the order in which they are considered."""
_ADAPTER: TypeAdapter[Profiles] = TypeAdapter(Profiles)


def configured_profiles() -> Profiles:
    """Return the deployment's profiles.

    :return: by name, in the file's order; empty if there is no such option.
    :raises ConfigError: if the file cannot be read, or breaks a rule.
    """
    path = conf.get("modelmill", "profiles", fallback="")
    return load_profiles(Path(path)) if path else {}


def load_profiles(path: Path) -> Profiles:
    """Read a file of profiles.

    :param path: YAML.
    :return: profiles by name.
    :raises ConfigError: naming the first thing that is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"[modelmill] profiles must name a YAML file ({' '.join(str(error).split())})",
            got=str(path),
            remedy="write the file, or remove the option",
        ) from error
    try:
        found = _ADAPTER.validate_python(content or {})
    except ValidationError as error:
        raise _problem(error, path) from error
    for name, profile in found.items():
        if profile.pool is not None and not profile.pool_slots:
            raise ConfigError(
                f"{path}: profile {name!r}: a pool must have slots", got=0, remedy="set pool_slots"
            )
    return found


def _problem(error: ValidationError, path: Path) -> ConfigError:
    detail = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    remedy = ""
    got: Any = detail["input"]
    if detail["type"] == "extra_forbidden":
        model = PodProfile if "pod" in detail["loc"] else Profile
        got, remedy = detail["loc"][-1], did_you_mean(str(detail["loc"][-1]), model.model_fields)
    return ConfigError(f"{path}: {place}: {detail['msg']}{more}", got=got, remedy=remedy)
