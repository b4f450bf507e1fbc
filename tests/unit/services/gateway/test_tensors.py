"""The protocol's translation: bytes to tensors to images, results to tensors to bytes."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google.protobuf", reason="needs hams[gateway]")

from hams_client import Result
from hams_services.gateway.kserve import grpc_body, http_body
from hams_services.gateway.kserve.messages import MESSAGES
from hams_services.gateway.kserve.model import Call
from hams_services.gateway.kserve.tensors import (
    MAX_IMAGES,
    OUTPUTS,
    InputTensor,
    OutputTensor,
    images_of,
    join_bytes,
    outputs_of,
    split_bytes,
    wanted_outputs,
)
from hams_shared.errors import BadInputError


def found(*boxes: tuple[float, float, float, float]) -> Result:
    objects = [{"box": box, "score": 0.5, "label": "é", "age": {"value": 3.5}} for box in boxes]
    return Result({"objects": objects})  # type: ignore[typeddict-item]


def tensor(datatype: str = "BYTES", shape: tuple[int, ...] = (1,), **more: Any) -> InputTensor:
    return InputTensor("image", datatype, shape, **more)


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_elements_come_back(elements: list[bytes]) -> None:
    assert split_bytes(join_bytes(elements), len(elements)) == elements


@given(st.binary(max_size=64), st.integers(0, 9))
def test_any_bytes_are_elements_or_an_error(raw: bytes, count: int) -> None:
    with suppress(BadInputError):
        assert join_bytes(split_bytes(raw, count)) == raw


@pytest.mark.parametrize(
    ("inputs", "images"),
    [
        (tensor(raw=join_bytes([b"ab"])), [b"ab"]),
        (tensor(shape=(2, 1), raw=join_bytes([b"ab", b""])), [b"ab", b""]),
        (tensor(shape=(2,), items=["YWI=", b"c"]), [b"ab", b"c"]),
        (tensor(shape=(2, 1), items=[["YWI="], ["Yw=="]]), [b"ab", b"c"]),
    ],
)
def test_encoded_images(inputs: InputTensor, images: list[bytes]) -> None:
    assert images_of([inputs]) == images


def test_pixels_in_each_form_and_order() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    for more in ({"raw": pixels.tobytes()}, {"items": pixels.tolist()}, {"items": pixels.ravel().tolist()}):
        one, two = images_of([tensor("UINT8", pixels.shape, **more)])
        assert np.array_equal(np.stack([one, two]), pixels)
        assert np.array_equal(images_of([tensor("UINT8", pixels.shape, **more)], "rgb")[1], pixels[1, :, :, ::-1])
    [only] = images_of([tensor("UINT8", (4, 5, 3), raw=pixels[0].tobytes())])
    assert np.array_equal(only, pixels[0])


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ([], "one input, image; there are: none"),
        ([InputTensor("x", "BYTES", (1,))], "there are: x"),
        ([tensor(), tensor()], "there are: image, image"),
        ([tensor("FP32", (1,), raw=b"1234")], "datatype FP32"),
        ([tensor(shape=(), raw=b"")], r"shape \[\]"),
        ([tensor(shape=(0,), raw=b"")], r"shape \[0\]"),
        ([tensor(shape=(-1,), raw=b"")], r"shape \[-1\]"),
        ([tensor(shape=(1, 2), raw=b"")], r"shape \[1, 2\]"),
        ([tensor(shape=(MAX_IMAGES + 1,), raw=b"")], "65 images in one request"),
        ([tensor(shape=(1 << 62,), raw=b"")], "images in one request"),
        ([tensor(raw=b"123")], "element 0 of 1 is missing"),
        ([tensor(raw=struct.pack("<I", 9) + b"abc")], "element 0 has 9 bytes, but 3 follow"),
        ([tensor(raw=join_bytes([b"a", b"b"]))], "5 bytes follow its 1 elements"),
        ([tensor(items=["*"])], "element 0 is not base64"),
        ([tensor(items=[7])], "element 0 is not base64"),
        ([tensor(items=["YQ==", "YQ=="])], "2 elements of data, 1 by its shape"),
        ([tensor("UINT8", (4, 5), raw=bytes(20))], r"shape \[4, 5\]"),
        ([tensor("UINT8", (4, 5, 1), raw=bytes(20))], r"shape \[4, 5, 1\]"),
        ([tensor("UINT8", (0, 5, 3), raw=b"")], r"shape \[0, 5, 3\]"),
        ([tensor("UINT8", (1 << 40, 1 << 40, 3), raw=b"")], "shape"),
        ([tensor("UINT8", (4, 5, 3), raw=bytes(59))], "59 values of data, 60 by its shape"),
        ([tensor("UINT8", (1, 1, 3), items=[1, 2, 256])], "whole numbers from 0 to 255"),
        ([tensor("UINT8", (1, 1, 3), items=[1, 2, 0.5])], "whole numbers from 0 to 255"),
        ([tensor("UINT8", (1, 1, 3), items=[[1, 2], [3]])], "whole numbers from 0 to 255"),
        ([tensor("UINT8", (1, 1, 3), items=["a", None, {}])], "whole numbers from 0 to 255"),
    ],
)
def test_what_is_no_image_is_named(inputs: list[InputTensor], text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        images_of(inputs)


def test_outputs_hold_all_objects_and_how_many_are_of_each_image() -> None:
    results = [found((0, 1, 2, 3), (4, 5, 6, 7)), found(), found((8, 9, 10, 11.5))]
    outputs = {one.name: one for one in outputs_of(results, wanted_outputs([]))}
    assert list(outputs) == list(OUTPUTS)
    assert {name: one.shape for name, one in outputs.items()} == {
        "objects": (3,),
        "counts": (3,),
        "boxes": (3, 4),
        "scores": (3,),
        "labels": (3,),
    }
    assert np.frombuffer(outputs["boxes"].raw(), "<f4").tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11.5]
    assert np.frombuffer(outputs["counts"].raw(), "<i4").tolist() == [2, 0, 1]
    assert split_bytes(outputs["labels"].raw(), 3) == ["é".encode()] * 3
    assert json.loads(split_bytes(outputs["objects"].raw(), 3)[2])[0]["age"] == {"value": 3.5}
    nothing = {one.name: one for one in outputs_of([found()], ["boxes", "labels"])}
    assert (nothing["boxes"].shape, nothing["boxes"].raw(), nothing["labels"].raw()) == ((0, 4), b"", b"")
    with pytest.raises(BadInputError, match="no output 'x'"):
        wanted_outputs(["x"])


def http(*inputs: dict[str, Any], rest: bytes = b"", **more: Any) -> tuple[bytes, str]:
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + rest, str(len(head))


IMAGE = {"name": "image", "datatype": "BYTES", "shape": [1]}


@pytest.mark.parametrize(
    ("body", "length", "text"),
    [
        (b"", None, "not an inference request"),
        (b"[]", None, "Expected `object`"),
        (b"{}", None, "missing required field `inputs`"),
        (b'{"inputs": [' + b"[" * 100_000, None, "not an inference request"),
        (b'{"inputs":[{"name":1}]}', None, r"Expected `str`, got `int` - at `\$.inputs\[0\].name`"),
        (b"\xff\xfe", None, "not an inference request"),
        (http(IMAGE)[0], None, "neither data nor binary_data_size"),
        (http(IMAGE)[0], "9999", "Inference-Header-Content-Length is '9999'"),
        (http(IMAGE)[0], "-1", "Inference-Header-Content-Length"),
        (http(IMAGE)[0], "٣", "Inference-Header-Content-Length"),
        (http(IMAGE)[0], "0", "not an inference request"),
        (*http({**IMAGE, "parameters": {"binary_data_size": 9}}, rest=b"12"), "binary_data_size is 9, 2 bytes follow"),
        (*http({**IMAGE, "parameters": {"binary_data_size": -1}}, rest=b"12"), "binary_data_size is -1"),
        (*http({**IMAGE, "parameters": {"binary_data_size": True}}, rest=b"1"), "binary_data_size is True"),
        (*http({**IMAGE, "parameters": {"binary_data_size": "1"}}, rest=b"1"), "binary_data_size is '1'"),
        (*http({**IMAGE, "parameters": {"binary_data_size": 1}}, rest=b"12"), "1 bytes follow the inputs"),
    ],
)
def test_what_is_no_request_is_named(body: bytes, length: str | None, text: str) -> None:
    with pytest.raises(BadInputError, match=text):
        http_body.parse(body, length)


def test_large_json_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_body, "MAX_JSON", 10)
    with pytest.raises(BadInputError, match="send the image as binary data"):
        http_body.parse(http(IMAGE)[0], None)


@settings(max_examples=30)
@given(
    st.lists(st.binary(min_size=0, max_size=50), min_size=1, max_size=4),
    st.sampled_from([(), ("boxes",), ("objects", "counts")]),
    st.booleans(),
    st.text(max_size=5),
)
def test_a_request_and_its_answer_survive_both_ways(
    images: list[bytes], names: tuple[str, ...], binary: bool, ident: str
) -> None:
    raw = join_bytes(images)
    entry = {**IMAGE, "shape": [len(images)], "parameters": {"binary_data_size": len(raw)}}
    wanted = [{"name": name, "parameters": {"binary_data": binary}} for name in names]
    asked = http_body.parse(*http(entry, rest=raw, id=ident, outputs=wanted, parameters={"binary_data_output": binary}))
    assert images_of(asked.call.inputs) == images
    outputs = outputs_of([found((0, 1, 2, 3))] * len(images), wanted_outputs(asked.call.outputs))
    data, size = http_body.answer("face", asked, outputs)
    told = json.loads(data[:size])
    rest = data[size:] if size is not None else b""
    assert (told.get("id", ""), size is not None) == (ident, binary)
    for one, entry in zip(outputs, told["outputs"], strict=True):
        if binary:
            length = entry["parameters"]["binary_data_size"]
            assert rest[:length] == one.raw()
            rest = rest[length:]
        else:
            assert len(entry["data"]) == len(one.values)
    assert not rest

    request = MESSAGES["ModelInferRequest"](model_name="face", id=ident, raw_input_contents=[raw])
    request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    for name in names:
        request.outputs.add(name=name)
    call = grpc_body.call_of(MESSAGES["ModelInferRequest"].FromString(request.SerializeToString()))
    assert images_of(call.inputs) == images
    assert [*call.outputs] == [*names]
    sent = grpc_body.answer("face", call, outputs)
    assert [one.name for one in sent.outputs] == [one.name for one in outputs]
    assert list(sent.raw_output_contents) == [one.raw() for one in outputs]


def test_contents_of_grpc_one_by_one() -> None:
    request = MESSAGES["ModelInferRequest"]()
    one = request.inputs.add(name="image", datatype="BYTES", shape=[2])
    one.contents.bytes_contents.extend([b"ab", b"c"])
    assert images_of(grpc_body.call_of(request).inputs) == [b"ab", b"c"]
    one.datatype, one.shape[:] = "UINT8", [1, 1, 3]
    one.contents.uint_contents.extend([1, 2, 255])
    [pixels] = images_of(grpc_body.call_of(request).inputs)
    assert np.asarray(pixels).tolist() == [[[1, 2, 255]]]
    request.parameters["deadline_s"].double_param = 2.5
    assert grpc_body.call_of(request).deadline(30) == 2.5
    request.raw_input_contents.append(b"x")
    with pytest.raises(BadInputError, match="contents beside raw_input_contents"):
        grpc_body.call_of(request)
    request.raw_input_contents.append(b"x")
    with pytest.raises(BadInputError, match="2 raw_input_contents for 1 inputs"):
        grpc_body.call_of(request)


@pytest.mark.parametrize("value", [0, -1, 601, "x", None, [], float("nan"), float("inf"), "1e999", 10**400])
def test_a_deadline_has_bounds(value: object) -> None:
    with pytest.raises(BadInputError, match="a deadline of"):
        Call([], parameters={"deadline_s": value}).deadline(30)
    assert Call([], parameters={"timeout": 2_000_000}).deadline(30) == 2


def test_a_timeout_has_bounds() -> None:
    with pytest.raises(BadInputError, match="a deadline of"):
        Call([], parameters={"timeout": 10**400}).deadline(30)


def test_ten_thousand_broken_requests_are_nothing_but_named_errors() -> None:
    random = np.random.default_rng(1)
    raw = join_bytes([b"\xff\xd8abc", b"d"])
    whole, length = http({**IMAGE, "shape": [2], "parameters": {"binary_data_size": len(raw)}}, rest=raw, id="x")
    request = MESSAGES["ModelInferRequest"](model_name="face", raw_input_contents=[raw])
    request.inputs.add(name="image", datatype="BYTES", shape=[2]).parameters["a"].int64_param = 3
    message = request.SerializeToString()
    for number in range(10_000):
        data = bytearray((whole, message)[number % 2])
        for _ in range(random.integers(1, 5)):
            at = int(random.integers(0, len(data)))
            if at % 3:
                data[at] = random.integers(0, 256)
            else:
                del data[at : at + 3]
            if len(data) < 4:
                break
        try:
            if number % 2:
                images_of(grpc_body.call_of(MESSAGES["ModelInferRequest"].FromString(bytes(data))).inputs)
            else:
                asked = http_body.parse(bytes(data), length if number % 4 else str(random.integers(0, 200)))
                images_of(asked.call.inputs, asked.call.order)
                asked.call.deadline(30)
        except BadInputError:
            pass
        except Exception as error:
            assert type(error).__name__ == "DecodeError", (error, bytes(data))  # of protobuf: no message at all


def test_an_output_of_bytes_is_text_in_json() -> None:
    asked = http_body.HttpCall(Call([]), binary=False)
    data, size = http_body.answer("g", asked, [OutputTensor("labels", "BYTES", (1,), ["é".encode()])])
    assert size is None
    assert json.loads(data)["outputs"][0]["data"] == ["é"]
