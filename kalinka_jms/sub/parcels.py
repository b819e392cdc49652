"""The sends of one connection that wait for the device's own evidence, found by message number, stream or device."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from kalinka_jms.sub.receipts import Receipts
from kalinka_jms.sub.sends import Consumed, Dispatched, Word
from kalinka_jms.sub.share import Stream


@dataclass(slots=True, eq=False)
class Parcel:
    """A run of sends of one stream within a transaction."""

    stream: Stream
    destination: str
    first: int
    """The message number of its first send; the others follow it."""
    receipts: Receipts
    since: float
    """When it was sent, or something of it was proven last (seconds, monotonic)."""
    landed: bool = False
    """Whether the echo of its transaction came."""
    doubted: bool = False
    """Whether its device seems to be gone, and an echo is to show what the broker said until then."""


LEFT = 10_000
"""Sends given up that are remembered, of each connection."""


class Parcels:
    """Those of a broker's present connection. A stream has one at most."""

    def __init__(self) -> None:
        self._streams: dict[Stream, Parcel] = {}
        self._numbers: dict[int, Parcel] = {}
        self._devices: defaultdict[str, set[Parcel]] = defaultdict(set)
        self._left: OrderedDict[int, None] = OrderedDict()
        self.late = 0
        """Sends that a persistent session acknowledged after they had been given up: its device has them twice, or
        will have. Of what was sent on earlier connections nothing is heard any more."""
        self.heard = False
        """Whether the broker said anything of a message of this connection."""

    def __iter__(self) -> Iterator[Parcel]:
        """All of them; they may be removed meanwhile."""
        return iter(tuple(self._streams.values()))

    def __contains__(self, parcel: Parcel) -> bool:
        return self._streams.get(parcel.stream) is parcel

    @property
    def sends(self) -> int:
        """How many sends there are in them."""
        return len(self._numbers)

    def of(self, device: str) -> tuple[Parcel, ...]:
        """Those for a device."""
        return tuple(self._devices.get(device, ()))

    def at(self, stream: Stream) -> Parcel | None:
        """That of a stream."""
        return self._streams.get(stream)

    def add(self, parcel: Parcel) -> None:
        """It was sent."""
        self._streams[parcel.stream] = parcel
        self._numbers.update(dict.fromkeys(_numbers(parcel), parcel))
        self._devices[parcel.stream.device].add(parcel)

    def clear(self) -> None:
        """A new connection begins to count anew; what waited was removed before."""
        self._left.clear()
        self.heard = False

    def remove(self, parcel: Parcel) -> None:
        """Nothing of it waits any more; what is still said of it is about nothing."""
        self._left.update(dict.fromkeys(parcel.first + index for index in parcel.receipts.kept))
        while len(self._left) > LEFT:
            self._left.popitem(last=False)
        del self._streams[parcel.stream]
        for number in _numbers(parcel):
            del self._numbers[number]
        device = parcel.stream.device
        self._devices[device].discard(parcel)
        if not self._devices[device]:
            del self._devices[device]

    def note(self, word: Word) -> Parcel | None:
        """Keep what the broker said; the parcel it is about, if there is one (it may be of a canary, or too late)."""
        self.heard = True
        parcel = self._numbers.get(word.message)
        if parcel is None:
            self._late(word)
        else:
            index = word.message - parcel.first
            if isinstance(word, Dispatched):
                parcel.receipts.dispatched(index, word.consumer)
            elif isinstance(word, Consumed):
                parcel.receipts.consumed(index)
            else:
                parcel.receipts.fail(index)
        return parcel

    def _late(self, word: Word) -> None:
        if word.message in self._left and not isinstance(word, Dispatched):
            del self._left[word.message]
            self.late += isinstance(word, Consumed)


def _numbers(parcel: Parcel) -> range:
    return range(parcel.first, parcel.first + len(parcel.receipts))
