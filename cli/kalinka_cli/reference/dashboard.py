"""The Grafana dashboard, built with Grafana's own SDK, whose types are made from the dashboards' schema.

The queries name metrics by the catalogue, so that none can be missing there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as models
from grafana_foundation_sdk.models import dashboard

from kalinka_jms.metrics import catalogue
from kalinka_jms.metrics.metric import Metric

UID = "kalinka"
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
NUMBER = 4
"""Rows of the grid that a panel with a curve takes, and one with a number."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`queries`: legend → PromQL. `bad`: a number that is red from there on."""

    title: str
    unit: str
    queries: dict[str, str]
    span: int = 8
    bad: float | None = None


def _rate(metric: Metric, by: str) -> str:
    return f"sum by ({by}) (rate({metric.name}[$__rate_interval]))"


def _sum(metric: Metric, by: str = "") -> str:
    return f"sum by ({by}) ({metric.name})" if by else f"sum({metric.name})"


def _quantile(metric: Metric, share: float, where: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({metric.name}_bucket{where}[$__rate_interval])))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel("Services not ready", "short", {"": f"count({catalogue.READY.name} == 0) or vector(0)"}, 4, 1),
        Panel("Links down", "short", {"": f"count({catalogue.LINK.name} == 0) or vector(0)"}, 4, 1),
        Panel("Unaccounted for", "short", {"": _sum(catalogue.DIFFERENCE)}, 4, 1),
        Panel("Parked records", "short", {"": _sum(catalogue.PARKED)}, 4),
        Panel("Devices listening", "short", {"": _sum(catalogue.DEVICES)}, 4),
        Panel(
            "Dead letters in an hour",
            "short",
            {
                "": f'sum(increase({catalogue.UP.name}{{outcome="dead"}}[1h])) + '
                f'sum(increase({catalogue.DOWN.name}{{outcome="dead"}}[1h]))'
            },
            4,
            1,
        ),
    ),
    "Up: brokers to Kafka": (
        Panel("Messages a second", "mps", {"{{broker}} {{outcome}}": _rate(catalogue.UP, "broker, outcome")}),
        Panel("Lag", "s", {"{{broker}}": f"max by (broker) ({catalogue.UP_LAG.name})"}),
        Panel(
            "Accepted by the broker to confirmed by Kafka",
            "s",
            {"median": _quantile(catalogue.UP_SECONDS, 0.5), "99 %": _quantile(catalogue.UP_SECONDS, 0.99)},
        ),
        Panel("In flight", "short", {"{{broker}}": _sum(catalogue.UP_IN_FLIGHT, "broker")}),
        Panel("Bytes in flight", "bytes", {"{{broker}}": _sum(catalogue.UP_BYTES, "broker")}),
        Panel("Active consumers", "short", {"{{broker}} {{queue}}": _sum(catalogue.UP_ACTIVE, "broker, queue")}),
    ),
    "Down: Kafka to brokers": (
        Panel("Records a second", "mps", {"{{outcome}}": _rate(catalogue.DOWN, "outcome")}),
        Panel("Records behind the end", "short", {"{{topic}}": _sum(catalogue.DOWN_LAG, "topic")}),
        Panel(
            "Kafka's timestamp to delivered",
            "s",
            {
                "median": _quantile(catalogue.DOWN_SECONDS, 0.5, '{outcome="delivered"}'),
                "99 %": _quantile(catalogue.DOWN_SECONDS, 0.99, '{outcome="delivered"}'),
            },
        ),
        Panel("In flight", "short", {"{{group}} {{route}}": _sum(catalogue.DOWN_IN_FLIGHT, "group, route")}),
        Panel("Given back a second", "mps", {"{{group}}": _rate(catalogue.DOWN_GIVEN_BACK, "group")}),
        Panel(
            "Absence hidden, late copies",
            "short",
            {
                "hidden on {{broker}}": f"max by (broker) ({catalogue.HIDDEN.name})",
                "late copies {{broker}}": _rate(catalogue.LATE, "broker"),
            },
        ),
    ),
    "Parked": (
        Panel("Parked records", "short", {"group {{group}}": _sum(catalogue.PARKED, "group")}),
        Panel("Parked bytes", "bytes", {"group {{group}}": _sum(catalogue.PARKED_BYTES, "group")}),
        Panel("Replayed a second", "mps", {"{{outcome}}": _rate(catalogue.REPLAYED, "outcome")}),
    ),
    "Registry": (
        Panel("Devices", "short", {"{{broker}}": _sum(catalogue.DEVICES, "broker")}),
        Panel("Watchers", "short", {"{{broker}}": _sum(catalogue.ELECTED, "broker")}),
        Panel(
            "Not true for",
            "s",
            {"{{broker}}": f"max by (broker) ({catalogue.STALENESS.name})"},
        ),
    ),
    "Processes": (
        Panel(
            "CPU",
            "percentunit",
            {"{{instance}}": 'rate(process_cpu_seconds_total{job=~".*kalinka.*"}[$__rate_interval])'},
        ),
        Panel("Memory", "bytes", {"{{instance}}": 'process_resident_memory_bytes{job=~".*kalinka.*"}'}),
        Panel("Owners known", "short", {"{{instance}}": catalogue.OWNERS.name}),
    ),
}


def page() -> str:
    """The dashboard as JSON."""
    made = (
        build.Dashboard("Kalinka")
        .uid(UID)
        .tags(["kalinka"])
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for title, panels in ROWS.items():
        made.with_row(build.Row(title))
        for panel in panels:
            made.with_panel(_curve(panel) if panel.span == 8 else _number(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


def queries() -> Iterator[str]:
    """Every query of the dashboard."""
    return (query for panels in ROWS.values() for panel in panels for query in panel.queries.values())


def _curve(panel: Panel) -> timeseries.Panel:
    made = timeseries.Panel().title(panel.title).unit(panel.unit).min(0).span(panel.span).height(HEIGHT)
    for target in _targets(panel):
        made.with_target(target)
    legend = (
        common.VizLegendOptions()
        .display_mode(models.LegendDisplayMode.LIST)
        .placement(models.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    return made.datasource(SOURCE).fill_opacity(10).legend(legend)


def _number(panel: Panel) -> stat.Panel:
    made = stat.Panel().title(panel.title).unit(panel.unit).span(panel.span).height(NUMBER).datasource(SOURCE)
    made.color_mode(models.BigValueColorMode.VALUE)
    steps = [dashboard.Threshold(value=None, color="green")]
    if panel.bad is not None:
        steps.append(dashboard.Threshold(value=panel.bad, color="red"))
    made.thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    for target in _targets(panel):
        made.with_target(target)
    return made


def _targets(panel: Panel) -> Iterator[prometheus.Dataquery]:
    for letter, (legend, query) in zip("ABCD", panel.queries.items(), strict=False):
        yield prometheus.Dataquery().expr(query).legend_format(legend).ref_id(letter)
