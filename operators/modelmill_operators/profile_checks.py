"""Whether a deployment has the pools and the queues that its profiles name.

A task that asks for a pool that does not exist waits for ever in Airflow; one whose queue has no worker
waits for ten minutes.
"""

from __future__ import annotations

from collections.abc import Iterator

from modelmill.errors import TransientError, did_you_mean
from modelmill_operators.profiles import Profile, Profiles

_ANSWER_SECONDS = 10.0


def profile_line(name: str, profile: Profile) -> str:
    """Return a line that describes a profile: where its steps run, and what its machines have."""
    places = {
        "executor": profile.executor,
        "queue": profile.queue,
        "pool": profile.pool and f"{profile.pool} ({profile.pool_slots} slots)",
        "image": profile.pod and profile.pod.image,
        "python": profile.python,
    }
    sizes = {"GPUs": profile.gpus or None, "CPUs": profile.cpus, "GB": profile.memory_gb}
    parts = [f"{key} {value}" for key, value in places.items() if value]
    parts += [f"{value:g} {key}" for key, value in sizes.items() if value is not None]
    return f"{name:12} {', '.join(parts) or 'any machine'}"


def apply_pools(profiles: Profiles) -> Iterator[str]:
    """Make the pools that profiles name, with a slot for each device, in Airflow's database.

    :param profiles: the profiles.
    :yield: a line for each pool.
    """
    from airflow.models.pool import Pool

    for name, profile in profiles.items():
        if profile.pool is not None:
            description = f"Devices of modelmill's profile {name}"
            Pool.create_or_update_pool(
                profile.pool, profile.pool_slots, description=description, include_deferred=False
            )
            yield f"pool {profile.pool} has {profile.pool_slots} slots"


def missing_parts(profiles: Profiles) -> list[str]:
    """Return what is missing for steps to be run.

    :param profiles: the profiles.
    :return: a line for each pool that does not exist, and each queue that no Celery worker listens on.
    :raises TransientError: if the broker cannot be asked.
    """
    from airflow.models.pool import Pool

    pools = {str(pool.pool): int(pool.slots) for pool in Pool.get_pools()}
    found = []
    queues = _queues() if any(profile.queue for profile in profiles.values()) and _uses_celery() else None
    for name, profile in profiles.items():
        if profile.pool is not None and profile.pool not in pools:
            remedy = "run: python -m modelmill_operators profiles --apply"
            found.append(f"profile {name}: there is no pool {profile.pool!r}; {remedy}")
        if profile.queue is not None and queues is not None and profile.queue not in queues:
            remedy = did_you_mean(profile.queue, queues) if queues else "no worker answers at all"
            start = f"start one: airflow celery worker --queues {profile.queue}"
            found.append(f"profile {name}: no worker listens on queue {profile.queue!r}; {start}; {remedy}")
    return found


def _uses_celery() -> bool:
    from airflow.executors.executor_loader import ExecutorLoader

    return any("celery" in str(name.module_path).lower() for name in ExecutorLoader.get_executor_names())


def _queues() -> set[str]:
    """Return the queues that Celery workers listen on."""
    from airflow.providers.celery.executors.celery_executor_utils import app as celery

    try:
        answers = celery.control.inspect(timeout=_ANSWER_SECONDS).active_queues()
    except Exception as error:  # the broker's own errors share no base class
        raise TransientError(f"Celery's broker must answer ({error})", remedy="start it") from error
    return {queue["name"] for queues in (answers or {}).values() for queue in queues}
