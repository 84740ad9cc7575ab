"""Rule sets through the API: checked, tried on rows, compared; decisions found by their key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

Call = Callable[[str], Any]
RULES = """\
rule_set: offers
key: id
signals:
  amount: {kind: column}
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
rules:
  - {name: big, when: "offer AND amount > 10", then: remove, reason: "an offer of {amount}"}
  - {name: small, when: offer, then: review}
default: keep
"""


@pytest.fixture(name="table")
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table of four rows below the place of the tables."""
    monkeypatch.setenv("MODELMILL_PARAM_DATA", str(tmp_path))
    monkeypatch.delenv("MODELMILL_TABLES", raising=False)
    rows = {
        "id": ["a", "b", "c", "d"],
        "text": ["An offer", "an OFFER", "hello", None],
        "amount": [20.0, 5.0, 50.0, 1.0],
    }
    write_deltalake(str(tmp_path / "texts"), pa.table(rows))
    return "${data}/texts"


def test_a_rule_set_is_checked_with_positions(call: Call) -> None:
    fine = call("viewer")("POST", "/rule-sets/check", {"text": RULES}).json()
    assert (len(fine["digest"]), fine["problems"]) == (64, [])
    wrong = RULES.replace("amount > 10", "amuont > 10")
    answer = call("viewer")("POST", "/rule-sets/check", {"text": wrong}).json()
    [problem] = answer["problems"]
    assert (problem["path"], problem["line"], answer["digest"]) == ("rules.0.when", 7, None)
    assert "did you mean 'amount'" in problem["message"]
    assert problem["excerpt"].endswith("^")
    shape = call("viewer")("POST", "/rule-sets/check", {"text": RULES.replace("then: review", "than: x")})
    assert any("did you mean 'then'" in problem["message"] for problem in shape.json()["problems"])


def test_long_texts_are_checked_in_another_process(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of a million characters takes seconds, and asks for no more than the right to look."""
    from modelmill.rules import reading

    numbers = ",".join(f"'{number}'" for number in range(5_000))
    text = RULES.replace("offer AND amount > 10", f"offer OR amuont IN ({numbers})")
    monkeypatch.setattr(reading, "parse_rule_set", None)  # whoever calls it in this process fails
    answer = call("viewer")("POST", "/rule-sets/check", {"text": text})
    assert answer.status_code == 200, answer.text
    [problem] = answer.json()["problems"]
    assert "did you mean 'amount'" in problem["message"]
    assert problem["excerpt"].endswith("^")
    assert answer.json()["document"]["key"] == "id"


def test_a_rule_set_is_tried_and_compared(call: Call, table: str) -> None:
    against = RULES.replace("amount > 10", "amount > 100")
    body = {"text": RULES, "against": against, "table": table, "rows": 3}
    answer = call("user")("POST", "/rule-sets/try", body)
    assert answer.status_code == 200, answer.text
    tried = answer.json()
    assert [row["decision"]["decision"] for row in tried["rows"]] == ["remove", "review", "keep"]
    assert [row["other"] for row in tried["rows"]] == ["review", None, None]
    assert (tried["differ"], tried["version"]) == (1, 0)
    assert tried["rows"][0]["decision"]["reason"] == "an offer of 20"
    assert "why this rule" in tried["rows"][0]["text"]
    assert tried["rows"][0]["row"] == {"id": "a", "text": "An offer", "amount": 20.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": "/etc"}, "only tables below"),
        ({"text": RULES.replace("column: text", "column: txet")}, "did you mean 'text'"),
        (
            {
                "text": RULES.replace(
                    "{kind: column}", "{kind: model, column: text, model: /etc, output: label}"
                )
            },
            "takes values of one kind",
        ),
        ({"text": "[1"}, "must be YAML"),
        ({"rows": 0}, "rows"),
    ],
)
def test_what_is_wrong_with_a_trial_is_said(
    change: dict[str, Any], message: str, call: Call, table: str
) -> None:
    answer = call("user")("POST", "/rule-sets/try", {"text": RULES, "table": table, **change})
    assert answer.status_code == 422
    assert message in answer.json()["message"]


def test_a_folder_is_no_model_to_try(call: Call, table: str) -> None:
    model = "  m: {kind: model, column: text, model: /srv/x, output: label}\nrules:"
    answer = call("user")("POST", "/rule-sets/try", {"text": RULES.replace("rules:", model), "table": table})
    assert answer.status_code == 422
    assert "registered model" in answer.json()["message"]


def test_the_explanation_of_a_decision_is_read(call: Call, table: str, tmp_path: Path) -> None:
    from modelmill.rules.engine import Engine
    from modelmill.rules.reading import parse_rule_set

    rows = pa.RecordBatch.from_pydict({"id": ["a"], "text": ["An offer"], "amount": [20.0]})
    decided = Engine(parse_rule_set(RULES), rows.schema).decide(rows, explain=True)
    write_deltalake(str(tmp_path / "decisions"), pa.Table.from_batches([decided]))
    answer = call("user")("GET", "/decisions?uri=${data}/decisions&column=id&key=a")
    assert answer.status_code == 200, answer.text
    [row] = answer.json()["rows"]
    assert row["decision"]["decision"] == "remove"
    assert "why this rule" in row["text"]
