"""The chat dialect: ``POST /chat/completions`` with a JSON schema (vLLM, Ollama, llama.cpp, clouds)."""

from __future__ import annotations

from typing import Any, ClassVar

from modelmill.language_models.answer_text import object_in
from modelmill.language_models.dialects import (
    KEPT_CHARACTERS,
    Dialect,
    Parameters,
    Reply,
    Request,
    canonical,
    read_json,
    read_usage,
)
from modelmill.language_models.questions import CANNOT_TELL, Question


class ChatDialect(Dialect):
    """Chat completions; the schema allows the question's options and nothing else."""

    name: ClassVar[str] = "chat"

    def request(self, question: Question, content: str, parameters: Parameters) -> Request:
        """See :meth:`Dialect.request`."""
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(question.options)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        body = {
            "model": parameters.model,
            "messages": [
                {"role": "system", "content": question.system_text()},
                {"role": "user", "content": content},
            ],
            "temperature": 0,
            "seed": parameters.seed,
            "max_tokens": parameters.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": schema},
            },
            **parameters.body,
        }
        kept = {name: value for name, value in body.items() if value is not None}
        return Request(dialect=self.name, path="chat/completions", body=canonical(kept))

    def reply(self, question: Question, body: bytes) -> Reply:
        """See :meth:`Dialect.reply`."""
        try:
            found = read_json(body)
            choice = found["choices"][0]
            message = choice["message"]
            text, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError):
            return Reply("invalid", None, text=_shown(body.decode(errors="replace")))
        usage = read_usage(found.get("usage"), names=("prompt_tokens", "completion_tokens"), least=1)
        model = str(found.get("model") or "")
        if refusal or choice.get("finish_reason") == "content_filter":
            return Reply("refused", None, model=model, usage=usage, text=_shown(str(refusal or text or "")))
        label = _label(text)
        valid = label in question.options
        return Reply(
            "answered" if valid else "invalid",
            label if valid and label != CANNOT_TELL else None,
            model=model,
            usage=usage,
            text=_shown(str(text)),
        )


def _label(text: Any) -> str | None:
    found = object_in(text)
    label = None if found is None else found.get("label")
    return label if isinstance(label, str) else None


def _shown(text: str) -> str:
    return text[:KEPT_CHARACTERS]
