"""The page on metrics, health and readiness, from the catalogue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kalinka_cli.reference.markdown import NOT_BY_HAND, code, fenced, table
from kalinka_jms.health import STUCK
from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.buckets import BOUNDS
from kalinka_jms.service import START

INTRODUCTION = """\
`kalinka pub`, `sub`, `registry` and `run` serve these over HTTP where they are told to, and take no port otherwise:
"""
EXAMPLE = "kalinka run --config kalinka.toml --metrics 127.0.0.1:9464"
PATHS = {
    "/metrics": "all metrics below, in Prometheus' text format (OpenMetrics where it is asked for), beside those of "
    "the process (`process_*`, `python_*`)",
    "/healthz": "200 where the process is healthy, else 503; the body says of each service what ails it",
    "/readyz": "200 where it is ready, else 503; the body says of each service what it waits for",
}
ANYBODY = """\
There is no login and no TLS: take an address that only your Prometheus reaches. Several instances on one host need
different ports; port 0 takes a free one, and the log tells which.
"""
READY = {
    "pub": "it is subscribed at every broker; Kafka answered when each of these subscriptions was made",
    "sub": "its consumer group has given it its partitions (possibly none), their parked records are indexed, and its "
    "link to one broker at least is up",
    "registry": "ZooKeeper answers, and every broker for which it was elected is watched: the link is up, and all "
    "subscriptions there were read; one that only stands by is ready",
}
HEALTHY = """\
A process is **healthy** while the threads that own the state of its services make progress: each of them turned within
the last {stuck:.0f} seconds, and none has ended by itself. Waiting for a broker, for Kafka or for ZooKeeper is healthy,
as a restart would not help. So restart what is not healthy, and never restart what is only not ready.

Under systemd (`Type=notify`, `WatchdogSec=30`) the process says `READY=1` when all its services are ready, or
{start:.0f} seconds after its start, whichever is first (one broker that is down must not keep the others waiting); then
`WATCHDOG=1` while it is healthy; `STATUS=` says what it waits for, and `STOPPING=1` that it finishes what is in flight.
"""
IDENTITY = """\
Nothing is dropped in silence, and every single scrape shows it (the numbers of one scrape are of one moment):

- **up**, of each broker: `kalinka_up_received_messages_total` = Σ `kalinka_up_messages_total` +
  `kalinka_up_given_back_messages_total` + `kalinka_up_in_flight_messages`;
- **down**, of each group and route: `kalinka_down_taken_records_total` = Σ `kalinka_down_records_total` +
  `kalinka_down_given_back_records_total` + `kalinka_down_in_flight_records`.

`kalinka_ledger_difference` is what is left over: 0, or something is wrong. What is in flight is not reckoned from the
other numbers but counted where it is held. A record that is parked has that outcome; what becomes of it later is in
`kalinka_down_replayed_records_total`. The counters begin at 0 with every process.
"""
MONITORING = """\
[monitoring/alerts.yml](monitoring/alerts.yml) has alert rules for Prometheus, with tests
(`promtool test rules alerts.test.yml`), and [monitoring/dashboard.json](monitoring/dashboard.json) is a dashboard for
Grafana 10 or newer (Dashboards, New, Import). Both expect every instance to be scraped:

```yaml
scrape_configs:
  - job_name: kalinka
    static_configs:
      - targets: ["bridge1:9464", "bridge2:9464"]
```
"""
CLOCKS = """\
The histograms have these upper bounds, in seconds: {bounds}.
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from (NOT_BY_HAND.format(source="kalinka_jms/metrics/catalogue.py"), "# Metrics, health, readiness", "")
    yield INTRODUCTION
    yield from fenced(EXAMPLE)
    yield from table(("path", "answers with"), [(code(path), text) for path, text in PATHS.items()])
    yield ANYBODY
    yield from ("## Ready and healthy", "", "A service is **ready** when", "")
    yield from table(("service", "is ready when"), [(code(name), f"{text}.") for name, text in READY.items()])
    yield HEALTHY.format(stuck=STUCK, start=START)
    yield from ("## The ledger", "", IDENTITY)
    for title, outcomes in (("Up", catalogue.OUTCOMES_UP), ("Down", catalogue.OUTCOMES_DOWN)):
        yield from table((f"outcome {title.lower()}", "means"), _rows(outcomes))
    yield from ("## Alerts and a dashboard", "", MONITORING)
    yield from ("## Every metric", "")
    for of, title in (("every", "Every process"), ("pub", "`pub`"), ("sub", "`sub`"), ("registry", "`registry`")):
        yield from (f"### {title}", "")
        yield from table(
            ("metric", "kind", "labels", "meaning"),
            [
                (code(one.name), one.kind, ", ".join(map(code, one.labels)), one.meaning)
                for one in catalogue.CATALOGUE
                if one.of == of
            ],
        )
    yield from table(("label", "is"), _rows(catalogue.LABELS))
    yield CLOCKS.format(bounds=", ".join(format(bound, "g") for bound in BOUNDS))


def _rows(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(code(name), f"{text}.") for name, text in texts.items()]
