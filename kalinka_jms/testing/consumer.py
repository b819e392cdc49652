# ruff: noqa: ARG002 (the parameters are those of confluent-kafka, used here or not)
"""confluent-kafka's consumer upon the fake Kafka, `read_committed`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from kalinka_jms.testing.group import Membership, Place

if TYPE_CHECKING:
    from kalinka_jms.testing.kafka import FakeKafka

OnChange = Callable[[Any, list[TopicPartition]], None]


class FakeConsumer:
    """A consumer with a group (`subscribe`) or without (`assign`). Rebalances happen in `poll` and `consume`."""

    def __init__(self, kafka: FakeKafka, group: str, config: dict[str, Any]) -> None:
        self.kafka = kafka
        self.topics: list[str] = []
        self.closed = False
        self._group = kafka.group(group)
        self._config = config
        self._callbacks: dict[str, OnChange | None] = {}
        self._held: list[Place] | None = None  # its share of the group, as far as it knows
        self._generation = -1
        self._positions: dict[Place, int] = {}
        self._paused: set[Place] = set()
        self._ended: dict[Place, int] = {}  # which end was told
        self._answers: list[tuple[KafkaError | None, list[TopicPartition]]] = []  # to asynchronous commits

    def subscribe(self, topics: list[str], **callbacks: OnChange | None) -> None:
        """Join the group; `on_assign`, `on_revoke` and `on_lost` are called from `poll` and `consume`."""
        with self.kafka.lock:
            self.topics, self._callbacks = list(topics), callbacks
            self._group.join(self)

    def unsubscribe(self) -> None:
        """Leave the group."""
        self._revoke()  # first: what it commits in its callback still counts
        with self.kafka.lock:
            self.topics = []
            self._group.leave(self)

    def close(self) -> None:
        """Leave the group and end."""
        if not self.closed:
            self.unsubscribe()
            self.closed = True

    def poll(self, timeout: float = -1) -> Message | None:
        """Return the next record, waiting up to `timeout` seconds for it."""
        return next(iter(self.consume(1, timeout)), None)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Return up to that many records, waiting up to `timeout` seconds for a first one."""
        if self.closed:
            raise RuntimeError("Consumer closed")
        self._tell()
        self._follow()
        with self.kafka.lock:
            if not (batch := self._fetch(num_messages)) and timeout:
                self.kafka.wait(self._has_news, None if timeout < 0 else timeout)
                batch = [] if self._must_follow() else self._fetch(num_messages)
        self._follow()
        return batch

    def _tell(self) -> None:
        """Tell what became of asynchronous commits."""
        answers, self._answers = self._answers, []
        for answer in answers:
            self._config.get("on_commit", lambda *_: None)(*answer)

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read exactly these, each from its offset; without one, from what is committed."""
        with self.kafka.lock:
            self._positions.clear()
            self._paused.clear()
            self.incremental_assign(partitions)

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these too."""
        with self.kafka.lock:
            for partition in partitions:
                place = (partition.topic, partition.partition)
                self._positions[place] = self._start(place, partition.offset)
                self._ended.pop(place, None)
            self.kafka.changed()

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these no more."""
        with self.kafka.lock:
            for partition in partitions:
                del self._positions[partition.topic, partition.partition]
                self._paused.discard((partition.topic, partition.partition))

    def unassign(self) -> None:
        """Read nothing."""
        self.assign([])

    def assignment(self) -> list[TopicPartition]:
        """What it reads."""
        return _partitions(self._positions)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these no more until `resume`; the place is kept."""
        with self.kafka.lock:
            self._paused.update(self._own(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Read these on."""
        with self.kafka.lock:
            self._paused.difference_update(self._own(partitions))
            self.kafka.changed()

    def seek(self, partition: TopicPartition) -> None:
        """Go to an offset."""
        with self.kafka.lock:
            (place,) = self._own([partition])
            self._positions[place] = self._start(place, partition.offset)
            self._ended.pop(place, None)
            self.kafka.changed()

    def position(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Where it reads on."""
        own = self._own(partitions)
        return [TopicPartition(topic, number, self._positions[topic, number]) for topic, number in own]

    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Commit the offsets. Raises KafkaException when the group has gone on without it; asynchronously the answer is
        told to the setting `on_commit` in the next `poll` or `consume`."""
        if message is not None:
            offsets = [TopicPartition(message.topic() or "", message.partition() or 0, (message.offset() or 0) + 1)]
        error = None
        with self.kafka.lock:
            if self.topics and not self.consumer_group_metadata().current:
                error = KafkaError(KafkaError.ILLEGAL_GENERATION)
            else:
                self._group.commit(offsets or [])
        if asynchronous:
            self._answers.append((error, offsets or []))
        elif error is not None:
            raise KafkaException(error)
        return None if asynchronous else offsets

    def committed(self, partitions: Iterable[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """What the group has committed."""
        known = self._group.committed
        places = ((partition.topic, partition.partition) for partition in partitions)
        return [TopicPartition(*place, known.get(place, OFFSET_INVALID)) for place in places]

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        """The first offset and the last stable one."""
        return 0, self.kafka.create(partition.topic)[partition.partition].stable

    def consumer_group_metadata(self) -> Membership:
        """For `send_offsets_to_transaction`."""
        return Membership(self._group, self, self._generation)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> Any:
        """The topics and their partitions."""
        return self.kafka.metadata(topic)

    def expel(self) -> None:
        """For tests: the group goes on without it, as when the process is stopped. It notices when it polls."""
        with self.kafka.lock:
            self._group.leave(self)

    # -- the group

    def _must_follow(self) -> bool:
        expelled = bool(self.topics) and self not in self._group.members
        return expelled or self._group.waits_for(self) or (self._held is None and self._group.share(self) is not None)

    def _follow(self) -> None:
        """Take part in a rebalance, as far as it has come."""
        if self.topics and self not in self._group.members:
            self._revoke("on_lost")
            with self.kafka.lock:
                self._group.join(self)
        if self._group.waits_for(self):
            self._revoke()
            with self.kafka.lock:
                self._group.rejoin(self)
        if self._held is None and (share := self._group.share(self)) is not None:
            self._held, self._generation = share, self._group.generation
            self._take(_partitions(share))

    def _take(self, partitions: list[TopicPartition]) -> None:
        before = dict(self._positions)
        if (on_assign := self._callbacks.get("on_assign")) is not None:
            on_assign(self, partitions)
        if self._positions == before:  # the callback left it to us
            self.assign(partitions)

    def _revoke(self, callback: str = "on_revoke") -> None:
        held, self._held = self._held, None
        if held is None:
            return
        call = self._callbacks.get(callback) or self._callbacks.get("on_revoke")
        if call is not None:
            call(self, _partitions(held))
        self.unassign()

    # -- reading

    def _fetch(self, limit: int) -> list[Message]:
        batch: list[Message] = []
        for place in self._readable():
            records = self.kafka.create(place[0])[place[1]].read(self._positions[place])
            while len(batch) < limit and (record := next(records, None)) is not None:
                batch.append(record)
                self._positions[place] = (record.offset() or 0) + 1
                self._ended.pop(place, None)
        return batch or list(self._ends())

    def _readable(self) -> list[Place]:
        return [place for place in self._positions if place not in self._paused]

    def _ends(self) -> Iterable[Message]:
        """With `enable.partition.eof`: tell where there is nothing more for now, once for each end."""
        if not self._config.get("enable.partition.eof"):
            return
        for topic, number in self._readable():
            stable = self.kafka.create(topic)[number].stable
            if self._ended.get((topic, number)) != stable:
                self._ended[topic, number] = stable
                yield Message(topic=topic, partition=number, offset=stable, error=KafkaError(KafkaError._PARTITION_EOF))

    def _has_news(self) -> bool:
        return self._must_follow() or any(
            next(self.kafka.create(topic)[number].read(self._positions[topic, number]), None) is not None
            for topic, number in self._readable()
        )

    def _start(self, place: Place, offset: int) -> int:
        if offset >= 0:
            return offset
        if offset == OFFSET_END:
            return self.kafka.create(place[0])[place[1]].stable
        return 0 if offset == OFFSET_BEGINNING else self._group.committed.get(place, 0)

    def _own(self, partitions: Iterable[TopicPartition]) -> list[Place]:
        places = [(partition.topic, partition.partition) for partition in partitions]
        if foreign := [place for place in places if place not in self._positions]:
            raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION, str(foreign)))
        return places


def _partitions(places: Iterable[Place]) -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic, number in places]
