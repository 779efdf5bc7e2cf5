"""What files that people write may hold: strict pydantic models, and errors of one line."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, ErrorDetails

from rllib_distill.errors import DistillError, nearest, text_hint

_ALLOWED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number > {gt:g}",
    "greater_than_equal": "a number >= {ge:g}",
    "int_type": "an integer",
    "less_than": "a number < {lt:g}",
    "less_than_equal": "a number <= {le:g}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "missing": "a longer list",
    "none_required": "null",
    "string_too_short": "a text that is not empty",
    "string_type": "text",
    "too_long": "a list of at most {max_length}",
    "too_short": "a list of at least {min_length}",
    "tuple_type": "a list",
}
"""Type of pydantic's error -> what is allowed, in the words of our messages."""
_UNKNOWN_KEY = ("extra_forbidden", "invalid_key")


def _let_lists_be_tuples(schema: Any) -> None:
    """Makes pydantic's strict schema take lists for tuples; what is in them stays strict."""
    if isinstance(schema, dict):
        if schema.get("type") == "tuple":
            schema["strict"] = False
        for part in schema.values():
            _let_lists_be_tuples(part)
    elif isinstance(schema, list):
        for part in schema:
            _let_lists_be_tuples(part)


class Schema(BaseModel):
    """Base of the models: types as written, finite numbers, no unknown keys, no change afterwards.

    Lists are what YAML and JSON have for tuples, so a field that is a tuple takes them, at any depth. What is
    allowed in a field is told by its type and bounds, or by `Field(description=...)`, which reads after "it
    must be", e.g. "a list of integers >= 1". A validator that raises ValueError says the rule as a
    sentence without its beginning, e.g. "the lowest value comes first."; one that raises DistillError says
    everything.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _let_lists_be_tuples(schema)
        return schema


AnySchema = TypeVar("AnySchema", bound=Schema)


def validate(model: type[AnySchema], value: Any, where: str = "") -> AnySchema:
    """Reads a value, such as a file's, into a model.

    Args:
        model: Says what is allowed.
        value: Mappings, lists, texts, numbers, truths and None.
        where: Begins the message, e.g. the file's name or "Section 2".

    Returns:
        The model with the value's fields.

    Raises:
        DistillError: The first thing that is wrong, in one line. Unknown keys come first: a missing one is
            often one that is misspelt.
    """
    try:
        return model.model_validate(value)
    except ValidationError as refusal:
        errors = refusal.errors(include_url=False)
    error = min(errors, key=lambda error: error["type"] not in _UNKNOWN_KEY)
    message = _explained(model, value, error, errors, where)
    raise DistillError(message if not where or message.startswith(f"{where} is ") else f"{where}: {message}")


def _explained(
    model: type[Schema], value: Any, error: ErrorDetails, errors: Sequence[ErrorDetails], where: str
) -> str:
    kind, loc = error["type"], error["loc"]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, DistillError):
        return str(cause)
    if loc[-1:] == ("[key]",) or kind in _UNKNOWN_KEY or (kind == "missing" and isinstance(loc[-1], str)):
        return _explained_key(model, value, error)
    _, field, depth = _found(model, loc)
    if cause is None and field is not None and field.description:
        (place, given), allowed = _followed(value, loc[:depth]), [field.description]
    else:  # each member of a union has its errors: the one that got furthest into the value tells most
        about = [(*_followed(value, other["loc"]), other) for other in errors]
        start = _followed(value, loc)[0]
        inside = [e for e in about if e[0] == start or e[0].startswith((f"{start}.", f"{start}["))]
        place, given, _ = max(inside, key=lambda e: len(e[0]))
        allowed = [_allowed(model, other) for other_place, _, other in about if other_place == place]
    name = place or where or "the value"
    if cause is not None:
        return f"{name} is {given!r}; {cause}"
    hint = text_hint(given) if kind in ("int_type", "float_type") else ""
    return f"{name} is {given!r}; it must be {' or '.join(dict.fromkeys(allowed))}.{hint}"


def _explained_key(model: type[Schema], value: Any, error: ErrorDetails) -> str:
    kind, (*parents, key) = error["type"], error["loc"]
    if key == "[key]":  # of a mapping that maps texts
        *parents, key = parents
        return f"the key {key!r} of {_followed(value, parents)[0]} is not text: write it in quotes."
    place, known = _followed(value, parents)[0], _found(model, [*parents, key])[0].model_fields
    inside = f" in {place}" if place else ""
    if kind != "missing":
        return f"unknown key {key!r}{inside}. {nearest(str(key), known)}"
    description = known[str(key)].description
    return f"the key {key!r} is missing{inside}{f'; it must be {description}' if description else ''}."


def _allowed(model: type[Schema], error: ErrorDetails) -> str:
    if error["type"] == "model_type":
        around, field, _ = _found(model, error["loc"])
        expected = (_model_in(field.annotation) if field else None) or around
        return f"a mapping with the keys {', '.join(expected.model_fields)}"
    known = _ALLOWED.get(error["type"])
    return known.format(**error.get("ctx", {})) if known else f"otherwise ({error['msg']})"


def _followed(value: Any, loc: Sequence[int | str]) -> tuple[str, Any]:
    """Where a location leads, such as `sections[0].title`, and what is there."""
    place = ""
    for part in loc:  # which may also name a member of a union
        is_key = isinstance(value, Mapping) and part in value
        is_index = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        if is_key or is_index:
            place += f"[{part}]" if isinstance(part, int) else f".{part}"
            value = value[part]
    return place.removeprefix("."), value


def _found(model: type[Schema], loc: Sequence[int | str]) -> tuple[type[Schema], FieldInfo | None, int]:
    """The model at a location or around it, the field of it that the location ends in, and where this is."""
    field, depth = None, 0
    for i, part in enumerate(loc, 1):
        if part in model.model_fields:
            field, depth = model.model_fields[str(part)], i
            inner = _model_in(field.annotation)
            if inner is None or i == len(loc):
                break
            model, field = inner, None
    return model, field, depth


def _model_in(annotation: Any) -> type[Schema] | None:
    if isinstance(annotation, type) and issubclass(annotation, Schema):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
