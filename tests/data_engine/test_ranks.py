"""Several runs that share the work, and workers that die."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_engine.errors import ConfigError
from data_engine.executors import Executor, Made, make_here, make_on_ray
from data_engine.job import Job, Share
from data_engine.plan import Plan, close_renderer
from data_engine.random_stream import Draws
from data_engine.ranks import share_of
from data_engine.render.base import Rendered
from data_engine.render.card import CardRenderer
from data_engine.run import make_dataset
from data_engine.shards import FinishedShard
from tests.data_engine.conftest import make, plan_of, quiet


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_last_of_several_runs_finishes_the_dataset(tmp_path: Path, order: tuple[int, ...]) -> None:
    make("card", tmp_path / "whole")
    plan = plan_of("card", tmp_path / "shared")
    foreign = tmp_path / "shared" / ".card-000001.tar.other-7.tmp"
    for rank in order:
        outcome = make_dataset(plan, 1, quiet, Share(rank, 3))
        assert (outcome.manifest is None) == (rank != order[-1])
        if outcome.manifest is None and rank != 1:
            foreign.write_bytes(b"rank 1 is writing")  # nobody else may remove it
    assert outcome.missing_shards == 0
    assert files(tmp_path / "shared") == files(tmp_path / "whole")
    again = make_dataset(plan, 1, quiet, Share(1, 3))  # a run that comes late finds all of it
    assert again.manifest == outcome.manifest
    close_renderer()


def test_a_run_without_ranks_makes_what_a_dead_one_left(tmp_path: Path) -> None:
    make("card", tmp_path / "whole")
    plan = plan_of("card", tmp_path / "shared")
    assert make_dataset(plan, 1, quiet, Share(0, 2)).missing_shards == 1
    assert make_dataset(plan, 1, quiet).reused_shards == 2
    assert files(tmp_path / "shared") == files(tmp_path / "whole")
    close_renderer()


def test_runs_that_were_given_other_options_are_told_so(tmp_path: Path) -> None:
    """Before they work where that can be seen already, and in the end."""
    plan, other = plan_of("card", tmp_path / "shared"), plan_of("card", tmp_path / "shared", seed=8)
    sentence = r"holds shards of another command \(.*seed is 7 there and 8 here\)"

    def while_others_work(job: Job, numbers: Sequence[int], workers: int) -> Iterator[Made]:
        yield from make_here(job, numbers, workers)
        plan.make_shard(0)

    with pytest.raises(ConfigError, match=sentence):
        make_dataset(other, 1, quiet, Share(1, 2), while_others_work)
    (tmp_path / "shared" / "card-000001.npz").unlink()
    before = files(tmp_path / "shared")
    with pytest.raises(ConfigError, match=sentence):
        make_dataset(other, 1, quiet, Share(1, 2))
    assert files(tmp_path / "shared") == before
    close_renderer()


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Share(3, 8)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Share(1, 2)),
        ({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1",
          "SLURM_ARRAY_TASK_STEP": "2"}, Share(3, 4)),
    ],
)  # fmt: skip
def test_a_launcher_says_the_rank(environment: dict[str, str], share: Share) -> None:
    assert share_of(None, None, environment) == share


@pytest.mark.parametrize(
    ("rank", "world", "environment", "sentence"),
    [
        (None, None, {}, "sharing the work needs rank=R world=N, or a launcher"),
        (None, None, {"JOB_COMPLETION_INDEX": "0"}, "world is required"),
        (2, 2, {}, "rank=2 is not possible: give a number from 0 to 1"),
        (None, 3, {"RANK": "0", "WORLD_SIZE": "2"}, "world=3 is not possible: the launcher says 2"),
        (None, None, {"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x is no number"),
    ],
)
def test_a_share_that_cannot_be_told(
    rank: int | None, world: int | None, environment: dict[str, str], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        share_of(rank, world, environment)


@dataclass(frozen=True)
class DyingPlan(Plan):
    """Its process is killed at shard 1, in the middle of writing: the first time, or every time."""

    always: bool = False

    def make_shard(self, number: int) -> FinishedShard:
        sign = self.directory / "died"
        if number == 1 and (self.always or not sign.exists()):
            sign.touch()
            (self.directory / f".card-000001.tar.here-{os.getpid()}.tmp").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().make_shard(number)


def dying(directory: Path, always: bool = False) -> DyingPlan:
    plan = plan_of("card", directory)
    return DyingPlan(**{**vars(plan), "always": always})


@pytest.mark.slow
@pytest.mark.parametrize("executor", [make_here, make_on_ray])
def test_the_shard_of_a_killed_worker_is_made_again(tmp_path: Path, executor: Executor) -> None:
    if executor is make_on_ray:
        pytest.importorskip("ray")
    make("card", tmp_path / "whole")
    make_dataset(dying(tmp_path / "died"), 2, quiet, executor=executor)
    close_renderer()
    assert (tmp_path / "died" / "died").exists()
    (tmp_path / "died" / "died").unlink()
    assert files(tmp_path / "died") == files(tmp_path / "whole")


@pytest.mark.parametrize("death", ["WorkerCrashedError", "OutOfMemoryError", "NodeDiedError"])
def test_the_ends_of_rays_workers_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    ray = pytest.importorskip("ray")
    error = getattr(ray.exceptions, death)(*[] if death == "WorkerCrashedError" else ["a node is gone"])

    def get(reference: object) -> None:
        raise error

    # A cluster in name only: starting one takes many seconds.
    cluster = {
        "is_initialized": lambda: True,
        "remote": lambda **options: lambda function: SimpleNamespace(remote=lambda job, number: number),
        "put": lambda job: job,
        "cluster_resources": dict,
        "wait": lambda references: (references[:1], references[1:]),
        "get": get,
    }
    for name, function in cluster.items():
        monkeypatch.setattr(ray, name, function)
    with pytest.raises(
        ConfigError, match="workers of Ray were killed again and again over card-000000, perhaps"
    ):
        list(make_on_ray(plan_of("card", tmp_path), [0, 1], 1))


class DyingRenderer(CardRenderer):
    """Its process is killed by one of its samples."""

    def render(self, draws: Draws) -> Rendered:
        if draws.index == 7:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().render(draws)


@dataclass(frozen=True)
class DyingSamplePlan(Plan):
    def renderer(self) -> DyingRenderer:
        return DyingRenderer(self.options)


@pytest.mark.slow
def test_the_sample_that_kills_its_worker_is_named(tmp_path: Path) -> None:
    plan = DyingSamplePlan(**vars(plan_of("card", tmp_path / "cards", samples=40)))
    with pytest.raises(ConfigError, match=r"again, at sample 7 of card-000001, SIGSEGV \(3 x\): where it is"):
        make_dataset(plan, 2, quiet)
    close_renderer()
    assert not list((tmp_path / "cards").glob(".*"))


class HangingRenderer(CardRenderer):
    """One of its samples never ends, in C, where no signal handler of Python's is called."""

    def render(self, draws: Draws) -> Rendered:
        if draws.index == 7:
            ctypes.PyDLL(None).sleep(600)
        return super().render(draws)


@dataclass(frozen=True)
class HangingPlan(Plan):
    def renderer(self) -> HangingRenderer:
        return HangingRenderer(self.options)


def make_hanging(directory: str) -> None:
    plan = HangingPlan(**vars(plan_of("card", Path(directory), samples=40)))

    def tell(done: int, samples: int, skipped: Mapping[str, int]) -> None:
        os.write(1, b"%d\n" % done)

    make_dataset(plan, 2, tell)


@pytest.mark.slow
def test_an_interrupt_ends_workers_that_hang(tmp_path: Path) -> None:
    code = "import sys, tests.data_engine.test_ranks as own; own.make_hanging(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "cards")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as run:
        assert run.stdout is not None
        while run.stdout.readline().strip() != b"35":  # all but the shard that hangs
            assert run.poll() is None
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=60)  # its end is that of the last process that holds the pipe
    assert run.returncode != 0
    assert len(list((tmp_path / "cards").glob("*.npz"))) == 7


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run(tmp_path: Path) -> None:
    sentence = r"workers were killed again and again, at card-000001, SIGKILL \(3 x\)"
    with pytest.raises(ConfigError, match=sentence):
        make_dataset(dying(tmp_path / "died", always=True), 2, quiet)
    close_renderer()
    assert not list((tmp_path / "died").glob(".*"))
