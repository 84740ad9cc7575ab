"""Everything that can be wrong with a pipeline's text is named, with its place and a remedy."""

from __future__ import annotations

import os
import random
import string
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from modelmill.artifacts import DatasetRef, TableRef
from modelmill.documents import parsing
from modelmill.errors import ConfigError, PipelineError
from modelmill.pipeline.checked_step import CheckedStep
from modelmill.pipeline.request import StepRequest
from modelmill.pipeline.spec import TableSchedule
from modelmill.pipeline.validation import check_text, load_pipeline, parse_pipeline
from modelmill.settings import Settings

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("problems.golden")

TABLE = "steps:\n  a: {component: delta_table, config: {uri: /x}}\n"

FLOW = """steps:
  raw: {component: delta_table, config: {uri: /x}}
  d: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l]}}
  t: {component: fine_tune, inputs: {dataset: d.dataset}, config: {base_model: "${topic}"}}
  v: {component: gate, inputs: {dataset: d.dataset, challenger: t.model}, config: {name: "m_${topic}"}}
"""


def flow(group: str, more: str = "", head: str = "") -> str:
    """Return a pipeline with one group, and more steps."""
    return f"pipeline: p\n{head}groups:\n  g: {group}\n{FLOW}{more}"


CASES = {
    "not a mapping": "- a\n- b\n",
    "empty": "",
    "not yaml": "pipeline: [a\nsteps: {",
    "unknown key at the top": "pipeline: p\nscheduel: null\n" + TABLE,
    "no steps": "pipeline: p\nsteps: {}\n",
    "steps missing": "pipeline: p\n",
    "bad name": "pipeline: My Pipeline\n" + TABLE,
    "bad step id": "pipeline: p\nsteps:\n  Bad-Id: {component: delta_table, config: {uri: /x}}\n",
    "unknown component": "pipeline: p\nsteps:\n  a: {component: delta_tabel, config: {uri: /x}}\n",
    "unknown configuration key": "pipeline: p\nsteps:\n  a: {component: delta_table, config: {url: /x}}\n",
    "unknown kind": "pipeline: p\nsteps:\n  a: {component: prune, config: {importance: {kind: tailor}}}\n",
    "no kind": "pipeline: p\nsteps:\n  a: {component: prune, config: {importance: {}}}\n",
    "wrong type": "pipeline: p\nsteps:\n  a: {component: delta_table, config: {uri: /x, version: newest}}\n",
    "out of range": "pipeline: p\nsteps:\n  a: {component: delta_table, config: {uri: /x, version: -1}}\n",
    "key twice": "pipeline: p\n" + TABLE + "  a: {component: ingest}\n",
    "undeclared parameter": "pipeline: p\nparams: {data: {}}\n" + TABLE.replace("/x", '"${dta}"'),
    "bad schedule": "pipeline: p\nschedule: every night\n" + TABLE,
    "schedule of another shape": "pipeline: p\nschedule: {tabel: /x}\n" + TABLE,
    "schedule with no table": "pipeline: p\nschedule: {table: []}\n" + TABLE,
    "schedule with two keys": "pipeline: p\nschedule: {table: /x, assets: [/x]}\n" + TABLE,
    "schedule that is a number": "pipeline: p\nschedule: 5\n" + TABLE,
    "table without a place": "pipeline: p\nschedule: {table: [/x, tables/raw]}\n" + TABLE,
    "table with an undeclared parameter": (
        "pipeline: p\nparams: {data: {}}\nschedule:\n  table: ${dta}/raw\n" + TABLE
    ),
    "input missing": "pipeline: p\nsteps:\n  a: {component: build_dataset, config: {text: t, labels: [l]}}\n",
    "unknown input port": """pipeline: p
steps:
  a: {component: delta_table, config: {uri: /x}}
  b: {component: build_dataset, inputs: {tabel: a.table}, config: {text: t, labels: [l]}}
""",
    "unknown output port": """pipeline: p
steps:
  a: {component: delta_table, config: {uri: /x}}
  b: {component: build_dataset, inputs: {table: a.tabel}, config: {text: t, labels: [l]}}
""",
    "unknown step": """pipeline: p
steps:
  raw: {component: delta_table, config: {uri: /x}}
  b: {component: build_dataset, inputs: {table: rwa.table}, config: {text: t, labels: [l]}}
""",
    "source without a port": """pipeline: p
steps:
  raw: {component: delta_table, config: {uri: /x}}
  b: {component: build_dataset, inputs: {table: raw}, config: {text: t, labels: [l]}}
""",
    "wrong type of edge": """pipeline: p
steps:
  raw: {component: delta_table, config: {uri: /x}}
  b: {component: fine_tune, inputs: {dataset: raw.table}, config: {base_model: m}}
""",
    "several edges into one port": """pipeline: p
steps:
  raw: {component: delta_table, config: {uri: /x}}
  b: {component: build_dataset, inputs: {table: [raw.table, raw.table]}, config: {text: t, labels: [l]}}
""",
    "cycle": """pipeline: p
steps:
  raw: {component: delta_table, config: {uri: /x}}
  d: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l]}}
  one: {component: distill, inputs: {dataset: d.dataset, teacher: two.model}}
  two: {component: distill, inputs: {dataset: d.dataset, teacher: one.model}}
  after: {component: quantize, inputs: {dataset: d.dataset, model: two.model}}
""",
    "group of another shape": flow("{steps: [], for_each: {topic: [a, b]}, stepz: 1}"),
    "bad name of a group": f"pipeline: p\ngroups:\n  My Group: {{steps: [t]}}\n{TABLE}",
    "for_each of a parameter": flow('{steps: [t, v], for_each: {topic: "${topics}"}}'),
    "for_each with a parameter": flow('{steps: [t, v], for_each: {topic: [a, "${data}"]}}'),
    "for_each without values": flow("{steps: [t, v], for_each: {topic: []}}"),
    "for_each of two variables": flow("{steps: [t, v], for_each: {topic: [a], size: [1]}}"),
    "for_each of lists": flow("{steps: [t, v], for_each: {topic: [[a], {b: c}]}}"),
    "values that make the same id": flow("{steps: [t, v], for_each: {topic: [a b, c, A-B, c]}}"),
    "variable that is a parameter": flow(
        "{steps: [t, v], for_each: {topic: [a]}}", head="params: {topic: {default: x}}\n"
    ),
    "unknown step in a group": flow("{steps: [t, w], for_each: {topic: [a]}}"),
    "step twice in a group": flow("{steps: [t, v, t], for_each: {topic: [a]}}"),
    "step in two groups": flow("{steps: [t, v], for_each: {topic: [a]}}\n  h: {steps: [v, d]}"),
    "group with a step's name": flow("{steps: [t, v], for_each: {topic: [a]}}\n  raw: {steps: [d]}"),
    "group with a copy's name": flow("{steps: [t, v], for_each: {topic: [a]}}\n  t__a: {steps: [d]}"),
    "copy with a step's id": flow(
        "{steps: [t, v], for_each: {topic: [a, b]}}", "  t__b: {component: guard}\n"
    ),
    "copy with another copy's id": flow(
        "{steps: [t, v], for_each: {topic: [_b]}}\n  h: {steps: [t_], for_each: {x: [b]}}",
        "  t_: {component: guard}\n",
    ),
    "copy with a long id": flow("{steps: [t, v], for_each: {topic: [a, " + "long" * 16 + "]}}"),
    "too many copies": flow("{steps: [t, v], for_each: {topic: [" + "x, " * 3000 + "y]}}"),
    "variable outside its group": flow(
        "{steps: [t], for_each: {topic: [a]}}", head='schedule: {table: "/x/${topic}"}\n'
    ),
    "value that does not fit": flow("{steps: [t, v], for_each: {topic: [a, b/c, d/e]}}"),
    "copies into an input of one edge": flow(
        "{steps: [t, v], for_each: {topic: [a, b]}}",
        "  q: {component: quantize, inputs: {dataset: d.dataset, model: t.model}}\n"
        "  r: {component: quantize, inputs: {dataset: d.dataset, model: [t.model]}}\n",
    ),
    "when of another shape": flow(
        "{steps: [t, v], for_each: {topic: [a]}}", "  s: {component: guard, when: {v: passed}}\n"
    ),
    "when without a gate": flow(
        "{steps: [t, v], for_each: {topic: [a]}}",
        "  s: {component: guard, when: {w: refused, d: accepted}}\n",
    ),
    "when from outside a group": flow(
        "{steps: [t, v], for_each: {topic: [a, b]}}", "  s: {component: guard, when: {v: refused}}\n"
    ),
    "cycle by a condition": flow(
        "{steps: [t, v], for_each: {topic: [a]}}",
        "  d2: {component: build_dataset, inputs: {table: raw.table}, when: {u: refused}, "
        "config: {text: t, labels: [l]}}\n"
        "  u: {component: gate, inputs: {dataset: d2.dataset, challenger: w.model}, config: {name: m}}\n"
        "  w: {component: fine_tune, inputs: {dataset: d2.dataset}, config: {base_model: m}}\n",
    ),
    "path out of a group and back": """pipeline: p
groups: {g: {steps: [raw, t]}}
steps:
  raw: {component: delta_table, config: {uri: /x}}
  d: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l]}}
  t: {component: fine_tune, inputs: {dataset: d.dataset}, config: {base_model: m}}
""",
    "two groups, each before the other": """pipeline: p
groups:
  g: {steps: [one, other_dataset]}
  h: {steps: [other, one_dataset]}
steps:
  one: {component: delta_table, config: {uri: /x}}
  one_dataset: {component: build_dataset, inputs: {table: one.table}, config: {text: t, labels: [l]}}
  other: {component: delta_table, config: {uri: /y}}
  other_dataset: {component: build_dataset, inputs: {table: other.table}, config: {text: t, labels: [l]}}
""",
    "everything at once": """pipeline: p
schedul: null
steps:
  raw: {component: delta_table, config: {uri: /x, vesion: 1}}
  d: {component: build_dataset, inputs: {table: raw.table}, config: {text: t, labels: [l], split: {colum: s}}}
  t: {component: fine_tune, inputs: {dataset: d.quarantine}, config: {base_model: m, epochs: 0}, retires: 3}
""",
}


def problems_of(text: str) -> list[str]:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text)
    assert "\n" not in str(caught.value)
    return [str(problem) for problem in caught.value.problems]


def test_every_problem_reads_as_the_golden_file_has_it() -> None:
    shown = "".join(
        f"# {name}\n" + "".join(f"{line}\n" for line in problems_of(text)) for name, text in CASES.items()
    )
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(shown)
    assert shown == GOLDEN.read_text()


def test_all_problems_of_one_text_are_listed_at_once() -> None:
    problems = problems_of(CASES["everything at once"])
    for place in ("schedul", "vesion", "colum", "epochs", "retires", "d.quarantine"):
        assert any(place in problem for problem in problems), place


@pytest.mark.parametrize(
    "path", sorted((ROOT / "dags" / "pipelines").glob("*.yaml")), ids=lambda path: path.stem
)
def test_shipped_pipelines_are_valid(path: Path) -> None:
    spec = load_pipeline(str(path))
    assert spec.pipeline == path.stem
    assert set(spec.order()) == set(spec.steps)


@pytest.mark.parametrize(
    ("schedule", "tables"),
    [
        ("{table: /lake/raw}", ("/lake/raw",)),
        ("{table: [/lake/raw, 's3://lake/more']}", ("/lake/raw", "s3://lake/more")),
        ("{table: '${data}/raw'}", ("${data}/raw",)),
    ],
)
def test_a_schedule_can_be_tables(schedule: str, tables: tuple[str, ...]) -> None:
    spec = parse_pipeline(f"pipeline: p\nparams: {{data: {{}}}}\nschedule: {schedule}\n{TABLE}")
    assert isinstance(spec.schedule, TableSchedule)
    assert spec.schedule.tables == tables


def test_a_missing_file_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="must be readable") as caught:
        load_pipeline(str(tmp_path / "none.yaml"))
    assert "\n" not in str(caught.value)


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("# " + "x" * 1_100_000)
    with pytest.raises(PipelineError, match="at most"):
        load_pipeline(str(path))


def test_aliases_that_stand_for_much_more_are_refused_at_once() -> None:
    lists = [f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]" for before, name in pairwise("abcdefg")]
    text = "\n".join(["a: &a [x, x, x, x, x, x, x, x, x, x]", *lists])
    with pytest.raises(PipelineError, match="aliases may add at most 20,000 places"):
        parse_pipeline(text)


def bomb(before: str, first: str, level: str) -> str:
    """Return a text of 20 levels of aliases, ten of each in the next one: 10^20 places."""
    levels = [level + f"&a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 21)]
    return "\n".join([before, f"{first}&a0 [x]", *levels])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (bomb("steps: {}\nsteps:", "- ", "- "), "aliases may add at most 20,000 places"),
        (bomb("a: {steps: 1}\na:\n  steps:", "  - ", "  - "), "aliases may add at most 20,000 places"),
        (bomb("pipeline: x", "? - ", "  - ") + "\n: v", "a key is one text or number"),
        (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1_000)}]", "at most 1,000,000 characters"),
    ],
    ids=["below a key that stands twice", "below one within", "in a key", "one long text"],
)
def test_aliases_count_wherever_they_are(text: str, problem: str) -> None:
    with pytest.raises(PipelineError, match=problem):
        parse_pipeline(text)


@pytest.mark.timeout(60)  # each name beside each other takes minutes
def test_thousands_of_names_that_are_unknown_and_alike_are_told_at_once() -> None:
    chance = random.Random(0)
    names = ["s" + "".join(chance.choices("abcdefgh", k=50)) for _ in range(1_600)]
    steps = [
        f"  {name}: {{component: evaluate, inputs: {{models: [{other}.model]}}}}"
        for name, other in zip(names[:800], names[800:], strict=True)
    ]
    problems = check_text("\n".join(["pipeline: x", "steps:", *steps]))[2]
    assert sum("got '" in problem.message for problem in problems) >= 800


@pytest.mark.timeout(60)  # a search for the end from each beginning takes minutes
@pytest.mark.parametrize("text", ["${" * 200_000, "$" * 400_000, "${a" * 100_000 + "}"])
def test_placeholders_without_an_end_are_found_to_be_none_at_once(text: str) -> None:
    problems = check_text(
        f'pipeline: x\nsteps: {{s: {{component: delta_table, config: {{uri: "{text}"}}}}}}'
    )[2]
    assert all(len(problem.message) < 1_000 for problem in problems)


def test_a_long_text_that_is_no_yaml_is_never_read_by_the_slow_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parsing, "_SlowLoader", None)
    (problem,) = problems_of("a: [" + "x," * 490_000 + "\n\t{")
    assert "the text must be YAML; " in problem


def test_binary_and_deeply_nested_texts_are_refused_not_raised(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00pipeline")
    with pytest.raises(PipelineError, match="UTF-8"):
        load_pipeline(str(path))
    problems_of("[" * 5000)
    problems_of("!!python/object/apply:os.system [echo]")


@pytest.mark.parametrize("reader", ["fast", "slow"])
@pytest.mark.parametrize("value", ["!!bool x", "!!bool ''", "!!timestamp x", "!!int ''", "!!float ''", "0b_"])
def test_a_value_that_is_not_what_its_tag_says_is_a_problem_with_its_place(
    value: str, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reader == "slow":
        monkeypatch.setattr(parsing, "_FastLoader", parsing._SlowLoader)
    (problem,) = problems_of(f"pipeline: p\ndescription: {value}\n{TABLE}")
    assert problem.startswith("2:14: the text must be YAML; a value must be what its tag says (!!")
    assert problem.endswith("; quote a text")


def test_damaged_texts_never_escape_as_another_error() -> None:
    """Cut and mutate the shipped pipeline at random: the answer is a pipeline or a PipelineError."""
    text = (ROOT / "dags" / "pipelines" / "reuters_nightly.yaml").read_text()
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        at = chance.randrange(len(text))
        damaged = text[:at] + chance.choice(string.printable) + text[at + chance.randrange(1, 20) :]
        try:
            parse_pipeline(damaged)
        except PipelineError:
            refused += 1
    assert refused > 100


def test_a_base_model_that_cannot_be_exported_is_a_problem_of_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    text = CASES["cycle"].replace("teacher: two.model", "teacher: t.model")
    step = "  {}: {{component: {}, {} config: {{base_model: {}}}}}\n"
    for base, count in ((tmp_path, 2), (tmp_path / "nowhere", 0)):
        lines = step.format("t", "fine_tune", "inputs: {dataset: d.dataset},", base)
        lines += step.format("stem", "trunk", "", base)
        try:
            parse_pipeline(text + lines)
            found = []
        except PipelineError as error:
            found = [str(problem) for problem in error.problems]
        assert len(found) == count
        assert all("trained and exported; got 'gpt2'; allowed: 'albert'" in line for line in found)
        assert all(f"steps.{name}.config" in line for name, line in zip(("t", "stem"), found, strict=False))
    (tmp_path / "config.json").write_text('{"model_type": "albert", "num_hidden_groups": 3}')
    assert any(
        "num_hidden_groups must be 1; got 3" in line
        for line in problems_of(
            text + step.format("t", "fine_tune", "inputs: {dataset: d.dataset},", tmp_path)
        )
    )


TWO_LABELS = """
pipeline: two
steps:
  raw: {component: delta_table, config: {uri: /data}}
  dataset: {component: build_dataset, inputs: {table: raw.table}, config: {text: body, labels: [topic, tags]}}
  teacher: {component: fine_tune, inputs: {dataset: dataset.dataset}, config: {base_model: /base%s}}
"""


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("", "label must name a label column of step 'dataset': topic, tags; got no label; add label: topic"),
        (", label: topics", "got 'topics'; did you mean 'topic'? allowed: 'tags', 'topic'"),
    ],
)
def test_a_label_that_a_dataset_lacks_or_leaves_open_is_a_problem(label: str, said: str) -> None:
    (problem,) = [problem for problem in problems_of(TWO_LABELS % label) if "must name a label" in problem]
    assert said in problem
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(TWO_LABELS % ", label: tags, epochz: 1")
    assert "must name a label" not in str(caught.value)


ENCODERS = """
pipeline: encoders
steps:
  table: {{component: delta_table, config: {{uri: /t}}}}
  data: {{component: build_dataset, inputs: {{table: table.table}}, config: {{text: text, labels: [label]}}}}
  base: {{component: adapt_trunk, inputs: {{tables: table.table}}, config: {{base_model: org/model}}}}
  last: {{component: {component}, inputs: {inputs}, config: {config}}}
"""


@pytest.mark.parametrize(
    ("component", "port", "inputs"),
    [
        ("fine_tune", "base", "dataset: data.dataset"),
        ("trunk", "model", ""),
        ("adapt_trunk", "model", "tables: table.table"),
    ],
)
def test_a_step_begins_with_one_encoder(component: str, port: str, inputs: str, settings: Settings) -> None:
    rule = f"{component} takes base_model, in its configuration, or an input {port}: one of the two"

    def text(*, configured: bool, connected: bool) -> str:
        edges = ", ".join([*filter(None, [inputs]), *([f"{port}: base.model"] if connected else [])])
        config = "{base_model: org/model}" if configured else "{}"
        return ENCODERS.format(component=component, inputs=f"{{{edges}}}", config=config)

    for configured in (True, False):
        parse_pipeline(text(configured=configured, connected=not configured))
    (both,) = problems_of(text(configured=True, connected=True))
    assert f"steps.last.config.base_model: {rule}; got 'both'; remove one of them" in both
    (neither,) = problems_of(text(configured=False, connected=False))
    assert f"steps.last.config: {rule}; got 'neither'; set base_model, or connect {port}" in neither
    request = StepRequest(pipeline="p", step="last", component=component, config={"base_model": ""})
    needed = {"dataset": DatasetRef(uri="/d", version=0, key="id", text="text", labels=("label",), split="s")}
    tables = {"tables": (TableRef(uri="/t", version=0),)}
    given = {"fine_tune": needed, "adapt_trunk": tables}.get(component, {})
    with pytest.raises(ConfigError, match="got 'neither'"):
        CheckedStep.of(request.model_copy(update={"inputs": given}), settings, print)


def test_the_digest_ignores_comments_and_order_but_not_content() -> None:
    text = CASES["cycle"].replace("teacher: two.model", "teacher: t.model")
    text += "  t: {component: fine_tune, inputs: {dataset: d.dataset}, config: {base_model: m}}\n"
    spec = parse_pipeline(text)
    reordered = yaml.safe_dump(yaml.safe_load("# a comment\n" + text), sort_keys=True)
    assert parse_pipeline(reordered).digest == spec.digest
    assert parse_pipeline(text.replace("base_model: m", "base_model: n")).digest != spec.digest
