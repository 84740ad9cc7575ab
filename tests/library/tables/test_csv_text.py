"""CSV files of people: what is a number, what is refused, and by which line."""

from __future__ import annotations

import pytest

from modelmill.errors import TableError
from modelmill.tables.csv_text import table_of_csv


def test_columns_are_of_numbers_only_where_all_cells_are() -> None:
    text = (
        '\ufeffid;text;stars;price;code;long\n1;"a; ""b""\nc";5;1.50;007;0.1234567890123456\n\n2;;;-3;1e3;2\n'
    )
    table = table_of_csv(text)
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int64",
        "text": "string",
        "stars": "int64",
        "price": "double",
        "code": "string",
        "long": "string",  # of more digits than a number has
    }
    assert table.drop_columns("long").to_pylist() == [
        {"id": 1, "text": 'a; "b"\nc', "stars": 5, "price": 1.5, "code": "007"},
        {"id": 2, "text": None, "stars": None, "price": -3.0, "code": "1e3"},
    ]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"a,b";c\nx;y\n', {"a,b": ["x"], "c": ["y"]}),
        ('"text, original,\nfull";label\nx;y\n', {"text, original,\nfull": ["x"], "label": ["y"]}),
        ('a;b\r"x,y,z,w";2\r', {"a": ["x,y,z,w"], "b": [2]}),
        ("version,n\n1.10,-1\n1.1,2\n", {"version": ["1.10", "1.1"], "n": [-1, 2]}),
        ("price\n1.50\n2.00\n", {"price": [1.5, 2.0]}),
    ],
)
def test_names_in_quotes_and_versions_are_read_as_they_are_meant(text: str, columns: object) -> None:
    assert table_of_csv(text).to_pydict() == columns


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: a CSV file has 1 to 200 columns; got 0"),
        ("a,b\n", "has rows below"),
        ("a,b\n1,2\n1,2,3\n", "line 3: a row has as many cells as the first line, 2; got 3"),
        ("a,A\n1,2\n", "line 1: each column has a name of its own"),
        ("a,\n1,2\n", "line 1: each column has a name of its own"),
        ('a,b\n1,"2\n', "line 2: a CSV file can be read as one"),
        ("a\n\ufffd\n", "is text in UTF-8"),
        ("a\n\0\n", "is text in UTF-8"),
        (",".join(map(str, range(201))) + "\n", "1 to 200 columns; got 201"),
        ("a\n" + "1\n" * 1_000_001, "at most 1,000,000 cells"),
        ("a\n" + "x" * 100_001, "line 2: a cell has at most 100,000 characters; got '100,001'"),
    ],
)
def test_what_is_no_table_is_refused_by_its_line(text: str, said: str) -> None:
    with pytest.raises(TableError, match=said.replace("(", r"\(")) as refused:
        table_of_csv(text)
    assert "UTF-8" in str(refused.value)  # what to do about it
