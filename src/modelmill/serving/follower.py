"""Following the registry: the versions that aliases point at are fetched, verified, loaded and put in use.

All of it happens in one thread that answers no requests. A swap is the assignment of a new
:class:`~modelmill.serving.loaded_versions.ActiveVersions`: a request keeps those that it began with, so one
version answers all of it. If a version cannot be used, the one before stays in use, and the state says why.

Champions that moved together (:mod:`modelmill.registry.joint_moves`) are put in use together: if one of them
cannot be used, all of them stay as they were.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelmill.errors import InputError, ModelmillError
from modelmill.registry.bundles import fetch_bundle
from modelmill.registry.joint_moves import ChampionReader
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION, reference
from modelmill.serving.deployments import CHALLENGER, Deployment
from modelmill.serving.loaded_versions import ActiveVersions, LoadedVersions, ServedVersion
from modelmill.serving.messages import ModelState, ServiceState
from modelmill.serving.metrics import Metrics
from modelmill.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CLOSE_SECONDS = 5.0
"""Time that a download may still take when the service ends."""
_MOST_SECONDS = 60.0
"""Longest time between two tries to load a version that could not be loaded."""


@dataclass(frozen=True)
class _Failure:
    """A version that could not be loaded."""

    version: int
    error: str
    refused: bool
    """Whether the same files would be refused again."""
    tries: int
    again: float
    """When it is tried again, on the monotonic clock."""


class Follower:
    """Keeps the active models up to date.

    :param wanted: returns the deployments that should be served, by registered model.
    :param settings: where MLflow and the cache are.
    :param metrics: the service's metrics.
    :param poll_seconds: seconds between two polls of the registry.
    """

    def __init__(
        self,
        wanted: Callable[[], Mapping[str, Deployment]],
        *,
        settings: Settings,
        metrics: Metrics,
        poll_seconds: float,
    ) -> None:
        self.active = ActiveVersions()
        self.deployments: Mapping[str, Deployment] = {}
        self._wanted = wanted
        self._settings = settings
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._aliases: Mapping[str, Mapping[str, int]] = {}
        self._reader = ChampionReader(settings)
        self._moves: tuple[Mapping[str, int], ...] = ()
        """Joint moves that are not in use as a whole, by model the version that they made champion."""
        self._held: Mapping[str, str] = {}
        """Why models wait that could be put in use."""
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._error: str | None = "the registry has not been asked yet"
        self._retired: ActiveVersions | None = None
        self._was_ready = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelmill-follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """Stop following; what is in use stays in use."""
        self._stopped.set()
        self._thread.join(_CLOSE_SECONDS)

    def poll(self) -> None:
        """Ask the registry once, and put new versions in use. Errors become part of the state."""
        # Freed here and not when the last request drops them: freeing a model takes time.
        self._retired = None
        try:
            deployments = self._wanted()
            client = tracking_client(self._settings.tracking_uri)
            seen = self._reader.read(lambda: _aliases(client, deployments))
            self._aliases, self._moves = seen.aliases, (*self._moves, *seen.moved)
            self.deployments = deployments
            before = self.active
            shadowed = [name for name, asked in deployments.items() if asked.shadow]
            wanted = {(name, CHAMPION) for name in deployments} | {(name, CHALLENGER) for name in shadowed}
            self._failures = {key: failure for key, failure in self._failures.items() if key in wanted}
            champions = self._updated(CHAMPION, list(deployments), before.champions)
            challengers = self._updated(CHALLENGER, shadowed, before.challengers, besides=champions.models)
            self._use(ActiveVersions(champions, challengers))
            self._moves = tuple(move for move in self._moves if self._together(move, champions))
            self._error = None
        except Exception as error:  # whatever happens, the active models stay, and the thread goes on
            self._metrics.poll_failures.inc()
            self._error = _one_line(error)

    def state(self) -> ServiceState:
        """Return which versions are in use, and which should be."""
        active, deployments = self.active, self.deployments
        models = [self._model_state(name, active) for name in sorted(deployments)]
        error = self._error
        if error is None and not models:
            error = "nothing has been deployed to this service yet"
        return ServiceState(ready=self._was_ready, error=error, models=models)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.poll()
            self._stopped.wait(self._poll_seconds)

    def _use(self, active: ActiveVersions) -> None:
        before, self.active = self.active, active
        old, new = before.champions.models, active.champions.models
        # Stays true: a model that is deployed later must not make a service unready that answers already.
        self._was_ready = self._was_ready or new.keys() == self.deployments.keys() != set()
        for name in old.keys() - new.keys():
            self._metrics.version.remove(name)
            self._metrics.stale.remove(name)
        for name, served in new.items():
            self._metrics.version.labels(name).set(served.version)
            self._metrics.stale.labels(name).set((name, CHAMPION) in self._failures)
            if old.get(name) != served:
                self._metrics.swaps.labels(name).inc()
        self._retired = before

    def _updated(
        self,
        alias: str,
        names: Sequence[str],
        before: LoadedVersions,
        *,
        besides: Mapping[str, ServedVersion] | None = None,
    ) -> LoadedVersions:
        """Load the versions that an alias points at; one that cannot be loaded leaves the one in use.

        :param alias: the alias.
        :param names: registered models.
        :param before: the versions in use.
        :param besides: versions that are in use under another alias, which are not loaded twice.
        :return: the loaded versions; ``before`` itself if nothing is new.
        """
        fetched = {name: self._fetched(name, alias, before.models.get(name)) for name in names}
        units: list[tuple[str, ...]] = []
        if alias == CHAMPION:
            units = self._whole(fetched, before)
        wanted = {
            name: served for name, served in fetched.items() if served and served != (besides or {}).get(name)
        }
        new = [name for name, served in wanted.items() if before.models.get(name) != served]
        if not new and wanted.keys() == before.models.keys():
            return before
        if len(new) > 1:
            # All at once is faster; if that fails, each is loaded alone: one bad version harms no other.
            with contextlib.suppress(Exception):
                loaded = self._loaded(wanted, new, before)
                for name in new:
                    self._failures.pop((name, alias), None)
                return loaded
        kept = {name: served for name, served in before.models.items() if name in wanted}
        loaded = before if kept == before.models else LoadedVersions(kept, reuse=before)
        alone = set(new).difference(*units)
        for unit in [*units, *((name,) for name in new if name in alone)]:
            try:
                one = {name: wanted[name] for name in unit}
                loaded = self._loaded({**loaded.models, **one}, unit, loaded)
                for name in unit:
                    self._failures.pop((name, alias), None)
            except Exception as error:  # whatever is wrong with one version, the others stay in use
                for name in unit:
                    self._failed(name, alias, wanted[name].version, error)
        return loaded

    def _together(self, move: Mapping[str, int], before: LoadedVersions) -> tuple[str, ...]:
        """Return the models that a joint move takes to another version than the one in use.

        A model without a version in use is not held up: there is nothing that it could be mixed with.
        """
        return tuple(
            name
            for name, version in move.items()
            if name in before.models
            and before.models[name].version != version
            and self._aliases.get(name, {}).get(CHAMPION) == version
        )

    def _whole(
        self, fetched: dict[str, ServedVersion | None], before: LoadedVersions
    ) -> list[tuple[str, ...]]:
        """Return the models that are loaded together; a joint move of which one is missing is held up.

        :param fetched: the versions that could be fetched; those of a move that is held up are put back.
        :param before: the versions in use.
        :return: names of the models of each joint move that can be loaded.
        """
        units: list[tuple[str, ...]] = []
        held: dict[str, str] = {}
        for move in self._moves:
            names = [name for name in self._together(move, before) if name not in held]
            missing = [name for name in names if _version(fetched[name]) != move[name]]
            if missing:
                held |= dict.fromkeys(names, f"it moves together with {missing[0]}, which cannot be fetched")
                fetched |= {name: before.models[name] for name in names}
            elif names:
                units.append(tuple(names))
        self._held = held
        return units

    def _loaded(
        self, models: Mapping[str, ServedVersion], new: Sequence[str], before: LoadedVersions
    ) -> LoadedVersions:
        began = time.monotonic()
        loaded = LoadedVersions(models, reuse=before)
        loaded.warm_up(new)
        self._metrics.load_seconds.observe(time.monotonic() - began)
        return loaded

    def _fetched(self, name: str, alias: str, in_use: ServedVersion | None) -> ServedVersion | None:
        """Return the version that an alias points at; if it cannot be fetched, the one in use."""
        version, key = self._aliases.get(name, {}).get(alias), (name, alias)
        if version is None:
            self._failures.pop(key, None)
            return in_use if alias == CHAMPION else None
        if in_use is not None and in_use.version == version:
            self._failures.pop(key, None)
            return in_use
        failure = self._failures.get(key)
        if failure and failure.version == version and time.monotonic() < failure.again:
            return in_use
        try:
            client = tracking_client(self._settings.tracking_uri)
            model = reference(client.get_model_version(name, str(version)))
            folder = fetch_bundle(model, self._settings.cache)
        except Exception as error:  # MLflow's stores raise what their drivers raise
            self._failed(name, alias, version, error)
            return in_use
        return ServedVersion(name, version, model.digest, folder)

    def _failed(self, name: str, alias: str, version: int, error: Exception) -> None:
        self._metrics.load_failures.labels(name).inc()
        before = self._failures.get((name, alias))
        tries = before.tries + 1 if before and before.version == version else 1
        wait = min(self._poll_seconds * 2**tries, _MOST_SECONDS)
        self._failures[name, alias] = _Failure(
            version, _one_line(error), isinstance(error, InputError), tries, time.monotonic() + wait
        )

    def _model_state(self, name: str, active: ActiveVersions) -> ModelState:
        served, failure = active.champions.models.get(name), self._failures.get((name, CHAMPION))
        champion = self._aliases.get(name, {}).get(CHAMPION)
        if failure and failure.version != champion:
            failure = None  # of an earlier version; this one has not been tried yet
        error = failure.error if failure else self._held.get(name)
        if champion is None:
            error = f"the registered model {name} has no version with the alias {CHAMPION}"
        elif served is None and error is None:
            error = "it is being loaded"
        beside = self._failures.get((name, CHALLENGER))
        if error is None and beside:
            error = f"challenger: {beside.error}"
        challenger = active.challengers.models.get(name)
        in_step = served is not None and served.version == champion
        return ModelState(
            name=name,
            state="ready" if in_step else "stale" if served else "missing",
            version=served.version if served else None,
            digest=served.digest if served else None,
            champion=champion,
            challenger=challenger.version if challenger else None,
            error=error,
            refused=bool(failure and failure.refused),
        )


def _aliases(client: MlflowClient, names: Mapping[str, Deployment]) -> dict[str, dict[str, int]]:
    """Return version by alias of each registered model; one request covers a thousand of them."""
    found: dict[str, dict[str, int]] = {}
    token: str | None = None
    while names:
        page = client.search_registered_models(max_results=1000, page_token=token)
        for model in page:
            if model.name in names:
                found[model.name] = {alias: int(version) for alias, version in model.aliases.items()}
        token = page.token
        if not token:
            break
    return found


def _version(served: ServedVersion | None) -> int | None:
    return served.version if served else None


def _one_line(error: Exception) -> str:
    text = str(error) if isinstance(error, ModelmillError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
