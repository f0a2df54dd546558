"""The README is right: its commands compose, its files exist, its rooms are the rooms."""

from __future__ import annotations

import ast
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_engine import command_line
from data_engine.command import Command
from data_engine.dataset import Dataset
from data_engine.kinds import KINDS
from data_engine.schema_fields import fields_of
from evaluation.config import EvaluationConfig, ReadConfig
from model.__main__ import parse
from train.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def command_lines() -> list[str]:
    """Every command of the README's shell blocks, continued lines joined, comments left out."""
    text = "\n".join(BLOCKS).replace("\\\n", " ")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines()]
    return [line for line in lines if line]


def room_commands() -> list[tuple[str, list[str]]]:
    """(room, key=value arguments) of every `python -m ROOM` and `torchrun ... -m ROOM`."""
    found = []
    for line in command_lines():
        words = shlex.split(line)
        if "-m" in words and words[words.index("-m") + 1] in ("data_engine", "train", "evaluation"):
            start = words.index("-m")
            found.append((words[start + 1], words[start + 2 :]))
    return found


class CapturedCommandError(Exception):
    """Raised in place of running a command; carries what its `__main__` would have composed."""

    def __init__(self, schema: object, config_name: str | None) -> None:
        self.schema, self.config_name = schema, config_name


def composed(room: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Composes a command exactly as `python -m room` would, without running it."""

    def capture(main: object, schema: object, *, config_name: str | None = None, **_: object) -> None:
        raise CapturedCommandError(schema, config_name)

    monkeypatch.setattr(command_line, "run", capture)
    with pytest.raises(CapturedCommandError) as caught:
        runpy.run_module(f"{room}.__main__", run_name="__main__")
    schema = caught.value.schema
    chosen = schema if isinstance(schema, type) else schema(arguments)  # type: ignore[operator]
    return command_line.compose(chosen, arguments, caught.value.config_name)


def test_the_readme_has_commands_for_every_room() -> None:
    assert {room for room, _ in room_commands()} == {"data_engine", "train", "evaluation"}
    assert command_lines()[0].startswith("launch/quickstart")
    assert any(line.startswith("launch/test") for line in command_lines())


@pytest.mark.parametrize(
    ("room", "arguments"),
    room_commands(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60],
)
def test_every_command_composes(room: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert composed(room, arguments, monkeypatch) is not None


def test_commands_of_model_parse() -> None:
    lines = [shlex.split(line) for line in command_lines() if line.startswith("python -m model ")]
    assert lines
    for words in lines:
        assert "out" in parse(words[3:])


def test_every_other_command_is_there() -> None:
    for line in command_lines():
        first = shlex.split(line)[0]
        if "/" in first:
            assert os.access(ROOT / first, os.X_OK), f"{first} is not an executable of this project"
        else:
            assert first in ("python", "torchrun", "git", "cd", "export", "source", "sbatch", "kubectl"), line


def settings() -> list[str]:
    """Every `key=value ...` that stands in the text, as it would be typed."""
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    spans = [" ".join(span.split("\n")) for span in re.findall(r"`([^`]+)`", text)]
    return [span for span in spans if re.match(r"'?[a-z_]+[\w.]*=", span)]


def test_settings_in_the_text_are_keys() -> None:
    known = {
        field.key
        for schema in (TrainConfig, EvaluationConfig, ReadConfig, Command)
        for field in fields_of(schema)
    }
    known |= {f"options.{field.key}" for kind in KINDS.values() for field in fields_of(kind.options)}
    keys = {word.split("=")[0] for span in settings() for word in shlex.split(span)} - {
        "experiment"
    }  # a group
    assert len(keys) > 30
    # What stands below a dictionary, such as modes.chart, is for the user to name.
    assert {key for key in keys if not {key, key.rpartition(".")[0]} & known} == set()


def test_a_shell_leaves_the_settings_as_they_are() -> None:
    line = " ".join(settings())
    typed = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    )
    assert typed.stdout.splitlines() == shlex.split(line)


def test_settings_of_training_fit_together() -> None:
    keys = {field.key for field in fields_of(TrainConfig)}
    words = [word for span in settings() for word in shlex.split(span) if word[-1] in "]}"]
    ours = [word for word in words if {word.split("=")[0], word.split("=")[0].rpartition(".")[0]} & keys]
    assert len(ours) >= 6
    config = command_line.compose(TrainConfig, ours, "train")
    assert config.data_mixture().groups and config.skip_steps and config.checkpoint_activations


def test_every_file_that_is_named_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if "://" not in link]
    named = re.findall(
        r"`((?:model|data_engine|train|evaluation|launch|configs|tests|benchmarks)/[\w./-]*)`", README
    )
    assert links and named
    for name in [*links, *named]:
        assert (ROOT / name).exists(), f"README names {name}, which does not exist"


def test_every_room_is_described() -> None:
    for room in ("model", "data_engine", "train", "evaluation", "launch", "configs", "tests", "benchmarks"):
        assert f"`{room}/`" in README, room


def test_python_blocks_import_what_exists() -> None:
    for block in PYTHON_BLOCKS:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


def test_the_example_of_own_data_makes_a_dataset(tmp_path: Path) -> None:
    example = next(block for block in PYTHON_BLOCKS if "write_shard" in block)
    Image.new("RGB", (1240, 1754), "white").save(tmp_path / "page.png")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    made = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    dataset = Dataset.open(tmp_path / "data" / "train" / "mine")
    assert (len(dataset), dataset.read(0).response) == (1, "The text of the page.")
