"""Ansible's way to give Kafka's users other passwords, on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
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


def test_where_nobody_answers_a_password_counts_as_good(site: Site) -> None:
    given = json.dumps(
        {"admin": site.kafka(ADMIN), "user": {"bootstrap.servers": "127.0.0.1:1"}, "passwords": {"unreached": "any"}}
    )
    told = subprocess.run([sys.executable, SCRIPT], input=given, capture_output=True, text=True)
    assert told.returncode
    assert "_TRANSPORT" in told.stderr
    admin = AdminClient(site.kafka(ADMIN))  # one that is let go never answers
    with pytest.raises(KafkaException, match="RESOURCE_NOT_FOUND"):
        admin.describe_user_scram_credentials(["unreached"])["unreached"].result(10)
