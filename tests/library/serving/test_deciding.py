"""Decisions over HTTP: one event gives its decision, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from modelmill.rules.frames import decide, load_rule_set

RULES = """
rule_set: shop
key: id
signals:
  offer: {kind: phrases, column: text, phrases: [free money]}
  price: {kind: column, column: price}
rules:
  - {name: offer, when: "offer AND price > 10", then: drop, severity: high, reason: "costs {price:.2f}"}
default: keep
"""


def test_one_event_gives_its_decision_and_why(tmp_path: Path, served: Callable[..., Any]) -> None:
    place = tmp_path / "rules.yaml"
    place.write_text(RULES)
    events = [
        {"id": 1, "text": "free money", "price": 12.5, "else": [1]},
        {"id": 2, "text": "free money", "price": None},
        {"id": 3, "text": None, "price": 99.0},
    ]
    expected = decide(load_rule_set(str(place)), pd.DataFrame(events), explain=False).to_dict("records")
    assert [row["decision"] for row in expected] == ["drop", "keep", "keep"]
    with served(rules=str(place)) as service:
        ask = service.client.post
        assert service.client.get("/readyz").status_code == 200
        assert ask("/v1/decide", json={"rows": events}).json()["rows"] == expected
        assert ask("/v1/decide", json={"dataframe_records": events}).json()["rows"] == expected
        (one,) = ask("/v1/decide", json={"rows": events[:1], "explain": True}).json()["rows"]
        assert (one["decision"], one["rule"], one["reason"]) == ("drop", "offer", "costs 12.50")
        assert {signal["signal"] for signal in one["explanation"]["signals"]} == {"offer", "price"}
        (whole,) = ask("/v1/decide", json=[{"id": "a", "text": "", "price": 3}]).json()["rows"]
        assert (whole["id"], whole["decision"], whole["rule"]) == ("a", "keep", None)
        for body, said in [
            ([{"id": 1}], "must have the fields text, price"),
            (
                [{"id": 1, "text": "a", "price": 1}, {"id": 2, "text": "a", "price": "b"}],
                "price must have one type",
            ),
            ([{"id": 1, "text": "a", "price": 2**70}], "price must have one type"),
            ([{"id": 1, "text": {"a": 1}, "price": 1}], "text"),
            (["a"], "rows.0: Input should be an object"),
        ]:
            refused = ask("/v1/decide", json=body)
            assert refused.status_code == 422, refused.text
            assert said in refused.json()["detail"]
        assert "/v1/decide" in service.client.get("/openapi.json").json()["paths"]
    with served(models=("none",)) as service:
        assert service.client.post("/v1/decide", content=json.dumps(events)).status_code == 404
