"""A partition of the fake Kafka: offsets, transactions, and the markers that end them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from confluent_kafka import Message


@dataclass(eq=False, slots=True)
class Transaction:
    """The state that all records of one transaction share."""

    committed: bool = False
    partitions: set[Partition] = field(default_factory=set)
    """Those it wrote to."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One offset; without a message it is the marker that ends a transaction."""

    message: Message | None
    transaction: Transaction | None

    @property
    def shown(self) -> bool:
        """Whether `read_committed` shows it, once it is stable."""
        return self.message is not None and (self.transaction is None or self.transaction.committed)


@dataclass(eq=False, slots=True)
class Partition:
    """The records of one partition, as its leader has them."""

    slots: list[Slot] = field(default_factory=list)
    _open: dict[Transaction, int] = field(default_factory=dict)  # → its first offset here

    @property
    def end(self) -> int:
        """The offset that the next record gets."""
        return len(self.slots)

    @property
    def stable(self) -> int:
        """The last stable offset: that of the first record of a transaction that is still open."""
        return min(self._open.values(), default=self.end)

    def append(self, message: Message, transaction: Transaction | None = None) -> None:
        """Add a record at `end`."""
        if transaction is not None:
            self._open.setdefault(transaction, self.end)
            transaction.partitions.add(self)
        self.slots.append(Slot(message, transaction))

    def close(self, transaction: Transaction) -> None:
        """End a transaction with its marker."""
        del self._open[transaction]
        self.slots.append(Slot(None, transaction))

    def read(self, offset: int) -> Iterator[Message]:
        """Yield the records from `offset` on, as `read_committed` does."""
        for number in range(offset, self.stable):
            message = self.slots[number].message
            if message is not None and self.slots[number].shown:
                yield message
