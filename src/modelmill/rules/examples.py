"""Examples of a rule set: rows with the decision that they are to get."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from modelmill.documents.parsing import Finding, parse_document, read_text
from modelmill.errors import ModelmillError, RuleSetError
from modelmill.rules.engine import Engine
from modelmill.rules.reading import MAX_BYTES, parse_rule_set
from modelmill.rules.rule_set import Example, RuleSet
from modelmill.signals.column import ColumnSignal
from modelmill.signals.registry import kind_of


def load_tried_rule_set(url: str) -> RuleSet:
    """Read and check a rule set, and try its examples.

    :param url: path or fsspec URL of a YAML or JSON file.
    :return: the rule set.
    :raises RuleSetError: if it is not valid, or decides otherwise than an example says.
    """
    text = read_text(url, what="a rule set", most_bytes=MAX_BYTES, error=RuleSetError)
    rule_set = parse_rule_set(text, source=url)
    if rule_set.examples:
        document = parse_document(text, source=url, error=RuleSetError)
        if problems := document.problems(example_mistakes(rule_set)):
            raise RuleSetError(problems, source=url)
    return rule_set


def example_mistakes(rule_set: RuleSet) -> Iterator[Finding]:
    """Decide on the examples of a rule set. No model is asked: its signal is unknown, or as the example says.

    :param rule_set: a valid rule set.
    :yield: for each example that is decided otherwise, its path in the rule set and a message.
    """
    for number, example in enumerate(rule_set.examples):
        path = ("examples", number)
        unknown = [name for name in example.signals if name not in rule_set.signals]
        if unknown:
            yield path, f"an example gives values of signals; got {', '.join(unknown)}; name signals"
            continue
        try:
            found = _decided(rule_set, example)
        except (ModelmillError, pa.ArrowException, TypeError, ValueError) as error:
            yield path, f"an example must be a row that the rule set can decide on; {error}"
            continue
        rule = found["rule"]
        shown = f"{found['decision']} ({f'rule {rule}' if rule else 'no rule fires'})"
        if found["decision"] != example.decision:
            yield path, f"the decision is to be {example.decision}; it is {shown}"
        elif example.rule not in (None, rule):
            yield path, f"rule {example.rule} is to decide; it is {shown}"


def _decided(rule_set: RuleSet, example: Example) -> dict[str, str | None]:
    given = {
        name: ColumnSignal(column=f"signal {name}")
        for name, signal in rule_set.signals.items()
        if name in example.signals or kind_of(signal).models(signal)
    }
    # An expression that is given a value is a signal like any other then.
    changed = rule_set.model_copy(update={"signals": {**rule_set.signals, **given}, "on_failure": "stop"})
    values = {f"signal {name}": example.signals.get(name) for name in given}
    columns = {**dict.fromkeys(changed.columns()), **example.row, **values}
    columns = {
        name: "example" if name == changed.key and value is None else value for name, value in columns.items()
    }
    batch = pa.RecordBatch.from_pydict({name: [value] for name, value in columns.items()})
    found: dict[str, str | None] = Engine(changed, batch.schema).decide(batch).to_pylist()[0]
    return found
