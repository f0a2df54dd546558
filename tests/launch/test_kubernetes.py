"""launch/kubernetes.yaml: its parts fit each other, and what the pods would run starts and meets on this machine."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest
import yaml

from tests.launch.nodes import ROOT, clean, end, free_port, start


@pytest.fixture(scope="module")
def objects() -> dict[str, Any]:
    text = (ROOT / "launch" / "kubernetes.yaml").read_text(encoding="utf-8")
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def pod(objects: dict[str, Any]) -> dict[str, Any]:
    return objects["Job"]["spec"]["template"]["spec"]


def container(objects: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(objects)["containers"]
    return found


def arguments(objects: dict[str, Any], **variables: str) -> list[str]:
    """As the kubelet would pass them."""
    return [
        re.sub(r"\$\((\w+)\)", lambda found: variables[found[1]], argument)
        for argument in container(objects)["args"]
    ]


def test_pods_meet_at_the_name_that_the_service_gives_to_the_first(objects: dict[str, Any]) -> None:
    job, service = objects["Job"], objects["Service"]
    words = arguments(objects, JOB="uid", ADDRESS="10.0.0.7")
    head, port = words[words.index("--head") + 1], words[words.index("--port") + 1]
    assert pod(objects)["subdomain"] == service["metadata"]["name"]
    assert head == f"{job['metadata']['name']}-0.{service['metadata']['name']}", "pod 0 of an indexed job"
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["publishNotReadyAddresses"]
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert [int(port)] == [entry["port"] for entry in service["spec"]["ports"]]
    assert job["spec"]["completionMode"] == "Indexed"
    nodes = int(words[words.index("--nodes") + 1])
    assert nodes == job["spec"]["completions"] == job["spec"]["parallelism"]


def test_an_interrupted_run_starts_again_and_a_refused_one_does_not(objects: dict[str, Any]) -> None:
    rules = objects["Job"]["spec"]["podFailurePolicy"]["rules"]
    by_status = {
        status: rule["action"] for rule in rules for status in rule.get("onExitCodes", {}).get("values", [])
    }
    assert by_status == {2: "FailJob", 75: "Ignore", 143: "Ignore"}
    launcher = (ROOT / "launch" / "torchrun").read_text(encoding="utf-8")
    assert "exit 75" in launcher and "asked SIGTERM 143" in launcher
    assert pod(objects)["restartPolicy"] == "Never", "a podFailurePolicy demands it"
    assert pod(objects)["terminationGracePeriodSeconds"] >= 300


def test_what_is_mounted_is_there(objects: dict[str, Any]) -> None:
    volumes = {volume["name"] for volume in pod(objects)["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert mounts.keys() == volumes
    keys = dict(
        word.split("=", 1)
        for word in arguments(objects, JOB="", ADDRESS="")
        if not word.startswith("--") and "=" in word
    )
    assert all(keys[key].startswith(mounts["shared"]) for key in ("data", "tokenizer", "run"))


def test_the_command_of_a_pod_is_one_that_torchrun_understands(objects: dict[str, Any]) -> None:
    words = arguments(objects, JOB="uid", ADDRESS="10.0.0.7")
    words[words.index("--head") + 1] = "127.0.0.1"
    command = [str(ROOT / container(objects)["command"][0]), "--dry-run", *words]
    result = subprocess.run(
        command, capture_output=True, text=True, env=clean(PET_NPROC_PER_NODE="8"), timeout=60
    )
    assert result.returncode == 0, result.stderr
    started = shlex.split(result.stdout)
    assert started[started.index("--rdzv-id") + 1] == "uid"
    assert started[started.index("--local-addr") + 1] == "10.0.0.7"
    assert started[started.index("--max-restarts") + 1] == "100"
    assert "experiment=paper_stage2" in started


@pytest.mark.slow
def test_two_pods_meet(objects: dict[str, Any], tmp_path: Any) -> None:
    """Two pods on this machine: the job's own arguments with two nodes, and an examination in the place of training."""
    words = arguments(objects, JOB="uid", ADDRESS="127.0.0.1")
    for option, value in (("--nodes", "2"), ("--head", "127.0.0.1"), ("--port", str(free_port()))):
        words[words.index(option) + 1] = value
    options = words[: words.index("--restarts") + 2]
    keys = [f"shared={tmp_path}", "stages=2", "side=64", "size=0.1", "space=0"]
    command = [str(ROOT / "launch/torchrun"), "--doctor", "--processes", "1", *options, *keys]
    pods = [start(command, DOCTOR_VERDICT=str(tmp_path / "verdict")) for _ in range(2)]
    assert [end(process, 120) for process in pods] == [0, 0], pods[0].errors
    assert "all-reduce over 2 processes" in "".join(process.output for process in pods)
