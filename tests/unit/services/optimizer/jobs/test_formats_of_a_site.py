from __future__ import annotations

from hams_services.optimizer.jobs.optimize import Formats
from support.build import device


def test_what_devices_read() -> None:
    cpu = device("box.openvino.cpu0").model_copy(update={"backend": "openvino"})
    cuda = device("box.onnxruntime.cuda0", kind="gpu").model_copy(update={"backend": "onnxruntime"})
    emulated = device("box.emulated.vpu", kind="vpu").model_copy(update={"backend": "emulated"})
    assert Formats.of([cpu]) == Formats(frozenset({"openvino"}), frozenset())
    assert Formats.of([cpu, cuda]) == Formats(frozenset({"openvino", "onnx"}), frozenset({"onnx"}))
    assert Formats.of([emulated]) == Formats.of([]) == Formats()
