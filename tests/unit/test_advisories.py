"""Consumer advisories, with bodies as ActiveMQ 6.3.1 sent them."""

from __future__ import annotations

import pytest

from kalinka_jms.errors import FrameError
from kalinka_jms.registry.advisories import Begun, Ended, Filter, parse

BEGUN = (
    b'{"ConsumerInfo":{"commandId":3,"responseRequired":true,"consumerId":{"connectionId":"ID:host-43383-1795363231596-3:2"'
    b',"sessionId":-1,"value":1},"destination":{"@class":"ActiveMQTopic","string":"mqtt.*.mqtt.12.sub","null":""},'
    b'"prefetchSize":100,"maximumPendingMessageLimit":0,"browser":false,"dispatchAsync":true,'
    b'"subscriptionName":"AT_LEAST_ONCE:mqtt/+/mqtt/12/sub","noLocal":false,"exclusive":false,"retroactive":true,'
    b'"priority":0,"optimizedAcknowledge":false,"noRangeAcks":false}}'
)
ENDED = (
    b'{"RemoveInfo":{"commandId":0,"responseRequired":true,"objectId":{"@class":"ConsumerId",'
    b'"connectionId":"ID:host-43383-1795363231596-3:2","sessionId":-1,"value":1},"lastDeliveredSequenceId":-2}}'
)
CONSUMER = "ID:host-43383-1795363231596-3:2:-1:1"


def test_a_subscription_of_a_persistent_session_begins() -> None:
    assert parse(BEGUN) == Begun(Filter("mqtt.*.mqtt.12.sub", CONSUMER, "AT_LEAST_ONCE:mqtt/+/mqtt/12/sub"))


def test_it_ends() -> None:
    assert parse(ENDED) == Ended(CONSUMER)


@pytest.mark.parametrize("topic", ["17", "1.5", "-3", "NaN", "1e5", "Infinity"])
def test_a_topic_that_jettison_takes_for_a_number_stays_as_it_was_written(topic: str) -> None:
    body = BEGUN.replace(b'"mqtt.*.mqtt.12.sub"', topic.encode())
    advisory = parse(body)
    assert isinstance(advisory, Begun)
    assert advisory.filter.topic == topic


@pytest.mark.parametrize(
    "body",
    [
        b'{"ConnectionInfo":{"connectionId":{"value":"ID:a-5:1"},"clientId":"dev1"}}',
        b'{"RemoveInfo":{"objectId":{"@class":"ConnectionId","value":"ID:a-5:1"}}}',
        b'{"RemoveInfo":{}}',
        b"[]",
    ],
)
def test_other_advisories_say_nothing(body: bytes) -> None:
    assert parse(body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        BEGUN.replace(b'"string"', b'"strong"'),
        BEGUN.replace(b'"sessionId":-1,', b""),
        b'{"ConsumerInfo":{"consumerId":1,"destination":{"string":"a"}}}',
        b'{"ConsumerInfo":{"consumerId":{"connectionId":"a","sessionId":1,"value":1},"destination":"a"}}',
    ],
)
def test_what_cannot_be_read_is_an_error_and_not_nothing(body: bytes) -> None:
    with pytest.raises(FrameError, match="cannot be read"):
        parse(body)


def test_the_number_of_a_connection_is_told_from_the_run_that_counted_it() -> None:
    assert Filter("a", "ID:host-4:784:-1:1").connection == ("ID:host-4", 784)
    assert Filter("a", "ID:host-4:one:-1:1").connection == ("ID:host-4", 0)


@pytest.mark.parametrize(
    ("subscription", "qos"),
    [(None, None), ("AT_LEAST_ONCE:mqtt/+/mqtt/d/sub", 1), ("EXACTLY_ONCE:a:b", 2), ("somebody's own name", None)],
)
def test_a_persistent_session_tells_its_qos(subscription: str | None, qos: int | None) -> None:
    assert Filter("a", "c", subscription).qos == qos
