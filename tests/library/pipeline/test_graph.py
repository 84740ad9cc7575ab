"""What is needed before what: any graph gives an order, or a cycle that is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmill.pipeline.graph import cycle_in, ordered, shown

NODES = "abcdefgh"
graphs = st.fixed_dictionaries({node: st.sets(st.sampled_from(NODES), max_size=3) for node in NODES})


def by_rounds(needs: dict[str, set[str]]) -> list[str]:
    """The order, said plainly: again and again all that wait for nothing any more."""
    done: list[str] = []
    while ready := [node for node in needs if node not in done and needs[node] <= set(done)]:
        done += ready
    return done


@given(graphs)
def test_any_graph_has_an_order_or_a_cycle(needs: dict[str, set[str]]) -> None:
    assert ordered(needs) == by_rounds(needs)
    cycle = cycle_in(needs)
    assert bool(cycle) == (len(ordered(needs)) < len(needs))
    for node, before in zip(cycle, [*cycle[1:], *cycle[:1]], strict=True):
        assert before in needs[node]


def test_a_cycle_is_read_in_the_order_of_the_steps() -> None:
    assert shown(cycle_in({"a": {"c"}, "b": {"a"}, "c": {"b"}})) == "b -> c -> a -> b"


@pytest.mark.timeout(60)  # round by round it takes hours
def test_a_long_chain_is_ordered_in_one_walk() -> None:
    needs = {"n0": set[str](), **{f"n{number}": {f"n{number - 1}"} for number in range(1, 100_000)}}
    assert len(ordered(needs)) == 100_000
