"""Metrics: the catalogue, what a scrape shows, and that the identity holds at every one of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from typing import Any
from unittest.mock import patch

import pytest
from confluent_kafka import KafkaError, KafkaException
from downlink import MQTT, SPARK, Bench, record
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from test_health import One
from uplink import QUEUE, Uplink

from kalinka_jms.health import Health
from kalinka_jms.metrics import catalogue, process
from kalinka_jms.metrics.buckets import BOUNDS, Buckets
from kalinka_jms.metrics.catalogue import CATALOGUE
from kalinka_jms.metrics.collector import Samples
from kalinka_jms.metrics.identity import Scrape, check, faults, summed, total
from kalinka_jms.metrics.metric import Sample
from kalinka_jms.pub import session
from kalinka_jms.routes import Downlinks
from kalinka_jms.sub.figures import Figures


def scrape(*sources: Callable[[], Iterable[Sample]]) -> str:
    registry = CollectorRegistry()
    registry.register(Samples(*sources))
    return generate_latest(registry).decode()


class Owners:
    cached = 7


def test_names_are_as_prometheus_wants_them() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert re.fullmatch(r"kalinka_[a-z_]+[a-z]", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.kind != "histogram" or metric.name.endswith("_seconds")
        assert not re.search(r"milli|minute|_kb|_ms$", metric.name)
        assert metric.meaning.endswith((".", "*")) and metric.labels == tuple(dict.fromkeys(metric.labels))
        assert set(metric.labels) <= set(catalogue.LABELS) | {"version", "python"}


def test_a_histogram_is_shown_cumulative() -> None:
    buckets = Buckets()
    for seconds in (0.001, BOUNDS[0], 0.006, -5.0, 10_000.0):
        buckets.add(seconds)
    text = scrape(lambda: [Sample(catalogue.UP_SECONDS, ("b", "r"), buckets.copy())])
    shown = dict(re.findall(r'_bucket\{broker="b",le="([^"]+)",route="r"\} (\S+)', text))
    assert (shown["0.005"], shown["0.01"], shown["3600"], shown["+Inf"]) == ("3.0", "4.0", "4.0", "5.0")
    assert 'kalinka_up_confirm_seconds_count{broker="b",route="r"} 5.0' in text
    assert float(re.findall(r"_sum\S* (\S+)", text)[0]) == pytest.approx(10_000.012)


@given(st.lists(st.floats(-1, 1e5)), st.lists(st.floats(-1, 1e5)))
def test_histograms_add_up(one: list[float], other: list[float]) -> None:
    both, parts = Buckets(), (Buckets(), Buckets())
    for values, part in zip((one, other), parts, strict=True):
        for value in values:
            part.add(value)
            both.add(value)
    joined = parts[0].copy().plus(parts[1].copy())
    assert (joined.counts, joined.count) == (both.copy().counts, len(one) + len(other))


def test_the_process_says_what_runs_and_how_it_stands() -> None:
    services = [One("pub"), One("sub", waiting_for=("partitions",)), One("registry", failed=True)]
    text = scrape(lambda: process.samples(Health(services, lambda: 1000.0), True))
    assert [total(text, catalogue.READY, service=one.name) for one in services] == [1, 0, 1]
    assert [total(text, catalogue.HEALTHY, service=one.name) for one in services] == [1, 1, 0]
    assert total(text, catalogue.BUILD) == total(text, catalogue.ZOOKEEPER) == 1


def test_what_is_wrong_with_a_scrape_is_named() -> None:
    def broken(taken: float, delivered: float, in_flight: float) -> str:
        labels = ("0", "r")
        return scrape(
            lambda: [
                Sample(catalogue.TAKEN, labels, taken),
                Sample(catalogue.DOWN, (*labels, "delivered"), delivered),
                Sample(catalogue.DOWN_IN_FLIGHT, labels, in_flight),
            ]
        )

    assert check(broken(5, 3, 2)) == []
    (fault,) = check(broken(5, 3, 1))
    assert fault.startswith("down 0/r: kalinka_down_taken_records_total 5, but kalinka_down_records_total 3, ")
    assert len(check(broken(2, 3, -1))) == 1
    assert check(scrape(lambda: [Sample(catalogue.DIFFERENCE, ("up",), 1)])) != []
    fallen = check(broken(4, 2, 2), broken(5, 3, 2))
    assert [fault.split("{")[0] for fault in fallen] == [catalogue.TAKEN.name, catalogue.DOWN.name]


# --- up


def test_a_message_is_counted_by_broker_route_and_outcome() -> None:
    with Uplink() as up:
        up.start()
        up.publish(20)
        up.publish(5, "sparkcluster")
        up.publish(to="a,b")
        up.finish()
        up.wait(lambda: up.counted(catalogue.UP) == up.counted(catalogue.RECEIVED) == 26)
        (scrape,) = up.scrapes()
        assert faults(scrape) == []
        assert summed(scrape, catalogue.UP, route="mqtt/{source}/mqtt/{device}/pub", outcome="confirmed") == 20
        assert summed(scrape, catalogue.UP, route="mqtt/{source}/sparkcluster/pub", outcome="confirmed") == 5
        assert summed(scrape, catalogue.UP, route="", outcome="dead") == 1
        assert summed(scrape, catalogue.UP_SECONDS) == 25
        assert summed(scrape, catalogue.UP_ACTIVE, queue=QUEUE) == summed(scrape, catalogue.LINK) == 1
        assert summed(scrape, catalogue.UP_LAG) == summed(scrape, catalogue.UP_IN_FLIGHT) == 0


def test_lag_grows_while_kafka_confirms_nothing_and_what_is_given_back_is_named() -> None:
    with Uplink() as up:
        up.start()
        up.wait(lambda: up.counted(catalogue.LINK) == 1)
        up.kafka.hold()
        up.publish(10)
        up.wait(lambda: up.counted(catalogue.UP_IN_FLIGHT) == 10)
        before = up.counted(catalogue.UP_LAG)
        up.wait(lambda: up.counted(catalogue.UP_LAG) > before)
        up.broker.crash()
        up.wait(lambda: up.counted(catalogue.UP_GIVEN_BACK) == 10)
        assert up.counted(catalogue.LINK) == up.counted(catalogue.UP_LAG) == up.counted(catalogue.UP_ACTIVE) == 0
        up.kafka.release()
        up.broker.restart()
        up.finish()
        up.wait(lambda: up.counted(catalogue.UP, outcome="confirmed") == 10)
        assert up.counted(catalogue.RECEIVED) == 20 and faults(up.scrapes()[0]) == []


class Scraper:
    """A thread that scrapes all the time, and keeps what was wrong."""

    def __init__(self, up: Uplink) -> None:
        self.count, self.wrong = 0, list[str]()
        self._up = up
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Scraper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        before: list[Scrape] = []
        while not self._over.is_set():
            now = self._up.scrapes()
            for number, scrape in enumerate(now):
                self.wrong += faults(scrape, before[number] if number < len(before) else None)
            before = now
            self.count += 1


CODES = (KafkaError.UNKNOWN, KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.TOPIC_AUTHORIZATION_FAILED)
MISHAPS = st.sampled_from(["crash", "hold", "release", "fail", "poison", "another", "publish", "publish"])


@given(st.lists(st.tuples(MISHAPS, st.integers(1, 60), st.sampled_from(CODES)), max_size=12))
@hypothesis_settings(max_examples=25, deadline=None)
def test_the_identity_holds_at_every_scrape_whatever_befalls_the_uplink(
    steps: list[tuple[str, int, int]],
) -> None:
    with Uplink(prefetch=20, max_bytes=3_000) as up, patch.object(session, "STATE", 0.0), Scraper(up) as scraper:
        up.kafka.capacity = 15
        up.start()
        for mishap, number, code in steps:
            match mishap:
                case "crash":
                    up.broker.crash()
                    up.broker.restart()
                    up.device.connect()
                case "hold":
                    up.kafka.hold()
                case "release":
                    up.kafka.release()
                case "fail":
                    up.kafka.fail(code, count=1 + number % 3)
                case "poison":
                    up.publish(to="a,b")
                case "another" if len(up.instances) < 3:
                    up.start()
                case _:
                    up.publish(number)
        up.kafka.release()
        up.finish()
        seen = scraper.count
        up.wait(lambda: scraper.count > seen + 1)
    assert scraper.wrong == []
    assert [faults(scrape) for scrape in up.scrapes()] == [[]] * len(up.instances)
    assert up.counted(catalogue.UP_IN_FLIGHT) == 0


# --- down


def test_a_record_is_counted_by_group_route_and_outcome() -> None:
    bench = Bench()
    bench.open()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.take(record(0), record(1, "d2"), record(2, None), record(3, "d1"), record(0, topic=SPARK))
    scrape = bench.scrape()
    assert summed(scrape, catalogue.TAKEN, group="0") == summed(scrape, catalogue.DOWN_IN_FLIGHT) == 5
    assert summed(scrape, catalogue.TRANSACTIONS) == 1 and summed(scrape, catalogue.DOWN_BYTES) > 500
    bench.prove("b1")
    bench.commit()
    scrape = bench.scrape()
    assert faults(scrape) == [] and summed(scrape, catalogue.DOWN_IN_FLIGHT) == 0
    assert summed(scrape, catalogue.DOWN, route="{group}.mqtt.mqtt", outcome="delivered") == 2
    assert summed(scrape, catalogue.DOWN, route="{group}.sparkcluster.mqtt", outcome="delivered") == 1
    assert [summed(scrape, catalogue.DOWN, outcome=name) for name in ("parked", "dead", "moved")] == [1, 1, 0]
    assert summed(scrape, catalogue.DOWN_SECONDS, outcome="delivered") == 3
    assert summed(scrape, catalogue.PARKED) == summed(scrape, catalogue.PARKED_DEVICES) == 1
    assert summed(scrape, catalogue.PARTITIONS, group="0") == summed(scrape, catalogue.LINK, broker="b1") == 1


def test_what_is_given_back_at_a_rebalance_is_named() -> None:
    bench = Bench()
    share = bench.open()
    bench.take(record(0), record(1), record(0, topic=SPARK))
    bench.close(share)
    scrape = bench.scrape()
    assert faults(scrape) == []
    assert summed(scrape, catalogue.DOWN_GIVEN_BACK, route="{group}.mqtt.mqtt") == 2
    assert summed(scrape, catalogue.DOWN_GIVEN_BACK) == 3 and summed(scrape, catalogue.DOWN_IN_FLIGHT) == 0


def test_a_record_that_vanished_is_noticed() -> None:
    bench = Bench()
    bench.open()
    bench.take(record(0), record(1))
    bench.shares.clear()  # as no code does
    assert len(faults(bench.scrape())) == 2


def test_how_far_behind_the_end_it_is_comes_from_what_kafka_told_last() -> None:
    class Ends:
        def get_watermark_offsets(self, place: Any, timeout: float = 0, cached: bool = False) -> tuple[int, int]:
            assert cached, "asked of Kafka, it would wait"
            if place.topic == SPARK:
                raise KafkaException(KafkaError(KafkaError._UNKNOWN_PARTITION))
            return 0, 10

    bench = Bench()
    bench.figures = Figures(Downlinks(bench.settings.routes.down, ("0",)), Ends(), Owners())  # type: ignore[arg-type]
    bench.open()
    bench.take(record(0), record(6), record(0, topic=SPARK))
    scrape = bench.scrape()
    assert scrape[catalogue.DOWN_LAG.name] == [({"topic": MQTT, "partition": "0"}, 10)]
    assert summed(scrape, catalogue.OWNERS) == 7


def test_where_absence_is_hidden_is_told() -> None:
    bench = Bench()
    bench.open()
    bench.up("b1")
    bench.listens("d1", "b1")
    bench.take(record(0))
    bench.prove("b1", hidden=[0])
    assert summed(bench.scrape(), catalogue.HIDDEN, broker="b1") == 1
