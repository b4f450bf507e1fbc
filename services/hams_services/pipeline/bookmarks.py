"""Where a file was read to, frame by frame, so that a later pipeline goes on behind a certain frame. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from hams_shared.wire.messages.results import MediaMark


@dataclass
class Bookmarks:
    """The marks of the frames of one stream that have not ended, and of the last one that has.

    Frames that end without a result leave their marks here until :attr:`full`; then call :meth:`keep`.
    """

    least: int = 64
    """With fewer marks :meth:`keep` is not due."""
    index: int = 0
    """Frames read since the beginning of the source."""
    _newest: float | None = None
    _marks: deque[tuple[int, MediaMark]] = field(default_factory=deque)
    """In frame order."""
    _room: int = 0
    """Twice the marks that the last :meth:`keep` left: so it costs little per frame."""
    at: float | None = None
    """Time of the last of them by the source's clock, s; None: unknown, or not of it alone."""

    def resume(self, frame: int, mark: MediaMark) -> None:
        """Go on at `frame`, behind `mark`."""
        self.index, self.at, self._newest = mark.index, mark.at, mark.at
        self._marks.append((frame - 1, mark))

    def read(self, frame: int, at: float | None, now: float, step: float) -> None:
        """Note a frame that was read; `at`: its time by the source's clock."""
        self.index += 1
        self.at, self._newest = None if at == self._newest else at, at
        self._marks.append((frame, MediaMark(index=self.index, at=self.at, now=now, step=step)))

    @property
    def full(self) -> bool:
        """Whether :meth:`keep` is due."""
        return len(self._marks) >= max(self.least, self._room)

    def keep(self, frames: Container[int]) -> None:
        """Forget the marks that are neither those before `frames` nor the newest one."""
        if self._marks:
            newest = self._marks.pop()
            self._marks = deque(one for one in self._marks if one[0] + 1 in frames)
            self._marks.append(newest)
        self._room = 2 * len(self._marks)

    def restart(self) -> None:
        """The source is read from its beginning again."""
        self.index, self.at, self._newest = 0, None, None

    def behind(self, frame: int) -> MediaMark | None:
        """Return the mark of the frame before `frame`, None: it is the first; forget those before that."""
        while len(self._marks) > 1 and self._marks[1][0] < frame:
            self._marks.popleft()
        return self._marks[0][1] if self._marks and self._marks[0][0] < frame else None
