"""JSON that a person can read and compare: mappings are indented, lists take one line per mapping or list."""

import json
from collections.abc import Mapping
from typing import Any


def json_text(value: Any, indent: str = "") -> str:
    """Writes a value as JSON.

    Args:
        value: What JSON knows; of anything else its `str`.
        indent: Of the line that the value begins on.

    Returns:
        The text, without a line end.
    """
    inner = f"{indent}  "
    if isinstance(value, Mapping) and value:
        items = [f"{inner}{json.dumps(str(key))}: {json_text(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list | tuple) and any(isinstance(item, list | tuple | Mapping) for item in value):
        items = [f"{inner}{json.dumps(item, default=str)}" for item in value]
        return "[\n" + ",\n".join(items) + f"\n{indent}]"
    return json.dumps(value, default=str)
