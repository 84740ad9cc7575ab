"""Rule sets: checked while they are written, tried on rows, compared with others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from modelmill.documents.json_content import document_content
from modelmill.errors import Problem, RuleSetError
from modelmill.rules.lifecycle.timed_trial import TRIAL_SECONDS, TrialProcess
from modelmill.settings import Settings
from modelmill.tables.preview import first_rows, shown_value
from modelmill_plugin.errors import ProblemView, RefusedError, error_responses, problem_views
from modelmill_plugin.mlflow_answers import mlflow_client
from modelmill_plugin.routes.decisions import shown_decision
from modelmill_plugin.routes.tables import shown_place
from modelmill_plugin.security import EDIT, READ

if TYPE_CHECKING:
    import pyarrow as pa

router = APIRouter(tags=["rule sets"])

MOST_CHARACTERS = 1_000_000
_MOST_CHECKED_HERE = 20_000
"""Characters of a text that is checked in the API server itself: it takes half a second at most."""
_CHECK_WAITS = 2.0
"""Seconds that the check of a longer text waits for another one: it holds one of the API server's threads."""
_REGISTERED = "models:/"


class RuleProblem(ProblemView):
    """One thing that is wrong with a rule set."""

    excerpt: str = Field(description="The expression's line, and a caret below the place; empty for others.")


class RuleSetCheck(BaseModel):
    """A rule set to check."""

    text: str = Field(max_length=MOST_CHARACTERS, description="YAML or JSON.")


class CheckedRuleSet(BaseModel):
    """A rule set and everything that is wrong with it."""

    document: Any
    digest: str | None = Field(description="Null if there are problems.")
    problems: list[RuleProblem]


class RuleSetTrial(BaseModel):
    """A rule set to try on the first rows of a table."""

    text: str = Field(max_length=MOST_CHARACTERS, description="YAML or JSON.")
    against: str | None = Field(
        None,
        max_length=MOST_CHARACTERS,
        description="Another rule set, or models:/NAME@ALIAS: where do their decisions differ?",
    )
    table: str = Field(max_length=2000, description="Path or URI; ${name}: the deployment's parameter.")
    version: int | None = Field(None, ge=0, description="Version of the table; null: the newest.")
    rows: int = Field(50, ge=1, le=500)


class RuleCount(BaseModel):
    """How often a decision was made, and by which rule."""

    decision: str
    rule: str | None = Field(description="Null: no rule fires.")
    rows: int


class DecidedRow(BaseModel):
    """A row with its decision."""

    decision: dict[str, Any] = Field(description="Key, decision, rule, severity, reason and explanation.")
    row: dict[str, Any] = Field(description="The row itself; long values are cut.")
    text: str = Field(description="The explanation, for people.")
    other: str | None = Field(description="What the other rule set decides, where it decides otherwise.")


class TriedRuleSet(BaseModel):
    """What a rule set decides on rows."""

    digest: str
    table: str
    version: int
    counts: list[RuleCount] = Field(description="The most frequent first.")
    rows: list[DecidedRow]
    differ: int | None = Field(description="Rows on which the other rule set decides otherwise.")


@router.post("/rule-sets/check", dependencies=[READ], responses=error_responses())
def check_rule_set(request: RuleSetCheck) -> CheckedRuleSet:
    """Check a rule set's shape, names and expressions."""
    if len(request.text) > _MOST_CHECKED_HERE:
        found = _checks.check(request.text, wait=_CHECK_WAITS)
        return CheckedRuleSet(
            document=found.document,
            digest=found.digest,
            problems=[rule_problem(item) for item in found.problems],
        )
    from modelmill.rules.reading import parse_rule_set

    digest: str | None = None
    problems: tuple[Problem, ...] = ()
    try:
        digest = parse_rule_set(request.text).digest
    except RuleSetError as error:
        problems = error.problems
    return CheckedRuleSet(
        document=document_content(request.text),
        digest=digest,
        problems=[rule_problem(item) for item in problems],
    )


# Whoever may edit pipelines can read these tables by running one; a viewer cannot.
@router.post("/rule-sets/try", dependencies=[EDIT], responses=error_responses())
def try_rule_set(request: RuleSetTrial) -> TriedRuleSet:
    """Decide on the first rows of a table, each decision explained, and compare with another rule set."""
    from modelmill.rules.explanation.rendering import explanation_text

    place, version, batch = first_rows(shown_place(request.table), version=request.version, rows=request.rows)
    digest, decided = _decided(request.text, batch, explain=True)
    others = None if request.against is None else _decided(request.against, batch, explain=False)[1]
    counts = Counter((row["decision"], row["rule"]) for row in decided)
    rows = []
    for number, (decision, row) in enumerate(zip(decided, batch.to_pylist(), strict=True)):
        other = others[number]["decision"] if others else None
        rows.append(
            DecidedRow(
                decision=shown_decision(decision),
                row={name: shown_value(value) for name, value in row.items()},
                text=explanation_text(decision),
                other=None if other == decision["decision"] else other,
            )
        )
    return TriedRuleSet(
        digest=digest,
        table=place,
        version=version,
        counts=[
            RuleCount(decision=decision, rule=rule, rows=count)
            for (decision, rule), count in counts.most_common()
        ],
        rows=rows,
        differ=None if others is None else sum(row.other is not None for row in rows),
    )


_trials = TrialProcess()
"""Rules that take minutes on some rows must not hold a thread of the API server."""
_checks = TrialProcess()
"""Of long texts. Trials take the right to edit, so that who may only look must not hold them up."""


def _decided(text: str, batch: pa.RecordBatch, *, explain: bool) -> tuple[str, list[dict[str, Any]]]:
    """Return a rule set's digest, and its decisions."""
    from modelmill.rules.lifecycle.registered_rule_sets import open_rule_set

    if text.startswith(_REGISTERED):
        with mlflow_client():  # its errors become one line
            text = open_rule_set(text.strip(), Settings.from_environment()).model_dump_json()
    found = _trials.check(text, schema=batch.schema, wait=3 * TRIAL_SECONDS)
    if found.digest is None:
        raise RuleSetError(found.problems)
    for model in found.models:
        # A folder would be one of the API server's own.
        if not model.startswith(_REGISTERED):
            raise RefusedError(
                422, "a rule set is tried with registered models", got=model, remedy="register it"
            )
    return found.digest, _trials.decide(text, batch, explain=explain)


def rule_problem(problem: Problem) -> RuleProblem:
    """Return a problem of a rule set with its excerpt.

    :param problem: as the check lists it.
    :return: the same.
    """
    (view,) = problem_views([problem])
    return RuleProblem(**view.model_dump(), excerpt=problem.excerpt)
