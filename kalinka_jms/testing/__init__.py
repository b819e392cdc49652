"""Fakes of the adapters, for tests of whatever is built upon them: brokers with devices and links, and Kafka.

They behave as the real servers were seen to behave, in memory and under the control of a test.
"""

from kalinka_jms.testing.broker import FakeBroker
from kalinka_jms.testing.device import FakeDevice
from kalinka_jms.testing.kafka import FakeAdmin, FakeConsumer, FakeKafka, FakeProducer, TransactionalProducer
from kalinka_jms.testing.link import FakeBrokers, FakeLink

__all__ = [
    "FakeAdmin",
    "FakeBroker",
    "FakeBrokers",
    "FakeConsumer",
    "FakeDevice",
    "FakeKafka",
    "FakeLink",
    "FakeProducer",
    "TransactionalProducer",
]
