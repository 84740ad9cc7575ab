"""A template with a sample table: one click leads to a pipeline that runs."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Path

from modelmill.documents.names import NAME_PATTERN
from modelmill.documents.versions import ConflictError
from modelmill.errors import ConfigError
from modelmill.pipeline.templates import template_named
from modelmill.settings import environment_params
from modelmill_plugin.audit import record
from modelmill_plugin.errors import error_responses
from modelmill_plugin.routes.templates import FilledTemplate
from modelmill_plugin.samples import RULES, SAMPLE_RULES, SAMPLE_TABLE, sample_values, write_sample_table
from modelmill_plugin.security import EDIT_ALL, User
from modelmill_plugin.settings import rule_set_store

router = APIRouter(tags=["templates"])


@router.post("/templates/{name}/sample", dependencies=[EDIT_ALL], responses=error_responses(404))
def make_sample(
    name: Annotated[str, Path(pattern=NAME_PATTERN)], user: User, session: SessionDep
) -> FilledTemplate:
    """Write the sample table, and for rules a sample rule set, unless they are there; return a pipeline.

    The pipeline is not saved.
    """
    values = sample_values(name)
    template = template_named(name)
    data = environment_params().get("data")
    if not data:
        raise ConfigError(
            "the API server must know the folder of the tables",
            remedy="set MODELMILL_PARAM_DATA, for all of Airflow's processes, to a folder or an fsspec URL",
        )
    record(session, user, "make_sample", template=name)
    write_sample_table(f"{data.rstrip('/')}/{SAMPLE_TABLE}")
    if "rule_set" in values:
        _save_rules(user.get_name())
    return FilledTemplate(document=template.build(template.form.model_validate(values)))


def _save_rules(author: str) -> None:
    store = rule_set_store()
    if SAMPLE_RULES in store.documents():
        return
    try:
        store.save(SAMPLE_RULES, RULES, expected=None, author=author, message="A sample")
    except ConflictError:
        return  # somebody else was faster
