"""The contract kit: our backends and the example keep the contract, and each broken backend fails the right check."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hams_agents.backends.built_in import OnnxRuntime
from hams_agents.backends.contract import checks, interrupt, kit, samples
from hams_agents.backends.contract.checks import FailedError, Subject
from hams_agents.devices import DeviceSpec
from hams_shared.errors import BadInputError
from support import broken_backends as broken

EAGER = """import threading

from support.broken_backends import Broken

done = threading.Event()
for _ in range(5):
    threading.Thread(target=done.wait, args=(600,), daemon=True).start()
"""
STICK = "name: stick\nkind: vpu\nmemory_mib: 512\nrun: onnxruntime\nfps: {'*': 5000}\n"


def subject(cls: type[broken.Broken], folder: Path, where: str = "") -> Subject:
    return Subject(cls, where, broken.CPU, cls.open(broken.CPU), samples.scaled(folder), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "device"),
    [
        ("hams_agents.backends.built_in:OpenVino", None),
        ("hams_agents.backends.built_in:OnnxRuntime", "onnxruntime:CPU"),
        ("hams_agents.backends.built_in:Emulated", "stick.yaml"),
        ("hams_reference:Reference", "reference:cpu"),
    ],
)
def test_our_backends_and_the_example_keep_it(tmp_path: Path, where: str, device: str | None) -> None:
    (tmp_path / "stick.yaml").write_text(STICK)
    paths = os.pathsep.join([str(broken.EXAMPLE), *sys.path])
    argv = [sys.executable, "-m", "hams_agents.backends.contract", where]
    argv += ["--device", device] if device else []
    done = subprocess.run(
        argv, cwd=tmp_path, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^{len(checks.CHECKS) + 2} checks: \d+ passed, 0 failed, [0-3] not checked$", done.stdout, re.M)


@pytest.mark.parametrize(
    ("cls", "check", "says"),
    [
        (broken.broken(broken.WrongNumbers), checks.outputs_by_name, "output twice differs by 1"),
        (broken.broken(broken.NoNames), checks.outputs_by_name, "gave list instead of outputs by name"),
        (broken.broken(broken.BatchOfOne), checks.images_first, "infer of 2 images gave output 'twice' as 1×3×8×8"),
        (broken.broken(broken.MixedBatch), checks.images_first, "image 1 of 2: output twice differs"),
        (broken.broken(broken.OneBuffer), checks.fresh_arrays, "return copies"),
        (broken.broken(broken.AnyShape), checks.wrong_shape, "infer of a wider image raises nothing"),
        (broken.RawErrors, checks.corrupt_files, "raises RuntimeError instead of ModelError"),
        (broken.RawErrors, checks.other_size_at_load, "load for 4 channels raises RuntimeError"),
        (broken.AllIsBroken, checks.other_format, "raises ModelError instead of UnsupportedModelError"),
        (broken.AllIsBroken, checks.unknown_operator, "raises ModelError instead of UnsupportedModelError"),
        (broken.broken(broken.OpenAfterClose), checks.closed, "infer of a closed network raises nothing"),
        (broken.KeepsItsLoads, checks.memory_of_loads, "12 loads take"),
        (broken.broken(broken.KeepsWhatItSaw), checks.memory_of_inferences, "200 inferences take"),
        (broken.NotOneAtATime, checks.lanes, "lane . of 2: output"),
        (broken.AnyTarget, checks.unknown_target, "DeviceSpecError is expected"),
        (broken.OtherTarget, checks.names_of_targets, "and parse of that something else"),
    ],
)
def test_what_is_broken_is_found(
    tmp_path: Path, cls: type[broken.Broken], check: Callable[[Subject], None], says: str
) -> None:
    with pytest.raises(FailedError, match=says):
        check(subject(cls, tmp_path))


@pytest.mark.parametrize("check", [c for c in checks.CHECKS if c not in (checks.ctrl_c, checks.memory_of_inferences)])
def test_what_is_not_broken_is_not_found(tmp_path: Path, check: Callable[[Subject], None]) -> None:
    try:
        check(subject(broken.Broken, tmp_path))
    except checks.SkippedError as skipped:
        assert str(skipped)


def test_a_fallback_to_the_cpu_is_found(tmp_path: Path) -> None:
    class SaysGpu:
        """ONNX Runtime's CPU, as if it were something else."""

        def __init__(self) -> None:
            self.cpu = OnnxRuntime.open(DeviceSpec("onnxruntime", "CPU", "cpu"))
            self.capabilities = replace(self.cpu.capabilities, kind="gpu")
            self.load, self.close = self.cpu.load, self.cpu.close

    one = Subject(OnnxRuntime, "", broken.CPU, SaysGpu(), samples.scaled(tmp_path), tmp_path)
    with pytest.raises(FailedError, match="the CPU computes it"):
        checks.no_fallback(one)


def test_any_error_of_a_check_is_a_failure_in_one_line(tmp_path: Path) -> None:
    result = kit._result(checks.closed, subject(broken.broken(broken.ClosedOnce), tmp_path))
    assert result.ok is False
    assert result.why.startswith("RuntimeError: closed already [")


def test_ctrl_c_that_is_ignored_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "END_S", 1.0)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with pytest.raises(FailedError, match="runs on 1 s after Ctrl-C"):
        checks.ctrl_c(subject(broken.IgnoresCtrlC, tmp_path, "support.broken_backends:IgnoresCtrlC"))


def test_wrong_capabilities_end_the_checks(tmp_path: Path) -> None:
    results = list(kit.run("support.broken_backends:WrongCapabilities", "CPU", tmp_path))
    assert [one.ok for one in results] == [True, False]
    assert "state the kind 'toaster'" in results[-1].why


def test_a_package_that_starts_threads_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "eager_backend.py").write_text(EAGER)
    monkeypatch.syspath_prepend(tmp_path)
    first = next(kit.run("eager_backend:Broken", "CPU", tmp_path))
    sys.modules.pop("eager_backend").done.set()
    assert first.ok is False
    assert re.fullmatch(r"it starts \d+", first.why)  # fewer than 5 if threads of other tests end meanwhile


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("nothing", "is not MODULE:CLASS"),
        ("no_such_package:Backend", "no_such_package:Backend cannot be imported: ModuleNotFoundError"),
        ("pathlib:Path", "pathlib:Path has no parse, no targets"),
    ],
)
def test_nothing_to_check_is_an_error_with_exit_2(
    tmp_path: Path, where: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInputError, match=says) as caught:
        list(kit.run(where, None, tmp_path))
    assert caught.value.exit_code == 2
    assert caught.value.hint
