"""Kinds of messages: a record is the same whether its kind is known or not, whatever stands in the frame."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_UP
from kalinka_jms.errors import RecordError
from kalinka_jms.metrics.buckets import Buckets
from kalinka_jms.pub.account import Account
from kalinka_jms.pub.kinds import LARGE, Kinds
from kalinka_jms.pub.sender import VerifiedUplinks
from kalinka_jms.pub.window import Window
from kalinka_jms.records import record_id, to_record
from kalinka_jms.routes import Uplinks
from kalinka_jms.stomp.frames import Frame

ROUTES = (DEFAULT_UP[0].model_copy(update={"envelope": "reference"}), *DEFAULT_UP[1:])
WINDOWS = {b"1": Window("a"), b"2": Window("b")}
ACTIVEMQ = (
    ("content-length", ("4", "256")),
    ("destination", ("/queue/q",)),
    ("ack", (r"ID\cmq-5\c1", r"ID\cmq-5\c2", "")),
    ("subscription", ("1", "2")),
    ("ActiveMQ.MQTT.QoS", ("0", "1", "2", "x")),
    ("ActiveMQ.Retain", ("true", "false")),
    ("original-destination", ("/topic/mqtt.a.mqtt.b.pub", "/topic/mqtt.c.sparkcluster.pub", "/topic/no.way", "x")),
    ("message-id", (r"ID\cmq-3\c6\c-1\c1\c1", r"ID\cmq-3\c6\c-1\c1\c2", "")),
    ("persistent", ("true", "false")),
    ("timestamp", ("1795366239962", "1795366239963", "x")),
    ("JMSXUserID", ("a", "c", "z")),
)
"""Headers in the order of ActiveMQ, and what they may hold."""


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """Any of those headers, some left out or given twice, most often in ActiveMQ's order."""
    lines = [f"{name}:{draw(st.sampled_from(values))}" for name, values in ACTIVEMQ if draw(st.integers(0, 9))]
    if draw(st.booleans()):
        name, values = draw(st.sampled_from(ACTIVEMQ))
        lines.insert(draw(st.integers(0, len(lines))), f"{name}:{draw(st.sampled_from(values))}")
    if not draw(st.integers(0, 3)):
        lines = draw(st.permutations(lines))
    return "\n".join(["MESSAGE", *lines]).encode()


def outcome(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except RecordError as error:
        return str(error)


def with_kinds(kinds: Kinds, frame: Frame) -> Any:
    kind, id = kinds.of(frame)
    headers = [("kalinka.id", record_id(b"b1", id)), *kind.headers]
    return kind.window, kind.tally, (kind.topic, kind.key, kind.start + frame.body, headers)


def without(account: Account, uplinks: Any, frame: Frame) -> Any:
    link = uplinks.link_destination(frame)
    record = to_record(frame, link, "b1")
    return WINDOWS[frame.raw("subscription") or b"1"], account.confirmed[link.route], record


@given(st.lists(heads(), min_size=1, max_size=12), st.booleans())
@example([b"MESSAGE\nmessage-id:1\nack:1\nsubscription:1\nmessage-id:2\ntimestamp:3"], False)
def test_a_record_is_what_it_would_be_without_its_kind(heads: list[bytes], verify: bool) -> None:
    account, uplinks = Account(), Uplinks(ROUTES, ("0",))
    source: Any = VerifiedUplinks(uplinks) if verify else uplinks
    kinds = Kinds("b1", source.link_destination, {**WINDOWS, None: WINDOWS[b"1"]}, account.confirmed)
    for head in heads:
        frame = Frame(head, b"body")
        assert outcome(with_kinds, kinds, frame) == outcome(without, account, source, frame)


def test_messages_that_differ_in_what_is_their_own_are_of_one_kind() -> None:
    made: list[Frame] = []
    uplinks = Uplinks(DEFAULT_UP, ("0",))

    def link(frame: Frame) -> Any:
        made.append(frame)
        return uplinks.link_destination(frame)

    kinds = Kinds("b1", link, WINDOWS, Account().confirmed)
    head = (
        "MESSAGE\ncontent-length:{0}\nexpires:0\ndestination:/queue/q\nack:ID\\cmq-5\\c{0}\nsubscription:1\npriority:4\n"
        "original-destination:/topic/mqtt.a.mqtt.b.pub\nmessage-id:ID\\cmq-3\\c{0}\npersistent:true\ntimestamp:{0}"
    )
    found = [kinds.of(Frame(head.format(number).encode(), b"")) for number in range(100, 103)]
    assert len(made) == 1 and len({id(kind) for kind, _ in found}) == 1
    assert [id for _, id in found] == [b"ID\\cmq-3\\c100", b"ID\\cmq-3\\c101", b"ID\\cmq-3\\c102"]
    assert isinstance(found[0][0].tally, Buckets)


def test_a_kind_that_takes_much_memory_is_not_remembered() -> None:
    """65,536 of them are, and a JMS client may give each of its messages a property of a megabyte."""
    kinds = Kinds("b1", Uplinks(DEFAULT_UP, ("0",)).link_destination, WINDOWS, Account().confirmed)
    head = b"MESSAGE\nack:1\nsubscription:1\noriginal-destination:/topic/mqtt.a.mqtt.b.pub\nmessage-id:1\ntimestamp:1"
    small, large = Frame(head, b""), Frame(head + b"\nproperty:" + b"x" * LARGE, b"")
    assert kinds.of(large)[0] is not kinds.of(large)[0]
    assert kinds.of(small)[0] is kinds.of(small)[0]


def test_kinds_are_gone_with_their_session() -> None:
    gc.disable()
    try:
        kinds = Kinds("b1", Uplinks(DEFAULT_UP, ("0",)).link_destination, WINDOWS, Account().confirmed)
        there = weakref.ref(kinds)
        del kinds
        assert there() is None
    finally:
        gc.enable()
