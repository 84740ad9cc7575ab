"""Rule sets that are kept: list, read, save with versions, delete. Submitting one to a gate is running a
pipeline, which a template makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Header, Path, Response
from pydantic import BaseModel, Field

from modelmill.documents.versions import text_digest
from modelmill.errors import ConfigError, ModelmillError
from modelmill.pipeline.expansion import expand
from modelmill.pipeline.placeholders import substitute
from modelmill.pipeline.spec import PipelineSpec
from modelmill.redaction import redacted
from modelmill_plugin.audit import record
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.routes.pipelines import StoreView
from modelmill_plugin.routes.rule_sets import MOST_CHARACTERS, RuleProblem, rule_problem
from modelmill_plugin.routes.versions import Number, VersionDocument, VersionSummary, version_document
from modelmill_plugin.security import DELETE, EDIT, READ, User
from modelmill_plugin.settings import pipeline_store, rule_set_store
from modelmill_plugin.views import IfMatch, expected_etag, may, set_etag

if TYPE_CHECKING:
    from modelmill.documents.versions import Stored
    from modelmill.rules.lifecycle.rule_set_store import RuleSetFile

router = APIRouter(tags=["rule sets"])

Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,250}$", description="The rule set's name.")]


class RuleSetSummary(BaseModel):
    """A rule set in the list."""

    name: str
    path: str
    description: str
    rules: int
    valid: bool
    digest: str | None
    etag: str


class FunctionView(BaseModel):
    """A function that expressions may call."""

    name: str
    usage: str = Field(description="How it is called, such as contains(text, constant text).")


class MeasureView(BaseModel):
    """A function of measured signals."""

    name: str
    help: str
    operands: list[str] = Field(description="Kinds of the columns that it reads.")
    result: str = Field(description="Kind of its values.")
    options_schema: dict[str, Any] = Field(description="JSON Schema of its options.")


class SignalKindView(BaseModel):
    """A kind of signal."""

    name: str
    title: str
    help: str
    config_schema: dict[str, Any] = Field(
        description="JSON Schema of its configuration. The format of a text is column, model or measure if "
        "it names one, and sql if it is an expression."
    )


class LanguageView(BaseModel):
    """What a rule set can be made of: for forms, and for completion while it is written."""

    functions: list[FunctionView]
    measures: list[MeasureView]
    kinds: list[SignalKindView]


class RuleSetList(BaseModel):
    """The rule sets, and the language they are written in."""

    rule_sets: list[RuleSetSummary]
    store: StoreView
    language: LanguageView


class RuleSetDocument(BaseModel):
    """A rule set: its text and everything that is wrong with it."""

    name: str
    path: str
    text: str
    etag: str = Field(description="SHA-256 of the text; give it back in If-Match.")
    digest: str | None = Field(description="Null if there are problems.")
    problems: list[RuleProblem]
    place: str = Field(description="Where pipelines find it, such as ${rules}/NAME.yaml.")
    judged_by: list[str] = Field(description="Pipelines with a gate that it is submitted to.")


class RuleSetSave(BaseModel):
    """A rule set's new text."""

    text: str = Field(max_length=MOST_CHARACTERS)
    message: str = Field("", max_length=500, description="Why, for the list of versions.")


class RuleSetDelete(BaseModel):
    """Why a rule set is deleted."""

    message: str = Field("", max_length=500)


@router.get("/rule-sets", dependencies=[READ], responses=error_responses())
def list_rule_sets(user: User) -> RuleSetList:
    """Return every rule set, the invalid ones too, and what they can be made of."""
    summaries: list[RuleSetSummary] = []
    reason = ""
    try:
        store = rule_set_store()
        summaries = [_summary(stored) for stored in store.documents().values()]
        store.check_writable()
    except ModelmillError as error:  # they can still be written and tried
        reason = redacted(str(error))
    return RuleSetList(
        rule_sets=summaries,
        store=StoreView(writable=not reason, reason=reason, may_create=may("PUT", None, user)),
        language=rule_language(),
    )


@router.get("/rule-sets/{name}", dependencies=[READ], responses=error_responses(404))
def read_rule_set(name: Name, response: Response, user: User) -> RuleSetDocument:
    """Return one rule set, and the pipelines that judge it."""
    stored = rule_set_store().read(name)
    set_etag(response, stored.etag)
    return _document(stored, user)


@router.put("/rule-sets/{name}", dependencies=[EDIT], responses=error_responses(404, 409, 428))
def save_rule_set(
    *,
    name: Name,
    request: RuleSetSave,
    response: Response,
    user: User,
    session: SessionDep,
    if_match: IfMatch = None,
    if_none_match: Annotated[str | None, Header(description="* for a new rule set.")] = None,
) -> RuleSetDocument:
    """Save a rule set as its next version. It has to be valid, and to be what was read (else 409)."""
    expected = None if if_none_match == "*" else expected_etag(if_match)
    _check_may("PUT", user)
    record(session, user, "save_rule_set", rule_set=name, etag=text_digest(request.text))
    stored = rule_set_store().save(
        name, request.text, expected=expected, author=user.get_name(), message=request.message
    )
    set_etag(response, stored.etag)
    return _document(stored, user)


@router.delete("/rule-sets/{name}", dependencies=[DELETE], responses=error_responses(404, 409, 428))
def delete_rule_set(
    name: Name, request: RuleSetDelete, user: User, session: SessionDep, if_match: IfMatch = None
) -> None:
    """Delete a rule set; its versions stay, and what is registered stays."""
    expected = expected_etag(if_match)
    _check_may("DELETE", user)
    record(session, user, "delete_rule_set", rule_set=name, etag=expected)
    rule_set_store().delete(name, expected=expected, author=user.get_name(), message=request.message)


@router.get("/rule-sets/{name}/versions", dependencies=[READ], responses=error_responses())
def list_rule_set_versions(name: Name) -> list[VersionSummary]:
    """Return the versions of a rule set, the newest first; deleted ones have theirs too."""
    versions = rule_set_store().versions(name)
    return [
        VersionSummary.model_validate(version.model_dump(exclude={"text", "parent"}))
        for version in reversed(versions)
    ]


@router.get("/rule-sets/{name}/versions/{number}", dependencies=[READ], responses=error_responses(404))
def read_rule_set_version(name: Name, number: Number) -> VersionDocument:
    """Return one version."""
    return version_document(rule_set_store().version(name, number))


def _check_may(method: Any, user: User) -> None:
    # The guards take a pipeline's id from the query as well: a right on one pipeline is none on rule sets.
    if not may(method, None, user):
        raise RefusedError(403, "the user must be allowed to edit pipelines in general")


def _summary(stored: Stored[RuleSetFile]) -> RuleSetSummary:
    rule_set = stored.file.content
    return RuleSetSummary(
        name=stored.name,
        path=stored.file.path,
        description=rule_set.description if rule_set else "",
        rules=len(rule_set.rules) if rule_set else 0,
        valid=rule_set is not None,
        digest=stored.file.digest,
        etag=stored.etag,
    )


def _document(stored: Stored[RuleSetFile], user: User) -> RuleSetDocument:
    file = stored.file
    return RuleSetDocument(
        name=stored.name,
        path=file.path,
        text=file.text,
        etag=stored.etag,
        digest=file.digest,
        problems=[rule_problem(item) for item in file.problems],
        place=f"${{rules}}/{file.path}",
        judged_by=_judges(f"{rule_set_store().folder.rstrip('/')}/{file.path}", user),
    )


def _judges(place: str, user: User) -> list[str]:
    """Return the pipelines that have a gate for the rule set at a place."""
    found = []
    for stored in pipeline_store().documents().values():
        spec = stored.file.spec
        if spec and place in _judged(spec) and may("GET", stored.name, user, DagAccessEntity.CODE):
            found.append(stored.name)
    return found


def _judged(spec: PipelineSpec) -> set[str]:
    values = spec.param_values()
    places = set()
    for step in expand(spec).spec.steps.values():
        source = step.config.get("rule_set")
        if step.component == "gate_rules" and isinstance(source, str):
            try:
                places.add(str(substitute(source, values)))
            except ConfigError:
                continue  # a parameter without a value: it is said when the pipeline runs
    return places


def rule_language() -> LanguageView:
    """Return what a rule set can be made of."""
    from modelmill.rules.language.functions import FUNCTIONS, POLYMORPHIC
    from modelmill.signals.measures import measures
    from modelmill.signals.registry import signal_kinds

    functions = [FunctionView(name=name, usage=function.usage) for name, function in FUNCTIONS.items()]
    functions += [FunctionView(name=name, usage=f"{name}(a, b)") for name in POLYMORPHIC]
    return LanguageView(
        functions=functions,
        measures=[
            MeasureView(
                name=measure.name,
                help=measure.help,
                operands=list(measure.operands),
                result=measure.result,
                options_schema=measure.options.model_json_schema(),
            )
            for measure in measures().values()
        ],
        kinds=[
            SignalKindView(
                name=kind.name,
                title=kind.title,
                help=kind.help,
                config_schema=kind.config.model_json_schema(),
            )
            for kind in signal_kinds().values()
        ],
    )
