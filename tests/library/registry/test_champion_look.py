"""Champions of many models in one request: the same answers as one by one, and only within a question."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from modelmill.registry import champion_look
from modelmill.registry.champion_look import champion_version, one_look
from modelmill.registry.tracking import tracking_client
from modelmill.registry.versions import CHAMPION
from modelmill.settings import Settings

NAMES = [f"signal_{number}" for number in range(6)]


@pytest.fixture
def client(settings: Settings, tmp_path: Path) -> MlflowClient:
    """A registry in which every model but the last has a champion: of the first, version 2."""
    made = tracking_client(settings.tracking_uri)
    for name in NAMES:
        made.create_registered_model(name)
        version = made.create_model_version(name, source=str(tmp_path))
        if name == NAMES[0]:
            version = made.create_model_version(name, source=str(tmp_path))
        if name != NAMES[-1]:
            made.set_registered_model_alias(name, CHAMPION, version.version)
    return made


@pytest.mark.parametrize("a_request", [1000, 2], ids=["one page", "several pages"])
def test_many_are_looked_up_together(
    client: MlflowClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, a_request: int
) -> None:
    monkeypatch.setattr(champion_look, "ALONE", 2)
    monkeypatch.setattr(champion_look, "_A_REQUEST", a_request)
    asked: list[str] = []
    alone = MlflowClient.get_model_version_by_alias

    def counted(self: MlflowClient, name: str, alias: str) -> object:
        asked.append(name)
        return alone(self, name, alias)

    monkeypatch.setattr(MlflowClient, "get_model_version_by_alias", counted)
    with one_look():
        found = {name: champion_version(name, settings) for name in [*NAMES, "unknown", *NAMES]}
    assert found == {**dict.fromkeys(NAMES, 1), NAMES[0]: 2, NAMES[-1]: None, "unknown": None}
    assert asked == [*NAMES[:2], "unknown"]


def test_after_the_question_it_is_asked_again(client: MlflowClient, settings: Settings) -> None:
    name = NAMES[1]
    with one_look():
        assert champion_version(name, settings) == 1
        client.delete_registered_model_alias(name, CHAMPION)
        assert champion_version(name, settings) == 1
    assert champion_version(name, settings) is None
