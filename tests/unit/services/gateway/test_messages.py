"""The messages of gRPC are those of the protocol, as Triton's client has them."""

from __future__ import annotations

import pytest

pytest.importorskip("google.protobuf", reason="needs hams[gateway]")
pytest.importorskip("tritonclient.grpc", reason="needs tritonclient[grpc]")

from tritonclient.grpc import service_pb2 as service

from hams_services.gateway.kserve.messages import MESSAGES

NESTED = {
    "TensorMetadata": service.ModelMetadataResponse.TensorMetadata,
    "InferInputTensor": service.ModelInferRequest.InferInputTensor,
    "InferRequestedOutputTensor": service.ModelInferRequest.InferRequestedOutputTensor,
    "InferOutputTensor": service.ModelInferResponse.InferOutputTensor,
    "ModelIndex": service.RepositoryIndexResponse.ModelIndex,
}
"""Here they stand beside the messages that they are in, which is the same on the wire."""
OF_NEWER = {"double_param", "uint64_param"}
"""Fields of the protocol that the client may not have yet."""


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_the_fields_of_the_protocol(name: str) -> None:
    ours = MESSAGES[name].DESCRIPTOR.fields_by_name
    theirs = (NESTED.get(name) or getattr(service, name)).DESCRIPTOR.fields_by_name
    assert set(ours) >= set(theirs)
    assert set(ours) - set(theirs) <= OF_NEWER
    for field in theirs.values():
        mine = ours[field.name]
        assert (mine.number, mine.type, mine.is_repeated) == (field.number, field.type, field.is_repeated), field.name
        assert (mine.containing_oneof is None) == (field.containing_oneof is None)
