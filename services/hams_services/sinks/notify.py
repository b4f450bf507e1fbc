"""Events as notifications, by apprise: to a phone, a chat, by mail and about a hundred other ways."""

from __future__ import annotations

import logging
from typing import Any

from hams_client import Event
from hams_services.sinks.courier import LaterError, RefusedForGoodError
from hams_services.sinks.sentences import check_template, fill
from hams_shared.errors import BadInputError, MessageError, SourceError
from hams_shared.wire import codec

TITLE, BODY = "HAMS", "{text}"


class Notifier:
    """Notifies at an address of apprise, as ``ntfy://topic`` or ``mailto://…``; `title` and `body` are templates.

    Raises:
        BadInputError: apprise does not know the address, or a template has an unknown field.
        SourceError: apprise is not installed.
    """

    def __init__(self, url: str, title: str = TITLE, body: str = BODY) -> None:
        try:
            import apprise
        except ImportError:
            raise SourceError(
                "notifications need a library that is not installed", "pip install 'hams[notify]'"
            ) from None
        for name in ("apprise", "urllib3"):  # their logs repeat addresses, which hold secrets
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._title, self._body = check_template(title), check_template(body)
        self._apprise: Any = apprise.Apprise()
        scheme = url.partition("://")[0] if "://" in url else "the text"
        if not self._apprise.add(url) or len(self._apprise) != 1:
            raise BadInputError(
                f"apprise takes no address like this ({scheme})", "see https://github.com/caronc/apprise/wiki"
            )
        self.where = f"{scheme}://"

    def deliver(self, id: str, body: bytes) -> None:
        """Notify of one event; it blocks. Raises LaterError: apprise does not say whether another try is of use."""
        try:
            event = codec.decode(Event, body)
        except MessageError as error:
            raise RefusedForGoodError(str(error)) from None
        try:
            taken = self._apprise.notify(title=fill(self._title, event), body=fill(self._body, event))
        except Exception as error:  # of one of its many plug-ins
            raise LaterError(type(error).__name__) from None
        if not taken:
            raise LaterError("the notification did not succeed")
