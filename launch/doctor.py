"""Examines the machines of a run in as many processes as the run will have; one sentence for everything that is wrong.

    launch/doctor stages=4 shared=DIR               starts it in all processes (launch/torchrun --doctor)
    python launch/doctor.py                         one process

Looked at: versions and whether all processes have the same; GPU, driver, NCCL, ECC errors; all-reduce bandwidth, and
between neighbours of the pipeline; clocks; a shared directory; free space and files; /dev/shm; limits; the rate of a
matrix product and of memory, where a process slower than the others is named. Works the same without GPUs, over gloo.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import doctor_probes as probes
import torch
import torch.distributed as dist
from doctor_probes import Report


@dataclass(frozen=True)
class Keys:
    """What can be set, as key=value."""

    shared: str = ""
    """a directory that all processes must see, such as the parent of run="""
    stages: int = 1
    """pipeline stages, whose neighbours exchange messages"""
    space: float = 50.0
    """GiB that must be free in shared"""
    tolerance: float = 0.15
    """a process is named when it is slower than the median by more than this share"""
    bandwidth: float = 0.0
    """GB/s that all-reduce and neighbours must reach; 0: any"""
    skew: float = 1.0
    """seconds that clocks may differ by"""
    size: float = 0.0
    """MiB of every message; 0: 256 on GPUs, 16 on CPUs"""
    side: int = 0
    """of the square matrices; 0: 8192 on GPUs, 1024 on CPUs"""
    timeout: float = 300.0
    """seconds after which a silent process counts as lost"""


class BadKeyError(ValueError):
    """An argument that cannot be used; the message is one sentence."""


def read_keys(arguments: Sequence[str]) -> Keys:
    """Keys from `key=value` arguments. Raises BadKeyError."""
    fields = {field.name: type(field.default) for field in dataclasses.fields(Keys)}
    values: dict[str, object] = {}
    for argument in arguments:
        key, sign, value = argument.partition("=")
        if not sign or key not in fields:
            raise BadKeyError(f"unknown argument '{argument}'; the keys are {', '.join(fields)}")
        try:
            values[key] = fields[key](value)
        except ValueError as error:
            raise BadKeyError(f"{argument} is not a number") from error
    keys = Keys(**values)  # type: ignore[arg-type]
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if keys.stages < 1 or size % keys.stages:
        raise BadKeyError(
            f"stages={keys.stages} does not divide the {size} processes; start stages × N (--processes)"
        )
    if keys.timeout <= 0 or keys.size < 0 or keys.side < 0 or not 0 < keys.tolerance < 1:
        raise BadKeyError(
            "timeout must be positive, size and side not negative, tolerance between 0 and 1; see launch/doctor keys"
        )
    return keys


def examine(keys: Keys) -> Report:
    """Everything about this process (collective)."""
    report = probes.who()
    rank, size = report["rank"], int(os.environ.get("WORLD_SIZE", "1"))
    cuda = torch.cuda.is_available()
    device = (
        torch.device("cuda", report["local_rank"] % torch.cuda.device_count())
        if cuda
        else torch.device("cpu")
    )
    if cuda:
        torch.cuda.set_device(device)
    mebibytes = keys.size or (256 if cuda else 16)
    report["versions"] = probes.versions()
    report["gpu"] = probes.gpu(report["local_rank"])
    report["limits"] = probes.limits()
    report["clock_offset"] = probes.clock_offset(rank, size)
    if keys.shared:
        report["disk"] = probes.disk(keys.shared)
        report["shared"] = probes.shared_directory(keys.shared, rank, shared_nonce())
    report["all_reduce"] = probes.all_reduce_bandwidth(device, mebibytes)
    report["neighbour"] = probes.neighbour_bandwidth(device, mebibytes, keys.stages)
    dist.barrier()
    report["matmul"] = probes.matmul_rate(device, keys.side or (8192 if cuda else 1024))
    dist.barrier()
    report["memory"] = probes.memory_rate(device, 4 * mebibytes)
    return report


def shared_nonce() -> str:
    """A word that no other examination uses, from rank 0 to all (collective)."""
    word = torch.tensor([secrets.randbits(62)])
    dist.broadcast(word, src=0)
    return f"{int(word):x}"


def gather(report: Report) -> list[Report]:
    """The reports of all processes, on all of them; as JSON, so that nothing is unpickled (collective)."""
    mine = torch.frombuffer(bytearray(json.dumps(report).encode()), dtype=torch.uint8)
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(dist.get_world_size())]
    dist.all_gather(lengths, torch.tensor([len(mine)]))
    longest = int(max(lengths))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(mine)] = mine
    texts = [torch.zeros(longest, dtype=torch.uint8) for _ in lengths]
    dist.all_gather(texts, padded)
    return [json.loads(bytes(t[: int(n)].tolist())) for t, n in zip(texts, lengths, strict=True)]


# ---- judgement


def findings(reports: Sequence[Report], keys: Keys) -> list[str]:
    """One sentence for everything that is wrong."""
    return [
        *_differences(reports),
        *_gpus(reports),
        *_nodes(reports, keys),
        *_clocks(reports, keys),
        *_speeds(reports, keys),
    ]


def ranks_of(reports: Sequence[Report]) -> str:
    """`rank 3 (node-1)`, `ranks 8-15 (node-1)`, `ranks 1, 5 (node-0, node-1)`."""
    numbers = sorted(report["rank"] for report in reports)
    hosts = ", ".join(dict.fromkeys(report["host"] for report in reports))
    if len(numbers) == 1:
        return f"rank {numbers[0]} ({hosts})"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"ranks {numbers[0]}-{numbers[-1]} ({hosts})"
    return f"ranks {', '.join(map(str, numbers))} ({hosts})"


def by_value(reports: Sequence[Report], value: Callable[[Report], object]) -> dict[object, list[Report]]:
    """Reports with the same value together, the most frequent first."""
    groups: dict[object, list[Report]] = {}
    for report in reports:
        groups.setdefault(value(report), []).append(report)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def by_node(reports: Sequence[Report]) -> list[list[Report]]:
    """The reports of every node together; two nodes of one name are told apart by when they were started."""
    return list(by_value(reports, lambda report: (report["host"], report["boot"])).values())


def _unequal(reports: Sequence[Report], what: str, value: Callable[[Report], object]) -> list[str]:
    groups = by_value(reports, value)
    if len(groups) == 1:
        return []
    parts = "; ".join(f"{found} on {ranks_of(held)}" for found, held in groups.items())
    return [f"{what} is not the same everywhere: {parts}."]


def _differences(reports: Sequence[Report]) -> list[str]:
    names = dict.fromkeys(name for report in reports for name in report["versions"])
    found = [
        sentence
        for name in names
        for sentence in _unequal(
            reports, name, lambda report, name=name: report["versions"].get(name, "absent")
        )  # type: ignore[misc]
    ]
    for name in ("name", "driver", "memory_gib"):
        found += _unequal(
            reports,
            f"GPU {name.removesuffix('_gib')}",
            lambda report, name=name: (report["gpu"] or {}).get(name, "absent"),  # type: ignore[misc]
        )
    return found


def _gpus(reports: Sequence[Report]) -> list[str]:
    found = []
    for report in reports:
        card = report["gpu"]
        if card is None:
            continue
        where = ranks_of([report])
        if card["ecc_errors"]:
            found.append(
                f"{where}: the GPU has {card['ecc_errors']} uncorrected ECC errors; reset or replace it."
            )
        if report["local_rank"] >= card["count"]:
            found.append(f"{where}: the node has {card['count']} GPUs and more processes; lower --processes.")
        elif card["free_gib"] < 0.9 * card["memory_gib"]:
            found.append(
                f"{where}: only {card['free_gib']:.1f} of {card['memory_gib']:.1f} GiB of the GPU are free; end what "
                "else uses it."
            )
    return found


def _nodes(reports: Sequence[Report], keys: Keys) -> list[str]:
    found = []
    for held in by_node(reports):
        first, where = held[0], held[0]["host"]
        limits = first["limits"]
        if limits["shared_memory_gib"] < 1:
            found.append(
                f"{where}: /dev/shm has {limits['shared_memory_gib'] * 1024:.0f} MiB free, and the loader's processes "
                "and NCCL need a GiB and more; start the container with a larger --shm-size."
            )
        if 0 <= limits["open_files"] < 4096:
            found.append(f"{where}: only {limits['open_files']} files may be open at once; ulimit -n 65536.")
        if first["gpu"] and limits["locked_bytes"] >= 0:
            found.append(
                f"{where}: only {limits['locked_bytes']} bytes of memory may be locked, and InfiniBand needs more; "
                "ulimit -l unlimited."
            )
        if keys.shared:
            found += [f"{where}: {sentence}" for sentence in _disk(first["disk"], keys)]
    blind = by_value([report for report in reports if report.get("shared")], lambda report: report["shared"])
    found += [f"shared={keys.shared}: {problem}, on {ranks_of(held)}." for problem, held in blind.items()]
    return found


def _disk(disk: Report, keys: Keys) -> list[str]:
    if "error" in disk:
        return [f"shared={keys.shared} cannot be used ({disk['error']})."]
    found = []
    if disk["free_gib"] < keys.space:
        found.append(
            f"shared={keys.shared} has {disk['free_gib']:.1f} GiB free, less than space={keys.space:g}."
        )
    if disk["free_files"] is not None and disk["free_files"] < 10_000:
        found.append(f"shared={keys.shared} has room for {disk['free_files']} more files; remove some.")
    return found


def _clocks(reports: Sequence[Report], keys: Keys) -> list[str]:
    found = []
    for held in by_node(reports):
        offset = statistics.median(report["clock_offset"] for report in held)
        if abs(offset) > keys.skew:
            direction = "ahead of" if offset > 0 else "behind"
            found.append(
                f"{held[0]['host']}: the clock is {abs(offset):.1f} s {direction} rank 0's; synchronise it (NTP), or "
                "logs and heartbeats mislead."
            )
    return found


def _speeds(reports: Sequence[Report], keys: Keys) -> list[str]:
    found = []
    for name, what, unit in (
        ("matmul", "matrix products", "TFLOP/s"),
        ("memory", "memory", "GB/s"),
        ("neighbour", "messages from the stage before", "GB/s"),
    ):
        measured = [report for report in reports if report[name] > 0]
        if not measured:
            continue
        median = statistics.median(report[name] for report in measured)
        found += [
            f"{ranks_of([report])}: {what} at {report[name]:.3g} {unit}, {report[name] / median:.0%} of the median of "
            f"{median:.3g}; it will slow all others down."
            for report in measured
            if report[name] < (1 - keys.tolerance) * median
        ]
        if name == "neighbour" and median < keys.bandwidth:
            found.append(
                f"neighbours in the pipeline exchange {median:.3g} GB/s, less than bandwidth={keys.bandwidth:g}."
            )
    reduced = min(report["all_reduce"] for report in reports)
    if len(reports) > 1 and reduced < keys.bandwidth:
        found.append(f"all-reduce runs at {reduced:.3g} GB/s, less than bandwidth={keys.bandwidth:g}.")
    return found


def table(reports: Sequence[Report]) -> str:
    """One line per process, and what all of them have."""
    lines = [
        "rank  host                  device                    TFLOP/s  memory GB/s  neighbour GB/s  clock s"
    ]
    for report in reports:
        device = report["gpu"]["name"] if report["gpu"] else "CPU"
        neighbour = f"{report['neighbour']:.3g}" if report["neighbour"] else "-"
        lines.append(
            f"{report['rank']:>4}  {report['host'][:20]:<20}  {device[:24]:<24}  {report['matmul']:>7.3g}  "
            f"{report['memory']:>11.3g}  {neighbour:>14}  {report['clock_offset']:>+7.3f}"
        )
    first = reports[0]
    lines.append("  ".join(f"{name} {version}" for name, version in first["versions"].items()))
    if len(reports) > 1:
        lines.append(f"all-reduce over {len(reports)} processes: {first['all_reduce']:.3g} GB/s on the bus")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Examine and say what was found. Exit status: 0, 1 when something was found, 2 for an argument (collective)."""
    if {"--help", "-h"} & set(arguments):
        defaults = [f"  {field.name}={field.default}" for field in dataclasses.fields(Keys)]
        sys.stdout.write(f"{__doc__}\nKeys and their defaults:\n" + "\n".join(defaults) + "\n")
        return 0
    try:
        keys = read_keys(arguments)
    except BadKeyError as error:
        if int(os.environ.get("RANK", "0")) == 0:
            sys.stderr.write(f"error: {error}.\n")
        return 2
    if "RANK" not in os.environ:
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=keys.timeout))
    reports = gather(examine(keys))
    dist.barrier()
    dist.destroy_process_group()
    found = findings(reports, keys)
    if reports[0]["rank"] == int(os.environ["RANK"]):
        sys.stdout.write(table(reports) + "\n")
        sys.stdout.write("".join(f"found: {sentence}\n" for sentence in found) or "nothing found\n")
    status = int(bool(found))
    verdict = os.environ.get("DOCTOR_VERDICT")
    if verdict:
        if os.environ.get("LOCAL_RANK") == "0":
            Path(verdict).write_text(str(status), encoding="utf-8")
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
