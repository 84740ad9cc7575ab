"""``for_each`` written out: which steps run, what they read, and what stays as it was written."""

from __future__ import annotations

import hashlib
import random

import pytest

from modelmill.pipeline.expansion import StepOrigin, copy_ids, expand, slug
from modelmill.pipeline.spec import GroupSpec, PipelineSpec
from modelmill.pipeline.validation import check_text, parse_pipeline

DESKS = """
pipeline: desks
params: {data: {default: /data}, size: {default: 2}}
groups:
  reading: {description: The rows, steps: [raw, dataset]}
  each_topic:
    description: One model for each topic
    steps: [picked, verdict, champion, fallback]
    for_each: {topic: [grain, Money-FX, 3, true, 0.5]}
steps:
  raw: {component: delta_table, config: {uri: "${data}/raw"}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l]}}
  trunk: {component: trunk, config: {base_model: m}}
  heads: {component: train_heads, inputs: {dataset: dataset.dataset, trunk: trunk.trunk}}
  first: {component: gate, inputs: {dataset: dataset.dataset, challenger: trunk.trunk}, config: {name: first}}
  picked: {component: pick_signal, inputs: {signals: heads.signals}, config: {signal: "of ${topic}"}}
  verdict:
    component: gate
    inputs: {dataset: dataset.dataset, challenger: picked.model}
    config: {name: "m_${topic}_${size}", max_drop: 0.1}
    when: {first: accepted}
  champion: {component: promote, inputs: {verdict: verdict.verdict}, retries: 4}
  fallback:
    component: quantize
    inputs: {dataset: dataset.dataset, model: trunk.trunk}
    when: {verdict: refused}
  one: {component: evaluate, inputs: {dataset: dataset.dataset, models: [trunk.trunk, champion.model]}}
  all: {component: evaluate, inputs: {dataset: dataset.dataset, models: champion.model}}
"""
SLUGS = ["grain", "money_fx", "3", "true", "0_5"]


@pytest.fixture(name="written", scope="module")
def _written() -> PipelineSpec:
    return parse_pipeline(DESKS)


def test_a_step_of_the_group_is_there_for_each_value(written: PipelineSpec) -> None:
    expansion = expand(written)
    assert [name for name in expansion.spec.steps if name.startswith("picked")] == [
        f"picked__{slug}" for slug in SLUGS
    ]
    assert len(expansion.spec.steps) == 7 + 4 * 5
    assert expansion.spec.steps["picked__money_fx"].config == {"signal": "of Money-FX"}
    assert expansion.spec.steps["verdict__3"].config == {"name": "m_3_${size}", "max_drop": 0.1}
    assert expansion.spec.steps["champion__true"].retries == 4
    assert expansion.spec.steps["trunk"] == written.steps["trunk"]


def test_every_copy_says_what_it_is_a_copy_of(written: PipelineSpec) -> None:
    expansion = expand(written)
    assert expansion.origins.keys() == expansion.spec.steps.keys()
    assert expansion.origins["picked__money_fx"] == StepOrigin("picked", "Money-FX")
    assert expansion.origins["picked__true"] == StepOrigin("picked", "true")
    assert expansion.origins["trunk"] == StepOrigin("trunk", None)
    assert expansion.origins["raw"] == StepOrigin("raw", None)


def test_edges_stay_within_a_copy_come_from_outside_and_gather(written: PipelineSpec) -> None:
    steps = expand(written).spec.steps
    assert steps["verdict__3"].inputs == {"dataset": "dataset.dataset", "challenger": "picked__3.model"}
    assert steps["picked__3"].inputs == {"signals": "heads.signals"}
    gathered = tuple(f"champion__{slug}.model" for slug in SLUGS)
    assert steps["one"].inputs["models"] == ("trunk.trunk", *gathered)
    assert steps["all"].inputs["models"] == gathered


def test_one_value_is_gathered_into_a_list_too() -> None:
    written = parse_pipeline(DESKS.replace("[grain, Money-FX, 3, true, 0.5]", "[grain]"))
    assert expand(written).spec.steps["all"].inputs["models"] == ("champion__grain.model",)


def test_a_condition_within_the_group_is_of_the_same_value(written: PipelineSpec) -> None:
    steps = expand(written).spec.steps
    assert steps["fallback__grain"].when == {"verdict__grain": "refused"}
    assert steps["verdict__grain"].when == {"first": "accepted"}


def test_conditions_order_the_steps(written: PipelineSpec) -> None:
    for spec in (written, expand(written).spec):
        order = spec.order()
        assert set(order) == set(spec.steps)
        for name, step in spec.steps.items():
            assert all(order.index(gate) < order.index(name) for gate in step.when)


def test_what_is_written_is_what_is_hashed(written: PipelineSpec) -> None:
    for spec in (parse_pipeline(DESKS), written):
        before = spec.model_dump()
        expansion = expand(spec)
        assert spec.model_dump() == before
        assert expansion.digest == spec.digest != expansion.spec.digest
    others = [
        DESKS.replace("Money-FX", "Money"),
        DESKS.replace("verdict: refused", "verdict: accepted"),
        DESKS.replace("One model", "A model"),
    ]
    assert len({written.digest, *(parse_pipeline(text).digest for text in others)}) == 4


def test_groups_keep_their_names(written: PipelineSpec) -> None:
    groups = expand(written).spec.groups
    assert groups["reading"] == written.groups["reading"]
    assert groups["each_topic"].description == "One model for each topic"
    assert groups["each_topic"].steps[:5] == tuple(f"picked__{slug}" for slug in SLUGS)
    assert groups["each_topic"].for_each is None


def test_a_group_without_values_changes_nothing() -> None:
    text = "pipeline: p\nsteps:\n  a: {component: delta_table, config: {uri: /x}}\n"
    grouped = expand(parse_pipeline(text + "groups: {g: {steps: [a]}}\n"))
    assert grouped.spec.steps == parse_pipeline(text).steps
    assert expand(parse_pipeline(text)).spec == parse_pipeline(text)


def test_a_value_comes_with_its_type() -> None:
    spec = parse_pipeline("""
pipeline: p
groups: {g: {steps: [a], for_each: {folds: [3, 20]}}}
steps:
  raw: {component: delta_table, config: {uri: /x}}
  a: {component: rank_label_errors, inputs: {dataset: d.dataset}, config: {folds: "${folds}"}}
  d: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l]}}
""")
    assert expand(spec).spec.steps["a__20"].config == {"folds": 20}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Grain", "grain"),
        ("money  FX!", "money_fx_"),
        (1.5, "1_5"),
        (-1, "_1"),
        (True, "true"),
        ("Ünïcode", "n_code_" + hashlib.sha256("ünïcode".encode()).hexdigest()[:8]),
        ("投诉", hashlib.sha256("投诉".encode()).hexdigest()[:8]),
    ],
)
def test_a_slug_is_what_an_id_can_hold(value: object, expected: str) -> None:
    assert slug(value) == expected


def test_values_in_other_letters_have_ids_of_their_own() -> None:
    assert len({slug(value) for value in ("投诉", "咨询", "退款 A", "售后 A")}) == 4


def test_copies_have_ids_of_their_own() -> None:
    """Whatever ids and values are written: no two steps that run share an id in a valid pipeline."""
    chance = random.Random(0)
    refused = 0
    for _ in range(400):
        names = [f"s{'_' * chance.randrange(3)}{chance.choice('ab')}" for _ in range(3)]
        values = [chance.choice(["a", "_a", "b", "A b", "__b", 1, 1.0, True]) for _ in range(3)]
        lines = [f"  {name}: {{component: guard}}" for name in dict.fromkeys(names)]
        text = f"pipeline: p\ngroups: {{g: {{steps: [{names[0]}], for_each: {{v: {values}}}}}}}\nsteps:\n"
        _, spec, problems = check_text(text + "\n".join(lines))
        if spec is None:
            assert all("an id" in str(found) or "no other step" in str(found) for found in problems)
            refused += 1
        else:
            assert len(expand(spec).spec.steps) == len(spec.steps) - 1 + 3
            assert expand(spec).spec.steps.keys() == expand(spec).origins.keys()
    assert 50 < refused < 350


@pytest.mark.timeout(60)
def test_five_thousand_copies_are_checked_and_written_out() -> None:
    values = ", ".join(f"topic-{number}" for number in range(1000))
    text = DESKS.replace("grain, Money-FX, 3, true, 0.5", values)
    spec = expand(parse_pipeline(text)).spec
    assert set(spec.order()) == set(spec.steps)
    assert len(spec.steps) == 7 + 4000


def test_ids_are_those_of_the_contract() -> None:
    group = GroupSpec(steps=("picked",), for_each={"topic": ("Grain", "crude oil")})
    assert copy_ids("picked", group) == ("picked__grain", "picked__crude_oil")
    assert copy_ids("picked", None) == ("picked",)
