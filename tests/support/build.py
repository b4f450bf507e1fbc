"""Small pieces that many tests are made of."""

from __future__ import annotations

import hashlib
from typing import Any

from hams_shared.group.node_spec import NodeSpec, Precision
from hams_shared.group.spec import GroupSpec, parse_group
from hams_shared.wire.frames import FrameId, Output
from hams_shared.wire.messages.agents import AssignmentState, DeviceRecord, Heartbeat, ProfileRecord
from hams_shared.wire.messages.group import GroupRecord, ModelPart, ModelRef
from hams_shared.wire.messages.plan import Plan
from hams_shared.wire.variants import Agreement, Made, VariantRecord, task_key


def group_spec(name: str = "face", nodes: tuple[str, ...] = ("det", "age"), **extra: Any) -> GroupSpec:
    """A detector and children of it."""
    root, *children = nodes
    spec: dict[str, Any] = {
        root: {"model": f"/models/{root}.onnx", "input": {"size": [64, 64]}, "task": {"type": "raw"}},
    }
    for child in children:
        spec[child] = {
            "model": f"/models/{child}.onnx",
            "parent": root,
            "input": {"size": [32, 32]},
            "task": {"type": "raw"},
        }
    return parse_group({"name": name, "nodes": spec, **extra})


def model_ref(name: str) -> ModelRef:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return ModelRef(name=name, digest=digest, parts=(ModelPart(suffix=".onnx", digest=digest, size=1),))


def group_record(spec: GroupSpec | None = None, deployed_at: float = 1.0) -> GroupRecord:
    spec = spec or group_spec()
    return GroupRecord(spec=spec, models={n: model_ref(n) for n in spec.nodes}, deployed_at=deployed_at)


def only(name: str, node: str, pin: str = "", *, deployed_at: float = 1.0, **extra: object) -> GroupRecord:
    """A group of one node."""
    spec = group_spec(name, (node,), **extra)
    if pin:
        spec.nodes[node] = spec.nodes[node].model_copy(update={"pin": (pin,)})
    return group_record(spec, deployed_at)


def plan(epoch: int, shares: dict[str, str], spec: GroupSpec | None = None) -> Plan:
    """A plan that puts each node whole on one device."""
    return Plan(
        epoch=epoch, group=group_record(spec), shares={n: {d: 1.0} for n, d in shares.items()}, strategy="mfs", fps=10.0
    )


def device(name: str, *, cores: tuple[int, ...] = (0,), kind: str = "cpu", memory_mib: int = 1000) -> DeviceRecord:
    host, backend, unit = name.split(".")
    return DeviceRecord(
        device=name,
        incarnation="i1",
        host=host,
        backend=backend,
        unit=unit,
        kind=kind,
        name=name,
        cores=cores,
        memory_mib=memory_mib,
        precisions=("fp32",),
        runtime="test 1",
        fingerprint=f"fp-{backend}-{unit}",
        version="0",
        started_at=0.0,
    )


def heartbeat(
    name: str, *ready: tuple[str, int], incarnation: str = "i1", refused: tuple[str, int, str] | None = None
) -> Heartbeat:
    states = [AssignmentState(group=g, epoch=e, state="ready", loaded=1, total=1) for g, e in ready]
    if refused:
        group, epoch, text = refused
        error = {"code": "bad-task", "text": text}
        states.append(
            AssignmentState.model_validate({"group": group, "epoch": epoch, "state": "refused", "error": error})
        )
    return Heartbeat(device=name, incarnation=incarnation, sequence=1, assignments=tuple(states))


def profile(record: GroupRecord, node: str, on: DeviceRecord, fps: float, memory_mib: float = 10) -> ProfileRecord:
    return ProfileRecord(
        digest=record.models[node].digest,
        model_name=record.models[node].name,
        input_shape=record.spec.nodes[node].input.shape(),
        fingerprint=on.fingerprint,
        runtime=on.runtime,
        precision=on.precisions[0],
        fps=fps,
        memory_mib=memory_mib,
        reason=None if fps > 0 else "operator Foo is unknown",
    )


def output(
    frame_id: FrameId, node: str, items: list[Any], sources: list[int] | None = None, error: str | None = None
) -> Output:
    return Output(
        id=frame_id,
        node=node,
        device="h.b.u",
        items=items,
        sources=sources if sources is not None else list(range(len(items))),
        error={"code": error, "text": error, "hint": ""} if error else None,
    )


def variant(
    source: ModelRef, node: NodeSpec, agreement: float | None, name: str = "int8", precision: Precision = "int8"
) -> VariantRecord:
    """A variant of `source`, compared with it for `node`; None: it was not compared."""
    found = Agreement(value=agreement or 0.0, samples=10, samples_digest="0" * 64)
    return VariantRecord(
        model=model_ref(f"{source.name}-{name}"),
        made=Made(source_digest=source.digest, source_format="onnx", format="onnx", precision=precision),
        agreements={} if agreement is None else {task_key(node): found},
    )
