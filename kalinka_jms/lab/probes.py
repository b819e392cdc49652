"""Does a server really answer? Each probe speaks the protocol that its clients speak."""

from __future__ import annotations

import socket
from contextlib import closing
from uuid import uuid4

from kalinka_jms.lab.layout import Service

_PATIENCE = 3.0  # seconds for one answer: a server that needs longer is not ready
_STOMP_CONNECT = b"CONNECT\naccept-version:1.2\nhost:lab\n\n\0"
_STOMP_DISCONNECT = b"DISCONNECT\n\n\0"
_MQTT_DISCONNECT = b"\xe0\x00"
_MQTT_ACCEPTED = b"\x20\x02\x00\x00"


def answers(service: Service) -> bool:
    """Whether every protocol of the server answers a client now."""
    try:
        match service.kind:
            case "activemq":
                address = service.address
                return mqtt(address, service.ports["mqtt"]) and stomp(address, service.ports["stomp"])
            case "kafka":
                return kafka(service.address, service.ports["kafka"], service.number)
            case "zookeeper":
                return zookeeper(service.address, service.ports["zookeeper"])
    except OSError:
        return False


def mqtt(address: str, port: int) -> bool:
    """Whether an MQTT 3.1.1 CONNECT is accepted."""
    client = f"kalinka-lab-{uuid4().hex[:8]}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(client).to_bytes(2, "big") + client
    with closing(_connect(address, port)) as link:
        link.sendall(b"\x10" + bytes([len(body)]) + body)
        accepted = _read(link, len(_MQTT_ACCEPTED)) == _MQTT_ACCEPTED
        link.sendall(_MQTT_DISCONNECT)
    return accepted


def stomp(address: str, port: int) -> bool:
    """Whether a STOMP 1.2 CONNECT is answered with CONNECTED."""
    with closing(_connect(address, port)) as link:
        link.sendall(_STOMP_CONNECT)
        accepted = _read(link, len(b"CONNECTED\n")) == b"CONNECTED\n"
        link.sendall(_STOMP_DISCONNECT)
    return accepted


def zookeeper(address: str, port: int) -> bool:
    """Whether the server serves: in an ensemble that is only with a quorum."""
    with closing(_connect(address, port)) as link:
        link.sendall(b"srvr")
        return b"Mode: " in _read(link, 4096)


def kafka(address: str, port: int, node: int) -> bool:
    """Whether the broker answers a metadata request and belongs to the cluster it tells of."""
    with closing(_connect(address, port)):
        pass  # librdkafka would log a refused connection
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": f"{address}:{port}", "log_level": 0})
    try:
        return node in client.list_topics(timeout=_PATIENCE).brokers
    except KafkaException:
        return False


def _connect(address: str, port: int) -> socket.socket:
    link = socket.create_connection((address, port), _PATIENCE)
    link.settimeout(_PATIENCE)
    return link


def _read(link: socket.socket, size: int) -> bytes:
    """That many bytes, or those that came before the end."""
    data = b""
    while len(data) < size and (more := link.recv(size - len(data))):
        data += more
    return data
