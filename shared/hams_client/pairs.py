"""Results and pictures of the same frames, which come on two subjects. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from hams_client.result import Result

Key = tuple[str, int]


@dataclass
class Pairs:
    """Holds what has no partner yet; at most `limit` of each kind, the oldest gives way."""

    limit: int
    _results: OrderedDict[Key, Result] = field(default_factory=OrderedDict)
    _pictures: OrderedDict[Key, bytes] = field(default_factory=OrderedDict)

    def result(self, result: Result) -> tuple[Result, bytes] | None:
        """Take a result; return the pair when its picture is there."""
        key = (result.stream, result.frame)
        picture = self._pictures.pop(key, None)
        if picture is not None:
            return result, picture
        self._results[key] = result
        while len(self._results) > self.limit:
            self._results.popitem(last=False)
        return None

    def picture(self, stream: str, frame: int, jpeg: bytes) -> tuple[Result, bytes] | None:
        """Take a picture; return the pair when its result is there."""
        key = (stream, frame)
        result = self._results.pop(key, None)
        if result is not None:
            return result, jpeg
        self._pictures[key] = jpeg
        while len(self._pictures) > self.limit:
            self._pictures.popitem(last=False)
        return None
