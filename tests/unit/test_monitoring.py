"""The alert rules and the dashboard: they ask for metrics that there are, in PromQL that Prometheus takes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from kalinka_cli.reference import dashboard

from kalinka_jms.metrics.catalogue import CATALOGUE

FOLDER = Path(__file__).parents[2] / "docs" / "monitoring"
NAME = re.compile(r"\bkalinka_[a-z_]+")


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own tool, where it is installed: `make tools` does that on Debian and Ubuntu."""
    found = shutil.which("promtool", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no promtool: scripts/setup promtool gets it")
    return str(found)


def ran(*command: str, cwd: Path = FOLDER) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def known() -> set[str]:
    names = {metric.name for metric in CATALOGUE}
    histograms = [metric.name for metric in CATALOGUE if metric.kind == "histogram"]
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}


def test_the_rules_are_right_and_fire_when_they_should(promtool: str) -> None:
    ran(promtool, "check", "rules", "alerts.yml")
    ran(promtool, "test", "rules", "alerts.test.yml")


def test_every_rule_has_a_test_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    rules = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text())
    tests = (FOLDER / "alerts.test.yml").read_text()
    quiet = re.findall(r"alertname: (\w+), exp_alerts: \[\]", tests)
    fires = re.findall(r"alertname: (\w+)\n +exp_alerts:\n +- exp_labels", tests)
    assert sorted(rules) == sorted(quiet) == sorted(fires)


def test_rules_and_dashboard_ask_for_metrics_that_there_are() -> None:
    asked = NAME.findall(
        "\n".join(re.findall(r"expr:.*?(?=\n +(?:for|labels):)", (FOLDER / "alerts.yml").read_text(), re.S))
    )
    assert len(asked) > 15 and set(asked) <= known()
    asked = [name for query in dashboard.queries() for name in NAME.findall(query)]
    assert len(asked) > 25 and set(asked) <= known()


def test_prometheus_takes_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "1m") for query in dashboard.queries()]
    rules = [{"record": f"test:{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in ran(promtool, "check", "rules", "queries.yml", cwd=tmp_path)


def test_the_panels_of_the_dashboard_stand_beside_each_other() -> None:
    panels: list[dict[str, Any]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    assert len(panels) == sum(1 + len(row) for row in dashboard.ROWS.values())
    for one, other in combinations(panels, 2):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"], (one["title"], other["title"])
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"] and panel["options"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
