"""What pydantic found wrong, in the words of the file: key path, value, and what would be right."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from kalinka_jms.config.secret import Secret
from kalinka_jms.config.settings import Settings
from kalinka_jms.errors import Problem

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SECRET = re.compile(r"pass|secret|password|token|auth|credential|jaas|pem", re.IGNORECASE)
_LOGIN = re.compile(r"//[^/]*@")
_LONGEST = 80


def problems(error: ValidationError) -> list[Problem]:
    """The problems that an error of pydantic stands for."""
    details = error.errors(include_url=False)
    places = [detail["loc"] for detail in details]
    return [_problem(detail) for detail in details if not _follows(detail, places)]


def _follows(detail: ErrorDetails, places: Sequence[tuple[int | str, ...]]) -> bool:
    """Whether a list is only too short because of the mistakes in it."""
    loc = detail["loc"]
    return detail["type"] == "too_short" and any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)


def _problem(detail: ErrorDetails) -> Problem:
    loc, kind = detail["loc"], detail["type"]
    if kind == "extra_forbidden":
        return Problem(path(loc), "", _unknown(loc))
    if kind == "missing":
        return Problem(path(loc), "", f"is missing: should be {_right(loc)}")
    value = value_at(loc, detail["input"])
    if kind == "value_error":
        return Problem(path(loc), value, str(detail["ctx"]["error"]))
    return Problem(path(loc), value, f"should be {_right(loc)}")


def path(loc: Sequence[int | str]) -> str:
    """The key path as TOML would write it, with the numbers of tables in lists: `brokers[1].stomp`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


def shown(value: Any) -> str:
    """A value as the file has it, shortened."""
    text = _LOGIN.sub("//***@", json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def value_at(loc: Sequence[int | str], value: Any) -> str:
    """A value as a problem shows it. Secrets are hidden, and tables and lists are left out: they may hold some."""
    if isinstance(value, dict | list | tuple | BaseModel | Secret):
        return ""
    return "***" if any(isinstance(part, str) and _SECRET.search(part) for part in loc) else shown(value)


def _right(loc: Sequence[int | str]) -> str:
    field = _fields(loc[:-1]).get(str(loc[-1])) if isinstance(loc[-1], str) else None
    if field is not None:
        return field.description or ""
    return _right(loc[:-1]) if len(loc) > 1 else ""


def _unknown(loc: Sequence[int | str]) -> str:
    known = sorted(_fields(loc[:-1]))
    near = difflib.get_close_matches(str(loc[-1]), known, 1)
    return f'unknown key; did you mean "{near[0]}"?' if near else f"unknown key; known here are {', '.join(known)}"


def _fields(loc: Sequence[int | str]) -> dict[str, FieldInfo]:
    """The fields of the table at a place, under the names that the file uses."""
    model: type[BaseModel] | None = Settings
    for part in loc:
        if isinstance(part, str):
            field = _named(model).get(part)
            model = _model(field.annotation) if field is not None else None
    return _named(model)


def _named(model: type[BaseModel] | None) -> dict[str, FieldInfo]:
    fields = model.model_fields if model is not None else {}
    return {str(field.validation_alias or name): field for name, field in fields.items()}


def _model(annotation: Any) -> type[BaseModel] | None:
    """The table in an annotation such as `Tls | None` or `tuple[Broker, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model(part)) is not None), None)
