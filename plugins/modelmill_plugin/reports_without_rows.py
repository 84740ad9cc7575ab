"""Reports for those who may not read the data: what is said of rows, and no row.

What is shown is listed here, field by field and level by level. A field that is not listed is left out, be
it the text of a mistake, a value of a column, the key of a row, or one that a later version adds. Numbers,
yes and no are figures, and shown under any name, as long as they stand where the report's own structure is.
"""

from __future__ import annotations

from typing import Any

_WORDS = frozenset(
    {
        # models, tables, runs
        *("uri", "kind", "run_id", "model", "models", "challenger", "champion", "role", "format", "version"),
        *("dataset", "source", "scored", "table", "pipeline", "step_key", "content_hash", "digest"),
        # what was measured, and judged
        *("name", "metric", "unit", "check", "label", "labels", "target", "mode", "dialect", "as_of"),
        *("sentence", "note", "reason", "reasons", "alarms", "broken", "not_judged", "not_compared"),
        *("unknown_classes", "confusions", "unknown", "functions_without_gold", "gold_without_functions"),
        # decisions by rules
        *("rule_set", "rule_set_digest", "then", "decision", "signal", "before", "after"),
        *("rule_before", "rule_after", "dead", "shadowed", "shadowed_by"),
    }
)
"""Fields of words: a text, or a list of texts or of lists such as ``[class, answer, rows]``. They are names
that a pipeline has given, or a model's classes, or sentences of modelmill's own about them."""
_PARTS = frozenset(
    {
        *("models", "baselines", "scores", "over_baseline", "per_class", "classes", "chain", "checks"),
        *(
            "left_out",
            "not_judged",
            "columns",
            "quality",
            "functions",
            "points",
            "findings",
            "bill",
            "forecast",
        ),
        *("gold", "labels", "table", "quarantine", "trial", "against", "rules", "difference", "changes"),
        *("thresholds", "failures"),
    }
)
"""Fields that hold an object, or a list of objects, to which the same applies."""
_COUNTS = frozenset(
    {
        *("reasons", "splits", "classes", "lengths", "medians", "numbers", "conflicts", "predictions"),
        *("decisions", "never_decided", "rules", "labels", "review", "refused", "failures"),
    }
)
"""Fields with numbers by name: by class, decision, rule, label or reason, which are names, too."""


def without_rows(report: Any) -> Any:
    """Return a report without anything that stands in a row of data.

    :param report: JSON, as a step has logged it.
    :return: what is listed above of it; None if it is no object.
    """
    if not isinstance(report, dict):
        return None
    shown: dict[str, Any] = {}
    for name, value in report.items():
        for kept in (_figure(value), _words(name, value), _parts(name, value), _counts(name, value)):
            if kept is not None:
                shown[name] = kept
                break
    return shown


def _figure(value: Any) -> Any:
    return value if isinstance(value, bool | int | float) else None


def _words(name: str, value: Any) -> Any:
    if name not in _WORDS or isinstance(value, dict):
        return None
    return (
        value if isinstance(value, str) or (isinstance(value, list) and all(map(_is_plain, value))) else None
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | bool | int | float) for one in value)
    return isinstance(value, str | bool | int | float)


def _parts(name: str, value: Any) -> Any:
    if name not in _PARTS:
        return None
    if isinstance(value, list):
        return [without_rows(one) for one in value if isinstance(one, dict)]
    # Numbers by name are no part: there, a name may be anything.
    return None if name in _COUNTS or not isinstance(value, dict) else without_rows(value)


def _counts(name: str, value: Any) -> Any:
    if name not in _COUNTS or not isinstance(value, dict):
        return None
    return _numbers(value)


def _numbers(value: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of an object, and of those in it."""
    inner = {name: _numbers(one) if isinstance(one, dict) else _figure(one) for name, one in value.items()}
    return {name: one for name, one in inner.items() if one is not None}
