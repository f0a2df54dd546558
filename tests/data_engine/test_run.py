from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_engine import run
from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.kinds import KINDS
from data_engine.manifest import canonical_json
from data_engine.plan import Plan
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Rendered, Renderer
from tests.data_engine.conftest import Command, make, plan_of, quiet, skipped_of
from tests.small_disks import mounted_disk


def test_a_finished_dataset_is_never_overwritten(tmp_path: Path) -> None:
    make("card", tmp_path / "cards")
    with pytest.raises(
        ConfigError, match="already holds a finished dataset: give another out=DIR, or remove it"
    ):
        make("card", tmp_path / "cards")


def test_an_unfinished_dataset_is_finished_and_equal(tmp_path: Path) -> None:
    make("card", tmp_path / "whole")
    make("card", tmp_path / "cut")
    (tmp_path / "cut" / "manifest.json").unlink()
    (tmp_path / "cut" / "card-000001.npz").unlink()  # as if killed between tar and index
    (tmp_path / "cut" / ".card-000002.tar.99.tmp").write_bytes(b"half a shard")
    outcome = make("card", tmp_path / "cut")
    assert outcome.reused_shards == 2
    names = sorted(path.name for path in (tmp_path / "cut").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_damaged_shard_is_made_again(tmp_path: Path) -> None:
    make("card", tmp_path / "cards")
    (tmp_path / "cards" / "manifest.json").unlink()
    path = tmp_path / "cards" / "card-000000.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:700] + b"?" + whole[701:])
    assert make("card", tmp_path / "cards").reused_shards == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 8}, "seed is 7 there and 8 here"),
        ({"length": [1, 2]}, r"options.length is \[1,5\] there and \[1,2\] here"),
        ({"samples": 5}, "card-000001 is not among its shards"),
    ],
)
def test_shards_of_another_command_are_refused(tmp_path: Path, changes: dict, difference: str) -> None:
    make("card", tmp_path / "cards")
    (tmp_path / "cards" / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=rf"holds shards of another command \({difference}\)"):
        make("card", tmp_path / "cards", **changes)


def test_invalid_smiles_are_skipped_counted_and_reported(tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text("CCO ethanol\nC1CC no ring\nc1ccccc1 benzene\nxyz\n")
    outcome = make(
        "chemistry", tmp_path / "molecules", smiles=str(tmp_path / "some.smi"), samples=8, size=128
    )
    assert outcome.manifest["skipped"] == {"invalid SMILES": 4}
    assert outcome.manifest["samples"] == 4
    lines = outcome.skips.report()
    assert lines[0] == "skipped 4: invalid SMILES"
    assert any(line.endswith("line 2 of some.smi: C1CC") for line in lines)
    dataset = Dataset.open(tmp_path / "molecules")
    assert sorted({dataset.read_text(i).response for i in range(4)}) == ["CCO", "c1ccccc1"]


def test_skipped_samples_are_remembered_over_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "some.smi").write_text("CCO\nC1CC\n")
    options = {"smiles": str(tmp_path / "some.smi"), "samples": 10, "size": 128}
    first = make("chemistry", tmp_path / "molecules", **options)
    (tmp_path / "molecules" / "manifest.json").unlink()
    assert make("chemistry", tmp_path / "molecules", **options).manifest == first.manifest


def test_every_skipped_sample_is_named_in_a_file(tmp_path: Path, data_engine: Command) -> None:
    (tmp_path / "some.smi").write_text("C1CC\nC1CC\nCCO\nC1CC\n")
    out = tmp_path / "molecules"
    options = [f"options.smiles={tmp_path / 'some.smi'}", "options.size=128"]
    command = ["kind=chemistry", "samples=30", "shard_samples=5", *options, f"out={out}"]
    assert data_engine(*command).returncode == 0
    first = Dataset.open(out).manifest
    named = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert len(named) == first["skipped"]["invalid SMILES"] == 30 - first["samples"] > 12
    assert [entry["index"] for entry in named] == sorted(entry["index"] for entry in named)
    assert {entry["reason"] for entry in named} == {"invalid SMILES"}
    assert all("of some.smi: C1CC" in entry["place"] for entry in named)
    (out / "manifest.json").unlink()
    (out / "skipped.jsonl").write_text("half")
    again = data_engine(*command)
    assert f"skipped {len(named)}: invalid SMILES\n  sample {named[0]['index']}: line " in again.stdout
    assert f"  and {len(named) - 5} more\nall of them: {out / 'skipped.jsonl'}\n" in again.stdout
    assert f"{len(named)} skipped ({len(named)} invalid SMILES)" in again.stderr
    assert [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()] == named
    assert Dataset.open(out).manifest == first


def test_nothing_but_invalid_smiles_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text("C1CC\n")
    with pytest.raises(ConfigError, match=r"no sample could be made: all 3 were skipped \(invalid SMILES\)"):
        make("chemistry", tmp_path / "molecules", smiles=str(tmp_path / "bad.smi"), samples=3, size=128)
    assert not (tmp_path / "molecules" / "manifest.json").exists()


def test_an_error_in_a_worker_leaves_no_half_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("data_engine.files.os.fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        run.make_dataset(plan_of("card", tmp_path / "cards"), 1, quiet)
    run.close_renderer()
    assert list((tmp_path / "cards").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_disk(tmp_path / "small", "1m") as disk:
        yield disk


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_space_left_is_one_sentence_and_leaves_whole_shards(small_disk: Path, workers: str) -> None:
    out = small_disk / "cards"
    keys = ["kind=card", "samples=2000", "shard_samples=200", "seed=1", f"workers={workers}", f"out={out}"]
    command = [sys.executable, "-m", "data_engine", *keys]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert result.returncode == 2
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: no space left on the device")
    assert "Traceback" not in result.stderr
    assert not (out / "manifest.json").exists()
    assert not list(out.glob(".*"))
    from data_engine.shards import find_finished

    for index in out.glob("*.npz"):
        assert find_finished(out, index.stem) is not None


def test_the_command_makes_and_verifies(data_engine: Command, tmp_path: Path) -> None:
    out = tmp_path / "cards"
    made = data_engine("kind=card", "samples=30", f"out={out}")
    assert made.returncode == 0, made.stderr
    assert made.stdout == f"{out}: 30 samples in 1 shards\n"
    checked = data_engine(f"verify={out}")
    assert checked.returncode == 0, checked.stderr
    sheet = tmp_path / "cards-contact-sheet.png"
    whole, again, look = checked.stdout.splitlines()
    assert (whole, look) == ("cards: 30 samples in 1 shards are whole, 0 skipped", f"look at {sheet}")
    assert re.fullmatch(r"cards: 5 made again in \d+\.\d s are equal", again)
    assert sheet.exists()


def test_what_a_process_imports(tmp_path: Path) -> None:
    """A worker imports `__main__` anew, and the parent only asks for versions: neither waits for the rest."""
    code = (
        "import sys, pathlib, data_engine.__main__\n"
        "from data_engine.run import Plan, options_of\n"
        "plan = Plan('chart', options_of('chart')(), 1, 1, 1, pathlib.Path(sys.argv[1]))\n"
        "assert plan.configuration(0)['versions']['mini-racer']\n"
        "print(*({'hydra', 'matplotlib', 'py_mini_racer', 'pyecharts'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("", 0), result.stderr


class TornRenderer(Renderer):
    """What a file of the user may lead to: text, names and places that hold halves of characters."""

    def render(self, draws: Draws) -> Rendered:
        if draws.index == 3:
            raise NoSampleError("no text", "\udcff.pdf")
        response = "\ud83d" if draws.index == 1 else "whole"
        return Rendered((), "", response, "torn", {"file": "\udcff.pdf"} if draws.index == 2 else {})


def test_text_that_is_no_unicode_is_skipped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_engine.plan.make_renderer", lambda kind, options: TornRenderer())
    outcome = make("card", tmp_path / "torn", samples=5)
    assert outcome.manifest["samples"] == 2
    assert outcome.manifest["skipped"] == {"no text": 1, "text is not Unicode": 2}
    assert [skip.index for skip in skipped_of(tmp_path / "torn")] == [1, 2, 3]
    assert "\\ud83d" in skipped_of(tmp_path / "torn")[0].place
    assert "\\udcff.pdf" in skipped_of(tmp_path / "torn")[1].place
    assert skipped_of(tmp_path / "torn")[2].place == "\\udcff.pdf"


def test_a_number_is_one_option_with_and_without_a_point() -> None:
    plans = [
        Plan("card", KINDS["card"].options(jitter=jitter, font_pixels=[lower, 30.5]), 1, 1, 1, Path("out"))
        for jitter, lower in ((1.0, 20.0), (1, 20))
    ]
    one, other = (plan.all_options() for plan in plans)
    assert canonical_json(one) == canonical_json(other)
    assert one["font_pixels"] == [20, 30.5] and one["jitter"] == 1
