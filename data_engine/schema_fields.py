"""What a configuration dataclass holds, read from the class itself: keys, types, defaults, help texts.

The help of a field is the string literal under it, so text and field cannot drift apart.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

_NAMES = {int: "integer", float: "number", bool: "true|false", str: "text"}


@dataclass(frozen=True)
class Field:
    """One key that a user may set."""

    key: str
    """Full dotted name, as typed."""
    attribute: str
    """The same in the dataclass, where `import_` stands for the key `import`: Python keeps some words for itself."""
    type_name: str
    """For people: "integer", "list of numbers", ..."""
    default: str
    """As it would be typed."""
    required: bool
    """True when there is no default."""
    help: str
    """The text under the field."""
    is_text: bool
    """True when the value is a string, taken as typed."""
    is_open: bool
    """True when any key may follow below it (a dictionary)."""

    @property
    def article_and_type(self) -> str:
        """ "an integer", "a list [number, ...]": for the middle of a sentence."""
        if self.type_name.startswith("["):
            return f"a list {self.type_name}"
        article = "an" if self.type_name[:1] in "aeiou" else "a"
        return self.type_name if "|" in self.type_name else f"{article} {self.type_name}"


@functools.cache
def fields_of(schema: type) -> tuple[Field, ...]:
    """All keys of a dataclass, those of nested dataclasses with their dotted names."""
    return tuple(_walk(schema, "", None))


def _walk(schema: type, prefix: str, instance: Any) -> Iterator[Field]:
    hints = typing.get_type_hints(schema)
    texts = _texts_under_fields(schema)
    for item in fields(schema):
        kind = hints[item.name]
        if instance is not None:
            default = getattr(instance, item.name)
        elif item.default_factory is not MISSING:
            default = item.default_factory()
        else:
            default = item.default
        nested = next((part for part in _alternatives(kind) if is_dataclass(part)), None)
        attribute = prefix + item.name
        if isinstance(nested, type) and default is not None:
            known = default if is_dataclass(default) and not isinstance(default, type) else None
            yield from _walk(type(known) if known is not None else nested, f"{attribute}.", known)
            continue
        required = default is MISSING or (isinstance(default, str) and default == "???")
        origin = typing.get_origin(kind) or kind
        yield Field(
            key=".".join(part.removesuffix("_") for part in attribute.split(".")),
            attribute=attribute,
            type_name=_type_name(kind),
            default="" if required else _typed(default),
            required=required,
            help=texts.get(item.name, ""),
            is_text=_alternatives(kind) == (str,),
            is_open=origin is dict or (kind is Any and isinstance(default, dict)),
        )


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union, None left out; a plain type is its only alternative."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(part for part in typing.get_args(kind) if part is not type(None))
    return (kind,)


def _type_name(kind: Any) -> str:
    parts = []
    for part in _alternatives(kind):
        origin, inner = typing.get_origin(part), typing.get_args(part)
        if origin in (list, tuple):
            parts.append(f"[{_type_name(inner[0])}, ...]" if inner else "list")
        elif origin is dict or part is dict:
            parts.append("dictionary")
        elif isinstance(part, type) and issubclass(part, Enum):
            parts.append("|".join(member.name for member in part))
        elif part is Any:
            parts.append("value")
        else:
            parts.append(_NAMES.get(part, getattr(part, "__name__", str(part))))
    return " or ".join(parts)


def _typed(value: Any) -> str:
    """A value as it would be typed on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_typed(part) for part in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_typed(part)}" for key, part in value.items()) + "}"
    return str(value) if value != "" else "''"


def _texts_under_fields(schema: type) -> dict[str, str]:
    texts: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        if not is_dataclass(base):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(base))
        except (OSError, TypeError):
            continue  # made by make_dataclass: it has no text of its own
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, below in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                texts[statement.target.id] = inspect.cleandoc(below.value.value)
    return texts
