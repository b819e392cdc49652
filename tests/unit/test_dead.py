"""Dead letters: everything is kept byte for byte, and the last four headers say why, whence, when and how often."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.dead import TRAILER, dead_letter, dead_record, split
from kalinka_jms.records import from_record
from kalinka_jms.stomp.frames import Frame

AT = 1_700_000_000.25
TIME = b"2023-11-14T22:13:20.250Z"
HEAD = (
    b"MESSAGE\nmessage-id:ID\\cdev1-34567-1-3\\c12\\c-1\\c1\\c77\noriginal-destination:/topic/elsewhere\n"
    b"destination:/queue/kalinka.mqtt.pub\nActiveMQ.MQTT.QoS:2\nmine:a\\nb\npersistent:true"
)
Headers = list[tuple[str, bytes | None]]
any_headers = st.lists(
    st.tuples(st.sampled_from([*TRAILER, "kalinka.id", "x", ""]) | st.text(), st.none() | st.binary(max_size=9))
)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x00\xff", bytes(range(256)) * 4])
def test_the_letter_of_a_message_has_its_payload_and_its_whole_head(body: bytes) -> None:
    letter = dead_letter(Frame(HEAD, body), "b1", "kalinka.mqtt.pub", "no route", "kalinka.dead", AT)
    assert letter == (
        "kalinka.dead",
        b"/topic/elsewhere",
        body,
        [
            ("kalinka.id", b"b1/ID:dev1-34567-1-3:12:-1:1:77"),
            ("mqtt.topic", b"elsewhere"),
            ("mqtt.qos", b"2"),
            ("stomp.head", HEAD),
            ("kalinka.reason", b"no route"),
            ("kalinka.origin", b"b1/kalinka.mqtt.pub"),
            ("kalinka.died", TIME),
            ("kalinka.attempt", b"1"),
        ],
    )


def test_a_letter_without_its_payload_says_where_that_is() -> None:
    frame = Frame(HEAD, b"payload")
    _, _, value, headers = dead_letter(frame, "b1", "q", "too large", "dead", AT, elsewhere="b1/ActiveMQ.DLQ")
    assert (value, dict(headers)["kalinka.value"]) == (None, b"b1/ActiveMQ.DLQ")


@given(raw=st.binary(max_size=300).filter(lambda raw: b"\n" not in raw), reason=st.text())
def test_whatever_is_wrong_with_a_message_it_can_be_kept(raw: bytes, reason: str) -> None:
    frame = Frame(b"MESSAGE\noriginal-destination:" + raw + b"\nmessage-id:" + raw, b"payload")
    _, key, value, headers = dead_letter(frame, "b1", "q", reason, "dead", AT)
    assert value == b"payload" and dict(headers)["stomp.head"] == frame.head
    assert key is None if not raw else key == raw[:200]
    assert all(isinstance(header, bytes) for _, header in headers)


@given(headers=any_headers, reason=st.text(), attempt=st.integers(1, 99))
def test_a_dead_record_keeps_every_header(headers: Headers, reason: str, attempt: int) -> None:
    headers = [*headers, ("kalinka.attempt", b"%d" % attempt)]
    letter = dead_record(headers, "t/1/2", "t/1/2", reason, AT)
    had, own = split(letter) or ([], {})
    assert had[: len(headers)] == headers
    assert had[len(headers) :] in ([], [("kalinka.id", b"t/1/2")])
    assert [value for _, value in letter[-4:]] == [
        reason.encode(errors="backslashreplace"),
        b"t/1/2",
        TIME,
        b"%d" % attempt,
    ]
    assert own["kalinka.attempt"] == str(attempt)


@pytest.mark.parametrize("value", [None, b"", b"-1", b"x", b"9" * 10])
def test_an_attempt_that_is_nonsense_counts_as_the_first(value: bytes | None) -> None:
    assert dead_record([("kalinka.attempt", value)], "", "t/1/2", "bad header", AT)[-1] == ("kalinka.attempt", b"1")


def test_a_dead_record_without_a_value_says_where_that_is() -> None:
    headers = dead_record([("kalinka.id", b"x")], "t/1/2", "t/1/2", "too large", AT, elsewhere="t/1/2")
    assert [name for name, _ in headers] == ["kalinka.id", "kalinka.value", *TRAILER]


def test_what_is_no_letter_is_not_taken_for_one() -> None:
    assert split([]) is None
    assert split([("kalinka.reason", b"x"), ("kalinka.origin", b"t/1/2")]) is None


def test_the_second_attempt_is_another_record() -> None:
    first = from_record("t", 1, 2, b"d", b"v", [("kalinka.id", b"x")], 0)
    again = from_record("t", 1, 9, b"d", b"v", [("kalinka.id", b"x"), ("kalinka.attempt", b"2")], 0)
    assert (first.id, first.attempt, again.id, again.attempt) == ("x", 1, "x", 2)
