"""Vision language models on OpenVINO devices, by OpenVINO GenAI (``hams[genai]``): text about one picture at a time.

A model is a zip file of the folder that GenAI reads; it is unpacked next to itself, once for all agents that share the
cache. Its one output, ``text``, is UTF-8 in N×L bytes, padded with zeros; ``whole`` (N, 0 or 1) is whether the network
came to an end by itself. A picture is uint8 R, G, B, rows top to bottom (``dtype: u8``, ``layout: nhwc``).
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hams_agents.backends.base import ModelFile
from hams_agents.backends.network import check_file, file_mib, one_line, release_memory, shape_text
from hams_agents.cpus import give_way
from hams_agents.question import Question
from hams_shared.errors import HamsError, ModelError, UnsupportedModelError
from hams_shared.runtime.process import resident_mib
from hams_shared.runtime.zips import unpack

FORMAT = ".zip"
FILES = "files"
"""The folder next to the zip file."""
NOTHING: Mapping[str, NDArray[Any]] = {}


class GenAiNetwork:
    """A loaded vision language model, asked one question; see :class:`hams_agents.backends.base.Generating`."""

    dynamic_batch = False
    metadata: Mapping[str, str] = {}

    def __init__(self, model: ModelFile, pipeline: Pipeline, question: Question) -> None:
        self.memory_mib = 0.0
        self.load_ms = 0.0
        self._model = model
        self._pipeline = pipeline
        self._question = question

    def asked(self, question: Question) -> GenAiNetwork:
        """Return the same network, asked another question."""
        other = GenAiNetwork(self._model, self._pipeline, question)
        other.memory_mib, other.load_ms = self.memory_mib, self.load_ms
        return other

    def infer(
        self, images: NDArray[Any], *, further: Mapping[str, NDArray[Any]] = NOTHING, alone: bool = True
    ) -> dict[str, NDArray[Any]]:
        """Write about N pictures, one after another; see :meth:`hams_agents.backends.base.Network.infer`."""
        if images.dtype != np.uint8 or images.shape[1:] != self._model.input_shape[1:]:
            raise ModelError(
                f"model {self._model.name} was given {shape_text(images.shape)} of {images.dtype}, "
                f"not pictures of {shape_text(self._model.input_shape)} of uint8"
            )
        written = [self._pipeline.write(image, self._question) for image in images]
        texts = [text.replace("\0", "").encode() for text, _ in written]
        padded = np.zeros((len(texts), max([1, *map(len, texts)])), np.uint8)
        for row, text in zip(padded, texts, strict=True):
            row[: len(text)] = np.frombuffer(text, np.uint8)
        return {"text": padded, "whole": np.array([whole for _, whole in written], np.uint8)}

    def end(self) -> None:
        """Write no more: what is being written ends at its next token."""
        self._pipeline.ended = True

    def close(self) -> None:
        """Release the memory."""
        self._pipeline.close()


class Pipeline:
    """GenAI's pipeline, which takes one question at a time: a second thread waits."""

    def __init__(self, model: ModelFile, folder: Path, target: str, config: Mapping[str, Any]) -> None:
        genai = _genai(model)
        self._genai = genai
        self._model = model
        self._lock = threading.Lock()
        self.ended = False
        """Nothing is written any more."""
        try:
            # One question at a time needs no memory in pages, which several would share (the other backend, PA).
            self._pipeline: Any = genai.VLMPipeline(str(folder), target, ATTENTION_BACKEND="SDPA", **config)
        except Exception as error:
            raise ModelError(f"model {model.name} cannot be loaded on {target}: {one_line(error, folder)}") from error

    def write(self, image: NDArray[np.uint8], question: Question) -> tuple[str, bool]:
        """Return the answer about one picture (H×W×3), and whether it is whole. Raises ModelError."""
        import openvino as ov

        status = self._genai.StreamingStatus
        with self._lock:
            if self.ended:
                raise ModelError(f"model {self._model.name} is closed")
            config, end = self._config(question), time.monotonic() + question.max_s

            def stop(_: str) -> Any:
                return status.STOP if self.ended or time.monotonic() >= end else status.RUNNING

            try:
                found = self._pipeline.generate(
                    question.prompt,
                    images=[ov.Tensor(np.ascontiguousarray(image[None]))],
                    generation_config=config,
                    streamer=stop,
                )
            except Exception as error:  # GenAI raises many kinds
                raise ModelError(f"model {self._model.name} failed: {one_line(error)}") from error
        cut = self.ended or time.monotonic() >= end
        return found.texts[0], found.finish_reasons[0] == self._genai.GenerationFinishReason.STOP and not cut

    def close(self) -> None:
        """Stop at the next token, and release the memory."""
        self.ended = True
        with self._lock:
            self._pipeline = None
        release_memory()

    def _config(self, question: Question) -> Any:
        config = self._pipeline.get_generation_config()
        config.max_new_tokens = question.max_tokens
        config.do_sample = question.temperature > 0
        if config.do_sample:
            config.temperature = question.temperature
        return config


def load(model: ModelFile, target: str, config: Mapping[str, Any]) -> GenAiNetwork:
    """Load the model on an OpenVINO device with its settings; see :meth:`hams_agents.backends.base.Backend.load`."""
    check_file(model, frozenset({FORMAT}), "OpenVINO GenAI")
    if model.dtype != "u8" or len(model.input_shape) != 4 or model.input_shape[-1] != 3:
        raise UnsupportedModelError(
            f"model {model.name} takes pictures of R, G, B bytes", "input: {dtype: u8, layout: nhwc, color: rgb}"
        )
    _genai(model)
    release_memory()
    memory, start = resident_mib(), time.perf_counter()
    folder = unpacked(model)
    pipeline = _giving_way(lambda: Pipeline(model, folder, target, config))
    network = GenAiNetwork(model, pipeline, Question())
    network.load_ms = (time.perf_counter() - start) * 1e3
    release_memory()
    network.memory_mib = max(resident_mib() - memory, file_mib(model.path))
    return network


def unpacked(model: ModelFile) -> Path:
    """Return the folder of the model's files, unpacked if it is not there. Raises ModelError."""
    folder = model.path.parent / FILES
    if folder.is_dir():
        return folder
    temporary = Path(tempfile.mkdtemp(dir=model.path.parent, prefix=".part-"))
    try:
        unpack(model.path, temporary)
        os.rename(temporary, folder)
    except OSError as error:
        if not folder.is_dir():  # another agent was first
            raise ModelError(f"model {model.name} cannot be unpacked: {error.strerror or error}") from error
    except HamsError as error:
        raise ModelError(f"model {model.name}: {error.text}", error.hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _genai(model: ModelFile) -> Any:
    try:
        import openvino_genai
    except ImportError as error:
        raise UnsupportedModelError(
            f"model {model.name} is a vision language model, and OpenVINO GenAI cannot be imported: {one_line(error)}",
            "install hams[genai]",
        ) from error
    return openvino_genai


def _giving_way(make: Callable[[], Pipeline]) -> Pipeline:
    """Call `make` in a thread of its own that gives way to others, as all threads do that it starts."""
    done: Future[Pipeline] = Future()

    def run() -> None:
        give_way()
        try:
            done.set_result(make())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="genai", daemon=True)
    thread.start()
    thread.join()  # the watchdog of loading looks at it
    return done.result()
