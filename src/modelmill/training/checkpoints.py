"""Checkpoints that survive ``kill -9`` and a torn or flipped byte.

A checkpoint is written into a temporary folder, flushed to the disk, described by a manifest with the SHA-256
of each file, and only then renamed. Its folder is named ``step-STEP-DIGEST``, where the digest is the
manifest's own, so that nothing in it goes unchecked. Reading takes the newest one that verifies. Tensors are
safetensors and the rest is JSON: nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from modelmill.system.digests import file_digest
from modelmill.system.disk import flush

_NAME = re.compile(r"step-(\d{10})-([0-9a-f]{64})")
_MANIFEST = "manifest.json"
_STATE = "state.json"

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at a step."""

    step: int
    state: Mapping[str, Any]
    tensors: Mapping[str, Tensors]
    """Tensors by group, on the CPU."""


class CheckpointStore:
    """The checkpoints of one training.

    :param folder: where they lie; made if it does not exist.
    :param keep: number of checkpoints that are kept.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep
        self._bad: set[Path] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, step: int, *, state: Mapping[str, Any], tensors: Mapping[str, Tensors]) -> None:
        """Write a checkpoint, and remove those that are too old.

        :param step: optimizer steps done.
        :param state: anything that JSON can say.
        :param tensors: tensors by group; each group becomes one file. Empty groups are left out.
        """
        draft = self.folder / f"draft-{os.getpid()}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        for group, content in tensors.items():
            if content:
                flat = {name: value.detach().cpu().contiguous() for name, value in content.items()}
                save_file(flat, draft / f"{group}.safetensors")
        (draft / _STATE).write_text(json.dumps({"step": step, "state": state}))
        manifest = {path.name: _flush_and_hash(path) for path in sorted(draft.iterdir())}
        (draft / _MANIFEST).write_text(json.dumps(manifest))
        digest = _flush_and_hash(draft / _MANIFEST)
        flush(draft)
        target = self.folder / f"step-{step:010d}-{digest}"
        # The same step saved again after a resume is the same checkpoint, or a bad one that has to go.
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        self._bad.discard(target)
        flush(self.folder)
        self._prune(target)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint that verifies.

        :return: the checkpoint, or None if there is none.
        """
        for path in self._paths():
            found = _read(path)
            if found:
                return found
            self._bad.add(path)
        return None

    def _paths(self) -> list[Path]:
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)

    def _prune(self, newest: Path) -> None:
        # A bad one must push out neither the one that was just written nor a good one before it.
        others = [path for path in self._paths() if path != newest]
        bad = [path for path in others if path.name > newest.name or path in self._bad]
        behind = [path for path in others if path not in bad]
        for path in [*bad, *behind[self.keep - 1 :], *self.folder.glob("draft-*")]:
            shutil.rmtree(path, ignore_errors=True)


def _read(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    try:
        manifest_bytes = (path / _MANIFEST).read_bytes()
        if match is None or hashlib.sha256(manifest_bytes).hexdigest() != match[2]:
            return None
        manifest = json.loads(manifest_bytes)
        if any(file_digest(path / name) != digest for name, digest in manifest.items()):
            return None
        content = json.loads((path / _STATE).read_bytes())
        tensors = {Path(name).stem: load_file(path / name) for name in _groups(manifest)}
    except OSError:
        return None
    return Checkpoint(step=content["step"], state=content["state"], tensors=tensors)


def _groups(manifest: Mapping[str, str]) -> Iterator[str]:
    return (name for name in manifest if name.endswith(".safetensors"))


def _flush_and_hash(path: Path) -> str:
    flush(path)
    return file_digest(path)
