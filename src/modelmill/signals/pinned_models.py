"""Models that are looked up by name once for a run, and pinned to a version and its digest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelmill.artifacts import ModelRef
from modelmill.errors import ModelError, ModelmillError
from modelmill.options import Record
from modelmill.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

_MODELS = "models:/"


class PinnedModel(Record):
    """The model that a name stood for when a run began."""

    model: ModelRef | None = None
    """The version; None for a bundle in a folder, and if there is no model."""
    folder: str = ""
    """The bundle on the driver's disk."""
    digest: str = ""
    missing: str = ""
    """Why there is no model; empty if there is one."""

    @property
    def version(self) -> str:
        """What answers, exactly: the version or folder, and the first digits of its digest."""
        if self.missing:
            return "missing"
        return f"{self.model.uri if self.model else self.folder} {self.digest[:16]}"

    def bundle(self) -> Path:
        """Return the bundle, downloaded if the driver's folder is not on this machine.

        :return: the folder.
        :raises ModelError: if there is no model.
        :raises TransientError: if MLflow does not answer.
        """
        if self.missing:
            raise ModelError("the model of a signal must exist", got=self.missing, remedy="promote one")
        place = Path(self.folder)
        if place.is_dir() or self.model is None:
            return place
        from modelmill.registry.bundles import fetch_bundle, worker_cache

        return fetch_bundle(self.model, worker_cache())


def pin_models(names: Iterable[str], settings: Settings) -> dict[str, PinnedModel]:
    """Look models up, and bring their bundles to this machine.

    Champions that moved together are pinned together: all as they were before, or all as they are now. A
    model that does not exist is pinned as missing: the signals that need it are unknown, or stop the run, as
    the rule set says.

    :param names: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``models:/m-…``, or folders.
    :param settings: where MLflow and the caches are.
    :return: by name.
    :raises TransientError: if MLflow does not answer.
    """
    from modelmill.registry.joint_moves import while_standing
    from modelmill.registry.versions import CHAMPION

    wanted = tuple(dict.fromkeys(names))
    if any(name.startswith(_MODELS) and name.endswith(f"@{CHAMPION}") for name in wanted):
        return while_standing(settings, lambda behind: _pinned_models(wanted, settings, behind.champions))
    return _pinned_models(wanted, settings, {})


def _pinned_models(
    names: Iterable[str], settings: Settings, champions: Mapping[str, int]
) -> dict[str, PinnedModel]:
    """See :func:`pin_models`; ``champions``: versions by model, where an alias may not have followed."""
    found: dict[str, PinnedModel] = {}
    client: MlflowClient | None = None
    for name in names:
        if name.startswith(_MODELS) and client is None:
            from modelmill.registry.tracking import tracking_client

            client = tracking_client(settings.tracking_uri)
        try:
            found[name] = _pinned(name, client, settings, champions)
        except ModelmillError as error:
            if error.retryable:
                raise
            found[name] = PinnedModel(missing=f"{name}: {error}")
    return found


def _pinned(name: str, client: Any, settings: Settings, champions: Mapping[str, int]) -> PinnedModel:
    from modelmill.models.bundle import BundleInfo, bundle_digest

    if not name.startswith(_MODELS):
        BundleInfo.load(Path(name))
        return PinnedModel(folder=str(Path(name).absolute()), digest=bundle_digest(Path(name)))
    from modelmill.registry.bundles import fetch_bundle

    reference = _reference(name, client, champions)
    folder = fetch_bundle(reference, settings.cache)
    return PinnedModel(model=reference, folder=str(folder), digest=reference.digest)


def _reference(name: str, client: MlflowClient, champions: Mapping[str, int]) -> ModelRef:
    from mlflow.exceptions import MlflowException

    from modelmill.registry.versions import CHAMPION, model_at, reference

    rest = name.removeprefix(_MODELS)
    try:
        if "@" in rest:
            model, alias = rest.split("@", 1)
            if alias == CHAMPION and model in champions:
                return reference(client.get_model_version(model, str(champions[model])))
            return reference(client.get_model_version_by_alias(model, alias))
        return model_at(client, name)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ModelError(
                "the model of a signal must exist", got=name, remedy="promote one, or name another version"
            ) from error
        raise
