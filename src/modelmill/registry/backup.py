"""A backup of what a deployment cannot make again: documents, decisions, what people typed, models in use.

A backup is a folder: a copy of each *place* (pipelines, rule sets, ledger, deployments, labelling) with the
versions of its documents, the registry of MLflow (:mod:`modelmill.registry.stored_registry`) with the files
of the models in use, and, written last, a manifest with the size and SHA-256 of every file. Tables, datasets
and the figures of runs are not in it: they are others' to back up, or can be made again.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import fsspec
from pydantic import ValidationError

from modelmill.errors import ConfigError, TransientError
from modelmill.options import Record
from modelmill.registry.history import history, models, previous_champion
from modelmill.registry.ledger import entries
from modelmill.registry.retention import named_in
from modelmill.registry.stored_registry import RegistryRestore, StoredRegistry, conflicts, save_registry
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION
from modelmill.system.scratch import scratch_folder
from modelmill.version import __version__

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from modelmill.settings import Settings

MANIFEST = "manifest.json"
_REGISTRY, _MODELS, _LEDGER = "registry.json", "models", "ledger"
_LAST = ("ledger", "deployments")
"""Services and steps follow them, so they come back when the models are there."""
_TRIES = 5
_PIECE = 1 << 22

Say = Callable[[str], None]


class StoredFile(Record):
    """A file of a backup."""

    path: str
    size: int
    sha256: str


class Manifest(Record):
    """What a backup holds."""

    modelmill: str
    """Version that has written it."""
    time: datetime
    places: dict[str, str]
    """Where each place was, by its name."""
    files: tuple[StoredFile, ...]


class Folder:
    """Files below a local folder or an fsspec URL.

    :param url: the folder; it need not exist.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: AbstractFileSystem
        self.files, root = fsspec.core.url_to_fs(url)
        self.root: str = root.rstrip("/")

    def paths(self) -> list[str]:
        """Return the paths of the files below it, without locks and files that are being written."""
        if not self.files.exists(self.root):
            return []
        found = (posixpath.relpath(path, self.root) for path in self.files.find(self.root))
        return sorted(path for path in found if not _is_passing(path))

    def read(self, path: str) -> Iterator[bytes]:
        """Yield a file's content, piece by piece."""
        with self.files.open(f"{self.root}/{path}", "rb") as file:
            while piece := file.read(_PIECE):
                yield piece

    def write(self, path: str, content: Iterator[bytes]) -> StoredFile:
        """Write a file."""
        place, total, size = f"{self.root}/{path}", hashlib.sha256(), 0
        self.files.makedirs(posixpath.dirname(place), exist_ok=True)
        scratch = posixpath.join(posixpath.dirname(place), f".{posixpath.basename(place)}.restoring")
        with self.files.open(scratch, "wb") as file:
            for piece in content:
                file.write(piece)
                total.update(piece)
                size += len(piece)
        self.files.mv(scratch, place)
        return StoredFile(path=path, size=size, sha256=total.hexdigest())

    def digest(self, path: str) -> str:
        """Return a file's SHA-256."""
        total = hashlib.sha256()
        for piece in self.read(path):
            total.update(piece)
        return total.hexdigest()


def _is_passing(path: str) -> bool:
    name = posixpath.basename(path)
    return name == ".lock" or name.endswith((".lock", ".restoring")) or "__pycache__" in path


def write_backup(
    to: str, *, places: Mapping[str, str], settings: Settings, every_version: bool = False, say: Say = print
) -> Manifest:
    """Write a backup.

    The ledger and the registry are of one moment: if somebody promotes meanwhile, they are copied again.

    :param to: local folder or fsspec URL, which holds no file.
    :param places: folders by name: ``pipelines``, ``rules``, ``labelling`` and the like.
    :param settings: where MLflow, the ledger and the deployments are.
    :param every_version: keep the files of all versions of all models; without, of those with an alias, of
        the champion before, to which a rollback goes, and of those that a document or a rule set names.
    :param say: gets lines to show.
    :return: what was written.
    :raises ConfigError: if there are files already.
    :raises TransientError: if MLflow does not answer, or people promote all the time.
    """
    target = Folder(to)
    if target.paths():
        raise ConfigError("a backup is written into an empty folder", got=to, remedy="name another folder")
    everywhere = {**places, "deployments": settings.deployments}
    files = [
        target.write(f"{name}/{path}", source.read(path))
        for name, source in ((name, Folder(url)) for name, url in everywhere.items())
        for path in source.paths()
    ]
    client = tracking_client(settings.tracking_uri)
    named = _named_by_documents(files, target)
    for _ in range(_TRIES):
        before = len(entries(settings))
        with scratch_folder("modelmill-backup-") as scratch:
            registry = save_registry(
                client,
                scratch,
                kept=lambda name: _before(name, settings) | named.get(name, set()),
                every=every_version,
                say=say,
            )
            if len(entries(settings)) != before:
                say("somebody has promoted a model meanwhile: once more")
                continue
            ledger = Folder(settings.ledger)
            files += [target.write(f"{_LEDGER}/{path}", ledger.read(path)) for path in ledger.paths()]
            bundles = Folder(str(scratch))
            files += [target.write(f"{_MODELS}/{path}", bundles.read(path)) for path in bundles.paths()]
            break
    else:
        raise TransientError(
            "a backup needs a moment in which nobody promotes", remedy="write it at another time"
        )
    for line in _contradictions(registry, settings):
        say(line)
    files.append(target.write(_REGISTRY, iter([registry.model_dump_json(indent=1).encode()])))
    manifest = Manifest(
        modelmill=__version__,
        time=datetime.now(UTC),
        places={**everywhere, _LEDGER: settings.ledger},
        files=tuple(files),
    )
    target.write(MANIFEST, iter([manifest.model_dump_json(indent=1).encode()]))
    return manifest


def _named_by_documents(files: Sequence[StoredFile], target: Folder) -> dict[str, set[int]]:
    """Return the versions that pipelines, rule sets and the like name, by registered model."""
    found: dict[str, set[int]] = {}
    for file in files:
        if file.path.endswith((".yaml", ".yml", ".json")):
            text = b"".join(target.read(file.path)).decode(errors="replace")
            for name, _, version in (one.partition("/") for one in named_in([text])):
                if version:
                    found.setdefault(name, set()).add(int(version))
    return found


def _before(name: str, settings: Settings) -> set[int]:
    version = previous_champion(history(name, settings))
    return set() if version is None else {version}


def _contradictions(registry: StoredRegistry, settings: Settings) -> list[str]:
    """Return where the ledger names another champion than the alias: of another MLflow, or moved by hand."""
    aliases = {name.name: name.aliases.get(CHAMPION) for name in registry.names}
    found = []
    for model in models(settings):
        rows = history(model, settings)
        said, there = rows[-1].to_version, aliases.get(model)
        if said != there:
            found.append(f"{model}: champion is {said} by the ledger, {there} in this MLflow")
    return found


def read_manifest(of: str) -> Manifest:
    """Return what a backup holds; ConfigError if it is not complete, or a file is not what was written."""
    folder = Folder(of)
    try:
        manifest = Manifest.model_validate_json(b"".join(folder.read(MANIFEST)))
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"a backup has a {MANIFEST}, which is written last ({type(error).__name__})",
            got=of,
            remedy="name the folder that modelmill backup has written to its end",
        ) from error
    there = set(folder.paths())
    wrong = [
        file.path
        for file in manifest.files
        if file.path not in there or folder.digest(file.path) != file.sha256
    ]
    if wrong:
        raise ConfigError(
            "every file of a backup must be as it was written",
            got=f"{len(wrong)} missing or changed, such as {wrong[0]}",
            remedy="take another copy of the backup",
        )
    return manifest


def restore_backup(of: str, *, places: Mapping[str, str], settings: Settings, say: Say = print) -> Manifest:
    """Put a backup where this deployment keeps things; what is there already and equal stays.

    Nothing is written unless all of it can be. A restore that was killed is done again.

    :param of: the backup.
    :param places: folders by name, as in :func:`write_backup`; each place of the backup must be there.
    :param settings: where MLflow, the ledger and the deployments are.
    :param say: gets lines to show.
    :return: what was restored.
    :raises ConfigError: if the backup is damaged, or something else is where a file should go.
    :raises TransientError: if MLflow does not answer.
    """
    manifest = read_manifest(of)
    source = Folder(of)
    targets = {**places, "deployments": settings.deployments, _LEDGER: settings.ledger}
    new = _new_files(manifest, targets)
    registry = _read_registry(source)
    client = tracking_client(settings.tracking_uri)
    wrong = conflicts(client, registry)
    if wrong:
        raise _occupied(wrong)
    for name in new.keys() - set(_LAST):
        _write_place(name, new[name], source, targets[name], say)
    with scratch_folder("modelmill-restore-") as scratch:
        bundles, prefix = Folder(str(scratch)), f"{_MODELS}/"
        for file in manifest.files:
            if file.path.startswith(prefix):
                bundles.write(file.path.removeprefix(prefix), source.read(file.path))
        RegistryRestore(client, registry, scratch, artifact_root=settings.artifact_root).run(say)
    for name in _LAST:
        _write_place(name, new.get(name, []), source, targets[name], say)
    return manifest


def _read_registry(source: Folder) -> StoredRegistry:
    """Return the registry of a backup; ConfigError if it is not one that :func:`write_backup` writes."""
    try:
        return StoredRegistry.model_validate_json(b"".join(source.read(_REGISTRY)))
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"a backup's {_REGISTRY} must be as modelmill backup has written it ({type(error).__name__})",
            got=source.url,
            remedy="take another copy of the backup",
        ) from error


def _new_files(manifest: Manifest, targets: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the paths to write, by place; those that are there already, and equal, are left out.

    :param manifest: what the backup holds.
    :param targets: where each place goes.
    :return: paths below each place.
    :raises ConfigError: if other content is at such a path, or the ledger has other rows.
    """
    kept: dict[str, dict[str, StoredFile]] = {}
    for file in manifest.files:
        name, _, path = file.path.partition("/")
        if path and name != _MODELS:
            kept.setdefault(name, {})[path] = file
    missing = sorted(kept.keys() - targets.keys())
    if missing:
        raise ConfigError(
            f"the deployment must say where the backup's {', '.join(missing)} go",
            remedy="set MODELMILL_PIPELINES and MODELMILL_PARAM_RULES, or name the folder: see --help",
        )
    new, wrong = {}, []
    for name, files in kept.items():
        folder = Folder(targets[name])
        there = set(folder.paths())
        new[name] = [path for path in files if path not in there]
        wrong += [
            f"{targets[name]}/{path}"
            for path in files
            if path in there and folder.digest(path) != files[path].sha256
        ]
        if name == _LEDGER:
            wrong += [f"{targets[name]}/{path}" for path in sorted(there - files.keys())]
    if wrong:
        raise _occupied(wrong)
    return new


def _write_place(name: str, paths: Sequence[str], source: Folder, target: str, say: Say) -> None:
    folder = Folder(target)
    for path in sorted(paths, key=lambda path: ("_delta_log" in path, path)):  # a commit after its files
        folder.write(path, source.read(f"{name}/{path}"))
    say(f"{name}: {len(paths)} files into {target}")


def _occupied(wrong: Sequence[str]) -> ConfigError:
    return ConfigError(
        "a backup is restored to where nothing else is",
        got="; ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""),
        remedy="restore into another MLflow and other folders, or move away what is there",
    )
