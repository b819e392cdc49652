"""The configuration with which Kalinka's services work against the lab, as TOML."""

from __future__ import annotations

from kalinka_jms.lab.layout import Layout
from kalinka_jms.lab.topics import GROUP

_BROKER = """\
[[brokers]]
name = "{name}"
stomp = "stomp://{host}:{port}"
mqtt = "mqtt://{host}:{mqtt}"                # where devices connect; for `kalinka config check --connect`
group = "{group}"
"""
_REST = """\
[kafka]                                        # any librdkafka setting
"bootstrap.servers" = "{kafka}"
"message.max.bytes" = 10485760                 # a payload of a megabyte with its headers; as on the lab's Kafka

[zookeeper]
hosts = "{zookeeper}"
root = "/kalinka/devices"

[pub]
queues = ["kalinka.mqtt.pub", "kalinka.sparkcluster.pub"]

[sub]
groups = ["{group}"]

[[routes.up]]                                  # a device publishes to another device
from = "mqtt/{{source}}/mqtt/{{device}}/pub"
topic = "{{group}}.mqtt.mqtt"
key = "{{device}}"

[[routes.up]]                                  # a device publishes to the back end
from = "mqtt/{{source}}/sparkcluster/pub"
topic = "{{group}}.mqtt.sparkcluster"
key = "{{source}}"

[[routes.down]]                                # a record of a device, to the device
from = "{{group}}.mqtt.mqtt"
to = "mqtt/{{source}}/mqtt/{{device}}/sub"
qos = 1
delivery = "{delivery}"

[[routes.down]]                                # a record of the back end, to the device
from = "{{group}}.sparkcluster.mqtt"
to = "sparkcluster/mqtt/{{device}}/sub"
qos = 1
delivery = "{delivery}"
"""


def toml(layout: Layout, delivery: str = "broker") -> str:
    """The TOML document; complete for all services. `delivery` is that of its down routes."""
    brokers = "\n".join(
        _BROKER.format(
            name=node.node, host=node.address, port=node.ports["stomp"], mqtt=node.ports["mqtt"], group=GROUP
        )
        for node in layout.of("activemq")
    )
    rest = _REST.format(kafka=layout.bootstrap, zookeeper=layout.zookeeper, group=GROUP, delivery=delivery)
    return f"{brokers}\n{rest}"
