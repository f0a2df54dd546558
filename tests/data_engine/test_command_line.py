from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from data_engine import command_line
from data_engine.command_line import ConfigError, compose, help_text, run
from tests.data_engine.conftest import Command


@dataclass
class Optimizer:
    rate: float = 0.1
    """Learning rate."""
    name: str = "adam"


@dataclass
class Settings:
    out: str = "???"
    """Where the result goes,
    a directory."""
    steps: int = 10
    text: str | None = None
    quick: bool = False
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    anything: Any = 3
    weights: dict[str, float] = field(default_factory=dict)
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError("steps=-1 is not possible: give zero or more.")


def test_defaults_arguments_and_types() -> None:
    settings = compose(Settings, ["out=x", "steps=3", "sizes=[4]", "optimizer.rate=1e-3", "weights.a=2"])
    assert type(settings) is Settings
    assert type(settings.optimizer) is Optimizer
    assert (settings.steps, settings.sizes, settings.optimizer.rate) == (3, [4], 1e-3)
    assert settings.weights == {"a": 2.0}


@pytest.mark.parametrize(
    "text", ["007", "1e5", "/a b/(c)=[d],{e}", "it's", "a\\b", "back\\", "\\'", "中文", "1,2", ""]
)
def test_a_text_is_taken_as_typed(text: str) -> None:
    assert compose(Settings, [f"out={text}"]).out == text


def test_null_is_none_for_an_optional_text() -> None:
    assert compose(Settings, ["out=x", "text=null"]).text is None


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("stpes=3", "unknown key 'stpes'; did you mean 'steps'?"),
        ("rate=3", "unknown key 'rate'; did you mean 'optimizer.rate'?"),
        ("optimizer.rte=3", "unknown key 'optimizer.rte'; did you mean 'optimizer.rate'?"),
        ("steps=many", "steps=many is not possible: steps is an integer."),
        ("steps=1.5", "steps=1.5 is not possible: steps is an integer."),
        ("sizes=[a]", "sizes=[a] is not possible: sizes is a list [integer, ...]."),
        ("steps=1,2", "steps=1,2 lists several values; write [1,2] for a list, or quote it."),
        ("sizes=[1", "the value of 'sizes=[1' cannot be read: no viable alternative at input '[1'."),
        ("steps", "the argument 'steps' is not of the form key=value (see --help)."),
        ("--steps=3", "the argument '--steps=3' is not of the form key=value (see --help)."),
        ("steps=-1", "steps=-1 is not possible: give zero or more."),
        (
            "weights.a=b",
            "weights.a=b is not possible: Value 'b' of type 'str' could not be converted to Float.",
        ),
    ],
)
def test_what_cannot_be_understood_is_one_sentence(argument: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose(Settings, ["out=x", argument])
    assert str(caught.value) == sentence


def test_a_required_key_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^out is required: give out=VALUE\.$"):
        compose(Settings, [])


def test_help_holds_every_key_with_type_default_and_text() -> None:
    text = help_text(Settings)
    assert "  out  (text, required)\n      Where the result goes,\n      a directory." in text
    assert "  optimizer.rate  (number, default 0.1)\n      Learning rate." in text
    assert "  sizes  ([integer, ...], default [1,2])" in text


@pytest.fixture
def yaml_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "work.yaml").write_text("defaults:\n  - optional experiment: null\n  - _self_\nsteps: 20\n")
    (tmp_path / "experiment" / "long.yaml").write_text(
        "# @package _global_\nsteps: 99\noptimizer:\n  rate: 5\n"
    )
    (tmp_path / "experiment" / "bad.yaml").write_text("# @package _global_\nstpes: 99\n")
    monkeypatch.setattr(command_line, "CONFIG_DIRECTORY", tmp_path)
    return tmp_path


def test_files_and_groups_are_merged_over_the_schema(yaml_files: Path) -> None:
    assert compose(Settings, ["out=x"], "work").steps == 20
    # the file itself comes after its groups, as its defaults list says
    assert compose(Settings, ["out=x", "experiment=long"], "work").optimizer.rate == 5
    assert compose(Settings, ["out=x", "experiment=long", "steps=1"], "work").steps == 1
    assert "experiment=bad|long" in help_text(Settings, "work")


def test_a_wrong_choice_or_a_wrong_file_is_one_sentence(yaml_files: Path) -> None:
    with pytest.raises(ConfigError, match=r"^experiment=lnog is not possible; did you mean 'long'\?$"):
        compose(Settings, ["out=x", "experiment=lnog"], "work")
    with pytest.raises(ConfigError, match=r"unknown key 'stpes' \(in configs/experiment/bad.yaml\); did you"):
        compose(Settings, ["out=x", "experiment=bad"], "work")


def test_run_turns_refusals_into_a_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(settings: Settings) -> None:
        raise ConfigError("this is not possible.")

    def fill_disk(settings: Settings) -> None:
        raise OSError(28, "No space left on device", "/there")

    for main, sentence in (
        (refuse, "this is not possible."),
        (fill_disk, "no space left on the device for /there"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run(main, Settings, arguments=["out=x"])
        assert stopped.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {sentence}")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["kind=card", "options.lenght=[1,3]"],
            "unknown key 'options.lenght'; did you mean 'options.length'?",
        ),
        (["kind=crad"], "kind=crad is not possible; did you mean 'card'?"),
        (["kind=card"], "out is required: give out=DIR, the directory to make."),
        (
            [],
            "give exactly one of kind=KIND, import=PATH, verify=DIR, repair=DIR, look=DIR, index=DIR and "
            "assets=fetch (see --help).",
        ),
        (
            ["kind=card", "out=x", "rank=1"],
            "rank= and world= are for executor=ranks: add it, or leave them out.",
        ),
        (
            ["verify=/nowhere"],
            "the data directory /nowhere does not exist: make it with python -m data_engine.",
        ),
        (["kind=card", "out=/dev/null/x"], "out=/dev/null/x cannot be made a directory: Not a directory."),
    ],
)
def test_the_command_refuses_in_one_line(data_engine: Command, arguments: list[str], sentence: str) -> None:
    result = data_engine(*arguments)
    assert result.returncode == 2
    assert result.stderr == f"error: {sentence}\n"


def test_help_lists_the_options_of_every_kind(data_engine: Command) -> None:
    from data_engine.kinds import KINDS

    result = data_engine("--help")
    assert result.returncode == 0
    for name in KINDS:
        assert f"Options of kind={name}:" in result.stdout
    assert "options.max_atoms" in result.stdout


def test_a_key_may_be_a_word_that_python_keeps_for_itself() -> None:
    from data_engine.command import schema_of

    arguments = ["import=pages.jsonl", "out=x", "options.units=grid"]
    command: Any = compose(schema_of(arguments), arguments)
    assert (command.import_, command.options.units) == ("pages.jsonl", "grid")
    assert "\n  import  (text, default null)\n" in help_text(schema_of([]))
    with pytest.raises(ConfigError, match=r"^unknown key 'imprt'; did you mean 'import'\?$"):
        compose(schema_of([]), ["imprt=x"])


def test_own_data_go_in_by_one_command(data_engine: Command, tmp_path: Path) -> None:
    source = tmp_path / "texts.jsonl"
    source.write_text('{"text": "one"}\n{"text": "two"}\n{\n')
    result = data_engine(f"import={source}", f"out={tmp_path / 'out'}")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "format=jsonl, records have the fields text",
        "skipped 1: bad JSON",
        "  sample 2: line 3 of texts.jsonl",
        f"all of them: {tmp_path / 'out' / 'skipped.jsonl'}",
        f"{tmp_path / 'out'}: 2 samples in 1 shards",
    ]
