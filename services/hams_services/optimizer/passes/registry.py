"""The passes of the optimizer, in the order in which a job runs them."""

from __future__ import annotations

from hams_services.optimizer.passes.base import Pass
from hams_services.optimizer.passes.crop_input.crop_input_pass import CropInput
from hams_services.optimizer.passes.downscale_input import DownscaleInput
from hams_services.optimizer.passes.drop_outputs.drop_outputs_pass import DropOutputs
from hams_services.optimizer.passes.filter_pruning.filter_pruning_pass import FilterPruning
from hams_services.optimizer.passes.precision.precision_pass import Precision
from hams_services.optimizer.passes.quantization.int8_pass import Int8

PASSES: tuple[Pass, ...] = (
    DropOutputs(),
    CropInput(),
    Precision(),
    Int8(if_faster=True),
    DownscaleInput(),
    FilterPruning(),
)
"""Those whose result replaces the network come first; of the others the quickest."""
