"""Who answers a scrape is who was asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import bridge

TAKEN = 'kalinka_down_taken_records_total{{group="0",route="r"}} {0}\n'
DONE = 'kalinka_down_records_total{{group="0",outcome="delivered",route="r"}} {0}\n'


def test_a_process_that_took_the_port_of_a_dead_one_does_not_answer_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = bridge.Bridge(tmp_path / "kalinka.toml", tmp_path), [50, 3]
    instance: Any = SimpleNamespace(name="sub-2", metrics="http://127.0.0.1:1/metrics", running=True)
    monkeypatch.setattr(asked, "all", lambda: [instance])

    def scrape(_: str) -> str:
        count = answers.pop(0)
        instance.running = count == 50  # it dies, and who has its port now begins anew
        return TAKEN.format(count) + DONE.format(count)

    monkeypatch.setattr(bridge, "_scrape", scrape)
    assert asked.audit() == []
    assert asked.audit() == []
    assert asked.scrapes == 1


def test_a_counter_that_falls_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answers = bridge.Bridge(tmp_path / "kalinka.toml", tmp_path), [50, 3]
    instance: Any = SimpleNamespace(name="sub-2", metrics="http://127.0.0.1:1/metrics", running=True)
    monkeypatch.setattr(asked, "all", lambda: [instance])

    def scrape(_: str) -> str:
        count = answers.pop(0)
        return TAKEN.format(count) + DONE.format(count)

    monkeypatch.setattr(bridge, "_scrape", scrape)
    assert asked.audit() == []
    assert any("sub-2: " in fault and "fell from 50" in fault for fault in asked.audit())
