"""Give Kalinka and a back end the rights in Kafka that docs/own-servers.md names: rights.py KALINKA.TOML.

The configuration is that of an administrator. Says what was made.
"""

import sys

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from kalinka_jms.config import load

BACK_END = "User:sparkcluster"
KALINKA = "User:kalinka"


def wanted(settings):
    """Principal, kind, prefix?, name, operations."""
    for group in settings.groups:
        yield KALINKA, ResourceType.TOPIC, True, f"{group}.", "READ WRITE DESCRIBE"
        yield BACK_END, ResourceType.TOPIC, False, f"{group}.mqtt.sparkcluster", "READ DESCRIBE"
        yield BACK_END, ResourceType.TOPIC, False, f"{group}.sparkcluster.mqtt", "WRITE DESCRIBE"
    yield KALINKA, ResourceType.TOPIC, False, settings.dead, "READ WRITE DESCRIBE"
    yield KALINKA, ResourceType.GROUP, True, "kalinka-", "READ"
    yield KALINKA, ResourceType.TRANSACTIONAL_ID, True, "kalinka-", "WRITE DESCRIBE"
    yield BACK_END, ResourceType.GROUP, False, "sparkcluster", "READ"


def bindings(settings):
    for principal, kind, prefix, name, operations in wanted(settings):
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        for operation in operations.split():
            allow = AclPermissionType.ALLOW
            yield AclBinding(kind, name, pattern, principal, "*", AclOperation[operation], allow)


def main(path):
    settings = load(path)
    admin = AdminClient({**settings.kafka_settings(), "log_level": 0})
    anything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    there = set(admin.describe_acls(anything).result(30))
    missing = [binding for binding in bindings(settings) if binding not in there]
    if missing:
        for future in admin.create_acls(missing).values():
            future.result(30)
    for binding in missing:
        print("made", binding)


if __name__ == "__main__":
    main(sys.argv[1])
