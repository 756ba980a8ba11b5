"""/openapi.json, made from the models that validate requests, and a page that shows it to a person."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from flask import Blueprint, Flask, Response, current_app, render_template
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from werkzeug.routing import Rule

from api.answers import json_answer
from api.links import links_of, operation_id
from api.operation import Operation, operations
from gifty_compute.wire.answers import ErrorAnswer
from gifty_compute.wire.callback import CallbackBody
from gifty_compute.wire.scale import Scale

__all__ = ["blueprint", "document"]

blueprint = Blueprint("docs", __name__, template_folder="templates")
_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"<(\w+)>")
_FORMATS: dict[str, dict[str, Any]] = {
    **{name: {"format": "uuid"} for name in ("task_id", "batch_id", "token_id")},
    "scale": {"enum": list(get_args(Scale))},
}
_WORKERS = "A token of INTERNAL_API_TOKEN, or a worker's own."
_WORDS = {
    200: "Done.",
    202: "Committed; the task will be done.",
    400: "Not JSON, or nested too deep.",
    401: "The credential is missing, wrong or out of scope.",
    403: "The client may not ask for this kind of work or model.",
    404: "There is no such thing.",
    406: "There is no such representation.",
    409: "The task is no longer the caller's to change, or the Idempotency-Key had another body.",
    413: "The body is over the limit.",
    415: "The content type or encoding is not supported.",
    422: "A rule is broken; `param` names the field.",
    429: "Over a limit of the client's; `Retry-After` says when to come back.",
    502: "Every provider failed.",
    503: "Not ready; `Retry-After` says when to come back.",
    504: "The deadline passed.",
}


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The document."""
    return json_answer(document(current_app))


@blueprint.get("/docs")
def docs() -> str:
    """The document as one page, with nothing loaded from elsewhere."""
    return render_template("docs.html", document=document(current_app))


def document(app: Flask) -> dict[str, Any]:
    """OpenAPI 3.1 of all operations of the application."""
    found = list(_found(app))
    schemas, definitions = models_json_schema(_models(found), ref_template=_REF)
    names = {key: schema["$ref"] for key, schema in schemas.items()}
    paths: dict[str, Any] = {}
    for path, method, view, described in found:
        paths.setdefault(path, {})[method] = _operation(path, method, view, described, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "gifty-compute", "version": "1", "description": "One door to Gifty's compute."},
        "paths": paths,
        "webhooks": {"callback": {"post": _callback(names)}},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "api": {"type": "http", "scheme": "bearer", "description": "A token of API_TOKENS."},
                "internal": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": _WORKERS,
                },
                "ops": {"type": "http", "scheme": "bearer", "description": "A token of OPS_TOKENS."},
                "operator": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One whose role is operator.",
                },
                "header": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Internal-Token",
                    "description": "The same tokens, where a proxy needs Authorization for itself.",
                },
            },
        },
    }


def _callback(names: dict[Any, str]) -> dict[str, Any]:
    """The one request that the service makes itself."""
    schema = {"$ref": names[CallbackBody, "serialization"]}
    headers = ("webhook-id", "webhook-timestamp", "webhook-signature")
    return {
        "operationId": "callback",
        "summary": "Tells the receiver at a callback_url of an end; at least once, under one webhook-id.",
        "parameters": [
            {"name": name, "in": "header", "required": True, "schema": {"type": "string"}} for name in headers
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"2XX": {"description": "Told. Anything else is tried again for a day."}},
    }


_Found = tuple[str, str, Callable[..., Any], Operation]


def _found(app: Flask) -> Iterator[_Found]:
    rules: list[Rule] = sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule)
    for rule in rules:
        view = app.view_functions[rule.endpoint]
        for method in sorted((rule.methods or set()) & {"GET", "POST"}):
            if view in operations:
                yield _PATH_PARAMETER.sub(r"{\1}", rule.rule), method.lower(), view, operations[view]


def _models(found: list[_Found]) -> list[tuple[type[BaseModel], Any]]:
    models: dict[tuple[type[BaseModel], Any], None] = {
        (ErrorAnswer, "serialization"): None,
        (CallbackBody, "serialization"): None,
    }
    for _, _, _, described in found:
        if described.body is not None:
            models[described.body, "validation"] = None
        if described.lines is not None:
            models[described.lines, "validation"] = None
        if described.query is not None:
            models[described.query, "validation"] = None
        for line in described.media.values():
            if line is not None:
                models[line, "serialization"] = None
        for answer in described.answers.values():
            if answer is not None:
                models[answer, "serialization"] = None
    return list(models)


def _operation(
    path: str, method: str, view: Callable[..., Any], described: Operation, names: dict[Any, str]
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation_id(method, path),
        "summary": (view.__doc__ or "").strip(),
        "parameters": [*_path_parameters(path), *_query_parameters(described), *_headers(described)],
        "responses": {str(status): _answer(status, names, described) for status in _statuses(described)},
        "security": _security(described),
    }
    if described.body is not None:
        schema = {"$ref": names[described.body, "validation"]}
        result["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if described.lines is not None:
        content = _lines(names[described.lines, "validation"])
        result["requestBody"] = {"required": True, "content": {"application/x-ndjson": content}}
    return result


def _lines(reference: str) -> dict[str, Any]:
    """JSON Lines. OpenAPI 3.1 has no schema for a line; 3.2 has `itemSchema`, so we say it so."""
    name = reference.rpartition("/")[2]
    schema = {"type": "string", "description": f"A {name} a line."}
    return {"schema": schema, "x-itemSchema": {"$ref": reference}}


def _statuses(described: Operation) -> list[int]:
    limited = {429} if described.scope == "api" else set()
    return sorted({*described.answers, *described.errors, *limited})


def _security(described: Operation) -> list[dict[str, list[str]]]:
    if described.scope is None:
        return []
    return [{described.scope: []}, {"header": []}]


def _answer(status: int, names: dict[Any, str], described: Operation) -> dict[str, Any]:
    model = described.answers.get(status, ErrorAnswer)
    content: dict[str, Any] = {}
    if model is not None:
        content["application/json"] = {"schema": {"$ref": names[model, "serialization"]}}
    task = described.answers.get(202)
    if status == 200 and "Idempotency-Key" in described.headers and task not in (None, model):
        # Of a body with priority low that came before.
        kinds = [content["application/json"]["schema"], {"$ref": names[task, "serialization"]}]
        content["application/json"] = {"schema": {"anyOf": kinds}}
    if status == 200 and described.text is not None:
        # A schema of an event stream would be one of its events, which are JSON of several forms.
        is_stream = described.text == "text/event-stream"
        content[described.text] = {} if is_stream else {"schema": {"type": "string"}}
    if status == 200:
        for media, line in described.media.items():
            binary = {"schema": {"type": "string", "format": "binary"}}
            content[media] = binary if line is None else _lines(names[line, "serialization"])
    headers: dict[str, Any] = {
        name: {"schema": {"type": "string"}} for name in _answer_headers(status, described)
    }
    if status in (429, 503):
        headers["Retry-After"] = {"schema": {"type": "integer"}, "description": "Seconds."}
    answer = {"description": _WORDS[status], "headers": headers, "content": content}
    if model is not None and (links := links_of(model.__name__)):
        answer["links"] = links
    return answer


def _answer_headers(status: int, described: Operation) -> list[str]:
    """Those of every answer, and those of this one."""
    return ["X-Request-Id", "Server-Timing", *(described.gives if status == 200 else ())]


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", **_FORMATS.get(name, {})}}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query_parameters(described: Operation) -> list[dict[str, Any]]:
    if described.query is None:
        return []
    schema = described.query.model_json_schema(ref_template=_REF)
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": property_}
        for name, property_ in schema["properties"].items()
    ]


def _headers(described: Operation) -> list[dict[str, Any]]:
    common = [*described.headers, "X-Request-Id"]
    return [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in common
    ]
