"""A table out of the text of a CSV file, for those who have no table yet; nothing of it is guessed wrongly.

A column is of numbers only where every cell is written as a number is: ``007`` and ``1e3`` stay text, and so
do ``1.1`` and ``1.10`` in one column, which may be versions.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelmill.errors import TableError

if TYPE_CHECKING:
    import pyarrow as pa

MOST_COLUMNS = 200
MOST_CELLS = 1_000_000
MOST_CHARACTERS = 100_000
"""Of a cell. It is below the limit of Python's reader, which other code of the process may raise."""
_SEPARATORS = ",;\t"
_QUOTED = re.compile(r'"[^"]*"')
_LINE_END = re.compile(r"[\r\n]")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?")
_MOST_DIGITS = 15
_REMEDY = "correct the file, or save it as CSV (UTF-8) again"


def table_of_csv(text: str) -> pa.Table:
    """Return the rows of a CSV file: its first line has the names of the columns.

    :param text: cells are separated by commas, semicolons or tabs, whichever the first line has most of.
    :return: columns of text, whole numbers or numbers; an empty cell is no value.
    :raises TableError: if it is no such text; it names the line.
    """
    import pyarrow as pa

    names, rows = _read(text)
    columns = list(zip(*rows, strict=True))
    return pa.table({name: _column(cells) for name, cells in zip(names, columns, strict=True)})


def _read(text: str) -> tuple[list[str], list[list[str]]]:
    text = text.removeprefix("\ufeff")
    if "\0" in text or "\ufffd" in text:
        raise TableError("a CSV file is text in UTF-8", remedy=_REMEDY)
    separator = max(_SEPARATORS, key=_first_line(text).count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    try:
        names = _names(next(reader, []))
        for row in reader:
            if not row:
                continue  # an empty line
            if len(row) != len(names):
                raise _wrong(
                    reader.line_num, f"a row has as many cells as the first line, {len(names)}", len(row)
                )
            if (longest := max(map(len, row))) > MOST_CHARACTERS:
                raise _wrong(
                    reader.line_num, f"a cell has at most {MOST_CHARACTERS:,} characters", f"{longest:,}"
                )
            rows.append(row)
            if len(rows) * len(names) > MOST_CELLS:
                raise _wrong(reader.line_num, f"a file has at most {MOST_CELLS:,} cells", "more")
    except csv.Error as error:
        raise _wrong(reader.line_num, f"a CSV file can be read as one ({error})", None) from error
    if not rows:
        raise TableError("a CSV file has rows below the names of its columns", got="none", remedy=_REMEDY)
    return names, rows


def _first_line(text: str) -> str:
    """Return the first line without what stands between quotes: a name may have separators and line ends."""
    quotes = begin = 0
    for found in _LINE_END.finditer(text):
        quotes += text.count('"', begin, found.start())
        begin = found.start()
        if quotes % 2 == 0:
            return _QUOTED.sub("", text[:begin])
    return _QUOTED.sub("", text)


def _names(head: Sequence[str]) -> list[str]:
    names = [name.strip() for name in head]
    if not 0 < len(names) <= MOST_COLUMNS:
        raise _wrong(1, f"a CSV file has 1 to {MOST_COLUMNS} columns", len(names))
    if "" in names or len({name.lower() for name in names}) < len(names):
        raise _wrong(1, "each column has a name of its own in the first line", ", ".join(names))
    return names


def _column(cells: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    given = [cell for cell in cells if cell != ""]
    if given and all(map(_WHOLE.fullmatch, given)):
        return pa.array([int(cell) if cell else None for cell in cells], pa.int64())
    if given and all(map(_is_decimal, given)) and len(set(map(float, given))) == len(set(given)):
        return pa.array([float(cell) if cell else None for cell in cells], pa.float64())
    return pa.array([cell or None for cell in cells], pa.string())


def _is_decimal(cell: str) -> bool:
    """Return whether a cell is a number that 64 bits hold as it is written."""
    return bool(_DECIMAL.fullmatch(cell)) and sum(map(str.isdigit, cell)) <= _MOST_DIGITS


def _wrong(line: int, rule: str, got: object) -> TableError:
    return TableError(f"line {line}: {rule}", got=got, remedy=_REMEDY)
