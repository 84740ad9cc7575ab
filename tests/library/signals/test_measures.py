import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelmill.errors import ConfigError
from modelmill.signals.measures import MeasureOptions, measure, measure_named, measures
from modelmill.signals.values import STORED

TEXT = st.none() | st.text("aBÄß9٣.! \n\u2028x", max_size=12) | st.sampled_from(["http://a.b/c d", "WWW.x y"])


def value(name: str, text: str | None, **options: object) -> object:
    found = measure_named(name)
    told = found.options.model_validate(options)
    return found.compute(pa.array([text], pa.large_string()), told)[0].as_py()


def by_hand(name: str, text: str) -> float | None:
    shown = [letter for letter in text if not letter.isspace()]
    if name == "entropy":
        raw = text.encode()
        counts = Counter(raw).values()
        return -sum(n / len(raw) * math.log2(n / len(raw)) for n in counts) if raw else None
    if name == "capitals":
        cased = [letter for letter in text if letter.isupper() or letter.islower()]
        return sum(map(str.isupper, cased)) / len(cased) if cased else None
    if name == "digits":
        return sum(map(str.isdigit, shown)) / len(shown) if shown else None
    return sum(letter in ".!" for letter in shown) / len(shown) if shown else None


@given(st.lists(TEXT, max_size=8))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("name", ["capitals", "digits", "characters", "entropy"])
def test_shares_are_what_counting_by_hand_gives(name: str, texts: list[str | None]) -> None:
    found = measure_named(name)
    told = found.options.model_validate({"characters": ".!"} if name == "characters" else {})
    got = found.compute(pa.array(["?", *texts], pa.large_string()).slice(1), told).to_pylist()
    want = [None if text is None else by_hand(name, text) for text in texts]
    assert got == [None if one is None else pytest.approx(one, abs=1e-12) for one in want]


@given(st.lists(TEXT, min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
def test_a_row_gives_the_same_alone_and_in_any_batch(texts: list[str | None]) -> None:
    for name, found in measures().items():
        if found.operands != ("text",):
            continue
        whole = found.compute(pa.array(texts, pa.large_string()), found.options())
        assert whole.type == STORED[found.result]
        assert whole.to_pylist() == [value(name, text) for text in texts], name


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("length", "naïve", 5),
        ("length", "", 0),
        ("words", " a  b\nc ", 3),
        ("lines", "a\n\nb\n", 3),
        ("urls", "see http://a.b/c", 12 / 15),
        ("urls", "no link", 0.0),
        ("urls", " ", None),
        ("repeated_lines", "a\n a \n\nb", 1 / 3),
        ("repeated_lines", "\n", None),
        ("entropy", "aaaa", 0.0),
        ("entropy", "abab", 1.0),
    ],
)
def test_values(name: str, text: str, expected: float | None) -> None:
    assert value(name, text) == (None if expected is None else pytest.approx(expected))


def test_no_rows() -> None:
    for found in measures().values():
        assert len(found.compute(pa.array([], pa.large_string()), found.options())) == 0


def test_unknown_names_and_options() -> None:
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        measure_named("entrpy")
    with pytest.raises(ValueError, match="characterz"):
        value("characters", "x", characterz="a")


def test_a_name_belongs_to_one_function() -> None:
    with pytest.raises(ConfigError, match=r"modelmill\.signals\.text_measures has it"):

        @measure("length", result="integer")
        def other(texts: pa.Array, _options: MeasureOptions) -> pa.Array:
            return texts
