"""Wait until a ZooKeeper server takes part in its ensemble: ready.py HOST PORT SECONDS [CA]."""

import socket
import ssl
import sys
import time


def connect(host, port, ca):
    """With TLS where there is an authority to trust."""
    connection = socket.create_connection((host, port), 5)
    return ssl.create_default_context(cafile=ca).wrap_socket(connection, server_hostname=host) if ca else connection


def mode(host, port, ca):
    """`leader`, `follower`, …; empty while it serves nobody."""
    with connect(host, port, ca) as connection:
        connection.sendall(b"srvr")
        told = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    return next((line.split(": ")[1] for line in told.splitlines() if line.startswith("Mode: ")), "")


def main(host, port, seconds, ca=None):
    until = time.monotonic() + seconds
    reason = "it serves nobody"
    while time.monotonic() < until:
        try:
            if found := mode(host, port, ca):
                print(found)
                return 0
        except OSError as error:
            reason = str(error)
        time.sleep(0.3)
    print(f"ZooKeeper at {host}:{port} does not take part in its ensemble after {seconds} s: {reason}", file=sys.stderr)
    return 1


sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
