"""Every metric: its name, its labels, and what it means. docs/metrics.md is made from this.

Names and units follow Prometheus: seconds, bytes, `_total` for what only grows while a process lives.
"""

from __future__ import annotations

from kalinka_jms.metrics.metric import Metric

LABELS = {
    "service": "`pub`, `sub` or `registry`",
    "broker": "the name of a broker in the configuration",
    "queue": "a queue of `[pub]`",
    "group": "a group of brokers",
    "route": "the `from` of a route; empty where no route takes the message",
    "outcome": "what became of it, see below",
    "direction": "`up` (broker to Kafka) or `down` (Kafka to broker)",
    "topic": "a Kafka topic",
    "partition": "its partition",
}
"""What the labels mean."""

OUTCOMES_UP = {
    "confirmed": "Kafka has it, and so has everything before it in its queue: the broker was told to forget it",
    "dead": "it can never be mapped, or Kafka never takes it: it is in the dead-letter topic, with the reason",
    "refused": "not even the dead-letter topic takes it: the broker keeps it in ActiveMQ.DLQ",
}
OUTCOMES_DOWN = {
    "delivered": "its route's evidence says that the device has it",
    "parked": "the device is away: it waits in the group's parked topic",
    "expired": "its time ran out, or the device has too many parked records",
    "dead": "it can never be delivered: it is in the dead-letter topic, with the reason",
    "moved": "it was handed to another group, which has the device",
    "duplicate": "the same record has an outcome already, or is on its way",
}

# --- every service

BUILD = Metric("kalinka_build_info", "gauge", "every", ("version", "python"), "1; the labels say what runs.")
READY = Metric(
    "kalinka_ready", "gauge", "every", ("service",), "1 while the service is ready, as `/readyz` has it; else 0."
)
HEALTHY = Metric(
    "kalinka_healthy", "gauge", "every", ("service",), "1 while the service is healthy, as `/healthz` has it; else 0."
)
LINK = Metric(
    "kalinka_link_up",
    "gauge",
    "every",
    ("service", "broker"),
    "1 while the service has its link to the broker; else 0. An instance of `registry` has one only where it was "
    "elected, and shows no others.",
)
ZOOKEEPER = Metric(
    "kalinka_zookeeper_connected", "gauge", "every", (), "1 while the process's session with ZooKeeper is up; else 0."
)
DIFFERENCE = Metric(
    "kalinka_ledger_difference",
    "gauge",
    "every",
    ("direction",),
    "What was taken in, less all outcomes, less what was given back, less what is in flight. Always 0: anything else "
    "means that a message or record is unaccounted for.",
)

# --- up

RECEIVED = Metric(
    "kalinka_up_received_messages_total",
    "counter",
    "pub",
    ("broker",),
    "Messages taken from the broker. One that is redelivered counts again.",
)
UP = Metric(
    "kalinka_up_messages_total",
    "counter",
    "pub",
    ("broker", "route", "outcome"),
    "Messages by their outcome.",
)
UP_GIVEN_BACK = Metric(
    "kalinka_up_given_back_messages_total",
    "counter",
    "pub",
    ("broker",),
    "Messages that had no outcome when the link to the broker ended: it hands them out again, to whoever is next.",
)
UP_IN_FLIGHT = Metric(
    "kalinka_up_in_flight_messages",
    "gauge",
    "pub",
    ("broker",),
    "Messages taken from the broker that have no outcome yet.",
)
UP_BYTES = Metric(
    "kalinka_up_in_flight_bytes",
    "gauge",
    "pub",
    ("broker",),
    "Bytes of the messages in flight, and of those that were read and wait for their turn.",
)
UP_LAG = Metric(
    "kalinka_up_lag_seconds",
    "gauge",
    "pub",
    ("broker",),
    "How long ago the broker accepted the oldest message in flight, by the broker's clock; 0 where none is.",
)
UP_ACTIVE = Metric(
    "kalinka_up_active",
    "gauge",
    "pub",
    ("broker", "queue"),
    "1 where the broker has given messages of the queue to this instance since its link came up: of exclusive "
    "consumers it chooses one, and the others stand by with 0.",
)
UP_SECONDS = Metric(
    "kalinka_up_confirm_seconds",
    "histogram",
    "pub",
    ("broker", "route"),
    "From the broker's acceptance of a message (its timestamp) to its acknowledgement after Kafka's confirmation. "
    "Rests on two clocks where broker and instance run on two hosts.",
)

# --- down

TAKEN = Metric(
    "kalinka_down_taken_records_total",
    "counter",
    "sub",
    ("group", "route"),
    "Records taken from Kafka.",
)
DOWN = Metric(
    "kalinka_down_records_total",
    "counter",
    "sub",
    ("group", "route", "outcome"),
    "Records by their outcome.",
)
DOWN_GIVEN_BACK = Metric(
    "kalinka_down_given_back_records_total",
    "counter",
    "sub",
    ("group", "route"),
    "Records that had no outcome when their partition went to another instance, which takes them again.",
)
DOWN_IN_FLIGHT = Metric(
    "kalinka_down_in_flight_records",
    "gauge",
    "sub",
    ("group", "route"),
    "Records taken from Kafka that have no outcome yet.",
)
DOWN_BYTES = Metric("kalinka_down_in_flight_bytes", "gauge", "sub", (), "Their bytes: keys, values, 100 for each.")
DOWN_SECONDS = Metric(
    "kalinka_down_outcome_seconds",
    "histogram",
    "sub",
    ("group", "route", "outcome"),
    "From a record's timestamp in Kafka to its outcome.",
)
REPLAYED = Metric(
    "kalinka_down_replayed_records_total",
    "counter",
    "sub",
    ("outcome",),
    "Parked records by what became of them when their device came back. Each had the outcome `parked` before.",
)
LATE = Metric(
    "kalinka_down_late_copies_total",
    "counter",
    "sub",
    ("broker",),
    "Copies of records given up there without an acknowledgement that a persistent session on this broker acknowledged "
    "later, as far as the link still hears of it.",
)
LEFT_BEHIND = Metric(
    "kalinka_down_left_behind_copies_total",
    "counter",
    "sub",
    (),
    'Sends of routes with `delivery = "device"` given up un-acknowledged while a persistent session may hold '
    "a copy: its device may get each once more, with the same `kalinka.id`.",
)
DOWN_LAG = Metric(
    "kalinka_down_lag_records",
    "gauge",
    "sub",
    ("topic", "partition"),
    "Records of a partition that have no final outcome yet: from the first of them to the end that Kafka told with the "
    "last fetch. Marks of transactions count as records, so 1 may stay.",
)
PARTITIONS = Metric(
    "kalinka_down_partitions", "gauge", "sub", ("group",), "Partitions of the group that this instance has."
)
HIDDEN = Metric(
    "kalinka_down_absence_hidden",
    "gauge",
    "sub",
    ("broker",),
    "Routes on which the broker does not report that nobody listens, because a client subscribes to a filter over "
    "other devices' topics; only the registry's word counts there.",
)
TRANSACTIONS = Metric(
    "kalinka_down_transactions_in_flight", "gauge", "sub", (), "STOMP transactions that wait for their evidence."
)
UNCONFIRMED = Metric(
    "kalinka_down_unconfirmed_records",
    "gauge",
    "sub",
    (),
    'Records of routes with `delivery = "device"` that were sent and that their devices have not confirmed.',
)
PARKED = Metric(
    "kalinka_parked_records", "gauge", "sub", ("group",), "Parked records in the partitions of this instance."
)
PARKED_BYTES = Metric("kalinka_parked_bytes", "gauge", "sub", ("group",), "The bytes of their values.")
PARKED_DEVICES = Metric("kalinka_parked_devices", "gauge", "sub", ("group",), "Devices that they wait for.")
LOADED = Metric(
    "kalinka_parked_loaded_records", "gauge", "sub", (), "Parked records in memory, on their way to their devices."
)
OWNERS = Metric("kalinka_owners_cached", "gauge", "sub", (), "Devices of which this instance knows where they listen.")

# --- registry

ELECTED = Metric(
    "kalinka_registry_elected",
    "gauge",
    "registry",
    ("broker",),
    "1 where this instance is the broker's watcher; 0 where it stands by.",
)
SETTLED = Metric(
    "kalinka_registry_settled",
    "gauge",
    "registry",
    ("broker",),
    "1 where this instance watches the broker and knows all who listen there; else 0.",
)
DEVICES = Metric(
    "kalinka_registry_devices", "gauge", "registry", ("broker",), "Devices that listen on the broker this one watches."
)
PENDING = Metric(
    "kalinka_registry_pending_devices",
    "gauge",
    "registry",
    ("broker",),
    "Devices whose change is not in the registry yet.",
)
WRITES = Metric("kalinka_registry_writes_total", "counter", "registry", ("broker",), "Changes written to the registry.")
RECONCILED = Metric(
    "kalinka_registry_last_reconcile_timestamp_seconds",
    "gauge",
    "registry",
    ("broker",),
    "When this watcher last compared the registry with all subscriptions on the broker; 0 before the first time.",
)
STALENESS = Metric(
    "kalinka_registry_staleness_seconds",
    "gauge",
    "registry",
    ("broker",),
    "For how long the registry may not have been true of the broker: since its link was lost, or a change was not "
    "written. 0 while it is true.",
)
EAVESDROPPERS = Metric(
    "kalinka_registry_eavesdroppers",
    "gauge",
    "registry",
    ("broker",),
    "Subscriptions on the broker to a filter over devices' topics that names none of them: they hide absence.",
)

CATALOGUE: tuple[Metric, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""All of them, in the order above."""
