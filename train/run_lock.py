"""The lock of a run directory: two runs in one would overwrite each other's checkpoints.

RUN/.lock holds who has taken it (host, pid, since when) and is locked by flock as long as that process lives. What
dies lets go of it, so nothing stale stays on one host.

What is special here:
- Between hosts, flock holds on NFS and on Lustre mounted with it, but some shared file systems lock on each host alone
  or not at all. So the owner also touches the file with every heartbeat, and whoever finds the name of another host
  in it watches for one: a file that is touched belongs to a run that lives.
- The watcher compares times of the file with times of the file; the clocks of hosts play no part.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from data_engine.errors import ConfigError

WATCHED = 16.0
"""Seconds without a sign of life after which a run on another host counts as dead: three heartbeats."""


class RunLock:
    """Who is at work in a run directory."""

    def __init__(self, path: Path, control: Path) -> None:
        self.path = path
        self._control = control
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Take the lock until `release`, or the end of this process.

        Raises:
            ConfigError: another run has it.
        """
        file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115 - held until it is released
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(self.path)
            file.close()
            raise self._refusal(owner) from None
        except OSError:
            locked = False  # a file system without locks: signs of life have to do
        else:
            locked = True
        owner = _owner(self.path)
        if owner and self._lives(owner, locked):
            file.close()
            raise self._refusal(owner)
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
        file.truncate(0)
        file.write(json.dumps(mine) + "\n")
        file.flush()
        self._file = file

    def touch(self) -> None:
        """A sign of life."""
        os.utime(self.path)

    def release(self) -> None:
        """Let go of it, so that a run on another host need not watch for signs of life."""
        if self._file:
            with suppress(OSError):
                self._file.truncate(0)
            self._file.close()
            self._file = None

    def _lives(self, owner: dict[str, Any], locked: bool) -> bool:
        """Whether an owner is at work although this host has been given the lock, or knows no locks."""
        if owner.get("host") == socket.gethostname():
            return not locked and _is_process(owner)
        before = _touched(self.path)
        end = time.monotonic() + WATCHED
        while time.monotonic() < end:
            time.sleep(0.5)
            if _touched(self.path) != before:
                return True
        return False

    def _refusal(self, owner: dict[str, Any]) -> ConfigError:
        who = (
            f" (process {owner.get('pid')} on {owner.get('host')}, since {owner.get('started')})"
            if owner
            else ""
        )
        return ConfigError(
            f"another run is at work in run={self.path.parent}{who}; wait for it, stop it with "
            f"`touch {self._control}/stop`, or give another run directory."
        )


def _owner(path: Path) -> dict[str, Any]:
    """What the lock says; empty when it says nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _touched(path: Path) -> int:
    # Opened, not only looked at: that is when a network file system asks its server.
    with open(path, "rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns


def _is_process(owner: dict[str, Any]) -> bool:
    try:
        os.kill(int(owner["pid"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except PermissionError:
        return True  # it belongs to somebody else
    return True


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
