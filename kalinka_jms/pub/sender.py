"""Is the source that a message names the user who sent it? For `[pub] verify_source`.

The topic says what a device claims to be. JMSXUserID says as whom it logged in: the broker sets it itself, and over
what a client may have given (`populateJMSXUserID`, tried over MQTT and STOMP on 6.3.1).
"""

from __future__ import annotations

from functools import lru_cache

from kalinka_jms.errors import FrameError, RecordError
from kalinka_jms.routes import CACHED, SHOWN, Uplink, Uplinks
from kalinka_jms.stomp.frames import Frame, unescape

USER = "JMSXUserID"
"""The header with the user's name."""


class VerifiedUplinks:
    """`link_destination` of `Uplinks`, for messages of the user whom they name only."""

    def __init__(self, uplinks: Uplinks) -> None:
        self._uplinks = uplinks

    def link_destination(self, frame: Frame) -> Uplink:
        """As that of `Uplinks`. Raises RecordError where the user is another one than the source, or not known.

        A route without `{source}` claims nothing, and takes the messages of all users.
        """
        uplink = self._uplinks.link_destination(frame)
        if uplink.source:
            user = _user(frame.raw(USER) or b"")
            if user != uplink.source:
                raise RecordError(f"the source {uplink.source[:SHOWN]!r} is not its sender, the user {user[:SHOWN]!r}")
        return uplink


@lru_cache(CACHED)
def _user(escaped: bytes) -> str:
    if not escaped:
        raise RecordError(f"the broker does not say who sent it: it has no {USER}")
    try:
        return unescape(escaped.decode())
    except (UnicodeDecodeError, FrameError):
        raise RecordError(f"the {USER} {escaped[:SHOWN]!r} cannot be read") from None
