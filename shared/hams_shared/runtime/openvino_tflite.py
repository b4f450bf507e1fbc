"""Quantised inputs and outputs of TFLite networks in OpenVINO, as LiteRT has them.

OpenVINO's reader keeps the stored integers: an input is ``Parameter(u8) → Convert → FakeQuantize(stored → real)``, an
output ``FakeQuantize(real → stored) → Convert(u8) → Result``.
"""

from __future__ import annotations

from typing import Any

_STORED = ("u8", "i8", "i16")


def real_outputs(graph: Any) -> None:
    """Have quantised outputs of a graph read from TFLite give real numbers, still rounded as they are stored."""
    for result in graph.get_results():
        convert = result.input_value(0).get_node()
        quantise = _source(convert, "Convert", "FakeQuantize")
        if quantise is None or convert.get_attributes()["destination_type"] not in _STORED:
            continue
        for low_or_high in (3, 4):
            quantise.input(low_or_high).replace_source_output(quantise.input_value(low_or_high - 2))
        quantise.output(0).get_tensor().set_names(convert.output(0).get_names())
        result.input(0).replace_source_output(quantise.output(0))
    graph.validate_nodes_and_infer_types()


def take_images(graph: Any, dtype: str) -> None:
    """Have quantised inputs of a graph read from TFLite take images.

    Images of ``u8`` are the bytes as they are stored, less 128 where the network stores i8; of ``f32``, real numbers.
    """
    import openvino as ov
    from openvino import opset13

    for port in graph.get_parameters():
        stored = port.get_element_type().get_type_name()
        [reader, *others] = [each.get_node() for each in port.output(0).get_target_inputs()] or [None]
        readers = [each.get_node() for each in reader.output(0).get_target_inputs()] if reader else []
        if stored not in _STORED or others or any(each.get_type_name() != "FakeQuantize" for each in readers):
            continue
        if dtype != "u8":
            port.set_element_type(ov.Type.f32)
            _map(readers, lambda quantise, side: quantise.input_value(side + 2))
        elif stored == "i8":
            port.set_element_type(ov.Type.u8)
            _map(readers, lambda _, side: opset13.constant(0.0 if side == 1 else 255.0, ov.Type.f32).output(0))
    graph.validate_nodes_and_infer_types()


def _map(readers: list[Any], limit: Any) -> None:
    """Set the lower (1) and upper (2) limit of the values that each of `readers` is given."""
    for quantise in readers:
        for side in (1, 2):
            quantise.input(side).replace_source_output(limit(quantise, side))


def _source(node: Any, kind: str, of: str) -> Any:
    """Return what `node` reads where it is of `kind` and reads a node of the kind `of`; else None."""
    if node.get_type_name() != kind:
        return None
    source = node.input_value(0).get_node()
    return source if source.get_type_name() == of else None
