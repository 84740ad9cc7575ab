"""Model bundles in and out of MLflow."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from modelmill.artifacts import DatasetRef, ModelFormat, ModelRef
from modelmill.errors import ConfigError, ModelError, TransientError
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.registry.mlflow_calls import made_once, uploading
from modelmill.registry.packaging import APART, BUNDLE_PATH, Packages, name_model, package_digest
from modelmill.registry.signing import (
    MODEL_SIGNATURE,
    SignatureError,
    sign,
    signature_of,
    verify,
    verify_digest,
)
from modelmill.registry.tracking import StepRun, TrackedRun
from modelmill.system.locks import lock_of, locked
from modelmill.system.scratch import scratch_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.store.artifact.artifact_repo import ArtifactRepository


TAG_DIGEST = "modelmill.digest"
TAG_ROLE = "modelmill.role"
TAG_PARENT = "modelmill.parent"
TAG_DATASET = "modelmill.dataset"
TAG_DATASET_REFERENCE = "modelmill.dataset_reference"
"""JSON of the dataset's reference: its version, and the roles of its columns."""
TAG_RECIPE = "modelmill.recipe_hash"
TAG_TRUNK = "modelmill.trunk"
"""URI of the trunk's model, on heads."""
TAG_TRUNK_DIGEST = "modelmill.trunk_digest"
TAG_ATTEMPT = "modelmill.attempt"
"""What an attempt to log a model knows it by, if MLflow's reply is lost."""
TAG_PACKAGE = "modelmill.package"
"""Digest of what MLflow loads the model with: the files around the bundle."""
LINEAGE_RUN_TAGS = ("modelmill.pipeline", "modelmill.pipeline_digest", "modelmill.environment")
"""Tags of the run that its models carry too."""


@dataclass(frozen=True)
class Draft:
    """A bundle that is to become a logged model."""

    folder: Path
    parent: ModelRef | None = None
    """The model it was made from."""
    trunk: ModelRef | None = None
    """The trunk of a head; the head's model names it and does not contain it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Figures to show on the model, by name."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Further tags."""


def log_model(
    folder: Path,
    *,
    role: str,
    context: StepRun,
    dataset: DatasetRef | None = None,
    parent: ModelRef | None = None,
    trunk: ModelRef | None = None,
    metrics: Mapping[str, float] | None = None,
    more_tags: Mapping[str, str] | None = None,
) -> ModelRef:
    """Log a bundle as an MLflow ``python_function`` model of the step's run.

    :param folder: the bundle.
    :param role: ``teacher``, ``student``, ``exported``, ….
    :param context: the step that makes it.
    :param dataset: what it was trained or checked on; None for a trunk that is exported as it is.
    :param parent: the model it was made from.
    :param trunk: the trunk of a head.
    :param metrics: figures to show on the model, by name.
    :param more_tags: further tags.
    :return: the reference to hand on.
    :raises ModelError: if the folder is no bundle.
    """
    draft = Draft(folder, parent, trunk, metrics or {}, more_tags or {})
    return log_models([draft], role=role, context=context, dataset=dataset)[0]


def log_models(
    drafts: Sequence[Draft], *, role: str, context: StepRun, dataset: DatasetRef | None = None
) -> list[ModelRef]:
    """Log bundles as MLflow ``python_function`` models of the step's run, with few requests for each.

    :param drafts: the bundles.
    :param role: ``head``, ….
    :param context: the step that makes it.
    :param dataset: what they were trained or checked on, if on anything.
    :return: the references to hand on, in the same order.
    :raises ModelError: if a folder is no bundle; then nothing is logged.
    """
    read = [(draft, BundleInfo.load(draft.folder), bundle_digest(draft.folder)) for draft in drafts]
    run = context.run
    run_data = run.client.get_run(run.run_id).data
    common = {
        **{name: run_data.tags[name] for name in LINEAGE_RUN_TAGS if name in run_data.tags},
        **({TAG_DATASET: str(dataset), TAG_DATASET_REFERENCE: dataset.model_dump_json()} if dataset else {}),
    }
    params = {name: value[:250] for name, value in run_data.params.items()}
    found = []
    with scratch_folder("modelmill-model-") as scratch:
        packages = Packages(scratch)
        for draft, info, digest in read:
            parent, trunk = draft.parent, draft.trunk
            settings = {"digest": digest, **({"trunk": trunk.model_dump(mode="json")} if trunk else {})}
            uri = publish(
                packages.write(draft.folder, info, settings=settings, run_id=run.run_id),
                digest,
                context,
                role=role,
                kind=info.format,
                tags={
                    **common,
                    "modelmill.label": info.label,
                    **({TAG_PARENT: parent.uri} if parent else {}),
                    **draft.tags,
                    **({TAG_TRUNK: trunk.uri, TAG_TRUNK_DIGEST: trunk.digest} if trunk else {}),
                },
                params=params,
            )
            found.append(
                ModelRef(
                    uri=uri,
                    run_id=run.run_id,
                    digest=digest,
                    format=info.format,
                    role=role,
                    parent=parent.uri if parent else None,
                    trunk=trunk.uri if trunk else None,
                )
            )
    list_outputs([model.uri for model in found], context)
    run.log_model_metrics(
        {
            model.uri.removeprefix("models:/"): draft.metrics
            for model, draft in zip(found, drafts, strict=True)
        }
    )
    return found


def publish(
    folder: Path,
    digest: str,
    context: StepRun,
    *,
    role: str,
    kind: str,
    tags: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> str:
    """Log a model, signed if the deployment has a key, and keep its bundle here.

    It is ready for MLflow only after its files are stored. Two requests, beside the files.

    :param folder: the model as MLflow loads it, without MLflow's id in its description: it is written there.
    :param digest: of its bundle.
    :param context: the step that makes it.
    :param role: ``head``, ….
    :param kind: what MLflow shows as the model's type.
    :param tags: further tags.
    :param params: parameters to show.
    :return: the logged model's URI.
    :raises ConfigError: if the signing key cannot be used.
    :raises TransientError: if MLflow has lost a file that it took.
    """
    client, run, bundle = context.run.client, context.run, folder / BUNDLE_PATH
    own = {TAG_DIGEST: digest, TAG_ROLE: role, TAG_RECIPE: context.step_key, **tags}
    earlier = _logged_before(run, own)
    if earlier is not None:
        run.models.add(earlier)
        keep_bundle(bundle, digest, context.cache)
        return f"models:/{earlier}"
    run.check_mine()
    sign(bundle, signature_of(bundle))
    attempt = uuid.uuid4().hex
    marks = {
        TAG_PACKAGE: package_digest(folder),
        "modelmill.step_key": context.step_key,
        TAG_ATTEMPT: attempt,
    }
    logged = made_once(
        lambda: client.create_logged_model(
            experiment_id=run.experiment_id,
            name=role,
            source_run_id=run.run_id,
            tags={**own, **marks},
            params=dict(params or {}),
            model_type=kind,
        ),
        lambda: [model for model in run.logged_models() if model.tags.get(TAG_ATTEMPT) == attempt],
        name=lambda model: str(model.model_id or ""),
    )
    run.models.add(logged.model_id)
    name_model(folder, logged.model_id)
    sign(folder, folder / MODEL_SIGNATURE, ignored=APART)
    upload(folder, logged.artifact_location, client)
    client.finalize_logged_model(logged.model_id, "READY")
    keep_bundle(bundle, digest, context.cache)
    return f"models:/{logged.model_id}"


def _logged_before(run: TrackedRun, tags: Mapping[str, str]) -> str | None:
    """Return the id of the same model, which an attempt that died has logged to its end."""
    if run.fresh:
        return None
    for model in run.logged_models():
        same = tags.items() <= model.tags.items()
        if same and model.status == "READY" and model.model_id not in run.models:
            return str(model.model_id)
    return None


def upload(folder: Path, location: str, client: MlflowClient) -> None:
    """Store a model's files, and make sure that the server lists them: it may have lost one that it took.

    :param folder: the files.
    :param location: where MLflow keeps the model.
    :param client: MLflow's client.
    :raises TransientError: if the server has not all of them.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}
    # The client's log_model_artifacts would ask for the model that has just been made.
    store = get_artifact_repository(location, tracking_uri=client.tracking_uri)
    with uploading(max(files.values(), default=0)):
        store.log_artifacts(str(folder))  # type: ignore[no-untyped-call] # MLflow has no types here
    missing = files.items() - _stored(store, "").items()
    if missing:
        raise TransientError(
            "MLflow must have the files of a model that it has taken",
            got=f"{', '.join(sorted(name for name, _ in missing))} missing or cut off",
            remedy="look at the disk of its artifact store, and try again",
        )


def _stored(store: ArtifactRepository, path: str) -> dict[str, int]:
    """Return size by path of the files that are stored below a path."""
    found: dict[str, int] = {}
    for info in store.list_artifacts(path or None):
        if info.is_dir:
            found |= _stored(store, info.path)
        else:
            found[info.path] = int(info.file_size or 0)
    return found


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and in the folders below it."""
    return [path for path in folder.rglob("*") if path.is_file()]


def list_outputs(uris: Sequence[str], context: StepRun) -> None:
    """List models as outputs of the step's run.

    :param uris: ``models:/m-…``; those that are listed already stay so.
    :param context: the step that makes it.
    """
    from mlflow.exceptions import MlflowException

    run = context.run
    names = [uri.removeprefix("models:/") for uri in uris]
    if not run.fresh:
        names = _unlisted(run, names)
    try:
        _list_outputs(run, names)
    except MlflowException:
        # MLflow refuses what it has, as when its first reply was lost and its client has asked again.
        left = _unlisted(run, names)
        if left == names:
            raise
        _list_outputs(run, left)


def _unlisted(run: TrackedRun, names: Sequence[str]) -> list[str]:
    outputs = run.client.get_run(run.run_id).outputs
    listed = {output.model_id for output in outputs.model_outputs} if outputs else set()
    return [name for name in names if name not in listed]


def _list_outputs(run: TrackedRun, names: Sequence[str]) -> None:
    from mlflow.entities import LoggedModelOutput

    if names:
        run.client.log_outputs(run.run_id, [LoggedModelOutput(name, 0) for name in names])


def fetch_bundle(model: ModelRef, cache: Path) -> Path:
    """Return a local folder with a model's bundle, its digest and required signature verified.

    A head comes with its trunk: it lies beside the head, in a folder that is named after its digest.

    :param model: the model.
    :param cache: directory for downloads, shared by all steps of this machine.
    :return: the folder; it must not be changed.
    :raises ModelError: if its files are not those that were logged, or that a trusted key has signed.
    :raises TransientError: if MLflow does not hand it out.
    """
    if not re.fullmatch(r"[0-9a-f]{64}", model.digest):
        raise ModelError(
            "a model's digest is 64 hexadecimal digits", got=model.digest, remedy="log the model again"
        )
    place = cache / "models" / model.digest
    with locked(lock_of(place)):
        if not _is_whole(place, model.digest):
            with scratch_folder(".download-", parent=place.parent) as scratch:
                found = _download(model, scratch) / BUNDLE_PATH
                verify_digest(found, model.digest)
                _place(found, place)
    if model.trunk is not None:
        fetch_bundle(_trunk_of(place, model), cache)
    return place


def _is_whole(place: Path, digest: str) -> bool:
    """Return whether a cached bundle may be used; one that is damaged is removed, to be fetched again."""
    if not place.exists():
        return False
    try:
        verify_digest(place, digest)
    except SignatureError:  # the stored signature may be newer
        return False
    except (ModelError, OSError):  # other files, links, or files that cannot be read
        shutil.rmtree(place, ignore_errors=True)
        return False
    with contextlib.suppress(OSError):  # a cache that is read-only
        os.utime(place)  # who removes what is not used sees it, also where readings are not noted
    return True


def _download(model: ModelRef, scratch: Path) -> Path:
    """Download what MLflow stores of a model, and check the files around the bundle."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    try:
        whole = Path(download_artifacts(artifact_uri=model.uri, dst_path=str(scratch)))
        wanted = model_tags(model.uri).get(TAG_PACKAGE)
    except (MlflowException, OSError) as error:
        raise TransientError(
            f"MLflow must hand out the model ({error})",
            got=model.uri,
            remedy="check that it still exists and that the MLflow server answers",
        ) from error
    # If somebody has loaded the model from a local store, Python has left bytecode beside its script.
    shutil.rmtree(whole / "__pycache__", ignore_errors=True)
    if not files_below(whole):
        raise ModelError(
            "MLflow must have the model's files",
            got=model.uri,
            remedy="restore them from a backup, or delete its run in MLflow: the step runs again then",
        )
    if wanted and package_digest(whole) != wanted:
        raise ModelError(
            "the files that MLflow loads a model with must be those that were logged",
            got=model.uri,
            remedy="they were changed or damaged afterwards: make the model again, or restore the files",
        )
    verify(whole, whole / MODEL_SIGNATURE, ignored=APART)
    return whole


def model_tags(uri: str) -> dict[str, str]:
    """Return the tags of a logged model or of a registered version."""
    import mlflow

    name, _, version = uri.removeprefix("models:/").partition("/")
    client = mlflow.MlflowClient()
    found = client.get_model_version(name, version) if version else client.get_logged_model(name)
    return dict(found.tags)


def _trunk_of(place: Path, head: ModelRef) -> ModelRef:
    digest = BundleInfo.load(place).trunk
    if digest is None or head.trunk is None:
        raise ModelError("a head names its trunk", got=head.uri, remedy="train the head again")
    return ModelRef(uri=head.trunk, run_id=head.run_id, digest=digest, format="trunk", role="trunk")


def logged_model(client: MlflowClient, uri: str) -> ModelRef:
    """Return the reference of a logged model, from its tags.

    :param client: MLflow's client.
    :param uri: ``models:/m-…``.
    :return: the reference.
    :raises ModelError: if modelmill did not log it.
    """
    return model_reference(client.get_logged_model(uri.removeprefix("models:/")))


def model_reference(found: LoggedModel) -> ModelRef:
    """Return the reference of a logged model, from its tags; ModelError if modelmill did not log it."""
    uri = f"models:/{found.model_id}"
    if TAG_DIGEST not in found.tags:
        raise ModelError(
            "a model must carry its lineage",
            got=uri,
            remedy=f"log it with modelmill: the tag {TAG_DIGEST} is missing",
        )
    return ModelRef(
        uri=uri,
        run_id=found.source_run_id or "",
        digest=found.tags[TAG_DIGEST],
        format=model_format(found.model_type),
        role=found.tags.get(TAG_ROLE, ""),
        parent=found.tags.get(TAG_PARENT),
        trunk=found.tags.get(TAG_TRUNK),
    )


def model_format(name: str | None) -> ModelFormat:
    """Return the format that a tag names.

    :param name: what MLflow holds.
    :return: the format; ``torch`` for what modelmill does not know.
    """
    return cast("ModelFormat", name) if name in get_args(ModelFormat) else "torch"


def worker_cache() -> Path:
    """Return a directory for downloads of processes that are not steps, such as model servers.

    :return: the directory, which only this user may read.
    :raises ConfigError: if somebody else has made it, who could change a model after it was verified.
    """
    folder = Path(tempfile.gettempdir()) / f"modelmill-workers-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode):
        raise ConfigError(
            "the directory of downloaded models must belong to the user that loads them",
            got=str(folder),
            remedy="remove it, or set TMPDIR to a directory that only this user may write",
        )
    return folder


def keep_bundle(folder: Path, digest: str, cache: Path) -> Path:
    """Put a bundle into the cache, with its signature: the next step here need not download it.

    :param folder: the bundle.
    :param digest: its digest.
    :param cache: directory for downloads, shared by all steps of this machine.
    :return: its folder there.
    """
    place = cache / "models" / digest
    with (
        locked(lock_of(place)),
        scratch_folder(".keep-", parent=place.parent) as scratch,
    ):
        made = scratch / "bundle"
        if not place.exists():
            shutil.copytree(folder, made)
        if signature_of(folder).exists():
            shutil.copy(signature_of(folder), signature_of(made))
        _place(made, place)
    return place


def _place(made: Path, place: Path) -> None:
    """Move a bundle to its place, its signature first: a bundle that is in its place is complete."""
    if signature_of(made).exists():
        signature_of(made).rename(signature_of(place))
    if not place.exists():
        made.rename(place)
