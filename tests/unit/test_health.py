"""Ready and healthy: what they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from kalinka_jms.health import STUCK, Health

NOW = 1000.0


@dataclass
class One:
    name: str = "sub"
    waiting_for: tuple[str, ...] = ()
    failed: bool = False
    turned: float | None = NOW


def health(*services: One) -> Health:
    return Health(services, lambda: NOW)


def test_ready_is_who_waits_for_nothing() -> None:
    assert health(One(), One("pub")).ready().yes
    verdict = health(One(), One("pub", waiting_for=("the broker dev2",))).ready()
    assert not verdict.yes
    assert verdict.services == {"sub": {"waiting for": []}, "pub": {"waiting for": ["the broker dev2"]}}


def test_nobody_is_ready_before_there_are_services_nor_when_they_stop() -> None:
    assert not health().ready().yes
    stopping = health(One())
    stopping.stopping = True
    assert stopping.ready().services == {"sub": {"waiting for": ["it is stopping"]}}


def test_who_waits_is_healthy_and_so_is_who_has_nothing_to_do() -> None:
    assert health().healthy().yes
    assert health(One(waiting_for=("ZooKeeper",)), One(turned=None), One(turned=NOW - STUCK)).healthy().yes


def test_who_stands_still_or_has_failed_is_not_healthy() -> None:
    still = health(One(turned=NOW - STUCK - 1)).healthy()
    assert (still.yes, still.services) == (False, {"sub": {"ailment": "a thread has stood still for 61 s"}})
    assert not health(One(), One("pub", failed=True)).healthy().yes
