"""Two workers against one, and the memory of a worker over many samples; see data_engine.md.

python benchmarks/data_engine_workers.py speed [rounds=3]                    # wants two idle cores, some minutes
python benchmarks/data_engine_workers.py memory kind=chart [samples=20000]   # one process

Speed is samples per second of whole commands, by the clock, one worker and two in turn: starting Python, importing and
warming up is in it, as for a user. Memory is the RSS of one process that makes shard after shard, as a worker does.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_engine.kinds import KINDS
from data_engine.run import Plan, make_shard

SAMPLES = {"chart": 2400, "chemistry": 9000, "geometry": 24000}
"""Per command: one worker takes about a minute."""
SHARD = 500
MIB = 1 << 20


def rate(kind: str, workers: int, directory: Path) -> float:
    """Samples per second of one command."""
    samples = SAMPLES[kind]
    command = [
        sys.executable, "-m", "data_engine", f"kind={kind}", f"samples={samples}", f"workers={workers}",
        "shard_samples=100", f"out={directory}",
    ]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parent.parent)
    return samples / (time.perf_counter() - start)


def speed(rounds: int) -> None:
    print("| kind | one worker, samples/s | two workers | ratio, median of the rounds |")
    print("|---|---|---|---|")
    for kind in SAMPLES:
        rates: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds):
            for workers, found in rates.items():
                with tempfile.TemporaryDirectory() as scratch:
                    found.append(rate(kind, workers, Path(scratch) / "out"))
        ratio = statistics.median(two / one for one, two in zip(*rates.values(), strict=True))
        print(
            f"| {kind} | {statistics.median(rates[1]):.0f} | {statistics.median(rates[2]):.0f} | {ratio:.2f} |",
            flush=True,
        )


def resident() -> float:
    """MiB of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024 / MIB


def memory(kind: str, samples: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(
            kind=kind,
            options=KINDS[kind].options(),
            samples=samples,
            seed=1,
            shard_samples=SHARD,
            directory=Path(scratch),
        )
        for shard in range(-(-samples // SHARD)):
            made = make_shard(plan, shard)
            for path in Path(scratch).glob(f"*{made.record.name}*"):
                path.unlink()
            if (shard + 1) * SHARD % max(SHARD, samples // 10) == 0:
                print(f"{(shard + 1) * SHARD:7,} samples: {resident():6.0f} MiB", flush=True)


def main(arguments: list[str]) -> None:
    what, given = arguments[0], dict(argument.split("=", 1) for argument in arguments[1:])
    if what == "speed":
        speed(int(given.get("rounds", 3)))
    else:
        memory(given["kind"], int(given.get("samples", 20_000)))


if __name__ == "__main__":
    main(sys.argv[1:])
