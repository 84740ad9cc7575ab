"""Rule sets that are kept: saved with versions, in the audit log, found by the pipelines that judge them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[[str], Any]
RULES = """\
rule_set: offers  # what is sold
key: id
signals:
  amount: {kind: column}
  offer: {kind: regex, column: text, pattern: "(?i)offer"}
rules:
  - {name: big, when: "offer AND amount > 10", then: remove}
default: keep
"""


@pytest.fixture(name="rules")
def _rules(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The rule sets' folder, with one rule set."""
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "offers.yaml").write_text(RULES)
    monkeypatch.setenv("MODELMILL_PARAM_RULES", str(rules))
    return rules


def quoted(etag: str) -> str:
    return f'"{etag}"'


def test_the_list_says_what_is_valid_and_what_a_rule_set_can_be_made_of(call: Call, rules: Path) -> None:
    (rules / "broken.yaml").write_text("rule_set: broken\n")
    listed = call("viewer")("GET", "/rule-sets").json()
    assert [(item["name"], item["valid"], item["rules"]) for item in listed["rule_sets"]] == [
        ("broken", False, 0),
        ("offers", True, 1),
    ]
    assert listed["store"] == {"writable": True, "reason": "", "may_create": False}
    language = listed["language"]
    assert {"name": "contains", "usage": "contains(text, constant text)"} in language["functions"]
    kinds = {kind["name"]: kind for kind in language["kinds"]}
    assert kinds["regex"]["config_schema"]["properties"]["column"]["format"] == "column"
    assert kinds["column"]["title"] == "Column"
    assert [measure["name"] for measure in language["measures"]] == kinds["measured"]["config_schema"][
        "properties"
    ]["function"]["enum"]
    characters = next(one for one in language["measures"] if one["name"] == "characters")
    assert "characters" in characters["options_schema"]["properties"]
    assert call("user")("GET", "/rule-sets").json()["store"]["may_create"]


def test_without_a_folder_the_list_says_so(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODELMILL_PARAM_RULES", raising=False)
    listed = call("viewer")("GET", "/rule-sets").json()
    assert listed["rule_sets"] == []
    assert "MODELMILL_PARAM_RULES" in listed["store"]["reason"]
    refused = call("user")("PUT", "/rule-sets/offers", {"text": RULES}, if_none_match="*")
    assert refused.status_code == 422


def test_saving_makes_versions_and_the_second_saver_is_shown_the_difference(call: Call, rules: Path) -> None:
    read = call("viewer")("GET", "/rule-sets/offers").json()
    assert (read["text"], read["problems"], read["place"]) == (RULES, [], "${rules}/offers.yaml")
    first, second = RULES.replace("> 10", "> 20"), RULES.replace("> 10", "> 30")
    body = {"text": first, "message": "fewer"}
    saved = call("user")("PUT", "/rule-sets/offers", body, if_match=quoted(read["etag"]))
    assert saved.status_code == 200, saved.text
    assert (rules / "offers.yaml").read_text() == first
    refused = call("op")("PUT", "/rule-sets/offers", {"text": second}, if_match=quoted(read["etag"]))
    assert refused.status_code == 409
    conflict = refused.json()["conflict"]
    assert (conflict["author"], conflict["text"]) == ("user", first)
    assert '+  - {name: big, when: "offer AND amount > 30", then: remove}' in conflict["diff"]
    assert refused.json()["rule"] == "a rule set is saved over the text that was read"
    again = call("op")("PUT", "/rule-sets/offers", {"text": second}, if_match=quoted(conflict["etag"]))
    assert again.status_code == 200
    versions = call("viewer")("GET", "/rule-sets/offers/versions").json()
    assert [(item["number"], item["author"], item["message"]) for item in versions] == [
        (3, "op", ""),
        (2, "user", "fewer"),
        (1, "outside", "found in the folder"),
    ]
    assert call("viewer")("GET", "/rule-sets/offers/versions/1").json()["text"] == RULES


def test_a_new_rule_set_replaces_none_and_a_deleted_one_keeps_its_versions(call: Call, rules: Path) -> None:
    user, text = call("user"), RULES.replace("rule_set: offers", "rule_set: others")
    assert user("PUT", "/rule-sets/others", {"text": text}).status_code == 428
    saved = user("PUT", "/rule-sets/others", {"text": text}, if_none_match="*")
    assert saved.status_code == 200
    assert user("PUT", "/rule-sets/others", {"text": text}, if_none_match="*").status_code == 409
    etag = quoted(saved.json()["etag"])
    assert user("DELETE", "/rule-sets/others", {}, if_match=etag).status_code == 200
    assert not (rules / "others.yaml").exists()
    assert user("GET", "/rule-sets/others").status_code == 404
    assert [item["deleted"] for item in user("GET", "/rule-sets/others/versions").json()] == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RULES.replace("amount > 10", "amuont > 10"), "did you mean 'amount'"),
        (RULES.replace("rule_set: offers", "rule_set: others"), "name does not change"),
        ("[1", "must be YAML"),
    ],
)
def test_what_is_wrong_is_not_saved(text: str, said: str, call: Call, rules: Path) -> None:
    etag = quoted(call("user")("GET", "/rule-sets/offers").json()["etag"])
    refused = call("user")("PUT", "/rule-sets/offers", {"text": text}, if_match=etag)
    assert refused.status_code == 422
    assert said in refused.json()["message"]
    assert (rules / "offers.yaml").read_text() == RULES


def test_a_right_on_one_pipeline_is_none_on_rule_sets(
    call: Call, rules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a pipeline of theirs in the query passes the guard, and no further."""
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    def only_topics(self: Any, *, details: DagDetails | None = None, **_: Any) -> bool:
        return details is not None and details.id == "topics"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", only_topics)
    for method in ("PUT", "DELETE"):
        refused = call("user")(method, "/rule-sets/offers?dag_id=topics", {"text": RULES}, if_match='"x"')
        assert (refused.status_code, refused.json()["kind"]) == (403, "RefusedError")
    assert (rules / "offers.yaml").read_text() == RULES


def test_every_write_is_in_the_audit_log(call: Call, rules: Path) -> None:
    text = RULES.replace("> 10", "> 11")
    etag = quoted(call("user")("GET", "/rule-sets/offers").json()["etag"])
    saved = call("user")("PUT", "/rule-sets/offers", {"text": text}, if_match=etag).json()
    from airflow.models.log import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        entry = session.scalars(
            select(Log).where(Log.event == "modelmill.save_rule_set").order_by(Log.id.desc())
        ).first()
        assert entry is not None
        assert entry.owner == "user"
        assert json.loads(str(entry.extra)) == {"etag": saved["etag"], "rule_set": "offers"}


def test_a_template_makes_the_pipeline_that_judges_it(call: Call, rules: Path, folder: Path) -> None:
    user = call("user")
    values = {
        "name": "offers_gate",
        "rule_set": "${rules}/offers.yaml",
        "model": "offers",
        "table": "/data/texts",
        "label": "desk",
        "approval": True,
    }
    filled = user("POST", "/templates/rule_gate", {"values": values}).json()
    text = json.dumps(filled["document"])
    assert user("POST", "/check", {"text": text}).json()["problems"] == []
    steps = filled["document"]["steps"]
    assert [step["component"] for step in steps.values()] == [
        "delta_table",
        "gate_rules",
        "approve",
        "promote",
    ]
    assert steps["verdict"]["config"] == {"name": "offers", "rule_set": values["rule_set"], "label": "desk"}
    assert user("GET", "/rule-sets/offers").json()["judged_by"] == []
    assert user("PUT", "/pipelines/offers_gate", {"text": text}, if_none_match="*").status_code == 200
    assert user("GET", "/rule-sets/offers").json()["judged_by"] == ["offers_gate"]


@pytest.mark.parametrize("name", ["..", "../offers", "..%2foffers", ".versions", "offers%00", "{{ 7 * 7 }}"])
def test_a_name_is_no_path(name: str, call: Call, rules: Path) -> None:
    for path in (f"/rule-sets/{name}", f"/rule-sets/{name}/versions/1"):
        assert call("admin")("GET", path).status_code in (404, 422)
    assert call("admin")("PUT", f"/rule-sets/{name}", {"text": RULES}, if_none_match="*").status_code >= 400
    assert sorted(path.name for path in rules.iterdir() if path.suffix) == ["offers.yaml"]
