"""The commands with which docs/own-servers.md gives rights in Kafka, carried out by Kafka's own client."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

PAGE = Path(__file__).parents[3] / "docs" / "own-servers.md"


def documented() -> list[AclBinding]:
    """What the commands on the page allow, whoever they name."""
    lines = re.findall(r"^kafka-acls\.sh … (.*)$", PAGE.read_text(), re.MULTILINE)
    return [binding for line in lines for binding in bindings(line)]


def bindings(command: str) -> Iterator[AclBinding]:
    """What one command allows. Fails for an option that is not known here."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--add", action="store_true", required=True)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True)
    parser.add_argument("--resource-pattern-type", choices=("literal", "prefixed"), default="literal")
    for resource in ("--topic", "--group", "--transactional-id"):
        parser.add_argument(resource)
    given = parser.parse_args(shlex.split(command))
    resources = (
        (ResourceType.TOPIC, given.topic),
        (ResourceType.GROUP, given.group),
        (ResourceType.TRANSACTIONAL_ID, given.transactional_id),
    )
    for kind, name in resources:
        for operation in given.operation if name else ():
            yield AclBinding(
                kind,
                name,
                ResourcePatternType[given.resource_pattern_type.upper()],
                given.allow_principal,
                "*",
                AclOperation[_snake(operation)],
                AclPermissionType.ALLOW,
            )


def grant(admin: AdminClient, wanted: list[AclBinding]) -> None:
    """Carry them out. Raises KafkaException."""
    for future in admin.create_acls(wanted).values():
        future.result(30)


def _snake(operation: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()
