"""A server that ends while it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout, Service


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Nothing of it runs."""
    monkeypatch.setattr(Lab, "_running", lambda _: {})
    return Lab(Layout(tmp_path, "small", "127.0.99.20"))


def _ended(lab: Lab, says: str) -> Service:
    service = lab.layout.service("dev1.activemq")
    lab.layout.log(service).parent.mkdir(parents=True, exist_ok=True)
    lab.layout.log(service).write_text(says)
    return service


def test_one_that_ends_for_a_reason_is_refused_with_what_it_said(lab: Lab) -> None:
    broker = _ended(lab, "Address already in use\n")
    with pytest.raises(LabError, match="Address already in use"):
        lab._refuse_dead([broker])
