"""Several "hosts" on one machine: network namespaces that only reach each other over a bridge of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launch.nodes import LAUNCHER, end, start

HOSTS = 2
NETWORK = "10.86.{}.{}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


def names() -> tuple[int, list[str], str]:
    third = os.getpid() % 250
    return third, [f"ocr{os.getpid()}h{host}" for host in range(HOSTS)], f"ocrb{os.getpid() % 100000}"


@pytest.fixture
def hosts() -> Iterator[list[tuple[str, str]]]:
    """(namespace, address) of every host."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip")
    third, spaces, bridge = names()
    try:
        try:
            ip("link", "add", bridge, "type", "bridge")
            ip("link", "set", bridge, "up")
            for number, space in enumerate(spaces):
                outer, inner = f"v{os.getpid() % 100000}o{number}", f"v{os.getpid() % 100000}i{number}"
                ip("netns", "add", space)
                ip("link", "add", outer, "type", "veth", "peer", "name", inner)
                ip("link", "set", outer, "master", bridge, "up")
                ip("link", "set", inner, "netns", space)
                ip("-n", space, "link", "set", inner, "name", "fabric0")
                ip("-n", space, "addr", "add", f"{NETWORK.format(third, number + 1)}/24", "dev", "fabric0")
                ip("-n", space, "link", "set", "fabric0", "up")
                ip("-n", space, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine allows no network namespaces: {error.stderr.decode().strip()}")
        yield [(space, NETWORK.format(third, number + 1)) for number, space in enumerate(spaces)]
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True, timeout=20)
        subprocess.run(["ip", "link", "del", bridge], capture_output=True, timeout=20)


@pytest.mark.slow
def test_hosts_meet_over_their_own_network(hosts: list[tuple[str, str]], tmp_path: Path) -> None:
    """No host can resolve another's name, and their own name means the loopback: only addresses can work."""
    head = hosts[0][1]
    options = ["--doctor", "--nodes", str(HOSTS), "--processes", "1", "--head", head, "--id", "hosts-1"]
    keys = [f"shared={tmp_path}", f"stages={HOSTS}", "side=64", "size=0.1", "space=0", "timeout=60"]
    started = [
        start(
            ["ip", "netns", "exec", space, str(LAUNCHER), *options, *keys],
            DOCTOR_VERDICT=str(tmp_path / f"verdict-{address}"),
        )
        for space, address in reversed(hosts)  # the head comes last
    ]
    statuses = [end(process, 150) for process in started]
    assert statuses == [0] * HOSTS, "\n".join(process.errors[-2000:] for process in started)
    assert f"all-reduce over {HOSTS} processes" in "".join(process.output for process in started)
