"""A table to try each template on: made-up messages to a shop, so that a first pipeline needs no data.

The messages are sentences put together by a fixed rule: the same table everywhere, small enough for a model
in minutes on a laptop, and easier than real texts. They show how the parts work, not how good a model is.
"""

from __future__ import annotations

import itertools
from typing import Any

import pyarrow as pa

from modelmill.documents.versions import NotFoundError
from modelmill.tables.conditional_append import Proposal, append_if

SAMPLE_TABLE = "samples/messages"
"""Below the deployment's folder of tables."""
SAMPLE_RULES = "sample_desks"

_ABOUT = {
    "billing": (
        "an invoice",
        "a double charge",
        "my credit card",
        "the refund of my payment",
        "a wrong price",
    ),
    "delivery": ("a parcel", "the courier", "a late shipment", "the tracking number", "my delivery address"),
    "product": ("a broken screen", "the manual", "a missing screw", "the battery", "a scratch on the cover"),
    "account": ("my password", "the login", "a blocked account", "my e-mail address", "two-factor codes"),
}
_OPENINGS = (
    "I have a question about {}",
    "Please look into {}",
    "There is a problem with {}",
    "I write to you for the third time about {}",
    "Could somebody tell me more about {}",
    "My family waits for news of {}",
)
_DETAILS = (
    "it was ordered last week",
    "the order is from Monday",
    "my neighbour had the same",
    "nothing on your page helped",
    "the hotline could not say",
)
_ENDINGS = (
    ("thank you in advance", "no", "no"),
    ("I am in no hurry", "no", "no"),
    ("I need an answer today", "yes", "no"),
    ("this is unacceptable, I am very disappointed", "no", "yes"),
    ("answer at once or I cancel everything, what a shame", "yes", "yes"),
)
_GOLD = 4
"""Every fourth row has a label by hand, where a language model gives the others."""

RULES = f"""\
rule_set: {SAMPLE_RULES}
description: Which desk a message goes to. A sample to change.
key: id
signals:
  money: {{kind: phrases, column: text, phrases: [invoice, charge, credit card, refund, price]}}
  parcel: {{kind: phrases, column: text, phrases: [parcel, courier, shipment, tracking, delivery]}}
  login: {{kind: phrases, column: text, phrases: [password, login, account, e-mail address, codes]}}
rules:
  - {{name: money, when: money, then: billing}}
  - {{name: parcels, when: parcel, then: delivery}}
  - {{name: logins, when: login, then: account}}
default: product
"""

_TABLE = "${data}/" + SAMPLE_TABLE
_TEXTS = {"table": _TABLE, "text": "text", "key": "id"}
_VALUES: dict[str, dict[str, Any]] = {
    "one_click": {**_TEXTS, "name": "sample_desks_model", "label": "desk"},
    "each_signal": {**_TEXTS, "name": "sample_signals", "labels": ["urgent", "complaint"]},
    "compression": {**_TEXTS, "name": "sample_compression", "label": "desk"},
    "dataset": {**_TEXTS, "name": "sample_dataset", "label": "desk"},
    "rule_gate": {
        "name": "sample_rules_gate",
        "rule_set": "${rules}/" + SAMPLE_RULES + ".yaml",
        "model": SAMPLE_RULES,
        "table": _TABLE,
        "label": "desk",
    },
    "language_model": {
        **_TEXTS,
        "name": "sample_language_model",
        "label": "desk_said",
        "labels": {
            "billing": "money: invoices, payments, prices",
            "delivery": "parcels on their way",
            "product": "what was delivered is broken or incomplete",
            "account": "logging in",
        },
        "gold": "desk_by_hand",
        "llm_connection": "language_model",
        "llm": "the name of your language model",
    },
}


def sample_values(template: str) -> dict[str, Any]:
    """Return what a template's form is filled with to try it on the sample table.

    :param template: the template's name.
    :return: values of its form.
    :raises NotFoundError: if there is no sample for it.
    """
    if template not in _VALUES:
        raise NotFoundError(f"the template must have a sample: {', '.join(_VALUES)}", got=template)
    return _VALUES[template]


def sample_messages() -> pa.Table:
    """Return the sample table: ``id``, ``text``, ``desk``, ``urgent``, ``complaint``, ``desk_by_hand``.

    :return: 3,000 rows, the desks in turn, so that any beginning of the table has all of them.
    """
    parts = itertools.product(range(5), _OPENINGS, _DETAILS, _ENDINGS, _ABOUT)
    rows = [
        {
            "id": f"m{number:04d}",
            "text": f"{opening.format(_ABOUT[desk][about])}; {detail}; {ending}.",
            "desk": desk,
            "urgent": urgent,
            "complaint": complaint,
            "desk_by_hand": desk if number // len(_ABOUT) % _GOLD == 0 else None,
        }
        for number, (about, opening, detail, (ending, urgent, complaint), desk) in enumerate(parts)
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "text", "desk", "urgent", "complaint", "desk_by_hand")]
)


def write_sample_table(place: str) -> bool:
    """Write the sample table, unless there is a table already.

    :param place: path or URI.
    :return: whether it was written.
    :raises TableError: if something else is there, or nothing can be written.
    :raises TransientError: if the store does not answer.
    """

    def propose(table: object | None) -> Proposal | None:
        return Proposal(sample_messages(), {}) if table is None else None

    return append_if(place, propose, schema=_SCHEMA)
