"""The protocol over gRPC."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from hams_services.gateway import failures
from hams_services.gateway.endpoints import DEADLINE_S, Api
from hams_services.gateway.guard import Caller
from hams_services.gateway.kserve import grpc_body, model
from hams_services.gateway.kserve.messages import MESSAGES, SERVICE
from hams_services.gateway.kserve.tensors import images_of, outputs_of, wanted_outputs
from hams_services.gateway.limits import BODY_BYTES, REQUESTS, Admission
from hams_services.security.tokens import Role
from hams_shared.errors import BadInputError, DeadlineError, HamsError, OverloadedError, as_hams_error
from hams_shared.runtime.listen import host_port
from hams_shared.wire import trace_context

log = logging.getLogger("hams.gateway")

Context = Any
"""grpc.aio.ServicerContext[Any, Any]"""
Method = Callable[[Any, Context, Caller], Awaitable[Any]]
RECEIVE_S = 60.0
"""A message has come completely after so long, or its call ends, s."""
OVERHEAD = 64 << 10
"""What a message may be larger than the largest body, bytes."""


class Service:
    """``inference.GRPCInferenceService``."""

    def __init__(self, api: Api) -> None:
        self._api = api
        most = max(1, BODY_BYTES // api.max_body)
        self._receiving = asyncio.Semaphore(most)
        """How many messages may come at a time: each is in memory as it comes, before its size is known."""
        self._streams = Admission(streams=most)
        """The same for streams, each of which may always have a message that comes."""

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server calls for its methods.

        They are registered as methods of two streams, which are the same on the wire. grpc calls a method of one
        message once it has the whole message; that of a stream begins at once, and asks for its messages.
        """
        one_message: dict[str, tuple[Method, Role | None]] = {
            "ServerLive": (self._live, None),
            "ServerReady": (self._ready, None),
            "ModelReady": (self._model_ready, "viewer"),
            "ServerMetadata": (self._server, "viewer"),
            "ModelMetadata": (self._metadata, "viewer"),
            "RepositoryIndex": (self._index, "viewer"),
            "ModelInfer": (self._infer, "app"),
        }
        methods = {
            name: grpc.stream_stream_rpc_method_handler(
                self._guarded(method, role, f"{name}Request"),
                response_serializer=MESSAGES[f"{name}Response"].SerializeToString,
            )
            for name, (method, role) in one_message.items()
        }
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream_infer, response_serializer=MESSAGES["ModelStreamInferResponse"].SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _guarded(self, method: Method, role: Role | None, kind: str) -> Any:
        async def call(messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
            try:
                if role is None:  # it needs no token, and its message is empty: nothing of it is read
                    answer = await method(MESSAGES[kind](), context, Caller())
                else:
                    caller = self._caller(context, role)
                    answer = await method(_decoded(kind, await self._message(messages)), context, caller)
            except Exception as error:
                known = _known(error)
            else:
                yield answer
                return
            await context.abort(grpc.StatusCode[failures.grpc_status(known)], str(known))

        return call

    async def _message(self, messages: AsyncIterator[bytes]) -> bytes:
        """Return the message of a call.

        Raises:
            BadInputError: there is none.
            DeadlineError: it did not come in time.
            OverloadedError: too many others come.
        """
        try:
            async with asyncio.timeout(RECEIVE_S):
                await self._receiving.acquire()
        except TimeoutError:
            raise OverloadedError("too many messages come at the same time", "try again later") from None
        try:
            async with asyncio.timeout(RECEIVE_S):
                return await anext(messages)
        except StopAsyncIteration:
            raise BadInputError("the call has no message") from None
        except TimeoutError:
            raise DeadlineError(f"the message did not come within {RECEIVE_S:g} s") from None
        finally:
            self._receiving.release()

    def _caller(self, context: Context, role: Role) -> Caller:
        found = [value for name, value in context.invocation_metadata() or () if name == "authorization"]
        caller = self._api.guard.of_grpc(str(found[0]) if found else "")
        caller.allow(role)
        return caller

    async def _live(self, request: Any, context: Context, caller: Caller) -> Any:
        return MESSAGES["ServerLiveResponse"](live=True)

    async def _ready(self, request: Any, context: Context, caller: Caller) -> Any:
        try:
            await self._api.directory.all()
        except HamsError:
            return MESSAGES["ServerReadyResponse"](ready=False)
        return MESSAGES["ServerReadyResponse"](ready=True)

    async def _server(self, request: Any, context: Context, caller: Caller) -> Any:
        return MESSAGES["ServerMetadataResponse"](**model.server_metadata())

    async def _model_ready(self, request: Any, context: Context, caller: Caller) -> Any:
        caller.allow("viewer", request.name)
        model.check_version(request.name, request.version)
        return MESSAGES["ModelReadyResponse"](ready=(await self._api.directory.get(request.name)).serving)

    async def _metadata(self, request: Any, context: Context, caller: Caller) -> Any:
        caller.allow("viewer", request.name)
        model.check_version(request.name, request.version)
        found = model.metadata(await self._api.directory.get(request.name))
        del found["properties"]  # of HTTP only
        return MESSAGES["ModelMetadataResponse"](**found)

    async def _index(self, request: Any, context: Context, caller: Caller) -> Any:
        known = [one for one in await self._api.directory.all() if caller.sees(one.name)]
        return MESSAGES["RepositoryIndexResponse"](models=model.index(known, request.ready))

    async def _infer(self, request: Any, context: Context, caller: Caller) -> Any:
        group = request.model_name
        caller.allow("app", group)
        model.check_version(group, request.model_version)
        with self._api.admission.request() as grow:
            grow(request.ByteSize())
            call = grpc_body.call_of(request)
            names = wanted_outputs(call.outputs)
            images = images_of(call.inputs, call.order)
            left = context.time_remaining()
            deadline = call.deadline(DEADLINE_S) if left is None else min(call.deadline(model.MAX_DEADLINE_S), left)
            sent = dict(context.invocation_metadata() or ()).get("traceparent", "")
            span = trace_context.own(str(sent))
            results = await self._api.inference.run(group, images, max(deadline, 0.001), span)
        return grpc_body.answer(group, call, outputs_of(results, names))

    async def _stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        """Triton's stream: one answer for each request, in order; an error is an answer, too."""
        try:
            self._caller(context, "app")  # before a byte of a request is read
            with self._streams.stream():
                async for data in requests:
                    yield await self._stream_answer(data, context)
        except HamsError as error:
            known = error
        else:
            return
        await context.abort(grpc.StatusCode[failures.grpc_status(known)], str(known))

    async def _stream_answer(self, data: bytes, context: Context) -> Any:
        request = MESSAGES["ModelInferRequest"]()
        try:
            request = _decoded("ModelInferRequest", data)
            response = await self._infer(request, context, self._caller(context, "app"))
            return MESSAGES["ModelStreamInferResponse"](infer_response=response)
        except Exception as error:
            failed = MESSAGES["ModelStreamInferResponse"](error_message=str(_known(error)))
            failed.infer_response.id = request.id
            return failed


def _decoded(kind: str, data: bytes) -> Any:
    try:
        return MESSAGES[kind].FromString(data)
    except DecodeError:
        raise BadInputError(f"{len(data)} bytes are not a {kind}") from None


def _known(error: Exception) -> HamsError:
    if not isinstance(error, HamsError):
        log.error("a call failed", exc_info=error)
    return as_hams_error(error)


def server(api: Api) -> grpc.aio.Server:
    """Return a server that listens nowhere yet."""
    made = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", api.max_body + OVERHEAD),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # an address that is in use is an error
            ("grpc.compression_enabled_algorithms_bitset", 1),  # none: images are packed, and bombs are not limited
            ("grpc.max_connection_idle_ms", 300_000),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.bdp_probe", 0),  # else windows grow, and much of a message comes before it is asked for
            ("grpc.max_concurrent_streams", 4 * REQUESTS),
        ],
        maximum_concurrent_rpcs=4 * REQUESTS,
    )
    made.add_generic_rpc_handlers((Service(api).handler(),))
    return made


def listen(made: grpc.aio.Server, host: str, port: int, certificate: Path | None, key: Path | None) -> int:
    """Let a server listen, with TLS where there is a certificate; return its port. Raises BadInputError."""
    address = host_port(host, port)
    try:
        if certificate is None or key is None:
            return int(made.add_insecure_port(address))
        pair = (key.read_bytes(), certificate.read_bytes())
        return int(made.add_secure_port(address, grpc.ssl_server_credentials([pair])))
    except (RuntimeError, OSError) as error:
        raise BadInputError(f"--grpc: cannot listen on {address}: is it in use?", str(error)[:100]) from None
