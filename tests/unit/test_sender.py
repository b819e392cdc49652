"""The sender of a message and the source that it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_UP, UpRoute
from kalinka_jms.errors import RecordError
from kalinka_jms.names import refusal
from kalinka_jms.pub.sender import VerifiedUplinks
from kalinka_jms.routes import Uplinks
from kalinka_jms.stomp.frames import Frame, escape

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)
NAMES = NAMES.filter(lambda name: refusal(name) is None)


def message(topic: str, user: str | None) -> Frame:
    lines = ["MESSAGE", f"original-destination:{escape('/topic/' + topic)}"]
    lines += [] if user is None else [f"JMSXUserID:{escape(user)}"]
    return Frame("\n".join(lines).encode(), b"")


def verified(*routes: UpRoute) -> VerifiedUplinks:
    return VerifiedUplinks(Uplinks(routes or DEFAULT_UP, ["0"]))


@given(NAMES, NAMES)
def test_only_the_user_of_that_very_name_is_the_source(source: str, user: str) -> None:
    frame = message(f"mqtt.{source}.sparkcluster.pub", user)
    if source == user:
        assert verified().link_destination(frame).source == source
    else:
        with pytest.raises(RecordError, match="is not its sender"):
            verified().link_destination(frame)


@pytest.mark.parametrize("user", [None, ""])
def test_without_a_user_nobody_is_the_source(user: str | None) -> None:
    with pytest.raises(RecordError, match="does not say who sent it"):
        verified().link_destination(message("mqtt.beast.sparkcluster.pub", user))


def test_a_user_that_cannot_be_read_is_nobody() -> None:
    frame = Frame(b"MESSAGE\noriginal-destination:/topic/mqtt.beast.sparkcluster.pub\nJMSXUserID:\xff", b"")
    with pytest.raises(RecordError, match="cannot be read"):
        verified().link_destination(frame)


def test_a_route_without_a_source_claims_nothing() -> None:
    route = UpRoute(from_="alarm/{device}", topic="alarms", key="{device}")
    assert verified(route).link_destination(message("alarm.d1", None)).topic == "alarms"
