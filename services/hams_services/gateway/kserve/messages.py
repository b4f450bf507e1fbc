"""The protocol's messages of gRPC, made at run time from the table below: no generated code, no compiler at install.

Names, numbers and types are those of the Open Inference Protocol (``inference.GRPCInferenceService``), and of Triton's
extensions to it that are named here. A test compares them with the messages of `tritonclient`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TABLE = """
ServerLiveRequest
ServerLiveResponse          live bool 1
ServerReadyRequest
ServerReadyResponse         ready bool 1
ModelReadyRequest           name string 1, version string 2
ModelReadyResponse          ready bool 1
ServerMetadataRequest
ServerMetadataResponse      name string 1, version string 2, extensions string* 3
ModelMetadataRequest        name string 1, version string 2
TensorMetadata              name string 1, datatype string 2, shape int64* 3
ModelMetadataResponse       name string 1, versions string* 2, platform string 3, inputs TensorMetadata* 4, \
outputs TensorMetadata* 5
InferParameter              bool_param bool 1, int64_param int64 2, string_param string 3, double_param double 4, \
uint64_param uint64 5
InferTensorContents         bool_contents bool* 1, int_contents int32* 2, int64_contents int64* 3, \
uint_contents uint32* 4, uint64_contents uint64* 5, fp32_contents float* 6, fp64_contents double* 7, \
bytes_contents bytes* 8
InferInputTensor            name string 1, datatype string 2, shape int64* 3, parameters InferParameter% 4, \
contents InferTensorContents 5
InferRequestedOutputTensor  name string 1, parameters InferParameter% 2
ModelInferRequest           model_name string 1, model_version string 2, id string 3, parameters InferParameter% 4, \
inputs InferInputTensor* 5, outputs InferRequestedOutputTensor* 6, raw_input_contents bytes* 7
InferOutputTensor           name string 1, datatype string 2, shape int64* 3, parameters InferParameter% 4, \
contents InferTensorContents 5
ModelInferResponse          model_name string 1, model_version string 2, id string 3, parameters InferParameter% 4, \
outputs InferOutputTensor* 5, raw_output_contents bytes* 6
ModelStreamInferResponse    error_message string 1, infer_response ModelInferResponse 2
RepositoryIndexRequest      repository_name string 1, ready bool 2
ModelIndex                  name string 1, version string 2, state string 3, reason string 4
RepositoryIndexResponse     models ModelIndex* 1
"""
"""Message, then its fields: name, type, number. ``*``: repeated; ``%``: a map from strings."""
_CHOICES = {"InferParameter": "parameter_choice"}
"""Messages of which one field at most is set."""

Field: Any = descriptor_pb2.FieldDescriptorProto


def _rows() -> Iterator[tuple[str, list[list[str]]]]:
    for line in _TABLE.strip().splitlines():
        name, _, fields = line.partition(" ")
        yield name, [one.split() for one in fields.strip().split(",") if one.strip()]


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="hams/inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _rows():
        message = file.message_type.add(name=name)
        if name in _CHOICES:
            message.oneof_decl.add(name=_CHOICES[name])
        for field_name, kind, number in fields:
            field = message.field.add(name=field_name, number=int(number), label=Field.LABEL_OPTIONAL)
            if kind.endswith("%"):
                kind = _map_entry(message, field_name, kind[:-1]) + "*"
            if kind.endswith("*"):
                field.label = Field.LABEL_REPEATED
            _set_type(field, kind.rstrip("*"))
            if name in _CHOICES:
                field.oneof_index = 0
    return file


def _set_type(field: Any, kind: str) -> None:
    if kind[0].isupper() or kind.startswith("."):
        field.type = Field.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{PACKAGE}.{kind}"
    else:
        field.type = Field.Type.Value(f"TYPE_{kind.upper()}")


def _map_entry(message: Any, field: str, value: str) -> str:
    """Add the message of a map's entries; return its name."""
    name = "".join(part.capitalize() for part in field.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    _set_type(entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL), "string")
    _set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), value)
    return f".{PACKAGE}.{message.name}.{name}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()  # of our own: a process may hold another client's messages of these names
    pool.Add(_file())
    named = (name for name, _ in _rows())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in named}


MESSAGES: dict[str, Any] = _classes()
"""The classes of all messages, by name."""
