import re
import threading
import unicodedata
from pathlib import Path

import hyperscan
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import ExpressionError, TableError
from modelmill.signals import automaton
from modelmill.signals.patterns import PatternSet, Regex
from modelmill.signals.phrase_search import FoldedText, PhraseFinder, Phrases, folded

REGEXES = (
    r"\bspam\b",
    r"(?i)free +money",
    r"\d{2,4}",
    r"^a",
    r"b$",
    r"(?m)^b$",
    r"a.c",
    r"(?s)a.c",
    r"[^a-z ]",
    r"(ab|ba)+c?",
    r"x*",
    r"\W\w\W",
    r"\Bb",
    r"é+",
    r"(?i)É",
)
PHRASES = ("free money", "Straße", "c++", ".net", "é", "50 %", "_", "mär", "«oui»", "ba")
LETTERS = "abcx spamfreemony012\n.$+%_-«oui»éÉe\u0301ßS🔥\u00a0Äär"


def python_hits(pattern: str, text: str, start: int = 0) -> bool:
    """Classes know ASCII, and letters of all alphabets lose their case: Python has one flag for both."""
    flags = re.NOFLAG if pattern.startswith("(?i)") else re.ASCII
    return re.compile(pattern, flags).search(text, start) is not None


def texts_of(letters: str) -> st.SearchStrategy[str]:
    words = st.sampled_from([*PHRASES, "FREE \n money", "STRASSE", "spam", "C++", "abc"])
    return st.lists(st.text(letters, max_size=8) | words, max_size=5).map("".join)


ALL: dict[str, Regex | Phrases] = {one: Regex(one) for one in REGEXES}
ALL |= {f"phrase {one}": Phrases((one,)) for one in PHRASES}
ALL["phrases"] = Phrases(PHRASES)
COMPILED = PatternSet(ALL)


def hits(patterns: dict[str, Regex | Phrases], texts: list[str | None]) -> dict[str, list[bool | None]]:
    found = PatternSet(patterns).hits(pa.array(texts, pa.string()))
    return {name: values.to_pylist() for name, values in found.items()}


@given(st.lists(texts_of(LETTERS), max_size=10))
@settings(max_examples=100, deadline=None)
def test_regexes_hit_what_pythons_re_hits(texts: list[str]) -> None:
    found = COMPILED.hits(pa.array(texts, pa.string()))
    for one in REGEXES:
        assert found[one].to_pylist() == [python_hits(one, text) for text in texts], one


def occurs(phrase: str, text: str) -> bool:
    """Say by Python's look-around whether a phrase is in a text."""

    def fold(value: str) -> str:
        return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", value).casefold())

    letter = r"[\w\u0300-\u036f]"
    words = fold(phrase).split()
    before = rf"(?<!{letter})" if re.match(letter, words[0]) else ""
    after = rf"(?!{letter})" if re.search(rf"{letter}$", words[-1]) else ""
    return bool(re.search(before + r"\s+".join(map(re.escape, words)) + after, fold(text)))


@given(st.lists(texts_of(LETTERS), max_size=10))
@settings(max_examples=100, deadline=None)
def test_phrases_are_whole_words_without_case(texts: list[str]) -> None:
    found = COMPILED.hits(pa.array(texts, pa.string()))
    for phrase in PHRASES:
        assert found[f"phrase {phrase}"].to_pylist() == [occurs(phrase, text) for text in texts], phrase


@given(texts_of(LETTERS))
@settings(max_examples=100, deadline=None)
def test_evidence_is_where_the_hit_is(text: str) -> None:
    for name, found in COMPILED.hits(pa.array([text])).items():
        span = COMPILED.evidence(name, text)
        assert (span is not None) == found[0].as_py(), name
        if span is not None and name in REGEXES:
            assert python_hits(name, text, span.start)


SPACED = (*PHRASES, "24/7", "free", "ab ba", ".x", "-", "자유", "ba ba")
PARTS = Phrases(SPACED, whole_words=False)
EXACT = Phrases(SPACED, ignore_case=False)
PLACES = PatternSet({"words": Phrases(SPACED), "parts": PARTS, "exact": EXACT})
HIDDEN = "\u200b\u00ad\u200d\ufeff\u0301\u1161\uff9e\u0345ᄌ자유カ\uff76ﬁİ 24/7"


@given(st.lists(texts_of(LETTERS + HIDDEN) | st.text(max_size=5), max_size=4).map("".join))
@settings(max_examples=300, deadline=None)
def test_counts_and_evidence_of_phrases_are_those_that_are_found(text: str) -> None:
    texts = pa.array([text], pa.string())
    for name, found in PLACES.hits(texts).items():
        how = PLACES.patterns[name]
        assert isinstance(how, Phrases)
        spans = list(PhraseFinder(how).spans(text))
        assert bool(spans) == found[0].as_py()
        assert PLACES.counts(name, texts, found).to_pylist() == [len(spans)]
        assert PLACES.evidence(name, text) == next(iter(spans), None)
        shown = pa.array([text[span.start : span.end] for span in spans], pa.string())
        assert all(PLACES.hits(shown)[name].to_pylist())  # what is shown is what was found


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_a_text_is_folded_part_by_part_as_a_whole(text: str) -> None:
    for form in (1, 2):
        assert FoldedText(text, form).folded == folded(text, form)


@pytest.mark.parametrize(
    ("phrase", "text", "spans"),
    [
        ("24/7", "open 24 / 7, really 24/7", ["24/7"]),
        ("spam", "buy sp\u200bam, s\u00adpam", ["sp\u200bam", "s\u00adpam"]),
        ("é", "e\u0301 é ee", ["e\u0301", "é"]),
        ("a b", "a \n b a b", ["a \n b", "a b"]),
        ("自由", "我喜欢自由。自由", ["自由"]),
    ],
)
def test_the_places_of_a_phrase(phrase: str, text: str, spans: list[str]) -> None:
    found = [text[span.start : span.end] for span in PhraseFinder(Phrases((phrase,))).spans(text)]
    assert found == spans


@pytest.mark.parametrize(
    ("pattern", "text", "count"),
    [
        (r"\b\w", "hello world", 2),
        (r"\bcat", "catcat", 1),
        ("^a", "aab", 1),
        ("(?m)^a", "a\na", 2),
        (r"\Bb", "abb", 2),
        ("x*", "axxb", 3),
        ("a|ab", "abab", 2),
    ],
)
def test_counts_of_regular_expressions_see_what_stands_before(pattern: str, text: str, count: int) -> None:
    patterns = PatternSet({"a": Regex(pattern)})
    texts = pa.array([text])
    assert patterns.counts("a", texts, patterns.hits(texts)["a"]).to_pylist() == [count]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_nulls_slices_and_string_types(kind: pa.DataType) -> None:
    texts = pa.array(["x", "spam", None, "", "no", "spam"], kind).slice(1)
    found = PatternSet({"a": Regex("spam"), "b": Phrases(("spam",))}).hits(texts)
    assert found["a"].to_pylist() == found["b"].to_pylist() == [True, None, False, False, True]


def test_dictionaries_chunks_and_nothing() -> None:
    patterns = PatternSet({"a": Regex("spam")})
    assert patterns.hits(pa.array(["spam", "x"]).dictionary_encode())["a"].to_pylist() == [True, False]
    chunks = pa.chunked_array([["spam"], ["x", "spam"]])
    assert patterns.hits(chunks)["a"].to_pylist() == [True, False, True]
    assert patterns.hits(pa.array([], pa.string()))["a"].to_pylist() == []
    assert patterns.hits(pa.nulls(2, pa.string()))["a"].to_pylist() == [None, None]


def test_a_hit_does_not_depend_on_the_batch() -> None:
    texts = ["spam", "naïve spam", "", "ä", "free money"] * 3
    patterns = PatternSet({"a": Regex("spam"), "b": Phrases(("free money", "naïve"))})
    whole = patterns.hits(pa.array(texts))
    for row, text in enumerate(texts):
        alone = patterns.hits(pa.array([text]))
        assert all(alone[name][0] == whole[name][row] for name in whole)


def test_patterns_that_hang_others_take_linear_time() -> None:
    """Backtracking would take longer than the universe has lasted."""
    patterns = PatternSet({"a": Regex("(a+)+$"), "b": Regex("(a|a)*b"), "c": Regex("(.*a){12}x")})
    text = "a" * 1_000_000
    found = patterns.hits(pa.array([text, text + "!"]))
    assert {name: values.to_pylist() for name, values in found.items()} == {
        "a": [True, False],
        "b": [False, False],
        "c": [False, False],
    }
    span = patterns.evidence("a", text)
    assert span is not None
    assert (span.start, span.end <= len(text)) == (0, True)


def test_hundreds_of_phrases_are_one_signal() -> None:
    phrases = tuple(f"word{number} end" for number in range(300))
    found = hits({"any": Phrases(phrases)}, ["a Word299  END.", "word300 end", "word1 ending"])
    assert found == {"any": [True, False, False]}


def test_every_wrong_pattern_is_reported() -> None:
    patterns: dict[str, Regex | Phrases] = {
        "ahead": Regex("(?=a)"),
        "open": Regex("a("),
        "large": Regex("(a{1,500}b){1,900}"),
        "none": Phrases(("fine", " ", "")),
        "fine": Regex("a"),
    }
    with pytest.raises(ExpressionError) as caught:
        PatternSet(patterns)
    assert [problem.path for problem in caught.value.problems] == [
        "ahead",
        "open",
        "large",
        "none[1]",
        "none[2]",
    ]
    assert "invalid perl operator: (?=" in str(caught.value)
    assert caught.value.report.count("^") == 5


def test_bytes_that_are_no_text_are_refused() -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(TableError, match="UTF-8"):
        PatternSet({"a": Regex("a")}).hits(broken)


def test_threads_share_an_automaton() -> None:
    patterns = PatternSet({"a": Regex("spam"), "b": Phrases(("é",))})
    texts = pa.array(["spam", "no", "é", "xé"] * 5000)
    results: list[list[bool]] = []

    def work() -> None:
        results.extend([patterns.hits(texts)["a"].to_pylist(), patterns.hits(texts)["b"].to_pylist()])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert sorted(map(sum, results)) == [5000] * 8


def test_case_and_parts_of_words() -> None:
    texts = ["Free Money", "free money", "carefree  moneybag", "ÉFREE MONEY", "Éfree money"]
    found = hits(
        {
            "words": Phrases(("free money",), ignore_case=False),
            "parts": Phrases(("free money",), whole_words=False),
            "exact parts": Phrases(("free money",), ignore_case=False, whole_words=False),
        },
        texts,
    )
    assert found == {
        "words": [False, True, False, False, False],
        "parts": [True] * 5,
        "exact parts": [False, True, True, False, True],
    }


def test_counts() -> None:
    patterns = PatternSet(
        {
            "a": Regex(r"\d+"),
            "end": Regex("d$"),
            "b": Phrases(("new york", "york", "new")),
            "c": Phrases(("new  york", "ee"), whole_words=False),
        }
    )
    texts = pa.array(["1 22 x3", "New York new  york", None, "é anew york, eee", "d\n"])
    found = patterns.hits(texts)
    counts = {name: patterns.counts(name, texts, values).to_pylist() for name, values in found.items()}
    assert counts == {
        "a": [3, 0, None, 0, 0],
        "end": [0, 0, None, 0, 1],
        "b": [0, 4, None, 1, 0],
        "c": [0, 2, None, 3, 0],
    }


def test_what_takes_long_to_compile_is_kept_for_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, texts = tmp_path / "home", pa.array(["free money", "MÄR", None, "nothing"])
    monkeypatch.setenv("MODELMILL_HOME", str(home))
    monkeypatch.setattr(automaton, "_KEPT_SECONDS", 0.0)
    patterns = {"phrases": Phrases(PHRASES), "digits": Regex(r"\d+")}
    expected = PatternSet(patterns).hits(texts)
    assert not home.exists(), "without a home nothing is left behind"
    home.mkdir()
    assert PatternSet(patterns).hits(texts) == expected
    (kept,) = (home / "cache" / "automata").iterdir()
    good, written = kept.read_bytes(), kept.stat().st_mtime_ns
    assert PatternSet(patterns).hits(texts) == expected
    assert kept.stat().st_mtime_ns == written, "it was loaded"
    for damaged in (good[:-1], good[:200] + bytes([good[200] ^ 1]) + good[201:], b""):
        kept.write_bytes(damaged)
        assert PatternSet(patterns).hits(texts) == expected
        assert kept.read_bytes() == good, "what is damaged is compiled anew"
    others = {**patterns, "digits": Regex("n")}
    found = PatternSet(others).hits(texts)
    another = next(path for path in kept.parent.iterdir() if path != kept)
    another.write_bytes(good)
    assert PatternSet(others).hits(texts) == found != expected, "the automaton of others is not taken"
    kept.chmod(0o666)
    monkeypatch.setattr(hyperscan, "loadb", lambda *_: pytest.fail("a file that others can write is loaded"))
    assert PatternSet(patterns).hits(texts) == expected


def test_a_home_that_cannot_be_read_or_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(automaton, "_KEPT_SECONDS", 0.0)
    for home in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/1/nothing")):
        monkeypatch.setenv("MODELMILL_HOME", str(home))
        assert PatternSet({"a": Regex("a")}).hits(pa.array(["ab"]))["a"].to_pylist() == [True]
