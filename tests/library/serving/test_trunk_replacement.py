"""A trunk is replaced below many signals while the service answers: each answer is all old, or all new."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from benchmarks.joint_promotions import promotions_to

from modelmill.registry import champion, joint_ledger, joint_moves
from modelmill.registry.champion import Registry
from modelmill.registry.joint_ledger import JointMove
from modelmill.signals.pinned_models import pin_models

NAMES = tuple(f"signal_{number}" for number in range(5))
TEXTS = ("goal team", "a loan", "the bank said")
AddHead = Callable[..., int]


@pytest.fixture
def moving(registry: Any, add_head: AddHead) -> Callable[..., JointMove]:
    """Return a function that moves all signals from one version to another."""
    for seed, name in enumerate(NAMES):
        add_head(name, seed)
        add_head(name, seed + 50, trunk=1, champion=False)
    mlflow = Registry(registry.context.run.client, registry.context.settings, say=lambda _: None)

    def move(to: int = 2, key: str = "k" * 64) -> JointMove:
        return joint_moves.move_together(mlflow, NAMES, promotions_to(to, key), step_key=key)

    return move


def versions(answer: Mapping[str, Any]) -> set[int]:
    return {model["version"] for model in answer["models"].values()}


def test_no_answer_fails_or_mixes_trunks_while_champions_move(
    moving: Callable[..., JointMove],
    served: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follow = champion.set_alias
    with served(models=NAMES) as service:
        poll = service.service.follower.poll

        def watched(*rest: Any) -> None:
            follow(*rest)
            poll()  # the service looks after each alias: it must not see that they move one by one

        monkeypatch.setattr(champion, "set_alias", watched)
        expected = {1: service.predict(*TEXTS)["rows"]}
        answers: list[dict[str, Any]] = []
        problems: list[BaseException] = []
        finished = threading.Event()

        def ask() -> None:
            try:
                while not finished.is_set():
                    answers.append(service.predict(*TEXTS))
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            moving(2, "a" * 64)
            poll()
            expected[2] = service.predict(*TEXTS)["rows"]
            moving(1, "b" * 64)
            moving(2, "c" * 64)
        finally:
            finished.set()
            for thread in threads:
                thread.join()
    assert problems == []
    assert {len(versions(answer)) for answer in answers} == {1}
    assert {next(iter(versions(answer))) for answer in answers} == {1, 2}
    assert expected[1] != expected[2]
    for answer in answers:
        assert answer["rows"] == expected[next(iter(versions(answer)))]


def test_a_service_that_starts_in_the_middle_has_all_that_moved(
    moving: Callable[..., JointMove],
    served: Callable[..., Any],
    registry: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    follow = champion.set_alias
    left = iter(range(2))

    def die_at_third(*rest: Any) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        follow(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(champion, "set_alias", die_at_third)
        with pytest.raises(KeyboardInterrupt):
            moving()
    client, settings = registry.context.run.client, registry.context.settings
    aliases = [client.get_model_version_by_alias(name, "champion").version for name in NAMES]
    assert sorted(map(int, aliases)) == [1, 1, 1, 2, 2]
    with served(models=NAMES) as service:
        assert versions(service.predict(*TEXTS)) == {2}
        assert service.client.get("/readyz").status_code == 200
    pins = pin_models([f"models:/{name}@champion" for name in NAMES], settings)
    assert {pin.model.uri.rsplit("/", 1)[1] for pin in pins.values() if pin.model} == {"2"}
    moving()  # the same step again: at once
    assert joint_ledger.open_move(settings) is None
    assert {int(client.get_model_version_by_alias(name, "champion").version) for name in NAMES} == {2}


def test_a_move_of_which_one_model_is_broken_is_not_put_in_use(
    moving: Callable[..., JointMove], served: Callable[..., Any], registry: Any
) -> None:
    client = registry.context.run.client
    broken, was = NAMES[2], client.get_model_version(NAMES[2], "2").tags["modelmill.digest"]
    with served(models=NAMES) as service:
        before = service.predict(*TEXTS)
        client.set_model_version_tag(broken, "2", "modelmill.digest", "0" * 64)
        moving()
        service.service.follower.poll()
        assert service.predict(*TEXTS) == before
        state = {model["name"]: model for model in service.client.get("/v1/models").json()["models"]}
        assert {model["state"] for model in state.values()} == {"stale"}
        assert "moves together with signal_2, which cannot be fetched" in state[NAMES[0]]["error"]
        client.set_model_version_tag(broken, "2", "modelmill.digest", was)
        service.service.follower._failures.clear()
        service.service.follower.poll()
        assert versions(service.predict(*TEXTS)) == {2}
