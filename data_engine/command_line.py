"""`python -m ROOM key=value ...`: one form of command for every room, checked before anything starts.

A room describes its command as a dataclass; the text under a field is the field's help. Hydra composes the
YAML files of `configs/` over that dataclass, the arguments come last, and the room receives a plain, validated
instance. What cannot be understood is refused in one sentence: the key, the value, and what is possible.

    @dataclass
    class Command:
        samples: int = 1000
        \"\"\"How many samples to make.\"\"\"

    def main(command: Command) -> None: ...

    run(main, Command, description="...")
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from hydra import compose as hydra_compose
from hydra import initialize, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from data_engine.errors import ConfigError, nearest, one_of
from data_engine.schema_fields import Field, fields_of

__all__ = ["CONFIG_DIRECTORY", "ConfigError", "compose", "help_text", "nearest", "one_of", "run"]

CONFIG_DIRECTORY = Path(__file__).resolve().parent.parent / "configs"

T = TypeVar("T")


def compose(schema: type[T], arguments: list[str], config_name: str | None = None) -> T:
    """Build a `schema` from its defaults, `configs/<config_name>.yaml` with its groups, and the arguments.

    Later ones win. Raises ConfigError for whatever does not fit, before anything else happens.
    """
    groups = _groups() if config_name is not None else {}
    overrides = [_checked_override(schema, argument, groups) for argument in arguments]
    store = ConfigStore.instance()
    schema_name = f"schema_{schema.__module__}_{schema.__qualname__}".replace(".", "_")
    store.store(name=schema_name, node=schema)
    defaults = [schema_name, *([config_name] if config_name is not None else []), "_self_"]
    root_name = f"command_{schema_name}_{config_name}"
    store.store(name=root_name, node={"defaults": defaults})
    GlobalHydra.instance().clear()
    place = (
        initialize(version_base="1.3", config_path=None)
        if config_name is None
        else initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_DIRECTORY))
    )
    try:
        with place:
            config = hydra_compose(root_name, overrides=overrides)
        result = OmegaConf.to_object(config)
    except MissingMandatoryValue as error:
        key = error.full_key or "?"
        raise ConfigError(f"{key} is required: give {key}=VALUE.") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_sentence(error, arguments, schema)) from error
    finally:
        GlobalHydra.instance().clear()
    assert isinstance(result, schema)
    return result


def help_text(schema: type, config_name: str | None = None) -> str:
    """Every key of a schema with type, default and the text under the field; then the groups of choices."""
    lines: list[str] = []
    for field in fields_of(schema):
        default = "required" if field.required else f"default {field.default}"
        lines.append(f"  {field.key}  ({field.type_name}, {default})")
        lines.extend(f"      {line}" for line in field.help.splitlines())
    if config_name is not None:
        choices = _groups()
        if choices:
            lines.extend(["", f"Groups of settings (files under {CONFIG_DIRECTORY.name}/):"])
            lines.extend(f"  {group}={'|'.join(names)}" for group, names in sorted(choices.items()))
    return "\n".join(lines)


def run(
    main: Callable[[Any], int | None],
    schema: type | Callable[[list[str]], type],
    *,
    config_name: str | None = None,
    description: str = "",
    details: Callable[[], str] | None = None,
    expected: tuple[type[Exception], ...] = (),
    arguments: list[str] | None = None,
) -> NoReturn:
    """The whole of a `__main__` file: help, composing, `main`, and one sentence instead of a traceback.

    `schema` may be a function that chooses the schema from the arguments. `details` adds to the help.
    Errors of the types in `expected` are the user's to mend, like ConfigError: printed as a sentence.
    Exit status: what `main` returns (None is 0), 2 for a refusal, 130 for Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    refusals: tuple[type[Exception], ...] = (ConfigError, *expected)
    try:
        chosen = schema if isinstance(schema, type) else schema(arguments)
        if not {"--help", "-h"}.isdisjoint(arguments):
            parts = [description, "Keys:", help_text(chosen, config_name), details() if details else ""]
            sys.stdout.write("\n\n".join(part for part in parts if part) + "\n")
            sys.exit(0)
        status = main(compose(chosen, arguments, config_name))
    except refusals as error:
        _refuse(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" for {error.filename}" if error.filename else ""
        _refuse(f"no space left on the device{where}: free some space and type the same command again.")
    sys.exit(status or 0)


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"error: {sentence}\n")
    sys.exit(2)


def _groups() -> dict[str, list[str]]:
    """Group -> its choices: the directories under configs/ and the YAML files in them."""
    groups: dict[str, list[str]] = {}
    for path in sorted(CONFIG_DIRECTORY.rglob("*.yaml")):
        group = path.parent.relative_to(CONFIG_DIRECTORY).as_posix()
        if group != ".":
            groups.setdefault(group, []).append(path.stem)
    return groups


def _checked_override(schema: type, argument: str, groups: Mapping[str, list[str]]) -> str:
    """The Hydra override for one argument, or ConfigError when its form or its key is unknown."""
    match = re.fullmatch(r"(\+\+|\+|~)?([A-Za-z_][\w./@-]*)(=)?(.*)", argument, re.DOTALL)
    if match is None or (match[3] is None and match[1] != "~"):
        raise ConfigError(f"the argument '{argument}' is not of the form key=value (see --help).")
    sign, key, value = match[1] or "", match[2], match[4]
    fields = {field.key: field for field in fields_of(schema)}
    group = key.split("@", 1)[0]
    if group in groups:
        if value not in (*groups[group], "null", ""):
            raise ConfigError(f"{group}={value} is not possible{nearest(value, groups[group])}")
        return argument
    field = fields.get(key)
    if field is None:
        owner = _open_ended_owner(key, fields)
        if owner is None and not any(known.startswith(f"{key}.") for known in fields):
            raise ConfigError(f"unknown key '{key}'{nearest(key, [*fields, *groups])}")
        if owner is not None and not sign:
            sign = "++"  # a free key below a dictionary: Hydra wants to be told that it may be new
    if field is not None and field.is_open and not sign:
        sign = "++"  # likewise the keys of a whole dictionary
    if field is not None and field.is_text and value not in ("null", "???") and value[:1] not in ("'", '"'):
        # A text is taken as typed: '=', blanks, commas, brackets and leading zeros need no quoting.
        value = _quoted(value)
    override = f"{sign}{key if field is None else field.attribute}{match[3] or ''}{value}"
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        raise ConfigError(f"the value of '{argument}' cannot be read: {_first_line(error)}.") from error
    if parsed.is_sweep_override():
        raise ConfigError(f"{key}={value} lists several values; write [{value}] for a list, or quote it.")
    return override


def _quoted(text: str) -> str:
    """A text in Hydra's quotes, where a backslash counts as itself unless it stands before a quote."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _open_ended_owner(key: str, fields: Mapping[str, Field]) -> Field | None:
    """The dictionary field below which `key` lies, if any."""
    parts = key.split(".")
    for length in range(len(parts) - 1, 0, -1):
        field = fields.get(".".join(parts[:length]))
        if field is not None and field.is_open:
            return field
    return None


def _sentence(error: Exception, arguments: list[str], schema: type) -> str:
    """Hydra's chain of exceptions as one sentence that names key, value and what is possible."""
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(below)
    # The innermost sentence that is one: OmegaConf's templates ("$VALUE") and Python's own errors are not.
    ours = [part for part in chain if isinstance(part, (HydraException, OmegaConfBaseException))]
    root = next((part for part in reversed(ours) if "$" not in _first_line(part)), error)
    whole = "\n".join(str(part) for part in chain)
    found = re.search(r"full_key: (\S+)", whole)
    key = (found[1] if found else "").split("[", 1)[0]
    message = _first_line(root)
    where = re.search(r"In '([^']+)'", whole)
    source = (
        ""
        if where is None or where[1].startswith(("schema_", "command_"))
        else f" (in configs/{where[1]}.yaml)"
    )
    unknown = re.search(r"Key '([^']+)' (?:is )?not in '", whole)
    if unknown is not None:
        name = key or unknown[1]
        known = [field.key for field in fields_of(schema)]
        return f"unknown key '{name}'{source}{nearest(name, known)}"
    given = next((a for a in arguments if key and a.lstrip("+~").split("=", 1)[0] == key), None)
    if given is not None:
        field = next((field for field in fields_of(schema) if field.key == key), None)
        wanted = f"{key} is {field.article_and_type}" if field is not None else message
        return f"{given} is not possible: {wanted}."
    return f"{key}: {message}{source}." if key else f"{message}{source}."


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
