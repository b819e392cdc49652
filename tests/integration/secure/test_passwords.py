"""Ansible's way to give Kafka's users other passwords, on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safe_site import ADMIN, KALINKA, Site

pytestmark = pytest.mark.lab

SCRIPT = Path(__file__).parents[3] / "ansible" / "roles" / "kafka" / "files" / "users.py"


def changed(site: Site, passwords: dict[str, str]) -> list[str]:
    """What the script says, given these passwords."""
    admin = site.kafka(ADMIN)
    user = {name: value for name, value in admin.items() if name not in ("sasl.username", "sasl.password")}
    given = json.dumps({"admin": admin, "user": user, "passwords": passwords})
    told = subprocess.run([sys.executable, SCRIPT], input=given, stdout=subprocess.PIPE, text=True, check=True)
    return told.stdout.splitlines()


def test_who_has_another_password_gets_the_one_asked_for(site: Site) -> None:
    kalinka = {KALINKA: site.password}
    assert changed(site, {**kalinka, "newcomer": "first"}) == ["changed newcomer"]
    assert changed(site, {**kalinka, "newcomer": "first"}) == []
    assert changed(site, {**kalinka, "newcomer": "second"}) == ["changed newcomer"]
    assert changed(site, {**kalinka, "newcomer": "second"}) == []


def test_a_kafka_that_does_not_answer_gets_no_passwords(site: Site) -> None:
    nowhere = {"bootstrap.servers": "127.0.0.1:1"}
    given = json.dumps({"admin": nowhere, "user": nowhere, "passwords": {KALINKA: "any"}})
    told = subprocess.run([sys.executable, SCRIPT], input=given, capture_output=True, text=True)
    assert told.returncode
    assert "changed" not in told.stdout
