"""Images through a group: one, or several of one request side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hams_client import Hams, Result
from hams_services.gateway.directory import Directory, check_name
from hams_services.gateway.kserve.tensors import Image
from hams_shared.errors import BrokerError, HamsError, NotFoundError
from hams_shared.runtime.lifecycle import leaves_of

PARALLEL = 8
"""Images of one request that are under way at a time."""


class Inference:
    """Sends images to groups."""

    def __init__(self, hams: Hams, directory: Directory) -> None:
        self._hams = hams
        self._directory = directory

    async def run(self, group: str, images: Sequence[Image], deadline: float, traceparent: str = "") -> list[Result]:
        """Return the results of `images`, in order; `deadline` in seconds, of each.

        `traceparent` (W3C) names a span of the client, of which the frames' become children.

        Raises:
            NotFoundError: the group is not deployed.
            HamsError: the error of the first image that fails; with its number, where there are several.
        """
        check_name(group)
        try:
            if len(images) == 1:
                return [await self._hams.infer(group, images[0], deadline=deadline, traceparent=traceparent)]
            return await self._several(group, images, deadline, traceparent)
        except NotFoundError:
            await self._directory.get(group)  # raises where it is not deployed, or no pipeline runs
            raise BrokerError(f"group {group} is being deployed, or its pipeline starts", "try again") from None

    async def _several(self, group: str, images: Sequence[Image], deadline: float, traceparent: str) -> list[Result]:
        room = asyncio.Semaphore(PARALLEL)

        async def one(number: int, image: Image) -> Result:
            async with room:
                try:
                    return await self._hams.infer(group, image, deadline=deadline, traceparent=traceparent)
                except HamsError as error:
                    raise type(error)(f"image {number}: {error.text}", error.hint) from None

        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(one(number, image)) for number, image in enumerate(images)]
        except BaseExceptionGroup as errors:
            raise next(leaves_of(errors)) from None
        return [task.result() for task in running]
