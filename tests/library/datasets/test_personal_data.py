"""Personal data of some form: what is found, what only looks like it, and texts made to take long."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from modelmill.datasets.contract import broken_contract, check_types
from modelmill.datasets.options import ColumnContract
from modelmill.errors import TableError

FOUND = {
    "email": [
        *("write to Ann.Lee+news@mail.example.org.", "<a@b.io>", "mailto:x_y%z@sub-domain.example.museum"),
        *("(ann@example.co.uk)", "a@b.c.de", "东京ann@example.com です"),
    ],
    "phone": [
        *("+49 30 1234567", "call +1 (555) 123-4567 now", "0044 20 7946 0958", "+86-138-0013-8000"),
        *("(555) 123-4567", "tel.:555-123-4567", "+33 1.23.45.67.89", "+390612345678"),
    ],
    "iban": [
        *("DE89370400440532013000", "to DE89 3704 0044 0532 0130 00, please", "GB82 WEST 1234 5698 7654 32"),
        *("FR1420041010050500013M02606", "NO93-8601-1117-947", "MT84MALT011000012345MTLCAST001S"),
        *("IBAN:CH9300762011623852957.", "DE89 3704 0044 0532 0130 00 AND MORE"),
    ],
    "card": [
        *("4111 1111 1111 1111", "5500-0000-0000-0004", "340000000000009", "30000000000004 Diners"),
        *("no. 4012888888881881.", "2223000048400011", "1234 4111 1111 1111 1111", "6011000000000004"),
    ],
    "ipv4": [
        *("192.168.0.1", "from 8.8.8.8.", "http://10.0.0.255:80/", "[127.0.0.1]", "0.0.0.0,"),
    ],
}
CLEAN = {
    "email": [
        "ann at example.org",
        "@ann",
        "ann@",
        "a@b",
        "3 @ 4.50",
        "ann@example",
        "x@1.2",
        "@example.org",
    ],
    "phone": [
        "1234567",
        "in 2026-02-28",
        "12.345.678,90",
        "+1",
        "item 00-12",
        "3.141592653",
        "+49 30",
        "9-5",
    ],
    "iban": [
        *(
            "DE88370400440532013000",
            "DE8937040044053201300",
            "DE893704004405320130000",
            "ZZ89370400440532013000",
        ),
        *("XDE89370400440532013000", "de89370400440532013000", "DE89  3704 0044 0532 0130 00", "US12 ABCD"),
    ],
    "card": [
        *("4111 1111 1111 1112", "0000 0000 0000 0000", "41111111111111111", "4111-1111-1111", "1" * 40),
        *("9111111111111111", "4111  1111  1111  1111", "2026 02 28 12 30 59 123456"),
    ],
    "ipv4": ["256.1.1.1", "1.2.3", "1.2.3.4.5", "1234.1.1.1", "1.1.1.1234", "version 01.2.3.004"],
}


def reasons(values: Any, **terms: Any) -> list[str | None]:
    column = values if isinstance(values, pa.Array) else pa.array(values)
    contract = {"c": ColumnContract.model_validate(terms)}
    check_types(pa.schema([("c", column.type)]), contract, place="raw@3")
    found: list[str | None] = broken_contract({"c": column}, contract).to_pylist()
    return found


SAID = {
    "email": "c: no e-mail addresses",
    "phone": "c: no telephone numbers",
    "iban": "c: no bank accounts (IBAN)",
    "card": "c: no payment cards",
    "ipv4": "c: no IPv4 addresses",
}


@pytest.mark.parametrize("kind", FOUND)
@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()], ids=str)
def test_each_kind_is_found_and_what_is_none_is_not(kind: str, type_: pa.DataType) -> None:
    texts = pa.array([*FOUND[kind], *CLEAN[kind], "", None], type_)
    wanted = [SAID[kind]] * len(FOUND[kind]) + [None] * (len(CLEAN[kind]) + 2)
    assert reasons(texts, without=[kind]) == wanted


def test_nothing_is_looked_for_unless_it_is_asked_for() -> None:
    texts = [text for texts in FOUND.values() for text in texts]
    assert reasons(texts) == [None] * len(texts)
    every = reasons(texts, without=list(FOUND))
    assert None not in every
    assert set(every) == set(SAID.values())


def test_rows_in_parts_of_a_column_are_told_apart() -> None:
    texts = pa.array(["x", FOUND["card"][0], None, "y", FOUND["card"][1]]).slice(1)
    assert reasons(texts, without=["card"]) == [SAID["card"], None, None, SAID["card"]]


@pytest.mark.parametrize("kind", FOUND)
def test_texts_that_are_made_to_take_long_do_not(kind: str) -> None:
    """A million characters, each of which may begin or continue one: without a limit this would not end."""
    texts = [
        "4 " * 500_000,
        "1" * 1_000_000,
        "DE89 " * 200_000,
        "a@" * 500_000,
        "a." * 500_000,
        "+4(" * 300_000,
    ]
    assert reasons(texts, without=[kind]) == [None] * len(texts)


def test_only_texts_have_it() -> None:
    with pytest.raises(TableError, match="without in a contract are for columns of texts"):
        reasons(pa.array([1]), without=["card"])
