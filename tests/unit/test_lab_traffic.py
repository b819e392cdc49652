from __future__ import annotations

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab.device import BACK_END, MqttBroker
from kalinka_jms.lab.ledger import Ledger
from kalinka_jms.lab.traffic import Traffic


class Party:
    """A device, or the back end, whose messages arrive at once unless the receiver is away."""

    def __init__(self, name: str, ledger: Ledger, parties: dict[str, Party]) -> None:
        self.name = name
        self.listening = True
        self.broker = MqttBroker("dev1", "")
        self.places: list[str] = []
        self._ledger = ledger
        self._parties = parties
        self._waiting: list[bytes] = []
        parties[name] = self

    def send(self, destination: str, size: int = 0) -> None:
        payload = self._ledger.send(self.name, destination, self.broker.name, at=0)
        self._ledger.acknowledge(payload)
        self._parties[destination].take(payload.encode(size))
        self.after_send()

    def offer(self, destination: str, size: int = 0) -> None:
        if self.listening:
            self.send(destination, size)

    def after_send(self) -> None:
        """What happens then."""

    def take(self, body: bytes) -> None:
        if self.listening:
            self._ledger.arrive(body, self.name, at=1)
        else:
            self._waiting.append(body)

    def flush(self) -> None:
        pass

    def leave(self) -> None:
        assert not self._ledger.outstanding(self.name)
        self.listening = False

    def join(self, broker: MqttBroker) -> None:
        self.listening, self.broker, waiting = True, broker, self._waiting
        self.places.append(f"{broker.name} after {len(waiting)}")
        for body in waiting:
            self.take(body)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def parties(ledger: Ledger) -> dict[str, Party]:
    parties: dict[str, Party] = {}
    for name in ("a", "b", "c", BACK_END):
        Party(name, ledger, parties)
    return parties


@pytest.fixture
def traffic(ledger: Ledger, parties: dict[str, Party]) -> Traffic:
    return Traffic(ledger, [parties[name] for name in "abc"], parties[BACK_END], size=100)  # type: ignore[arg-type]


def _pairs(ledger: Ledger) -> set[tuple[str, str]]:
    return {(stream.source, stream.destination) for stream in ledger.verdict().streams}


def test_a_round_is_one_message_from_everyone_to_everyone(ledger: Ledger, traffic: Traffic) -> None:
    traffic.burst(2)
    assert ledger.verdict().total.received == 2 * (3 * 3 + 3)
    assert len(_pairs(ledger)) == 12 and not any(source == destination for source, destination in _pairs(ledger))


def test_without_a_back_end_devices_speak_among_themselves(ledger: Ledger, parties: dict[str, Party]) -> None:
    Traffic(ledger, [parties["a"], parties["b"]], None).burst(1)  # type: ignore[list-item]
    assert _pairs(ledger) == {("a", "b"), ("b", "a")}


def test_what_is_held_is_not_sent(ledger: Ledger, traffic: Traffic) -> None:
    traffic.hold(source="a", destination="b")
    traffic.burst(1)
    assert not any(source == "a" or destination == "b" for source, destination in _pairs(ledger))
    traffic.release(source="a", destination="b")
    traffic.burst(1)
    assert len(_pairs(ledger)) == 12


def test_who_does_not_listen_does_not_speak(ledger: Ledger, parties: dict[str, Party], traffic: Traffic) -> None:
    parties["a"].listening = False
    traffic.burst(1)
    assert {source for source, _ in _pairs(ledger)} == {"b", "c", BACK_END}


def test_nobody_waits_for_a_device_whose_link_breaks_within_a_round(
    ledger: Ledger, parties: dict[str, Party], traffic: Traffic
) -> None:
    def break_link() -> None:
        parties["a"].listening = False

    parties["a"].after_send = break_link  # type: ignore[method-assign]
    traffic.burst(1)
    assert _pairs(ledger) == {("a", "b")} | {(source, other) for source, other in _pairs(ledger) if source != "a"}
    assert {source for source, _ in _pairs(ledger)} == {"a", "b", "c", BACK_END}


def test_a_device_moves_while_the_others_go_on(ledger: Ledger, parties: dict[str, Party], traffic: Traffic) -> None:
    traffic.start(rate=500)
    traffic.move(parties["a"], MqttBroker("dev2", ""), backlog=20)  # type: ignore[arg-type]
    traffic.stop()
    traffic.burst(1)
    (place,) = parties["a"].places
    assert place.startswith("dev2 after ") and int(place.split()[-1]) >= 20
    assert ledger.verdict().total.lost == 0 and ledger.verdict().proven
    assert {stream.via for stream in ledger.verdict().streams if stream.source == "a"} >= {"dev2"}


def test_a_traffic_that_breaks_off_says_so(parties: dict[str, Party], traffic: Traffic) -> None:
    del parties["c"]
    traffic.start(rate=100)
    with pytest.raises(LabError, match="the traffic broke off"):
        traffic.move(parties["a"], MqttBroker("dev2", ""), backlog=1, timeout=5)  # type: ignore[arg-type]
        pytest.fail("not noticed")
