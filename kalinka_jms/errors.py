"""The exception tree. Everything that Kalinka raises on purpose is a `KalinkaError`.

KalinkaError
├── ConfigError            the configuration cannot be used; names every mistake at once
├── RecordError            one message or record can never be mapped or delivered: it goes to the dead-letter topic
├── FrameError             bytes that are not STOMP: the link is dropped
├── LinkError              a STOMP link to a broker
│   ├── LinkRefused        the broker answered, and said no (login, protocol)
│   └── LinkLost           the connection is gone, or nothing on it can be believed any more
├── KafkaError             Kafka said no for good (transient errors are librdkafka's to retry)
├── RegistryError          ZooKeeper said no for good, or this process may not write any more
└── LabError               a server of the local lab cannot be started, reached or stopped
"""

from __future__ import annotations

from dataclasses import dataclass


class KalinkaError(Exception):
    """Anything that Kalinka raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where it is, what was found there, and what would be right.

    `key` or `value` is empty where there is none to name.
    """

    key: str
    value: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.key} = {self.value}" if self.value else self.key
        return f"{where}: {self.remedy}" if where else self.remedy


class ConfigError(KalinkaError):
    """The configuration cannot be used. `problems` names every mistake, not only the first."""

    def __init__(self, source: str, problems: tuple[Problem, ...]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class RecordError(KalinkaError):
    """One message or record can never be mapped or delivered; the text is the reason kept with it."""


class FrameError(KalinkaError):
    """Bytes that are not a STOMP frame, or a frame beyond the size that is allowed."""


class LinkError(KalinkaError):
    """A STOMP link to a broker failed."""


class LinkRefused(LinkError):
    """The broker answered, and refused the link (login, protocol, an ERROR frame while connecting)."""


class LinkLost(LinkError):
    """The link is gone, or nothing on it can be believed any more."""

    by_broker = False
    """Whether the other side ended it: an ERROR frame, or a connection that was closed or broke."""


class KafkaError(KalinkaError):
    """Kafka refused for good; what is transient is retried by librdkafka and never seen here."""


class RegistryError(KalinkaError):
    """ZooKeeper refused for good, or this process may not write to the registry any more."""


class LabError(KalinkaError):
    """A server of the local lab cannot be started, reached or stopped."""
