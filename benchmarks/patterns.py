"""Many regular expressions and phrases over a text column: one automaton beside a Python loop of ``re``.

``./run python -m benchmarks.patterns`` makes texts out of the docstrings of the installed packages, and
patterns of the words that are rare in them: whole words, alternatives without case, words near each other,
numbers. Both sides read the same texts, the automaton out of an Arrow column; CPU seconds, medians of rounds
in turns. That the hits are the same is checked on every text that the loop reads.
"""

from __future__ import annotations

import argparse
import collections
import os
import re
import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
from benchmarks.tokens import docstring_words

from modelmill.signals.patterns import PatternSet, Regex
from modelmill.signals.phrase_search import Phrases

MEAN_WORDS = 60


def main() -> None:
    # Compiling is measured: no automaton of an earlier run is to be found.
    os.environ["MODELMILL_HOME"] = "/nonexistent"
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--loop-rows", type=int, default=1_000, help="texts that the Python loop reads")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    texts = some_texts(options.rows)
    column = pa.array(texts, pa.large_string())
    words = rare_words(texts)
    size = sum(map(len, texts)) / len(texts)
    print(f"{len(texts):,} texts of {size:.0f} characters; microseconds of CPU for each text")
    print("| patterns | hits | compile s | re loop | automaton | ratio | to 100 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    first = 0.0
    for count in (100, 1000):
        patterns = {f"p{number}": some_pattern(words, number) for number in range(count)}
        began = time.process_time()
        automaton = PatternSet({name: Regex(pattern) for name, pattern in patterns.items()})
        compiling = time.process_time() - began
        loop = [re.compile(pattern, re.ASCII) for pattern in patterns.values()]
        sample = texts[: options.loop_rows]
        slow, fast = [], []
        for _ in range(options.rounds):
            seconds, expected = timed(lambda found=loop, read=sample: loop_hits(found, read))
            slow.append(seconds / len(sample))
            seconds, hits = timed(lambda found=automaton: found.hits(column))
            fast.append(seconds / len(texts))
        matrix = np.stack([values.to_numpy(zero_copy_only=False) for values in hits.values()])
        if not np.array_equal(matrix[:, : len(sample)], expected):
            raise SystemExit("the hits differ")
        each, other = statistics.median(fast), statistics.median(slow)
        first = first or each
        print(
            f"| {count:,} | {matrix.sum() / len(texts):.2f} | {compiling:.2f} | {other * 1e6:,.0f} | "
            f"{each * 1e6:.2f} | {other / each:,.0f} | {each / first:.2f} |"
        )
    phrases(words, column)
    hostile()


def phrases(words: list[str], column: pa.Array) -> None:
    for count in (100, 1000, 10_000):
        random = np.random.default_rng(count)
        made = {" ".join(random.choice(words, size)) for size in random.integers(1, 4, count)}
        began = time.process_time()
        automaton = PatternSet({"phrases": Phrases(tuple(sorted(made)))})
        compiling = time.process_time() - began
        seconds = statistics.median(timed(lambda found=automaton: found.hits(column))[0] for _ in range(3))
        print(
            f"{len(made):,} phrases: {compiling:.2f} s to compile, {seconds / len(column) * 1e6:.2f} us each"
        )


def hostile() -> None:
    text = pa.array(["a" * 1_000_000 + "!"])
    for pattern in ("(a+)+$", "(a|a)*b", "(.*a){12}x"):
        automaton = PatternSet({"p": Regex(pattern)})
        seconds, _ = timed(lambda found=automaton: found.hits(text))
        print(f"{pattern} on 1 MB: {seconds * 1e3:.2f} ms")


def some_texts(rows: int) -> list[str]:
    random = np.random.default_rng(0)
    words = docstring_words(1_500_000)
    sizes = random.lognormal(np.log(MEAN_WORDS) - 0.7**2 / 2, 0.7, rows).astype(int).clip(3, 2000)
    starts = random.integers(0, len(words) - 2000, rows)
    return [" ".join(words[at : at + n]) for at, n in zip(starts.tolist(), sizes.tolist(), strict=True)]


def rare_words(texts: Iterable[str]) -> list[str]:
    """Return words that stand in 1 of 10,000 to 1 of 300 texts: those that rules look for."""
    counts: collections.Counter[str] = collections.Counter()
    rows = 0
    for text in texts:
        counts.update(set(re.findall(r"[a-z]{5,12}", text)))
        rows += 1
    found = sorted(word for word, count in counts.items() if rows / 10_000 <= count <= rows / 300)
    np.random.default_rng(1).shuffle(found)
    return found


def some_pattern(words: list[str], number: int) -> str:
    one, two, three = (words[(3 * number + place) % len(words)] for place in range(3))
    kinds = (
        rf"\b{one}\b",
        rf"(?i)\b(?:{one}|{two}|{three})s?\b",
        rf"\b{one}\s+\w+\s+{two}\b",
        rf"\b{one[:5]}\w*ing\b",
        rf"(?i){one}.{{0,20}}{two}",
        rf"\$?\b{number + 1}\d{{2,4}}\b",
        rf"\b{one}=\d+(?:\.\d+)?\b",
    )
    return kinds[number % len(kinds)]


def loop_hits(patterns: list[re.Pattern[str]], texts: list[str]) -> np.ndarray:
    return np.array([[pattern.search(text) is not None for text in texts] for pattern in patterns])


def timed(work: Callable[[], object]) -> tuple[float, object]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


if __name__ == "__main__":
    main()
