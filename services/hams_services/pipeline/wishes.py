"""What applications request beside the results of groups: pictures, previews, outputs of nodes, traces of frames.

Each is sent only while somebody requests it, again and again; what is asked of a group that is not here is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

from hams_services.pipeline.group import DeployedGroup
from hams_shared.bus.protocol import Bus, Message
from hams_shared.wire import codec, subjects
from hams_shared.wire.messages.pipeline import OutputsWanted, PicturesWanted, PreviewWanted
from hams_shared.wire.messages.trace import TracesWanted

PENDING = 256
"""Requests that may wait; of more, the oldest are lost, and come again."""


class Wishes:
    """Passes requests on to the streams of `groups`."""

    def __init__(self, groups: Mapping[str, DeployedGroup]) -> None:
        self._groups = groups

    async def subscribe(self, bus: Bus) -> None:
        """Take requests from now on."""
        await bus.subscribe(subjects.pictures_wanted(), self._on_pictures, limit=PENDING)
        await bus.subscribe(subjects.preview_wanted(), self._on_preview, limit=PENDING)
        await bus.subscribe(subjects.outputs_wanted(), self._on_outputs, limit=PENDING)
        await bus.subscribe(subjects.traces_wanted(), self._on_traces, limit=PENDING)

    async def _on_pictures(self, message: Message) -> None:
        wanted = codec.decode(PicturesWanted, message.data)
        group = self._groups.get(message.subject.rsplit(".", 1)[-1])
        for name, runner in group.runners.items() if group else ():
            if wanted.stream in ("*", name):
                runner.flow.taps.show(wanted.quality)

    async def _on_preview(self, message: Message) -> None:
        wanted = codec.decode(PreviewWanted, message.data)
        group = self._groups.get(message.subject.split(".")[-2])
        if group is not None and (runner := group.runners.get(wanted.stream)) is not None:
            runner.flow.previews.want(wanted)

    async def _on_outputs(self, message: Message) -> None:
        wanted = codec.decode(OutputsWanted, message.data)
        group = self._groups.get(message.subject.rsplit(".", 1)[-1])
        for name, flow in group.flows.items() if group else ():
            if wanted.stream in ("*", name):
                flow.taps.tap(wanted.node)

    async def _on_traces(self, message: Message) -> None:
        wanted = codec.decode(TracesWanted, message.data)
        group = self._groups.get(message.subject.rsplit(".", 1)[-1])
        for name, flow in group.flows.items() if group else ():
            if wanted.stream in ("*", name):
                flow.traces.want(wanted.count)
