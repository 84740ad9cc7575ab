"""Trials end in time, whatever a rule set asks for, and the next one is as good as new."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from modelmill.errors import InputError, RuleSetError
from modelmill.rules.engine import Engine
from modelmill.rules.lifecycle.timed_trial import TrialProcess
from modelmill.rules.reading import parse_rule_set

RULES = """\
rule_set: offers
key: id
signals:
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
  text: {kind: column}
rules:
  - {name: one, when: WHEN, then: remove, reason: "an offer"}
default: keep
"""
ROWS = pa.RecordBatch.from_pydict({"id": ["a", "b"], "text": ["An offer", "ab" * 25_000]})


@pytest.fixture(scope="module")
def trials() -> Iterator[TrialProcess]:
    process = TrialProcess()
    yield process
    process.close()


def test_decisions_are_those_of_the_engine(trials: TrialProcess) -> None:
    text = RULES.replace("WHEN", "offer")
    engine = Engine(parse_rule_set(text, schema=ROWS.schema), ROWS.schema)
    for explain in (False, True):
        assert trials.decide(text, ROWS, explain=explain) == engine.decide(ROWS, explain=explain).to_pylist()


def test_a_rule_that_takes_minutes_ends_in_time_and_the_next_trial_goes_through(trials: TrialProcess) -> None:
    slow = RULES.replace("WHEN", f"\"text LIKE '{'%a' * 20_000}'\"")
    trials.decide(RULES.replace("WHEN", "offer"), ROWS, explain=False)
    began = time.monotonic()
    with pytest.raises(
        InputError, match="is tried within 2 seconds; got '2 rows'; look for LIKE with many %"
    ):
        trials.decide(slow, ROWS, explain=False, seconds=2)
    assert time.monotonic() - began < 10
    assert len(trials.decide(RULES.replace("WHEN", "offer"), ROWS, explain=False)) == 2


class SlowToClose(TrialProcess):
    """One of its threads is interrupted while it ends the child of a trial that took too long."""

    slow: threading.Thread | None = None

    def close(self) -> None:
        if threading.current_thread() is self.slow:
            time.sleep(0.5)
        super().close()


def test_a_trial_that_ends_late_does_not_end_the_next_one() -> None:
    slow, process = RULES.replace("WHEN", f"\"text LIKE '{'%a' * 20_000}'\""), SlowToClose()
    process.decide(RULES.replace("WHEN", "offer"), ROWS, explain=False)

    def late() -> None:
        process.slow = threading.current_thread()
        with pytest.raises(InputError):
            process.decide(slow, ROWS, explain=False, seconds=1)

    with ThreadPoolExecutor(2) as pool:
        ended = pool.submit(late)
        time.sleep(0.5)
        waits = pool.submit(process.decide, RULES.replace("WHEN", "offer"), ROWS, explain=False)
        ended.result()
        assert len(waits.result()) == 2
    process.close()


def test_an_error_of_the_rule_set_is_handed_on(trials: TrialProcess) -> None:
    with pytest.raises(InputError, match="did you mean"):
        trials.decide(RULES.replace("WHEN", "ofer"), ROWS, explain=False)


def test_a_check_finds_what_the_parser_finds(trials: TrialProcess) -> None:
    text = RULES.replace("WHEN", "offer")
    found = trials.check(text, schema=ROWS.schema, wait=1)
    assert (found.digest, found.problems, found.models) == (parse_rule_set(text).digest, (), ())
    assert found.document["rules"][0]["when"] == "offer"
    wrong = text.replace("column: text", "column: txet")
    assert trials.check(wrong, wait=1).digest is not None  # without columns nobody knows
    found = trials.check(wrong, schema=ROWS.schema, wait=1)
    with pytest.raises(RuleSetError) as caught:
        parse_rule_set(wrong, schema=ROWS.schema)
    assert (found.digest, found.problems) == (None, caught.value.problems)
    assert trials.check("[", wait=1).document is None


def test_a_check_that_takes_long_ends_in_time(trials: TrialProcess) -> None:
    numbers = ",".join(f"'{number}'" for number in range(50_000))
    with pytest.raises(InputError, match=r"is tried within 0\.2 seconds; got '\d{3},\d{3} characters'"):
        trials.check(RULES.replace("WHEN", f'"text IN ({numbers})"'), wait=1, seconds=0.2)
    assert trials.check(RULES.replace("WHEN", "offer"), wait=1).digest is not None
