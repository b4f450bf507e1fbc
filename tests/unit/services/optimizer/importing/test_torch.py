"""PyTorch files: both runtimes say what PyTorch says, and a pickle is never loaded, with PyTorch or without."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino as ov
import pytest

from hams_services.optimizer.sandbox.process import JobProcess
from hams_shared.errors import BadInputError, HamsError, ModelError, UnsupportedModelError


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def program(torch: Any) -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
    ).eval()


@pytest.mark.train
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", ["torchscript", "torch-export"])
def test_both_runtimes_say_what_pytorch_says(tmp_path: Path, kind: str) -> None:
    import torch

    net = program(torch)
    image = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "net.pt"
    if kind == "torchscript":
        torch.jit.save(torch.jit.trace(net, image), str(path))
    else:
        path = tmp_path / "net.pt2"
        torch.export.save(torch.export.export(net, (image,)), str(path))
    expected = net(image).detach().numpy()
    with JobProcess(tmp_path / "job") as job:
        done = job.call("import", source=str(path), out=str(job.folder / "1"), shape=[1, 3, 8, 8])
        assert done["format"] == kind
        found = ov.Core().compile_model(done["files"]["openvino"][0], "CPU")(image.numpy())[0]
        assert np.allclose(found, expected, atol=1e-2)
        assert "onnx" in done["files"], done["skipped"]
        session = onnxruntime.InferenceSession(done["files"]["onnx"][0], providers=["CPUExecutionProvider"])
        assert np.allclose(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0], expected, atol=1e-4)
        if kind == "torchscript":
            with pytest.raises(BadInputError, match="does not say the shape"):
                job.call("import", source=str(path), out=str(job.folder / "2"))


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    """Neither as it is, nor as PyTorch wraps it: what it would run is not run."""
    witness = tmp_path / "job" / "ran"
    bare, wrapped, program_like = tmp_path / "a.pt", tmp_path / "b.pt", tmp_path / "c.pt2"
    data = pickle.dumps(Touch(witness))
    bare.write_bytes(data)
    for path, names in ((wrapped, ["n/data.pkl"]), (program_like, ["n/archive_format", "n/data/constants/c.pt"])):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, data)
    with JobProcess(tmp_path / "job") as job:
        for index, path in enumerate((bare, wrapped, program_like)):
            with pytest.raises(HamsError) as told:
                job.call("import", source=str(path), out=str(job.folder / f"{index}"))
            assert isinstance(told.value, ModelError | UnsupportedModelError)
    assert not witness.exists()
