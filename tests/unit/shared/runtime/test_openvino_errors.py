from __future__ import annotations

from hams_shared.runtime.openvino_errors import unknown_operators

SAID = """Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted. Summary:
-- No conversion rule found for operations: TFLite_Detection_PostProcess, Foo
To facilitate the conversion of unsupported operations, refer to Frontend Extension documentation: https://docs…
"""


def test_operators_are_named() -> None:
    assert unknown_operators(RuntimeError(SAID)) == (
        "OpenVINO does not know TFLite_Detection_PostProcess, Foo (`outputs` of a node cuts the network before it)"
    )
    assert unknown_operators(RuntimeError(SAID.partition("\nTo facilitate")[0])) is not None
    assert unknown_operators(RuntimeError("Conversion failed for another reason")) is None
