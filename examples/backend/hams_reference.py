"""Devices ``reference:CPU``: networks in ONNX, computed by the reference evaluator of the package onnx."""

import time

from hams_agents.backends import host, network
from hams_agents.backends.base import Capabilities
from hams_shared.errors import DeviceSpecError, ModelError, UnsupportedModelError

TYPES = {1: "float32", 2: "uint8"}  # of the input, by their number in ONNX


class Reference:
    note = "an example: slow"

    @staticmethod
    def parse(target):  # the target of "reference:cpu@0" → as it is written, and a short name
        if target.upper() != "CPU":
            raise DeviceSpecError(f"reference has no unit {target!r}", "use reference:CPU")
        return "CPU", "cpu"

    @staticmethod
    def targets():  # what `hams-ctl devices --discover` finds
        return ["CPU"]

    @staticmethod
    def open(spec, cache=None):
        return Reference(spec)

    def __init__(self, spec):
        import onnx  # the runtime is imported here, when the process is pinned to its cores

        self.capabilities = Capabilities(
            backend="reference",
            unit=spec.unit,
            kind="cpu",
            name=host.cpu_name(),
            cores=spec.cores,
            memory_mib=host.memory_share_mib(spec.cores),
            precisions=("fp32",),
            runtime=f"onnx {onnx.__version__}",
            threads=1,
        )

    def load(self, model):
        import onnx
        from onnx.reference import ReferenceEvaluator

        network.check_file(model, frozenset({".onnx"}), "the reference evaluator")
        start = time.perf_counter()
        try:
            file = onnx.load(model.path)
            evaluator = ReferenceEvaluator(file)
        except NotImplementedError as error:
            raise UnsupportedModelError(f"model {model.name}: {network.one_line(error)}") from error
        except Exception as error:
            raise ModelError(f"model {model.name} cannot be read: {network.one_line(error)}") from error
        network.one_input(model, evaluator.input_names)
        tensor = file.graph.input[0].type.tensor_type
        network.check_shape(model, [size.dim_value or None for size in tensor.shape.dim])

        def run(images):  # one image; BatchNetwork makes batches, casts, and checks shapes
            return evaluator.run(None, {evaluator.input_names[0]: images})

        names, element = evaluator.output_names, TYPES.get(tensor.elem_type, "float32")
        loaded = network.BatchNetwork(model, element, names, run, lambda: None, 0.0)
        loaded.load_ms, loaded.memory_mib = (time.perf_counter() - start) * 1e3, network.file_mib(model.path)
        return loaded

    def close(self):
        pass
