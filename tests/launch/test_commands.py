"""What launch/setup, launch/quickstart and launch/test say when they cannot work; nothing is installed here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["launch/setup", "launch/quickstart", "launch/test", ".ci/run"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of what the set-up reads, without .venv, so that a wrong step could not touch the real one."""
    root = tmp_path / "clone"
    shutil.copytree(ROOT / "launch", root / "launch", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def call(script: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=clean, timeout=60
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_executable_and_parse(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", str(ROOT / name)], capture_output=True).returncode == 0


def refused(result: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert re.search(sentence, result.stderr)


def test_no_python_is_said(clone: Path) -> None:
    refused(
        call(clone / "launch" / "setup", PYTHON="/bin/false"),
        "no Python 3.11 or newer was found at /bin/false",
    )
    assert not (clone / ".venv").exists()


def test_a_python_without_venv_is_said(clone: Path, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\ncase "$2" in *ensurepip*) exit 1;; *) exit 0;; esac\n')
    python.chmod(0o755)
    refused(call(clone / "launch" / "setup", PYTHON=str(python)), "has no module venv")
    assert not (clone / ".venv").exists()


def test_quickstart_refuses_a_directory_that_is_no_run(clone: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("\\documentclass{article}")
    refused(call(clone / "launch" / "quickstart", str(mine)), f"{mine} exists and is no quickstart run")
    refused(call(clone / "launch" / "quickstart", str(mine / "thesis.tex")), "is no quickstart run")
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_the_whole_runs_refuse_the_directory_of_another(clone: Path, tmp_path: Path) -> None:
    """They render datasets of other names, which the first would then train on and read."""
    (tmp_path / "run" / "phases").mkdir(parents=True)
    (tmp_path / "run" / "phases" / "command").write_text("compression_curve\n")
    for arguments in ([], ["--rehearsal"]):
        result = call(clone / "launch" / "quickstart", *arguments, str(tmp_path / "run"))
        refused(result, r"holds a run of another command \(compression_curve, not ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["phases"]


@pytest.mark.parametrize(
    ("arguments", "sentence"), [(["--fast"], "unknown option --fast"), (["a", "b"], "2 were given")]
)
def test_quickstart_refuses_what_it_does_not_know(clone: Path, arguments: list[str], sentence: str) -> None:
    refused(call(clone / "launch" / "quickstart", *arguments), sentence)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("quickstart", "launch/quickstart --rehearsal [RUN_DIR]"),
        ("setup", "launch/setup --check"),
        ("test", "launch/test fast"),
    ],
)
def test_commands_explain_themselves(clone: Path, name: str, line: str) -> None:
    result = call(clone / "launch" / name, "--help")
    assert result.returncode == 0
    assert line in result.stdout and "set -euo" not in result.stdout


def test_setup_refuses_what_it_does_not_know(clone: Path) -> None:
    refused(call(clone / "launch" / "setup", "--all"), "unknown option --all")


def test_constraints_pin_exact_versions_and_nothing_else() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) > 60
    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), line
    assert "torch==2.13.0" in lines


@pytest.mark.parametrize(
    ("arguments", "passed_on"),
    [
        ([], ["-n", "-m", "not thorough"]),
        (["fast", "-x"], ["-n", "-m", "not slow", "-x"]),
        (["thorough"], ["-n", "-m", ""]),
        (["tests/model", "-x"], ["tests/model", "-x"]),
    ],
)
def test_the_sizes_of_the_test_command(clone: Path, arguments: list[str], passed_on: list[str]) -> None:
    for path, text in (
        (clone / "launch/setup", "exit 0\n"),
        (clone / ".venv/bin/python", 'printf "%s\\n" "$@"\n'),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
    words = call(clone / "launch" / "test", *arguments).stdout.splitlines()
    assert words[:2] == ["-m", "pytest"]
    assert [
        word for word in words[2:] if not word.isdigit() and word not in ("--dist", "loadfile")
    ] == passed_on
