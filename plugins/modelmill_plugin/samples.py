"""A table to try each template on: made-up messages to a shop, so that a first pipeline needs no data.

The messages are sentences put together by a fixed rule: the same table everywhere, small enough for a model
in minutes on a laptop, and easier than real texts. They show how the parts work, not how good a model is.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from modelmill.documents.versions import NotFoundError
from modelmill.tables.conditional_append import Proposal, append_if

SAMPLE_TABLE = "samples/messages"
"""Below the deployment's folder of tables."""
SAMPLE_RULES = "sample_desks"

_ABOUT = {
    "billing": (
        "an invoice that I do not understand",
        "a double charge in March",
        "my credit card, which was billed twice",
        "the refund of my last payment",
        "a wrong price at the till",
        "the amount that left my bank",
        "a reminder for money that I have paid",
        "the discount that was promised and not given",
        "the tax on the receipt",
        "a subscription that I never took out",
        "the deposit for the bottles",
    ),
    "delivery": (
        "a parcel that nobody has seen",
        "the courier, who did not ring",
        "a late shipment from your store",
        "the tracking number in your mail",
        "my delivery address, which is an old one",
        "a box that was left in the rain",
        "the day on which somebody will be at home",
        "a van that went past our house",
        "the pick-up point, which was closed",
        "half of the order, since the rest is missing",
        "customs, where it has been for ten days",
    ),
    "product": (
        "a broken screen",
        "the manual, which is in another language",
        "a missing screw in the bag",
        "the battery, which is flat after an hour",
        "a scratch on the cover",
        "the zip of the jacket",
        "a smell as of burnt plastic",
        "the colour, which is not that of the picture",
        "a handle that came off",
        "the size of the shoes",
        "a noise when it is switched on",
    ),
    "account": (
        "my password, which is not taken",
        "the login on my telephone",
        "a blocked account",
        "my e-mail address, which has changed",
        "two-factor codes that never come",
        "the name in my profile",
        "a registration that does not end",
        "newsletters that I have cancelled",
        "my data, which I want to be deleted",
        "a second user for my wife",
        "the page that asks me to sign in again and again",
    ),
}
_PARTS = (
    (
        "Hello",
        "Good morning",
        "Dear team",
        "To whom it may concern",
        "Hi there",
        "Good evening",
        "Dear Sir or Madam",
        "Greetings from Leeds",
        "Once more",
        "Hello from the seaside",
        "Excuse me",
    ),
    (
        "I have a question about {}",
        "please look into {}",
        "there is a problem with {}",
        "I write to you for the third time about {}",
        "could somebody tell me more about {}",
        "my family waits for news of {}",
        "this is about {}",
        "nobody here knows what to do about {}",
        "I would like to talk to a person about {}",
        "we have been arguing all week over {}",
        "I found no page of yours on {}",
    ),
    (
        "it was ordered last week",
        "I bought it for a birthday",
        "the order is from Monday",
        "it is our first one from you",
        "we have been customers for years",
        "a friend recommended your shop",
        "I saw it in the window",
        "it was a present",
        "the paper says two years",
        "it worked in the beginning",
        "I have kept all the mails",
    ),
    (
        "my neighbour had the same",
        "nothing on your page helped",
        "the hotline could not say",
        "I waited in the line for an hour",
        "your chat closed by itself",
        "the man in the branch shrugged",
        "the answer that I got was for somebody else",
        "my daughter tried it too",
        "I have sent you three pictures",
        "the form lost what I had typed",
        "a colleague of yours had promised to call",
    ),
    (
        "I am at work until six",
        "you can reach me by telephone",
        "write to me in English, please",
        "I leave for a holiday on Friday",
        "my number is in your files",
        "I prefer mail",
        "my wife can answer, too",
        "there is nobody here at noon",
        "I look at my mails at night",
        "please do not send a form again",
        "a short answer is enough",
    ),
)
_ENDINGS = (
    ("thank you in advance", "no", "no"),
    ("I need an answer today", "yes", "no"),
    ("I am in no hurry", "no", "no"),
    ("this is unacceptable, I am very disappointed", "no", "yes"),
    ("have a nice weekend", "no", "no"),
    ("answer at once or I cancel everything, what a shame", "yes", "yes"),
    ("it would be kind of you to look", "no", "no"),
    ("it cannot wait until tomorrow", "yes", "no"),
    ("never in my life have I been treated like this", "no", "yes"),
    ("whenever it suits you", "no", "no"),
    ("this very hour, please, I have lost all patience with you", "yes", "yes"),
)
_CHOICES = 11
"""How many of each part there are: a prime, see :func:`_choices`."""
_MISLABELLED = 37
"""Every so many rows the label is wrong, as those of people are: there is something to find."""
_ROWS = 1_500
_GOLD = 4
"""Every fourth row has a label by hand, where a language model gives the others."""

RULES = f"""\
rule_set: {SAMPLE_RULES}
description: Which desk a message goes to. A sample to change.
key: id
signals:
  money:
    kind: phrases
    column: text
    phrases: [invoice, charge, credit card, refund, price, bank, money, tax]
  parcel:
    kind: phrases
    column: text
    phrases: [parcel, courier, shipment, tracking, delivery, van, pick-up, customs]
  login:
    kind: phrases
    column: text
    phrases: [password, login, account, e-mail address, codes, profile, newsletters, sign in]
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

    :return: 1,500 rows, the desks in turn, so that any beginning of the table has all of them. No row is
        nearly the same as another one, and 40 of the desks are wrong; those by hand are right.
    """
    desks = tuple(_ABOUT)
    rows = []
    for number in range(_ROWS):
        about, ending, *parts = _choices(number, count=2 + len(_PARTS))
        desk = desks[number % len(desks)]
        said = [part[place] for part, place in zip(_PARTS, parts, strict=True)]
        closing, urgent, complaint = _ENDINGS[ending]
        is_wrong = number % _MISLABELLED == _MISLABELLED - 1
        rows.append(
            {
                "id": f"m{number:04d}",
                "text": "; ".join((*said, closing)).format(_ABOUT[desk][about]) + ".",
                "desk": desks[(number + 1) % len(desks)] if is_wrong else desk,
                "urgent": urgent,
                "complaint": complaint,
                "desk_by_hand": desk if number // len(desks) % _GOLD == 0 else None,
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _choices(number: int, *, count: int) -> list[int]:
    """Return which of its parts a message has: two messages share at most three, so that none is a copy.

    The digits of the number are the coefficients of a polynomial over a field of 11 elements, and the choices
    its values: two polynomials of degree 3 are equal at three places at most.
    """
    digits = [number // _CHOICES**power % _CHOICES for power in range(4)]
    return [
        sum(digit * place**power for power, digit in enumerate(digits)) % _CHOICES for place in range(count)
    ]


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
