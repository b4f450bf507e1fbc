"""A job's process: what ends it has a name, and it reaches nothing outside of its folder."""

from __future__ import annotations

import fcntl
import math
import os
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from pathlib import Path

import pytest

from hams_services.optimizer.accuracy.evaluate import Candidate, Evaluator
from hams_services.optimizer.sandbox.process import JobProcess, for_budget
from hams_shared.errors import BadInputError, HamsError, ModelError
from hams_shared.group.node_spec import NodeSpec
from hams_shared.runtime.child_limits import Limits
from hams_shared.runtime.child_process import Bounds
from support.hostile import bomb, convolutions
from support.wait import PATIENCE, until_sync


def unread(job: JobProcess) -> int:
    """Bytes sent to it that it has not read."""
    assert job._socket is not None
    return int(struct.unpack("i", fcntl.ioctl(job._socket, termios.TIOCOUTQ, bytes(4)))[0])


def test_imports_and_returns_what_it_made(tmp_path: Path) -> None:
    with JobProcess(tmp_path / "job") as job:
        done = job.call("import", source=str(convolutions(tmp_path)), out=str(job.folder / "1"))
        assert done["format"] == "onnx"
        assert set(done["files"]) == {"openvino", "onnx"}
        assert all(Path(part).is_relative_to(job.folder) for parts in done["files"].values() for part in parts)
        with pytest.raises(ModelError, match="a zip bomb"):
            job.call("import", source=str(bomb(tmp_path)), out=str(job.folder / "2"))
        with pytest.raises(BadInputError, match="no job 'sing'"):
            job.call("sing")
        assert job.restarts == 0
    assert job.pid is None


def test_a_crash_has_a_name_and_the_next_request_a_fresh_process(tmp_path: Path) -> None:
    source = str(convolutions(tmp_path))
    with JobProcess(tmp_path / "job") as job:
        job.call("import", source=source, out=str(job.folder / "1"))
        first = job.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # so that the request is under way when it dies

        def end() -> None:
            until_sync(lambda: unread(job), what="a request under way")
            os.kill(first, signal.SIGSEGV)
            os.kill(first, signal.SIGCONT)

        ending = threading.Thread(target=end)
        ending.start()
        with pytest.raises(ModelError, match=r"crashed \(SIGSEGV\)"):
            job.call("import", source=source, out=str(job.folder / "2"))
        ending.join()
        job.call("import", source=source, out=str(job.folder / "3"))
        assert job.pid != first
        assert job.restarts == 1


@pytest.mark.parametrize("end", ["cancelled", "budget"])
def test_an_evaluation_ends_with_its_job(tmp_path: Path, end: str) -> None:
    bounds = Bounds(until=time.monotonic() + 0.3 if end == "budget" else math.inf)
    if end == "cancelled":
        threading.Timer(0.3, bounds.cancel).start()
    (tmp_path / "frames").mkdir()
    os.mkfifo(tmp_path / "frames" / "a.png")  # reading it blocks for ever
    candidate = Candidate(convolutions(tmp_path))
    node = NodeSpec.model_validate({"model": "x.onnx", "input": {"size": [8, 8]}, "task": {"type": "embedding"}})
    with pytest.raises(HamsError, match="cancelled|the budget is spent"):
        Evaluator("onnxruntime:CPU", bounds=bounds).decode("net", node, [candidate], tmp_path / "frames", ["a.png"])


def test_too_much_memory(tmp_path: Path) -> None:
    """A network of 128 MiB in a process that may have little more than its libraries."""
    path = convolutions(tmp_path)
    import onnx
    from onnx import TensorProto

    model = onnx.load_model(path)
    for index in range(4):
        tensor = model.graph.initializer.add()
        tensor.name, tensor.data_type, tensor.raw_data = f"big{index}", TensorProto.FLOAT, bytes(32 << 20)
        tensor.dims.append(8 << 20)
    path.write_bytes(model.SerializeToString())
    with JobProcess(tmp_path / "job", Limits(memory_mib=420)) as job:
        job.call("import", source=str(convolutions(tmp_path / "small")), out=str(job.folder / "1"))
        with pytest.raises(ModelError, match=r"more memory than a job may have|the process that worked on it"):
            job.call("import", source=str(path), out=str(job.folder / "2"))
        job.call("import", source=str(convolutions(tmp_path / "small")), out=str(job.folder / "3"))


def test_a_job_may_compute_on_all_cores_for_all_of_its_budget() -> None:
    limits = for_budget(Limits(), 7200.0)
    assert limits.cpu_s >= 7200 * (os.cpu_count() or 1)
    assert limits.wall_s == 7200.0
    assert for_budget(Limits(), 1.0) == Limits()
    assert for_budget(Limits(cpu_s=0), 7200.0).cpu_s == 0


def test_writing_is_confined(tmp_path: Path) -> None:
    """By the kernel: even code that got hold of the process writes nowhere else, and calls nobody."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "old").write_text("old")
    code = """
        import socket, sys
        from pathlib import Path
        from hams_shared.runtime.child_limits import Limits, apply
        inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
        if not apply(Limits(memory_mib=2048), inside):
            print("no Landlock"); raise SystemExit
        (inside / "a").write_text("a")
        def refused(what):
            try:
                what()
            except PermissionError:
                return True
            return False
        print(refused(lambda: (outside / "a").write_text("a")), refused(lambda: (outside / "old").write_text("new")),
              refused(lambda: (outside / "old").unlink()), refused(lambda: (outside / "d").mkdir()),
              refused(lambda: (inside / "a").rename(outside / "a")) or not (outside / "a").exists(),
              refused(lambda: socket.create_connection(("127.0.0.1", 9), 1)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), inside, outside],
        capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
    )  # fmt: skip
    if "no Landlock" in done.stdout:
        pytest.skip("this kernel has no Landlock: writing cannot be confined")
    assert done.stdout.split()[:5] == ["True"] * 5, done.stdout + done.stderr
    assert sorted(path.name for path in outside.iterdir()) == ["old"]
    assert (outside / "old").read_text() == "old"
