"""What a process may use of its host, from made-up and real control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hams_agents.cpus import Cpus, detect, memory_limit

ALL = frozenset(range(16))
CGROUP = Path("/sys/fs/cgroup")


def host(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A made-up host: what /proc/self/cgroup says, and files below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V1 = "5:cpuset:/docker/ab\n4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "affinity", "count", "why"),
    [
        ("0::/\n", {}, ALL, 16, ""),
        ("", {}, ALL, 16, ""),
        ("0::/\n", {"cpu.max": "max 100000"}, ALL, 16, ""),
        ("0::/\n", {"cpu.max": "200000 100000"}, ALL, 2, "quota"),
        ("0::/\n", {"cpu.max": "250000 100000"}, ALL, 2, "quota"),
        ("0::/\n", {"cpu.max": "50000 100000"}, ALL, 1, "quota"),
        ("0::/\n", {"cpu.max": "3200000 100000"}, ALL, 16, ""),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, ALL, 3, "quota"),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, ALL, 1, "quota"),
        ("0::/\n", {"cpuset.cpus.effective": "0-1,8"}, ALL, 3, "cpuset"),
        ("0::/\n", {"cpuset.cpus.effective": "0-15"}, {3, 4}, 2, "affinity"),
        ("0::/\n", {"cpuset.cpus.effective": "0-3", "cpu.max": "200000 100000"}, ALL, 2, "quota"),
        ("0::/\n", {"cpuset.cpus.effective": "0-1", "cpu.max": "800000 100000"}, ALL, 2, "cpuset"),
        ("0::/\n", {"cpuset.cpus.effective": "nonsense", "cpu.max": "x"}, ALL, 16, ""),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, ALL, 16, ""),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "400000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, ALL, 4, "quota"),
        (V1, {"cpu/docker/ab/cpu.cfs_quota_us": "150000", "cpu/docker/ab/cpu.cfs_period_us": "50000"}, ALL, 3, "quota"),
        (V1, {"cpuset/docker/ab/cpuset.cpus": "2,3"}, ALL, 2, "cpuset"),
        ("0::/../other\n", {"cpu.max": "200000 100000"}, ALL, 2, "quota"),
    ],
)
def test_quota_cpuset_and_affinity(
    tmp_path: Path, cgroup: str, files: dict[str, str], affinity: set[int], count: int, why: str
) -> None:
    found = detect(16, frozenset(affinity), host(tmp_path, cgroup, files))
    why = f"cgroup {why}" if why in ("quota", "cpuset") else why
    assert (found.count, str(found)) == (count, f"{count} of 16 cores ({why})" if why else "16 cores")


def test_a_pinned_device_has_no_more_threads_than_the_quota_gives() -> None:
    cpus = Cpus(16, ALL, quota=2.0)
    assert [cpus.within(n) for n in (1, 2, 8)] == [1, 2, 2]
    assert [cpus.limit(n) for n in (1, 2, 8)] == ["", "", "2 of 8 cores (cgroup quota)"]


@pytest.mark.parametrize(
    ("allowed", "quota", "cores"), [(ALL, None, 16), (ALL, 2.5, 2.5), (ALL, 0.5, 0.5), ({3, 4}, None, 2), ({3}, 2.5, 1)]
)
def test_the_time_of_cores(allowed: set[int], quota: float | None, cores: float) -> None:
    assert Cpus(16, frozenset(allowed), quota).time == cores


@pytest.mark.parametrize(
    ("cgroup", "files", "limit"),
    [
        ("0::/\n", {"memory.max": "max"}, None),
        ("0::/\n", {"memory.max": "1048576"}, 1048576),
        ("0::/a\n", {"memory.max": "5000", "a/memory.max": "max"}, 5000),
        (V1, {"memory/docker/ab/memory.limit_in_bytes": "2097152"}, 2097152),
    ],
)
def test_the_memory_limit(tmp_path: Path, cgroup: str, files: dict[str, str], limit: int | None) -> None:
    assert memory_limit(host(tmp_path, cgroup, files)) == limit


@contextmanager
def group_of_one_core() -> Iterator[Path]:
    """A real control group whose quota is one core."""
    v2 = (CGROUP / "cgroup.controllers").exists()
    folder = (CGROUP if v2 else CGROUP / "cpu") / f"hams-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        try:
            if v2:
                (folder / "cpu.max").write_text("100000 100000")
            else:
                (folder / "cpu.cfs_quota_us").write_text("100000")
        except OSError as error:
            pytest.skip(f"no CPU quota can be set here: {error}")
        yield folder
    finally:
        folder.rmdir()


PRINT = (
    "import os; from hams_agents.devices import parse; from hams_agents.cpus import here;"
    "print(parse('openvino:CPU').threads, os.cpu_count(), here())"
)


def test_a_real_control_group_sizes_a_device() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with group_of_one_core() as group:
        script = f'echo $$ > {group}/cgroup.procs && exec {sys.executable} -c "{PRINT}"'
        done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    threads, present, text = done.stdout.split(maxsplit=2)
    assert threads == "1"
    assert text.strip() == (f"1 of {present} cores (cgroup quota)" if int(present) > 1 else "1 core")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_real_affinity_sizes_a_device() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    core = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{core}}}); {PRINT}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "1"
