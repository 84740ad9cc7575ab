"""Similarity is exact, buckets find what they should and never change, clusters are connected components."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from modelmill.datasets import plain_texts
from modelmill.datasets import word_hashes as words
from modelmill.datasets.connected_components import connected
from modelmill.datasets.minhash import (
    Banding,
    buckets,
    candidate_pairs,
    packed,
    pairs_by_band,
    shingles,
    similarity,
    unpacked,
    unpacked_bands,
)
from modelmill.datasets.word_hashes import word_hashes

# Letters whose lower case is one code point for Python and for Arrow alike; the others are in the examples.
ALPHABET = "abcABC059 .,;-_'\n\t\u00a0\u3000éÉßñΣжЖ東京日本ひカ\u0e01\u0e02\u0e33한국😀²½"
ALPHABET += "\u0301\u0645\u064e\u0640\u0915\u093f\uff21\ufb01\u200f\u200d"
TEXTS = st.text(ALPHABET, max_size=40) | st.lists(st.sampled_from(["a", "b", "東", "it's", "!"])).map(
    " ".join
)
WORDLESS = ["", " ", "\n\t", "...", "?!", "— “”", "_", "\u200b", "\u200f\u202a", "\u064e"]
UNSPACED = r"[\u4e00-\u9fff\u3041-\u3096\u30a1-\u30fa\u0e01-\u0e3a\u0e40-\u0e4e]"


def words_of(text: str) -> list[str]:
    """Split as the module says, one character after the other: no regular expression is shared."""
    words: list[str] = []
    before = ""  # what the last character is part of
    for character in unicodedata.normalize("NFKC", text):
        if re.match("[\u064b-\u065f\u0640\u00ad\u200d-\u200f\ufe0f\ufeff]", character):
            continue
        kind = unicodedata.category(character)
        if before == "unit" and kind[0] == "M":
            words[-1] += character
        elif kind == "So" or re.match(UNSPACED, character):
            words.append(character)
            before = "unit"
        elif kind[0] in "LMN":
            # By itself, or a word's last Σ would become another letter.
            words = (
                [*words[:-1], words[-1] + character.lower()]
                if before == "word"
                else [*words, character.lower()]
            )
            before = "word"
        else:
            before = ""
    return words


def shingle_set(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return set(itertools.pairwise(words)) if len(words) != 1 else {(words[0],)}


def jaccard(one: str, other: str) -> float:
    first, second = shingle_set(one), shingle_set(other)
    return len(first & second) / len(first | second) if first | second else 0.0


def all_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    places = np.array(list(itertools.product(range(count), repeat=2)), np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


@given(st.lists(TEXTS, min_size=1, max_size=8))
@example(["", "", "x"])
@example(["word", "WORD", " word ", "word word", "word word word", "word other word"])
@example(["a b", "a", "b", "b a", "a b a b", "ab"])
@example(["東京に行く", "東京 に 行く", "東 京", "京東"])
@example(["สวัสดี", "สวัสดี ครับ", "ส"])
@example(["naïve café", "NAÏVE CAFÉ", "naive cafe"])
@example(["cafe\u0301 au lait", "café au lait", "cafe au lait"])
@example(
    [
        "\u092e\u0947\u0930\u093e \u0918\u0930",
        "\u092e\u0947\u0930\u0940 \u0918\u0930",
        "\u092e\u0930 \u0918\u0930",
    ]
)
@example(["مُحَمَّد رسول", "محمد رسول", "محـمد\u200f رسول"])
@example(["\uff76\uff9eラス \uff21\uff22", "ガラス ab", "ガラス"])
@example(["😀😀😀", "😡😡😡", "good 😀", "good 😡", "👍🏽", "❤️ x"])
@example(["ที่นี่ดี", "ที่นั่นดี", "iPhone很好", "iPhone很差"])
@example(["می\u200cشود", "می شود", "میشود"])
@example(WORDLESS)
def test_similarity_is_that_of_plain_sets(texts: list[str]) -> None:
    first, second = all_pairs(len(texts))
    found = similarity(pa.array(texts), first, second)
    expected = [jaccard(texts[one], texts[other]) for one, other in zip(first, second, strict=True)]
    assert found.tolist() == expected
    found, has_words = buckets(pa.array(texts), Banding.for_threshold(0.55))
    assert has_words.tolist() == [bool(shingle_set(text)) for text in texts]
    assert len(found) == has_words.sum()


def test_null_is_an_empty_text_and_slices_are_what_they_show() -> None:
    texts = pa.array(["x", None, "one two", "one two three", ""])
    first, second = all_pairs(5)
    whole = similarity(texts, first, second)
    assert whole.tolist() == similarity(texts.fill_null(""), first, second).tolist()
    part = similarity(texts.slice(2, 2), np.array([0, 0]), np.array([0, 1]))
    assert part.tolist() == [1.0, 1 / 2]
    assert similarity(texts, np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []
    assert shingles(pa.array([], pa.string()))[0].tolist() == []
    for kind in (pa.large_string(), pa.string_view()):
        assert similarity(texts.cast(kind), first, second).tolist() == whole.tolist()


@given(st.lists(TEXTS, max_size=6), st.integers(1, 7))
@example(["a" * 50 + " b", "", "c d " * 20, "x" * 200], 1)
@example(["Σ", "A'Σ"], 1)
@example(["ก", "\u0301a", "\u0e34\u0301ก", "a\u0e34"], 1)
def test_words_are_the_same_wherever_the_work_is_cut(texts: list[str], size: int) -> None:
    whole, offsets = word_hashes(pa.array(texts, pa.string()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "_BYTES_EACH", size)
        patch.setattr(plain_texts, "_BYTES_EACH", size)
        hashes, places = word_hashes(pa.array(texts, pa.string()))
    assert hashes.tolist() == whole.tolist()
    assert places.tolist() == offsets.tolist()
    names = [word for text in texts for word in words_of(text)]
    known = dict(zip(names, whole.tolist(), strict=True))
    assert [known[name] for name in names] == whole.tolist(), "equal words have equal hashes"
    assert len(set(known.values())) == len(known), "others have others"
    assert np.diff(offsets).tolist() == [len(words_of(text)) for text in texts]


def test_words_of_few_letters_have_hashes_of_their_own() -> None:
    names = [
        "".join(letters) for size in (1, 2, 3) for letters in itertools.product("abcdefgh01é", repeat=size)
    ]
    hashes = word_hashes(pa.array([" ".join(names)]))[0]
    assert len(np.unique(hashes)) == len(np.unique(hashes >> np.uint64(24))) == len(names)


def test_buckets_of_a_row_are_one_value() -> None:
    found, has_words = buckets(pa.array(["one two", "", "three"]), Banding.for_threshold(0.55))
    column = packed(found, has_words)
    assert [len(value) for value in column.to_pylist()] == [128, 0, 128]
    assert [list(part) for part in unpacked(column)] == [found.reshape(-1).tolist(), [0] * 32 + [2] * 32]
    assert unpacked(column.slice(1, 2))[0].tolist() == found[1].tolist()
    assert unpacked(column.slice(0, 0))[0].tolist() == []
    bands, rows = unpacked_bands(column)
    assert (bands.T.tolist(), rows.tolist()) == (found.tolist(), [0, 2])
    bands, rows = unpacked_bands(column.slice(1, 2))
    assert (bands.T.tolist(), rows.tolist()) == (found[1:].tolist(), [1])
    for none in (column.slice(1, 1), column.slice(0, 0)):
        assert [part.size for part in unpacked_bands(none)] == [0, 0]


ENTRIES = st.lists(st.tuples(st.integers(-3, 3), st.integers(-5, 20)), max_size=60)


@given(ENTRIES)
def test_candidates_are_all_pairs_in_a_bucket(entries: list[tuple[int, int]]) -> None:
    bucket, text = np.array(entries, np.int64).reshape(-1, 2).T
    pairs, flags, crowded = candidate_pairs(bucket.astype(np.int32), text)
    assert not flags.any()
    by_bucket: dict[int, set[int]] = {}
    for name, member in entries:
        by_bucket.setdefault(name, set()).add(member)
    expected = {pair for members in by_bucket.values() for pair in itertools.combinations(sorted(members), 2)}
    assert not len(crowded)
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(-5, 20)), max_size=60))
def test_texts_are_paired_within_a_band_alone(entries: list[tuple[int, int, int]]) -> None:
    *bands, text = np.array(entries, np.int64).reshape(-1, 3).T
    bands = [band.astype(np.int32) for band in bands]
    pairs, flags, crowded = pairs_by_band(bands, text)
    assert not flags.any()
    assert not len(crowded)
    expected = {tuple(pair) for band in bands for pair in candidate_pairs(band, text)[0].tolist()}
    assert [tuple(pair) for pair in pairs.tolist()] == sorted(expected)


def test_a_pair_of_a_crowded_bucket_is_one_whatever_other_buckets_it_shares() -> None:
    text = np.arange(150)
    crowded_band, other = np.full(150, 7, np.int32), np.arange(150, dtype=np.int32)
    other[1] = other[0]
    other[149] = other[148]
    for bands in ([crowded_band, other], [other, crowded_band]):
        pairs, flags, crowded = pairs_by_band(bands, text)
        found = {tuple(pair): flag for pair, flag in zip(pairs.tolist(), flags.tolist(), strict=True)}
        assert len(found) == len(pairs)
        assert found[0, 1]
        assert found.pop((148, 149)) is False
        assert all(found.values())
        assert crowded.tolist() == [7]
    assert [part.size for part in pairs_by_band([], np.empty(0, np.int64))] == [0, 0, 0]


@pytest.mark.parametrize(("size", "is_crowded"), [(31, False), (100, False), (101, True), (500, True)])
def test_a_crowded_bucket_keeps_its_texts_together_without_a_square_of_pairs(
    size: int, is_crowded: bool
) -> None:
    random_ = random.Random(size)
    texts = random_.sample(range(10**6), size)
    entries = [(7, text) for text in texts] + [(7, text) for text in texts[:20]] + [(8, 1), (8, 2)]
    random_.shuffle(entries)
    bucket, text = np.array(entries, np.int64).T
    pairs, flags, crowded = candidate_pairs(bucket.astype(np.int32), text)
    assert flags.sum() == (len(pairs) - 1 if is_crowded else 0), "all but the pair of the other bucket"
    found = {tuple(pair) for pair in pairs.tolist()}
    assert crowded.tolist() == ([7] if is_crowded else [])
    assert (1, 2) in found
    heads = sorted(texts)[:4]
    inside = {(one, other) for one in heads for other in texts if one < other}
    if is_crowded:
        assert found - {(1, 2)} == inside
    else:
        assert found - {(1, 2)} == set(itertools.combinations(sorted(texts), 2))
    nodes, components = connected(pairs[:, 0], pairs[:, 1])
    assert len(set(components[np.isin(nodes, texts)].tolist())) == 1


@pytest.mark.parametrize("threshold", [round(0.4 + step / 20, 2) for step in range(13)])
def test_a_pair_at_the_threshold_is_found_and_dissimilar_ones_are_no_candidates(threshold: float) -> None:
    banding = Banding.for_threshold(threshold)
    assert banding.bands * banding.rows <= 192
    chances = [1 - (1 - s**banding.rows) ** banding.bands for s in (threshold / 3, threshold, 1.0)]
    assert chances == sorted(chances)
    assert chances[1] >= 0.95
    assert chances[2] == 1.0
    assert chances[0] < 0.35


def test_a_higher_threshold_has_no_shorter_bands() -> None:
    rows = [Banding.for_threshold(step / 100).rows for step in range(40, 101)]
    assert rows == sorted(rows)
    assert rows[0] < rows[-1]


@pytest.mark.parametrize("threshold", [0.4, 0.6, 0.8])
def test_texts_at_the_threshold_share_a_bucket(threshold: float) -> None:
    random_ = random.Random(5)
    names = [f"w{number}" for number in range(5000)]
    one, other = [], []
    # A changed word takes two pairs out of the 59 of one set, and brings as many into the other.
    about = round(59 * (1 - threshold) / (1 + threshold) / 2)
    while len(one) < 200:
        text = random_.sample(names, 60)
        near = list(text)
        for place in random_.sample(range(60), about + random_.randint(-1, 2)):
            near[place] = random_.choice(names)
        if abs(jaccard(" ".join(text), " ".join(near)) - threshold) < 0.02:
            one.append(" ".join(text))
            other.append(" ".join(near))
    banding = Banding.for_threshold(threshold)
    first, second = buckets(pa.array(one), banding)[0], buckets(pa.array(other), banding)[0]
    assert np.mean((first == second).any(axis=1)) >= 0.92
    strangers = np.roll(second, 1, axis=0)
    assert np.mean((first == strangers).any(axis=1)) <= 0.02


@pytest.mark.parametrize(
    "script", ["\u4e00\u5000", "\u3041\u3090", "\u0e01\u0e2e", "\u1780\u17a2", "\u0627\u064a"]
)
def test_planted_copies_are_found_in_every_script(script: str) -> None:
    """One letter in twenty is another one; Arabic has spaces, so there a letter changes a word."""
    random_, (first, last) = random.Random(8), map(ord, script)
    spaces = " " if first == 0x627 else ""
    letters = [chr(code) for code in range(first, last) if unicodedata.category(chr(code)) == "Lo"]
    names = ["".join(random_.choices(letters, k=random_.randint(1, 4))) for _ in range(2000)]
    texts = [random_.choices(names, k=60) for _ in range(200)]
    one = [spaces.join(text) for text in texts]
    units = [(text if spaces else list("".join(text))) for text in texts]
    pool = names if spaces else letters
    other = [
        spaces.join(random_.choice(pool) if random_.random() < 0.05 else unit for unit in text)
        for text in units
    ]
    places = np.arange(200)
    assert (similarity(pa.array(one + other), places, places + 200) >= 0.55).mean() >= 0.99
    banding = Banding.for_threshold(0.55)
    first_, second = (buckets(pa.array(side), banding)[0] for side in (one, other))
    assert (first_ == second).any(axis=1).mean() >= 0.95
    ends = np.triu_indices(200, 1)
    assert similarity(pa.array(one), *ends).max() < 0.4, "others are not alike"


GOLDEN = {
    "a": [2108204029, 1940505266, 1879441592],
    "The quick brown fox jumps over the lazy dog.": [1113302846, -1345920287, -2051448150],
    "東京に行く": [-1618822770, 826183502, -1406954316],
    "naïve CAFÉ naïve": [1381312121, 2118674612, -375859007],
}


def test_buckets_are_what_they_were_in_every_release() -> None:
    """They are in every dataset's index: with others, an incremental build would miss near-duplicates."""
    texts = pa.array(list(GOLDEN))
    found = buckets(texts, Banding.for_threshold(0.55))[0]
    assert found.dtype == np.int32
    assert {text: row[:3].tolist() for text, row in zip(GOLDEN, found, strict=True)} == GOLDEN
    alone = [buckets(texts.slice(place, 1), Banding.for_threshold(0.55))[0][0] for place in range(4)]
    assert np.array_equal(np.stack(alone), found)


EDGES = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)), max_size=50)
FEW = st.lists(st.tuples(st.integers(-20, 20), st.integers(-20, 20)), max_size=50)


@given(EDGES | FEW)
def test_clusters_are_connected_components(edges: list[tuple[int, int]]) -> None:
    first, second = np.array(edges, np.int64).reshape(-1, 2).T
    nodes, found = connected(first, second)
    expected, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    assert np.array_equal(nodes, expected)
    count = len(expected)
    graph = coo_matrix((np.ones(len(edges)), (places[: len(edges)], places[len(edges) :])), (count, count))
    labels = connected_components(graph, directed=False)[1] if count else np.empty(0, int)
    smallest = {label: min(nodes[labels == label]) for label in set(labels)}
    assert found.tolist() == [smallest[label] for label in labels]


@pytest.mark.parametrize("seed", range(3))
def test_long_chains_and_large_graphs_are_clustered(seed: int) -> None:
    random_ = np.random.default_rng(seed)
    names = random_.permutation(20_000)
    chain = np.stack([names[:-1], names[1:]])[:, random_.permutation(19_999)]
    assert set(connected(chain[0], chain[1])[1].tolist()) == {0}
    first, second = random_.integers(0, 20_000, (2, 8_000))
    nodes, found = connected(first, second)
    graph = coo_matrix((np.ones(8_000), (first, second)), (20_000, 20_000))
    labels = connected_components(graph, directed=False)[1][nodes]
    assert len(set(zip(found.tolist(), labels.tolist(), strict=True))) == len(set(labels.tolist()))
    assert len(set(found.tolist())) == len(set(labels.tolist()))
