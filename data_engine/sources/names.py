"""Names, words and short texts of the user, a line each: what charts and pages are made of."""

from __future__ import annotations

from pathlib import Path

from data_engine.errors import ConfigError

LONGEST_NAME = 24
"""In characters: longer ones leave a chart no room."""


def read_names(path: Path, key: str = "options.names_file", longest: int = LONGEST_NAME) -> tuple[str, ...]:
    """The different names of a file of up to `longest` characters, in their order; `key` is what it was given as.

    Raises:
        ConfigError: the file cannot be read, or is no UTF-8.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise ConfigError(f"{key}={path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{key}={path} is no UTF-8 (byte {error.start}).") from error
    names = dict.fromkeys(" ".join(line.split()) for line in lines)
    return tuple(name for name in names if 0 < len(name) <= longest)
