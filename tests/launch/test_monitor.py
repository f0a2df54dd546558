from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import monitor
import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")
MIB = 1024**2


def fake_process(proc: Path, process: int, parent: int, name: str, pss_kib: int | None, pages: int) -> None:
    directory = proc / str(process)
    directory.mkdir(parents=True)
    (directory / "stat").write_text(f"{process} ({name}) S {parent} 1 1 0")
    (directory / "statm").write_text(f"999 {pages} 1 1 0 1 0")
    if pss_kib is not None:
        (directory / "smaps_rollup").write_text(
            f"00-ff ---p 00 00:00 0 [rollup]\nRss: 9 kB\nPss: {pss_kib} kB\n"
        )


def test_the_tree_is_found_whatever_processes_are_called(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("")
    fake_process(tmp_path, 10, 1, "bash", 5, 1)
    fake_process(tmp_path, 11, 10, "odd) S 1 (name", 5, 1)
    fake_process(tmp_path, 12, 11, "python", 5, 1)
    fake_process(tmp_path, 13, 1, "stranger", 5, 1)
    assert sorted(monitor.children_of(10, tmp_path)) == [10, 11, 12]


def test_shared_pages_count_by_share_where_that_can_be_read(tmp_path: Path) -> None:
    fake_process(tmp_path, 10, 1, "a", 100, 1)
    fake_process(tmp_path, 11, 1, "b", None, 3)
    assert monitor.proportional(10, tmp_path) == 100 * 1024
    assert monitor.proportional(11, tmp_path) == 3 * os.sysconf("SC_PAGESIZE")
    assert monitor.proportional(12, tmp_path) == 0


@needs_proc
@pytest.mark.slow
def test_memory_of_all_children_is_measured_together() -> None:
    one = "import time; held = b'x' * (60 * 2**20); time.sleep(1.5)"
    script = (
        "import subprocess, sys\n"
        f"for p in [subprocess.Popen([sys.executable, '-c', {one!r}]) for _ in '12']: p.wait()"
    )
    status, seconds, peak = in_process(["run", sys.executable, "-c", script])
    assert status == 0
    assert 1.5 <= seconds < 30
    assert peak is not None and 120 * MIB <= peak < 400 * MIB


def in_process(arguments: list[str]) -> tuple[int, float, int | None]:
    """monitor.run in a process of its own: it takes over signals, and measures its own tree."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import monitor; "
        "status, seconds, peak = monitor.run(sys.argv[3:]); print(status, seconds, peak or 0)"
    )
    launch = str(Path(monitor.__file__).parent)
    result = subprocess.run([sys.executable, "-c", code, launch, *arguments], capture_output=True, text=True)
    status, seconds, peak = result.stdout.split()
    return int(status), float(seconds), int(peak) or None


@pytest.mark.parametrize(
    ("code", "status"),
    [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL)],
)
def test_the_exit_status_is_the_commands(code: str, status: int) -> None:
    assert in_process(["run", sys.executable, "-c", code])[0] == status


def test_ctrl_c_can_ask_by_a_file(tmp_path: Path) -> None:
    """The command never sees the signal; it stops when it finds the file, which is asked for until it does."""
    stop = tmp_path / "control" / "stop"
    command = (
        "import pathlib, sys, time; stop = pathlib.Path(sys.argv[1]); print(1, flush=True); time.sleep(0.4)\n"
        "stop.parent.mkdir()\n"
        "while not stop.exists(): time.sleep(0.05)"
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import monitor; from pathlib import Path; "
        "sys.exit(monitor.run([sys.executable, '-c', sys.argv[3], sys.argv[2]], Path(sys.argv[2]))[0])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(monitor.__file__).parent), str(stop), command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "Stopping after this step" in process.stderr.read()


def test_a_command_that_somebody_asked_to_stop_was_interrupted(tmp_path: Path) -> None:
    """Else what follows would take a half-trained model for a whole one."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import monitor; from pathlib import Path; "
        "sys.exit(monitor.run([sys.executable, '-c', ''], Path(sys.argv[2], 'stop'))[0])"
    )
    command = [sys.executable, "-c", code, str(Path(monitor.__file__).parent), str(tmp_path)]
    assert subprocess.run(command).returncode == 0
    (tmp_path / "stopped").touch()
    assert subprocess.run(command).returncode == 130


def test_a_command_that_fails_after_ctrl_c_was_interrupted() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import monitor; "
        "sys.exit(monitor.run([sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(60)'])[0])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(monitor.__file__).parent)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        # A shell starts its background jobs deaf to Ctrl-C, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.2)  # the monitor's own handler is set right after the command starts
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to everybody in the foreground
    assert process.wait(timeout=60) == 130
