"""Templates: a form with few fields becomes a pipeline to go on with."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field, ValidationError

from modelmill.documents.names import NAME_PATTERN
from modelmill.errors import did_you_mean
from modelmill.pipeline.templates import TEMPLATES, template_named
from modelmill_plugin.errors import RefusedError, error_responses
from modelmill_plugin.security import READ

router = APIRouter(tags=["templates"])


class TemplateView(BaseModel):
    """A kind of pipeline to begin with."""

    name: str
    title: str
    help: str
    form_schema: dict[str, Any] = Field(description="JSON Schema of its form.")


class FillRequest(BaseModel):
    """The values of a template's form."""

    values: dict[str, Any]


class FilledTemplate(BaseModel):
    """The pipeline that a filled form stands for."""

    document: dict[str, Any] = Field(description="The pipeline as data: as YAML or JSON it can be saved.")


@router.get("/templates", dependencies=[READ], responses=error_responses())
def list_templates() -> list[TemplateView]:
    """Return the templates, in the order in which they are offered."""
    return [
        TemplateView(
            name=template.name,
            title=template.title,
            help=template.help,
            form_schema=template.form.model_json_schema(),
        )
        for template in TEMPLATES.values()
    ]


@router.post("/templates/{name}", dependencies=[READ], responses=error_responses())
def fill_template(name: Annotated[str, Path(pattern=NAME_PATTERN)], request: FillRequest) -> FilledTemplate:
    """Return the pipeline that a filled form stands for; nothing is saved."""
    template = template_named(name)
    try:
        form = template.form.model_validate(request.values)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in detail["loc"])
        unknown = detail["type"] == "extra_forbidden"
        raise RefusedError(
            422,
            f"{field}: {detail['msg']}",
            got=detail["input"],
            remedy=did_you_mean(field, template.form.model_fields) if unknown else "",
        ) from error
    return FilledTemplate(document=template.build(form))
