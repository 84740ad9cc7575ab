"""Planted near-duplicates are found, nothing else is, and none stands on both sides of a split.

The oracle is another implementation: words by Python's ``re``, sets by Python, and all pairs by SciPy.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import json
import os
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix

THRESHOLD = 0.55
CHANGED = 0.05
"""Chance of each word of a planted near-duplicate to be another one."""
MODULES = (
    "argparse",
    "collections",
    "decimal",
    "difflib",
    "email.message",
    "logging",
    "subprocess",
    "unittest",
)
NEWSGROUPS = Path(
    os.environ.get("MODELMILL_TEST_NEWSGROUPS")
    or Path(__file__).parents[2] / ".modelmill/data/landing/20newsgroups"
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "text", "topic", "part")])
SHIPPED = {"key": "id", "text": "text", "labels": ["topic"], "split": {"column": "part", "validation": 0.1}}
BY_HASH = {"key": "id", "text": "text", "labels": ["topic"], "split": {"validation": 0.2, "test": 0.3}}

Row = dict[str, str]


def vocabulary() -> list[str]:
    """The words of docstrings, each as often as it stands there, as real texts have them."""
    found: list[str] = []
    for name in MODULES:
        module = importlib.import_module(name)
        for item in [module, *vars(module).values()]:
            found += re.findall(r"[a-z]{2,}", (inspect.getdoc(item) or "").lower())
    assert len(set(found)) > 1500
    return found


def changed(text: str, words: list[str], random_: random.Random) -> str:
    return " ".join(random_.choice(words) if random_.random() < CHANGED else word for word in text.split(" "))


def with_planted(
    rows: list[Row], words: list[str], random_: random.Random, *, each: int
) -> tuple[list[Row], dict[str, str]]:
    """Add exact and near copies of train rows, and of test rows to train; return originals by their copies.

    The copies have higher numbers, so that the originals come first.
    """
    planted: list[Row] = []
    originals = {}
    for part in ("train", "test"):
        chosen = random_.sample([row for row in rows if row["part"] == part], 2 * each)
        for number, row in enumerate(chosen):
            text = row["text"] if number % 2 else changed(row["text"], words, random_)
            copy = {**row, "id": f"copy-{900_000 + len(planted)}", "text": text, "part": "train"}
            planted.append(copy)
            originals[copy["id"]] = row["id"]
    rows = [*rows, *planted]
    random_.shuffle(rows)
    return rows, originals


def shingle_set(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    return set(itertools.pairwise(words)) if len(words) != 1 else {(words[0],)}


def alike(texts: Iterable[str]) -> set[tuple[int, int]]:
    """Return all pairs of texts whose similarity reaches the threshold, by brute force."""
    sets = [shingle_set(text) for text in texts]
    numbers: dict[tuple[str, ...], int] = {}
    places = [numbers.setdefault(item, len(numbers)) for one in sets for item in one]
    ends = np.cumsum([0, *map(len, sets)])
    shape = (len(sets), len(numbers))
    matrix = csr_matrix((np.ones(len(places), np.int32), places, ends), shape=shape)
    shared = (matrix @ matrix.T).tocoo()
    sizes = np.diff(ends)
    near = shared.data >= THRESHOLD * (sizes[shared.row] + sizes[shared.col] - shared.data) - 1e-9
    upper = near & (shared.row < shared.col)
    return set(zip(shared.row[upper].tolist(), shared.col[upper].tolist(), strict=True))


def settled(rows: list[Row], originals: dict[str, str], made: Any) -> tuple[float, float]:
    """Return recall (planted pairs of which one row is left) and precision (removed rows with an equal)."""
    kept = set(made.splits)
    removed = {row["id"] for row in rows} - kept
    recall = sum(not (copy in kept and original in kept) for copy, original in originals.items())
    pairs = alike(row["text"] for row in rows)
    with_equal = {rows[place]["id"] for pair in pairs for place in pair}
    return recall / len(originals), len(removed & with_equal) / len(removed)


def alike_keys(rows: list[Row]) -> list[tuple[str, str]]:
    pairs = alike(row["text"] for row in rows)
    return [(rows[one]["id"], rows[other]["id"]) for one, other in pairs]


def every_duplicate_has_a_kept_original(rows: list[Row], made: Any, threshold: float = THRESHOLD) -> None:
    """Check the table of duplicates against plain sets."""
    texts = {row["id"]: row["text"] for row in rows}
    dropped = made.duplicates.to_pylist()
    assert {row["id"] for row in dropped} == set(texts) - set(made.splits) - {
        row["id"] for row in made.quarantine.to_pylist()
    }
    for row in dropped:
        one, other = shingle_set(row["text"]), shingle_set(texts[row["duplicate_of"]])
        assert row["duplicate_of"] in made.splits
        assert row["similarity"] == len(one & other) / len(one | other)
        assert row["similarity"] >= threshold
        assert (row["similarity"] == 1) >= (row["duplicate_kind"] in ("duplicate", "leak"))


def crossing(made: Any) -> list[tuple[str, str]]:
    """Return the pairs of kept rows that are nearly alike and in different splits."""
    rows = made.dataset.select(["example_key", "text", "split"]).to_pylist()
    return [
        (rows[one]["example_key"], rows[other]["example_key"])
        for one, other in alike(row["text"] for row in rows)
        if rows[one]["split"] != rows[other]["split"]
    ]


@pytest.fixture(scope="module")
def docstring_rows() -> tuple[list[Row], dict[str, str]]:
    words, random_ = vocabulary(), random.Random(7)
    rows = [
        {
            "id": f"row-{number}",
            "text": " ".join(random_.choices(words, k=random_.randint(20, 200))),
            "topic": "xyz"[number % 3],
            "part": "test" if number % 4 == 0 else "train",
        }
        for number in range(2400)
    ]
    return with_planted(rows, words, random_, each=150)


def test_planted_copies_are_found_and_nothing_else(
    make_dataset: Callable[..., Any], docstring_rows: tuple[list[Row], dict[str, str]]
) -> None:
    rows, originals = docstring_rows
    made = make_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), SHIPPED)
    removed = {row["id"] for row in rows} - set(made.splits)
    recall, precision = settled(rows, originals, made)
    assert recall >= 0.95
    assert precision == 1.0
    # Random texts have no other near-duplicates, and of a planted pair the original stays.
    assert removed <= set(originals)
    states = made.build.fates.states
    assert sum(states.values()) == len(removed)
    assert states["duplicate"] >= 150 <= states["leak"], (
        "half of the copies, and those that chance left as is"
    )
    assert {key for key, split in made.splits.items() if split == "test"} == {
        row["id"] for row in rows if row["part"] == "test"
    }, "a shipped test split stays whole"
    assert crossing(made) == []
    every_duplicate_has_a_kept_original(rows, made)


def test_no_near_duplicate_crosses_a_split_by_hash(
    make_dataset: Callable[..., Any], docstring_rows: tuple[list[Row], dict[str, str]]
) -> None:
    rows, originals = docstring_rows
    made = make_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), BY_HASH)
    recall, precision = settled(rows, originals, made)
    assert recall >= 0.95
    assert precision == 1.0
    assert crossing(made) == []


def test_what_stays_of_a_chain_is_what_no_kept_row_is_nearly_like(make_dataset: Callable[..., Any]) -> None:
    words, random_ = vocabulary(), random.Random(3)
    texts = [random_.choices(words, k=60)]
    for link in range(1, 12):
        texts.append(list(texts[-1]))
        texts[-1][5 * link - 5 : 5 * link] = random_.choices(words, k=5)
    assert not alike([" ".join(texts[0]), " ".join(texts[-1])])
    rows = [
        {"id": f"link-{n}", "text": " ".join(text), "topic": "x", "part": "train"}
        for n, text in enumerate(texts)
    ]
    rows += [
        {"id": f"other-{100 + n}", "text": f"row {n} {n * n}", "topic": "xy"[n % 2], "part": part}
        for n, part in enumerate(["train", "train", "test", "test"])
    ]
    made = make_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), SHIPPED | {"near_duplicates": THRESHOLD})
    kept = {key for key in made.splits if key.startswith("link")}
    assert "link-0" in kept
    assert 1 < len(kept) < 12
    every_duplicate_has_a_kept_original(rows, made)
    assert not {frozenset(pair) for pair in alike_keys(rows)} & {
        frozenset(pair) for pair in itertools.combinations(kept, 2)
    }


def test_images_with_one_caption_are_many_examples(make_dataset: Callable[..., Any]) -> None:
    rows = pa.table(
        {
            "caption": ["a brown dog on a lawn"] * 90 + [None] * 10,
            "picture": [f"{number % 95}.png".encode() for number in range(100)],
            "topic": ["xy"[number % 2] for number in range(90)] + ["x"] * 10,
        }
    )
    config = {"text": "caption", "image": "picture", "labels": ["topic"], "split": {"test": 0.3}}
    made = make_dataset(rows, config)
    # Without a caption the same five pictures are other examples, and the pictures 90 to 94 are five more.
    assert made.build.fates.states == {}
    assert made.build.fates.reasons == {}
    again = make_dataset(pa.concat_tables([rows, rows.slice(0, 20)]), config, to="again")
    assert again.build.fates.states == {"duplicate": 20}


def test_planted_copies_are_found_in_newsgroups(make_dataset: Callable[..., Any]) -> None:
    if not NEWSGROUPS.exists():
        pytest.skip(f"no 20 Newsgroups in {NEWSGROUPS}: run ./run python -m demo.samples")
    random_ = random.Random(20)
    rows: list[Row] = []
    for part, count in (("train", 1500), ("test", 800)):
        with (NEWSGROUPS / f"{part}.jsonl").open(encoding="utf-8") as lines:
            every = [json.loads(line) for line in lines]
        every = [row for row in every if len(row["text"].split()) >= 20]
        rows += [
            {"id": row["id"], "text": row["text"], "topic": row["topic"], "part": part}
            for row in random_.sample(every, count)
        ]
    words = [word for row in rows[:200] for word in row["text"].split()]
    rows, originals = with_planted(rows, words, random_, each=100)
    made = make_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), SHIPPED)
    recall, precision = settled(rows, originals, made)
    assert recall >= 0.95
    assert precision >= 0.95
    assert crossing(made) == []


def test_of_crowded_texts_those_stay_that_no_kept_one_is_nearly_like(
    make_dataset: Callable[..., Any],
) -> None:
    words, random_ = vocabulary(), random.Random(11)
    base = random_.choices(words, k=60)
    rows = []
    for number in range(400):
        text = list(base)
        for place in random_.sample(range(60), random_.choice([1, 2, 4])):
            text[place] = random_.choice(words)
        rows.append({"id": f"c{number}", "text": " ".join(text), "topic": "xy"[number % 2], "part": "train"})
    rows += [
        {"id": f"t{n}", "text": f"row {n} {n * n}", "topic": "xy"[n % 2], "part": ["train", "test"][n // 2]}
        for n in range(4)
    ]
    made = make_dataset(pa.Table.from_pylist(rows, schema=SCHEMA), SHIPPED)
    assert made.build.crowded
    every_duplicate_has_a_kept_original(rows, made)
    kept = [row for row in rows if row["id"] in made.splits]
    assert len(kept) < 40
    pairs = alike_keys(kept)
    assert len(pairs) <= 0.05 * len(kept), "nearly none stays beside one that it is nearly like"
