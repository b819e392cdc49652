"""One transaction as bytes, and what comes back of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.stomp.frames import Frame
from kalinka_jms.sub.sends import CanaryReport, Echo, Reader, Report, Send, encode, send_prefix
from kalinka_jms.testing.wire import cut

destinations = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1)
sends = st.lists(st.tuples(destinations, st.integers(0, 2), st.binary()))


def frames(number: int, wanted: list[tuple[str, int, bytes]], canaries: tuple[int, ...] = ()) -> list[Frame]:
    prefixes = [(place, send_prefix(f"canary.{place}", 0)) for place in canaries]
    return list(cut(encode("me", number, [Send(send_prefix(d, qos), body) for d, qos, body in wanted], prefixes)))


@given(sends, st.integers(1, 1 << 40))
def test_payloads_and_destinations_cross_unchanged_in_one_transaction(
    wanted: list[tuple[str, int, bytes]], number: int
) -> None:
    begin, *middle, echo, commit = frames(number, wanted)
    assert (begin.command, commit.command) == (b"BEGIN", b"COMMIT")
    assert {frame.header("transaction") for frame in (begin, *middle, echo, commit)} == {str(number)}
    seen = [(frame.header("destination"), int(frame.header("ActiveMQ.MQTT.QoS") or 9), frame.body) for frame in middle]
    assert seen == [(f"/topic/{destination}", qos, body) for destination, qos, body in wanted]
    assert not any(frame.raw("persistent") or frame.raw("expires") for frame in middle)


@given(sends.filter(bool), st.integers(1, 1 << 40), st.sets(st.integers(0, 3)))
def test_what_comes_back_says_which_send_it_was(
    wanted: list[tuple[str, int, bytes]], number: int, places: set[int]
) -> None:
    _, *middle, echo, _ = frames(number, wanted, tuple(sorted(places)))
    reports = [Report(number, index) for index in range(len(wanted))]
    assert Reader("me", "ID:1").evidence(middle) == [
        *reports,
        *(CanaryReport(number, place) for place in sorted(places)),
    ]
    assert Reader("me", "ID:1").evidence([echo]) == [Echo(number)]
    assert echo.header("destination") == "/topic/kalinka.echo.me"


def test_what_another_connection_sent_is_passed_over() -> None:
    (_, mine, echo, _) = frames(1, [("mqtt.s.mqtt.d.sub", 1, b"")])
    others = [frame.wire().replace(b"kn:me.", name) for frame in (mine, echo) for name in (b"kn:me2.", b"kn:m.", b"x:")]
    assert Reader("me", "ID:1").evidence([frame for data in others for frame in cut(data)]) == []
