"""The teacher of a distillation, and its logits."""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from modelmill.errors import ModelError
from modelmill.models.bundle import BundleInfo, bundle_digest
from modelmill.models.scorer import Scorer
from modelmill.models.scorers import load_scorer, score_into
from modelmill.system.digests import is_sealed, seal
from modelmill.tasks.calibration import FloatArray
from modelmill.tasks.examples import LabelledData
from modelmill.tokens.texts import Texts
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.workspace import Workspace

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Teacher:
    """A model that others learn from."""

    folder: Path
    """Its bundle, of any format that has logits."""
    digest: str
    info: BundleInfo
    scorer: Scorer
    name: str
    """What errors call it."""

    @classmethod
    def load(cls, folder: Path, *, name: str | None = None) -> Teacher:
        """Load a teacher.

        :param folder: its bundle.
        :param name: what errors call it; None: the folder.
        :return: the teacher.
        :raises ModelError: if the folder is not a bundle, or cannot be loaded.
        """
        info = BundleInfo.load(folder)
        return cls(folder, bundle_digest(folder), info, load_scorer(folder), name or str(folder))

    def logits(self, texts: Texts, places: Places, workspace: Workspace) -> FloatArray:
        """Return its logits for some of the texts, which it reads with its own tokenizer.

        :param texts: all texts.
        :param places: of those that are wanted, ``(rows,)``.
        :param workspace: its cache keeps them.
        :return: ``(rows, outputs)``, mapped from a file.
        """
        tokens = texts.tokens(self.folder, max_tokens=self.info.max_tokens)
        return teacher_logits(self.scorer, tokens.take(places), digest=self.digest, workspace=workspace)


def check_teacher(folder: Path, data: LabelledData) -> BundleInfo:
    """Check that a teacher gives what the dataset's label column holds.

    :param folder: the teacher's bundle.
    :param data: the labelled rows.
    :return: the bundle's description.
    :raises ModelError: if its label, its kind of label, or its classes differ.
    """
    info = BundleInfo.load(folder)
    if info.label != data.label:
        raise ModelError(
            f"the teacher must answer the label that the student learns, {data.label!r}",
            got=info.label,
            remedy="choose that label in the configuration, or fine-tune a teacher for it",
        )
    if info.target != data.target:
        raise ModelError(
            f"the teacher must answer with what the label column holds, {data.target}",
            got=info.target,
            remedy="fine-tune the teacher on this dataset",
        )
    if info.classes != data.classes:
        lacks = ", ".join(sorted(set(data.classes) - set(info.classes))) or "none"
        extra = ", ".join(sorted(set(info.classes) - set(data.classes))) or "none"
        raise ModelError(
            "the teacher must have the classes of the dataset's train split",
            got=f"missing in the teacher: {lacks}; only in the teacher: {extra}",
            remedy="fine-tune the teacher on this dataset",
        )
    return info


def teacher_logits(scorer: Scorer, tokens: Tokens, *, digest: str, workspace: Workspace) -> FloatArray:
    """Return a teacher's logits: computed once for the same teacher and rows, then read from the cache.

    :param scorer: the teacher.
    :param tokens: the rows, as the teacher's tokenizer makes them.
    :param digest: the teacher's.
    :param workspace: its cache keeps them.
    :return: ``(rows, outputs)``, mapped from a file.
    """
    content = hashlib.sha256(digest.encode())
    content.update(tokens.lengths.tobytes())
    for start in range(0, len(tokens), _CHUNK_ROWS):
        content.update(tokens.take(slice(start, start + _CHUNK_ROWS)).flat().tobytes())
    path = workspace.cache / "teacher_logits" / f"{content.hexdigest()}.npy"
    shape = (len(tokens), scorer.info.outputs)
    if is_sealed(path):
        with contextlib.suppress(FileNotFoundError):  # modelmill gc has just removed it
            found: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape == shape:
                workspace.log("the teacher's answers are in the cache")
                return found
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.draft")
    target = np.lib.format.open_memmap(draft, mode="w+", dtype=np.float32, shape=shape)
    told = partial(workspace.progress, what="teacher's answers")
    score_into(target, scorer, tokens, progress=told)
    target.flush()
    del target
    seal(draft)
    draft.replace(path)
    result: FloatArray = np.load(path, mmap_mode="r", allow_pickle=False)
    return result
