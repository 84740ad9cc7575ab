"""An expression over a row's columns is one, and reads nothing else."""

from __future__ import annotations

import pytest

from modelmill.tables.expressions import row_expression

HARMLESS = (
    *("n * 10", "upper(t)", "id", "n > 1 AND (t = 'a' OR t IS NULL)", "extract(year FROM day) = 2026"),
    *("trim(both ' ' FROM t)", "t LIKE '%select%from table%'", "t = 'it''s (table) --'", 't = "-- a"'),
    *("`select` = 1", "`a (table` = 2", "transform(tags, x -> lower(x))", "exists(tags, x -> x = 'a')"),
    *("secret = 'x'", "reflected > 1", "kind = 'table'", "t = 'a\\'b'", "regexp_like(t, r'a\\.b')", "a - -1"),
    *("CAST(n AS STRING)", "map('a', 1)['a']", "CASE WHEN n > 1 THEN 'x' ELSE 'y' END", "t RLIKE 'a|>b'"),
    *("named_struct('from', a, 'select', b)", "size(map('a', 1))", "(reduce(xs, 0, (a, x) -> a + x))"),
)
QUERIES = (
    *("(SELECT max(value) FROM text.`/etc/passwd`)", "(select 1)", "id IN (SELECT 1)", "exists( SELECT 1)"),
    *(
        "(TABLE text.`/etc/passwd`)",
        "(FROM text.`/x` |> AGGREGATE max(value))",
        "((\n from x map a using 's'))",
    ),
    *(
        "(MAP (a) USING 'sh' AS b FROM t)",
        "(WITH t AS (SELECT 1) TABLE t)",
        "(VALUES (1))",
        "1 -- )",
        "a |> b",
    ),
    *("1 /* ' */ + (select 1) /* ' */", "$$'$$"),
)
ESCAPES = (
    "'\\' || (select max(value) from text.`/x`) || '\\''",
    "'\\'' || (select 1) || ''",
    "'\\'' || r'\\' || (select 1) || ''",
    "'a' || r'\\' || (select 1) || '\\''",
    "`'` = (select 1) or `'` = 1",
    '"\'" || (select 1) || "\'"',
)
CALLS = (
    *("reflect('java.lang.System', 'getenv', 'X')", "JAVA_METHOD ('a', 'b')", "try_reflect('a', 'b')"),
    *(
        "`reflect`('a', 'b')",
        "system.builtin.`java_method` ('a')",
        "secret('scope', 'key')",
        "ai_query('m', t)",
    ),
)


@pytest.mark.parametrize("text", HARMLESS)
def test_expressions_stay_as_they_are(text: str) -> None:
    assert row_expression(text) == text


@pytest.mark.parametrize("text", [*QUERIES, *ESCAPES, *CALLS])
def test_queries_and_calls_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an expression is of a row's columns alone"):
        row_expression(text)
