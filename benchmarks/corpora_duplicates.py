"""What becomes of near copies in five corpora, checked from outside.

``./run python -m benchmarks.corpora_duplicates`` plants near copies in each corpus, builds a dataset with the
defaults, and compares texts by code of its own, which shares nothing with modelmill's: Python's character
database in place of regular expressions over bytes, sets of strings in place of hashes, and every pair of
rows compared in place of candidates. It counts

- dropped rows whose recorded twin is not in the dataset, or is less alike than the threshold,
- recorded similarities that differ from its own,
- planted near copies of which both texts are still there,
- pairs of kept texts that reach the threshold all the same.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from benchmarks.corpora_packages import CORPORA, landing, reviews

from modelmill.artifacts import TableRef
from modelmill.datasets.options import BuildOptions
from modelmill.datasets.request import BuildDatasetRequest
from modelmill.jobs import run_job
from modelmill.settings import Settings
from modelmill.tables.reading import read_arrow

NAMES = ("quotes", "diagnoses", "weaknesses", "languages", "reviews")
THRESHOLD = 0.55
PLANTED = 0.1
"""Share of rows that get a near copy, if they have words enough."""
CHANGED = 0.05
"""Share of their words that are other ones."""
_FEWEST_WORDS = 12
_HALF_SPACE = "\u200c"
"""Stands between words, as a space does."""
_EACH_ONE_WORD = (
    "CJK UNIFIED",
    "HIRAGANA LETTER",
    "KATAKANA LETTER",
    "THAI CHARACTER",
    "LAO",
    "KHMER",
    "MYANMAR",
)


def words(text: str) -> list[str]:
    """Return the words of a text, as docs/datasets.md says what a word is."""
    found: list[str] = []
    goes_on = single = False
    for character in unicodedata.normalize("NFKC", text).lower():
        category, name = unicodedata.category(character), unicodedata.name(character, "")
        if (category == "Cf" and character != _HALF_SPACE) or _is_point(category, name):
            continue
        if category[0] == "M" and goes_on:
            found[-1] += character
            continue
        if category[0] not in "LMN" and category != "So":
            goes_on = single = False
            continue
        alone = category == "So" or (category[0] == "L" and name.startswith(_EACH_ONE_WORD))
        if goes_on and not alone and not single:
            found[-1] += character
        else:
            found.append(character)
        goes_on, single = True, alone
    return found


def _is_point(category: str, name: str) -> bool:
    """Whether a character is a vowel point of Arabic or Hebrew, or lengthens an Arabic word."""
    return name == "ARABIC TATWEEL" or (category == "Mn" and name.startswith(("ARABIC", "HEBREW")))


def pairs_of(text: str) -> frozenset[tuple[str, ...]]:
    """Return the pairs of neighbouring words; of a single word, the word."""
    found = words(text)
    if len(found) < 2:
        return frozenset((word,) for word in found)
    return frozenset(pairwise(found))


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of two texts' pairs of neighbouring words."""
    first, second = pairs_of(one), pairs_of(other)
    return len(first & second) / max(1, len(first | second))


def near_copy(text: str, others: Sequence[str], chance: random.Random) -> str | None:
    """Return a text with some words changed that is still nearly the same; None if it has too few words.

    :param text: the text.
    :param others: words to put in.
    :param chance: chooses places and words.
    :return: another text.
    """
    spelt = text.split() if " " in text.strip() else list(text)
    if len(spelt) < _FEWEST_WORDS:
        return None
    for place in chance.sample(range(len(spelt)), max(1, round(CHANGED * len(spelt)))):
        spelt[place] = chance.choice(others)
    copy = (" " if " " in text.strip() else "").join(spelt)
    return copy if THRESHOLD <= similarity(text, copy) < 1 else None


@dataclass(frozen=True)
class Found:
    """What the check of a corpus counted."""

    corpus: str
    rows: int
    planted: int
    dropped: int
    """Rows that were dropped as near copies."""
    without_twin: int
    """Of them, those whose twin is not kept, or is not near."""
    differing: int
    """Of them, those whose recorded similarity is not that of the texts."""
    least: float
    """Smallest similarity of a dropped row with its twin."""
    both_kept: int
    """Planted copies of which both texts are kept."""
    near_kept: int
    """Pairs of kept texts that reach the threshold."""

    def __str__(self) -> str:
        recall = 1 - self.both_kept / self.planted
        cells = (self.corpus, self.rows, self.planted, f"{recall:.3f}", self.dropped, self.without_twin)
        more = (f"{self.least:.3f}", self.differing, self.near_kept)
        return f"| {' | '.join(map(str, (*cells, *more)))} |"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpora", nargs="*", default=NAMES, metavar="corpus", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    settings = Settings.from_environment()
    folder, downloads = settings.home / "corpora" / "landing", settings.home / "downloads"
    landing(folder, downloads, [CORPORA[name] for name in options.corpora if name in CORPORA])
    print(
        "| corpus | rows | planted | recall | dropped | no near twin | least alike | differs | near, kept |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in options.corpora:
        if name in CORPORA:
            lines = (folder / name / "rows.jsonl").read_text().splitlines()
            texts = {row["id"]: row["text"] for row in map(json.loads, lines)}
        else:
            texts = {f"review-{place:05}": text for place, (text, _) in enumerate(reviews(downloads, 4000))}
        print(check(name, texts), flush=True)


def check(corpus: str, texts: Mapping[str, str]) -> Found:
    """Plant near copies, build the dataset, and count."""
    chance = random.Random(0)
    others = sorted({word for text in texts.values() for word in words(text)})
    rows, planted = dict(texts), list[tuple[str, str]]()
    for key in chance.sample(sorted(texts), round(PLANTED * len(texts))):
        if copy := near_copy(texts[key], others, chance):
            rows[f"copy-{key}"] = copy
            planted.append((key, f"copy-{key}"))
    with tempfile.TemporaryDirectory() as folder:
        kept, dropped = build(rows, Path(folder))
    near = [row for row in dropped if row[1] in ("near-duplicate", "near-leak")]
    alike = [(similarity(rows[key], rows[twin]), said) for key, _, twin, said in near]
    lost = sum(
        twin not in kept or found < THRESHOLD for (_, _, twin, _), (found, _) in zip(near, alike, strict=True)
    )
    return Found(
        corpus=corpus,
        rows=len(rows),
        planted=len(planted),
        dropped=len(near),
        without_twin=lost,
        differing=sum(abs(found - said) > 1e-6 for found, said in alike),
        least=min((found for found, _ in alike), default=1.0),
        both_kept=sum(one in kept and other in kept for one, other in planted),
        near_kept=near_pairs([rows[key] for key in sorted(kept)]),
    )


def build(rows: Mapping[str, str], folder: Path) -> tuple[set[str], list[tuple[str, str, str, float]]]:
    """Return the keys of the dataset, and key, kind, twin and similarity of each row that was dropped."""
    import pyarrow as pa
    from deltalake import write_deltalake

    labels = ["even" if place % 2 else "odd" for place in range(len(rows))]
    write_deltalake(str(folder / "raw"), pa.table({"id": [*rows], "text": [*rows.values()], "label": labels}))
    options = BuildOptions(text="text", labels=("label",), key="id")
    table = TableRef(uri=str(folder / "raw"), version=0)
    request = BuildDatasetRequest(table=table, options=options, to=str(folder / "dataset"), transaction="one")
    made = run_job(request)
    kept = read_arrow(made.dataset, columns=["example_key"])["example_key"].to_pylist()
    columns = ["id", "duplicate_kind", "duplicate_of", "similarity"]
    dropped = read_arrow(made.duplicates, columns=columns).to_pylist()
    return set(kept), [tuple(row[name] for name in columns) for row in dropped]


def near_pairs(texts: Sequence[str]) -> int:
    """Return how many pairs of texts reach the threshold, of all pairs."""
    from scipy.sparse import csr_array

    sets = [pairs_of(text) for text in texts]
    numbers = {pair: place for place, pair in enumerate({pair for own in sets for pair in own})}
    sizes = np.array([len(own) for own in sets])
    columns = [numbers[pair] for own in sets for pair in own]
    held = csr_array(
        (np.ones(len(columns)), columns, np.append(0, np.cumsum(sizes))), (len(sets), len(numbers))
    )
    both = (held @ held.T).tocoo()
    union = sizes[both.row] + sizes[both.col] - both.data
    return int(((both.row < both.col) & (both.data / union >= THRESHOLD)).sum())


if __name__ == "__main__":
    main()
    sys.stdout.flush()
