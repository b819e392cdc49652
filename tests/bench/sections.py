"""What the page says of each part."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import names


@dataclass(frozen=True, slots=True)
class Section:
    """One part on the page; ratios are those of `base` over every other row."""

    part: str
    title: str
    note: str
    base: str = ""
    plot: str = ""
    """What the plot shows: `bars` of the CPU a message, or its `curves`."""


SECTIONS = (
    Section(
        "pub",
        "Broker → Kafka",
        "Persistent messages wait in a queue of one broker and are drained into Kafka. The bare loop is a bytes "
        "reader that hands every message to the producer with the same three record headers, and acknowledges what "
        "Kafka has confirmed. Camel carries the body alone, without key and headers, and is warm: it is started once,"
        " carries a whole round that does not count, and is held while others run; its slow modes carry 10 to 30 % of"
        " the messages. Camel 4.22 has no transaction over several JMS messages (CAMEL-16039 asks for it), so client "
        "acknowledgement stands for the cheaper way to be exact.",
        names.PUB,
        "bars",
    ),
    Section(
        "sub",
        "Kafka → broker",
        "Records wait in Kafka for devices that are all connected, with one subscription each, on three brokers in "
        "turn. The bare sender knows where each device is, writes a transaction of up to 200 as one buffer, asks for "
        "a receipt, and has four in flight at each broker; then it commits. Camel knows no registry, so its devices "
        "are on one broker, and there is a row of Kalinka for the same.",
        names.SUB,
        "bars",
    ),
    Section(
        "latency",
        "End to end, 500 messages/s",
        "MQTT → broker → Kafka → another broker → MQTT, 50 devices to 50 devices at QoS 1; milliseconds. What the "
        "servers take alone is measured with a relay that hands every message on at once, and looks nothing up, "
        "confirms nothing, promises nothing.",
    ),
    Section(
        "memory",
        "Memory",
        "Long runs of each, while messages come; resident memory early, and after all of them. Medians of ten "
        "looks, 0.1 s apart.",
    ),
    Section(
        "devices",
        "Growth: devices that speak, or are spoken to",
        "Messages from so many devices, and for so many, at one real broker. In every row as many as in the last one "
        "listen there, with one subscription each.",
        plot="curves",
    ),
    Section(
        "stubs",
        "Growth: devices beyond a broker",
        "Devices that are in the registry, behind a stub: a broker that only counts. At least four messages each, in "
        "turn; the first of each waits for ZooKeeper. An instance remembers 50,000 devices: with more of them in turn"
        " each message is a first one.",
        plot="curves",
    ),
    Section(
        "brokers",
        "Growth: brokers",
        "Messages and devices are as many in all; brokers beyond three are stubs.",
        plot="curves",
    ),
    Section(
        "bytes",
        "Growth: bytes",
        "Payloads; 100 devices on one real broker. A round has 64 MiB of them at most, and 100 messages at least.",
        plot="curves",
    ),
    Section(
        "cores",
        "Several processes",
        "`pub` over two stubs: one process for both, or one for each. `cores` is the CPU time of the bridge a second:"
        " Kafka and the stubs need the rest of the machine.",
    ),
)
