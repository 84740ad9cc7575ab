"""What a trunk makes of texts or images: computed once for each text and trunk, then mapped from files.

Below the cache directory each trunk has a folder named after its digest, with segments that are only ever
added: rows that no segment has are computed and become the next one. A row is known by the hash of its token
ids, or of its pixels, so a new version of a dataset costs its new texts or images only. A segment's name is
the digest of its files: a torn or damaged one is not read but made again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelmill.models.bundle import bundle_digest
from modelmill.models.trunk import Trunk
from modelmill.system.disk import flush
from modelmill.system.locks import locked
from modelmill.tasks.calibration import FloatArray
from modelmill.tokens.token_ids import Places, Tokens
from modelmill.workspace import Workspace

Keys = npt.NDArray[np.void]

_KEY_BYTES = 16
_CHUNK_ROWS = 512
_PILOT_ROWS = 32
_FORECAST_ROWS = 1000
"""Rows from which on it is worth saying beforehand what reading them takes."""
_STATE_TYPE = np.float16


@dataclass(frozen=True)
class _Segment:
    """Rows that were computed together."""

    keys: Keys
    features: FloatArray
    """``(rows, features)``, mapped."""
    states: npt.NDArray[np.float16] | None
    """Features of each token of all rows, ``(tokens, features)``, mapped; None where none were asked for."""
    starts: Places
    """Where each row begins in ``states``, ``(rows,)``."""
    lengths: Places


class Features:
    """What a trunk makes of the rows of a dataset.

    :param segments: mapped segments that hold all rows.
    :param segment: the segment of each row, ``(rows,)``.
    :param place: its place in that segment, ``(rows,)``.
    :param columns: which of its features are taken.
    """

    def __init__(
        self,
        segments: Sequence[_Segment],
        segment: Places,
        place: Places,
        *,
        columns: slice = slice(None),
    ) -> None:
        self._segments = segments
        self._segment = segment
        self._place = place
        self._columns = columns
        self.size = len(range(segments[0].features.shape[1])[columns]) if segments else 0

    def __len__(self) -> int:
        return len(self._place)

    def take(self, rows: Places) -> FloatArray:
        """Return the features of rows.

        :param rows: their places, ``(batch,)``.
        :return: ``(batch, features)``.
        """
        result: FloatArray = np.empty((len(rows), self.size), dtype=np.float32)
        for number, segment in enumerate(self._segments):
            inside = self._segment[rows] == number
            result[inside] = segment.features[self._place[rows[inside]], self._columns]
        return result

    def block(self, columns: slice) -> Features:
        """Return the same rows with some of their features; it has no states of tokens.

        :param columns: which features, from where to where.
        :return: the rows.
        """
        return Features(self._segments, self._segment, self._place, columns=columns)

    def take_states(self, rows: Places) -> tuple[FloatArray, FloatArray]:
        """Return the features of the tokens of rows, padded with zeros.

        :param rows: their places, ``(batch,)``.
        :return: ``(batch, tokens, features)``, and a mask that is 1 where there is a token,
            ``(batch, tokens)``.
        """
        lengths = np.array([self._of(row).lengths[self._place[row]] for row in rows], dtype=np.int64)
        result: FloatArray = np.zeros((len(rows), int(lengths.max(initial=1)), self.size), dtype=np.float32)
        for index, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            segment = self._of(row)
            start = segment.starts[self._place[row]]
            if segment.states is not None:
                result[index, :length] = segment.states[start : start + length]
        mask = (np.arange(result.shape[1]) < lengths[:, None]).astype(np.float32)
        return result, mask

    def _of(self, row: int) -> _Segment:
        return self._segments[int(self._segment[row])]


def trunk_features(trunk: Trunk, tokens: Tokens, *, states: bool, workspace: Workspace) -> Features:
    """Return what a trunk makes of rows, computing what no earlier call has computed.

    :param trunk: the trunk.
    :param tokens: the rows, as its tokenizer makes them of texts.
    :param states: whether the features of each token are wanted too.
    :param workspace: its cache keeps the features.
    :return: the features, mapped from files.
    """
    place = workspace.cache / "features" / (f"{trunk.digest}-states" if states else trunk.digest)
    keys = row_keys(tokens)
    waits = "waiting for another step that runs the same trunk"
    with locked(place / ".lock", on_wait=lambda: workspace.log(waits)):
        segments = _segments(place, workspace)
        found = _find(segments, keys)
        missing = np.flatnonzero(found[0] < 0)
        # The same text twice is computed once.
        _, first = np.unique(keys[missing], return_index=True)
        if len(first):
            rows = missing[np.sort(first)]
            what = f"{len(rows):,} of {len(tokens):,} {trunk.info.content}s"
            workspace.log(f"the trunk reads {what}; the others are known")
            if len(rows) >= _FORECAST_ROWS:
                seconds = forecast_cpu_seconds(trunk, tokens.take(rows), states=states)
                workspace.log(f"that takes about {seconds:,.0f} CPU s, by {_PILOT_ROWS} of them")
            _write(place, trunk, keys[rows], tokens.take(rows), states=states, workspace=workspace)
            segments = _segments(place, workspace)
            found = _find(segments, keys)
    return Features(segments, *found)


def forecast_cpu_seconds(trunk: Trunk, tokens: Tokens, *, states: bool = False) -> float:
    """Return about how many CPU seconds a trunk takes to read rows, all threads together, from a pilot.

    :param trunk: the trunk.
    :param tokens: the rows; at least one.
    :param states: whether the features of each token are read too.
    :return: CPU seconds.
    """
    outputs = ["features", "states"] if states else ["features"]
    # Of each length as many as there are: every so-manieth row in the order of lengths, from the middle.
    order = np.argsort(tokens.lengths, kind="stable")
    count = min(_PILOT_ROWS, len(order))
    places = ((np.arange(count) + 0.5) * len(order) / count).astype(np.int64)
    pilot = tokens.take(order[places])
    trunk.session.run(pilot.take(np.arange(1)), outputs, lambda *_: None)  # the first row is slow
    began = time.process_time()
    trunk.session.run(pilot, outputs, lambda *_: None)
    return (time.process_time() - began) / count * len(order)


def row_keys(tokens: Tokens) -> Keys:
    """Return a hash of the token ids of each row, or of its pixels: 16 bytes each, ``(rows,)``."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=_KEY_BYTES).digest() for row in tokens]
    return np.frombuffer(b"".join(digests), dtype=f"V{_KEY_BYTES}")


def _find(segments: Sequence[_Segment], keys: Keys) -> tuple[Places, Places]:
    """Return segment and place of each row; segment -1 where there is none."""
    segment, place = np.full(len(keys), -1, dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
    for number, known in enumerate(segments):
        order = np.argsort(known.keys)
        at = np.searchsorted(known.keys, keys, sorter=order).clip(max=len(order) - 1)
        hit = (known.keys[order[at]] == keys) & (segment < 0)
        segment[hit], place[hit] = number, order[at[hit]]
    return segment, place


def _segments(place: Path, workspace: Workspace) -> list[_Segment]:
    found = []
    for folder in sorted(path for path in place.iterdir() if path.is_dir()):
        if bundle_digest(folder) != folder.name:
            workspace.log(f"{folder.name} is damaged or unfinished: its texts are read again")
            shutil.rmtree(folder)
            continue
        lengths = np.load(folder / "lengths.npy")
        states = folder / "states.npy"
        found.append(
            _Segment(
                keys=np.load(folder / "keys.npy"),
                features=np.load(folder / "features.npy", mmap_mode="r"),
                states=np.load(states, mmap_mode="r") if states.exists() else None,
                starts=np.cumsum(lengths) - lengths,
                lengths=lengths,
            )
        )
    return found


def _write(
    place: Path, trunk: Trunk, keys: Keys, tokens: Tokens, *, states: bool, workspace: Workspace
) -> None:
    # Only the holder of the lock writes: what a dead process left has a wrong name, and was removed.
    draft = place / f"draft-{os.getpid()}"
    draft.mkdir()
    shape = (len(tokens), trunk.features)
    features = np.lib.format.open_memmap(draft / "features.npy", mode="w+", dtype=np.float32, shape=shape)
    outputs = ["features"]
    if states:
        outputs.append("states")
        shape = (int(tokens.lengths.sum()), trunk.features)
        rows = np.lib.format.open_memmap(draft / "states.npy", mode="w+", dtype=_STATE_TYPE, shape=shape)
        starts = np.cumsum(tokens.lengths) - tokens.lengths
    order = np.argsort(tokens.lengths, kind="stable")
    for begin in range(0, len(order), _CHUNK_ROWS):
        chunk = order[begin : begin + _CHUNK_ROWS]

        def use(row: int, values: Sequence[FloatArray], chunk: Places = chunk) -> None:
            index = chunk[row]
            features[index] = values[0]
            if states:
                rows[starts[index] : starts[index] + len(values[1])] = values[1]

        trunk.session.run(tokens.take(chunk), outputs, use)
        workspace.progress(begin + len(chunk), len(order), what="rows encoded")
    features.flush()
    if states:
        rows.flush()
    np.save(draft / "keys.npy", keys)
    np.save(draft / "lengths.npy", tokens.lengths)
    for path in draft.iterdir():
        flush(path)
    draft.rename(place / bundle_digest(draft))
    flush(place)
