from __future__ import annotations

from hams_services.optimizer.site import SiteFormats
from support.build import device


def test_what_devices_read() -> None:
    cpu = device("box.openvino.cpu0").model_copy(update={"backend": "openvino"})
    cuda = device("box.onnxruntime.cuda0", kind="gpu").model_copy(update={"backend": "onnxruntime"})
    litert = device("box.litert.cpu1").model_copy(update={"backend": "litert"})
    emulated = device("box.emulated.vpu", kind="vpu").model_copy(update={"backend": "emulated"})
    assert SiteFormats.of([cpu]) == SiteFormats(frozenset({"openvino"}), frozenset(), bf16=False)
    assert SiteFormats.of([cpu, cuda]) == SiteFormats(frozenset({"openvino", "onnx"}), frozenset({"onnx"}), bf16=False)
    assert SiteFormats.of([cpu, litert]) == SiteFormats.of([cpu])
    assert SiteFormats.of([litert]) == SiteFormats(frozenset(), frozenset(), bf16=False)  # it runs TFLite as it is
    assert SiteFormats.of([emulated]) == SiteFormats.of([]) == SiteFormats()


def test_bf16_is_tried_where_a_device_has_it() -> None:
    plain = device("box.openvino.cpu0").model_copy(update={"backend": "openvino"})
    better = device("far.openvino.cpu0").model_copy(update={"backend": "openvino", "precisions": ("fp32", "bf16")})
    assert not SiteFormats.of([plain]).bf16
    assert SiteFormats.of([plain, better]).bf16
