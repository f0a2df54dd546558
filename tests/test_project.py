"""Rules that hold for the whole tree: style, types, who imports whom, nothing evaluated, nothing of one machine."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("model", "data_engine", "train", "evaluation")
CODE = (*ROOMS, "launch", "benchmarks")
LONGEST_FILE = 450  # lines; a longer file holds more than one idea
LONG_WITH_REASON: dict[str, str] = {}  # path -> why it is longer


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that belongs to the project: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(ROOT / name for name in names if (ROOT / name).is_file())


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            yield path.relative_to(ROOT), content.decode("utf-8")


def sources(*rooms: str) -> list[Path]:
    return [path for path in tracked() if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in rooms]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def calls_and_imports(path: Path) -> tuple[ast.Call | ast.Import | ast.ImportFrom, ...]:
    return tuple(
        node for node in ast.walk(tree(path)) if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
    )


def check(*command: str) -> None:
    """Runs a tool of this environment; its output is the failure's message."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"


def test_ruff_passes() -> None:
    check("ruff", "check", ".")


def test_the_code_is_formatted() -> None:
    check("ruff", "format", "--check", ".")


@pytest.mark.slow  # a minute without its cache
def test_mypy_passes() -> None:
    check("mypy")


def test_import_contracts_hold() -> None:
    check("lint-imports")


def test_shell_scripts_parse() -> None:
    scripts = [path for path, text in texts() if text.startswith("#!/usr/bin/env bash")]
    assert len(scripts) >= 4
    for script in scripts:
        check("bash", "-n", str(script))
        assert os.access(ROOT / script, os.X_OK), f"{script} is not executable"
        assert "set -euo pipefail" in (ROOT / script).read_text(), script


def test_files_hold_one_idea() -> None:
    for path in sources(*CODE):
        lines = path.read_text(encoding="utf-8").count("\n")
        name = path.relative_to(ROOT).as_posix()
        assert lines <= LONGEST_FILE or name in LONG_WITH_REASON, (
            f"{name} has {lines} lines; split it, or say why"
        )


def called(node: ast.Call) -> str:
    """The name of what is called, with its module: "torch.load", "eval"; "" for anything else."""
    parts, function = [], node.func
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    return ".".join(reversed([*parts, function.id])) if isinstance(function, ast.Name) else ""


def calls() -> Iterator[tuple[str, ast.Call, str]]:
    for path in sources(*CODE):
        for node in calls_and_imports(path):
            if isinstance(node, ast.Call):
                yield called(node), node, f"{path.relative_to(ROOT)}:{node.lineno}"


def keyword(node: ast.Call, name: str) -> object:
    return next(
        (k.value.value for k in node.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None
    )


def test_nothing_is_evaluated_as_code() -> None:
    for name, node, place in calls():
        assert name not in ("eval", "exec", "compile", "__import__", "os.system"), f"{place} calls {name}"
        assert not (name.startswith("subprocess.") and keyword(node, "shell")), f"{place} runs a shell"
        assert keyword(node, "trust_remote_code") is not True, f"{place} trusts remote code"


def test_nothing_is_unpickled() -> None:
    for name, node, place in calls():
        if name == "torch.load":
            assert keyword(node, "weights_only") is True, f"{place}: torch.load needs weights_only=True"
        if name.endswith(("np.load", "numpy.load")):
            assert keyword(node, "allow_pickle") is False, f"{place}: numpy.load needs allow_pickle=False"
    for path in sources(*CODE):
        for node in calls_and_imports(path):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                assert module.split(".")[0] not in ("pickle", "cloudpickle", "dill", "shelve", "marshal"), (
                    f"{path.relative_to(ROOT)}:{node.lineno} imports {module}"
                )


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("a path of one machine", r"(?<![\w.:/])/(?:home|root|Users|work|mnt|opt|scratch)/\w"),
        ("a package registry's host", r"\b(?:pypi|pythonhosted|npmjs|download\.pytorch)\.(?:org|com|io)\b"),
        ("unfinished work", r"\b(?:TODO|FIXME|XXX|HACK)\b"),
    ],
)  # fmt: skip
def test_no_file_holds(what: str, pattern: str) -> None:
    for path, text in texts():
        if path == Path(__file__).resolve().relative_to(ROOT):
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            assert not re.search(pattern, line), f"{path}:{number} holds {what}: {line.strip()[:100]}"


def test_every_room_says_what_it_is() -> None:
    for room in ROOMS:
        assert ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())), room
    for path in sources(*CODE):
        module = tree(path)
        assert ast.get_docstring(module) or not module.body, (
            f"{path.relative_to(ROOT)} does not say what it holds"
        )
