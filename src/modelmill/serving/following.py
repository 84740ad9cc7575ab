"""Following the registry: what the aliases point at is fetched, verified, loaded, warmed up, and put in use.

All of it happens in one thread that answers nothing. A swap is the assignment of a new
:class:`~modelmill.serving.live_models.Lineup`: a request keeps the lineup it began with, so it is answered
by one version, whole. A version that cannot be used leaves the one before it in use, and the state says why.
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
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION, reference
from modelmill.serving.deployments import CHALLENGER, Deployment
from modelmill.serving.live_models import Lineup, Served, Team
from modelmill.serving.messages import ModelState, ServiceState
from modelmill.serving.metrics import Metrics
from modelmill.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CLOSE_SECONDS = 5.0
"""A download that takes longer is not waited for at the end."""
_MOST_SECONDS = 60.0
"""Between two tries to load a version that could not be loaded."""


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
    """Keeps a lineup up to date.

    :param wanted: returns what should be served, by registered model.
    :param settings: where MLflow and the cache are.
    :param metrics: what Prometheus is told.
    :param poll_seconds: seconds between two looks at the registry.
    """

    def __init__(
        self,
        wanted: Callable[[], Mapping[str, Deployment]],
        *,
        settings: Settings,
        metrics: Metrics,
        poll_seconds: float,
    ) -> None:
        self.lineup = Lineup()
        self.deployments: Mapping[str, Deployment] = {}
        self._wanted = wanted
        self._settings = settings
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._aliases: Mapping[str, Mapping[str, int]] = {}
        self._failures: dict[tuple[str, str], _Failure] = {}
        self._error: str | None = "the registry has not been asked yet"
        self._retired: Lineup | None = None
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
        """Look once, and put in use what is new. Errors become part of the state."""
        # Dropped here and not where the last request lets go of it: taking a model apart takes time.
        self._retired = None
        try:
            deployments = self._wanted()
            self._aliases = _aliases(tracking_client(self._settings.tracking_uri), deployments)
            self.deployments = deployments
            before = self.lineup
            shadowed = [name for name, asked in deployments.items() if asked.shadow]
            wanted = {(name, CHAMPION) for name in deployments} | {(name, CHALLENGER) for name in shadowed}
            self._failures = {key: failure for key, failure in self._failures.items() if key in wanted}
            champions = self._team(CHAMPION, list(deployments), before.champions)
            challengers = self._team(CHALLENGER, shadowed, before.challengers, besides=champions.models)
            self._use(Lineup(champions, challengers))
            self._error = None
        except Exception as error:  # whatever it is, what is in use stays in use, and the thread goes on
            self._metrics.poll_failures.inc()
            self._error = _one_line(error)

    def state(self) -> ServiceState:
        """Return what is in use and what should be."""
        lineup, deployments = self.lineup, self.deployments
        models = [self._model_state(name, lineup) for name in sorted(deployments)]
        error = self._error
        if error is None and not models:
            error = "nothing has been deployed to this service yet"
        return ServiceState(ready=self._was_ready, error=error, models=models)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.poll()
            self._stopped.wait(self._poll_seconds)

    def _use(self, lineup: Lineup) -> None:
        before, self.lineup = self.lineup, lineup
        old, new = before.champions.models, lineup.champions.models
        # Once only: a model that is deployed later must not take those out of use that answer already.
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

    def _team(
        self, alias: str, names: Sequence[str], before: Team, *, besides: Mapping[str, Served] | None = None
    ) -> Team:
        """Return the versions that an alias points at, loaded; those in use where one cannot be.

        :param alias: the alias.
        :param names: registered models.
        :param before: the versions in use.
        :param besides: versions that are in use already under another alias, and not wanted twice.
        :return: the team; ``before`` itself if nothing is new.
        """
        fetched = {name: self._fetched(name, alias, before.models.get(name)) for name in names}
        wanted = {
            name: served for name, served in fetched.items() if served and served != (besides or {}).get(name)
        }
        new = [name for name, served in wanted.items() if before.models.get(name) != served]
        if not new and wanted.keys() == before.models.keys():
            return before
        if len(new) > 1:
            # All at once is quicker; where one of them cannot be loaded, the others must not suffer.
            with contextlib.suppress(Exception):
                team = self._loaded(wanted, new, before)
                for name in new:
                    self._failures.pop((name, alias), None)
                return team
        kept = {name: served for name, served in before.models.items() if name in wanted}
        team = before if kept == before.models else Team(kept, reuse=before)
        for name in new:
            try:
                team = self._loaded({**team.models, name: wanted[name]}, [name], team)
                self._failures.pop((name, alias), None)
            except Exception as error:  # whatever is wrong with one version, the others go on answering
                self._failed(name, alias, wanted[name].version, error)
        return team

    def _loaded(self, models: Mapping[str, Served], new: Sequence[str], before: Team) -> Team:
        began = time.monotonic()
        team = Team(models, reuse=before)
        team.warm_up(new)
        self._metrics.load_seconds.observe(time.monotonic() - began)
        return team

    def _fetched(self, name: str, alias: str, in_use: Served | None) -> Served | None:
        """Return the version that an alias points at, or the one in use where it cannot be fetched."""
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
            folder = fetch_bundle(model, self._settings.home / "cache")
        except Exception as error:  # MLflow's stores raise what their drivers raise
            self._failed(name, alias, version, error)
            return in_use
        return Served(name, version, model.digest, folder)

    def _failed(self, name: str, alias: str, version: int, error: Exception) -> None:
        self._metrics.load_failures.labels(name).inc()
        before = self._failures.get((name, alias))
        tries = before.tries + 1 if before and before.version == version else 1
        wait = min(self._poll_seconds * 2**tries, _MOST_SECONDS)
        self._failures[name, alias] = _Failure(
            version, _one_line(error), isinstance(error, InputError), tries, time.monotonic() + wait
        )

    def _model_state(self, name: str, lineup: Lineup) -> ModelState:
        served, failure = lineup.champions.models.get(name), self._failures.get((name, CHAMPION))
        champion = self._aliases.get(name, {}).get(CHAMPION)
        if failure and failure.version != champion:
            failure = None  # of the version before, and this one has not been tried yet
        error = failure.error if failure else None
        if champion is None:
            error = f"the registered model {name} has no version with the alias {CHAMPION}"
        elif served is None and error is None:
            error = "it is being loaded"
        beside = self._failures.get((name, CHALLENGER))
        if error is None and beside:
            error = f"challenger: {beside.error}"
        challenger = lineup.challengers.models.get(name)
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
    """Return version by alias of each registered model: one request for a thousand of them."""
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


def _one_line(error: Exception) -> str:
    text = str(error) if isinstance(error, ModelmillError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]
