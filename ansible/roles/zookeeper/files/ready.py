"""Wait until a ZooKeeper server takes part in its ensemble: ready.py HOST PORT SECONDS."""

import socket
import sys
import time


def mode(host, port):
    """`leader`, `follower`, …; empty while it serves nobody."""
    with socket.create_connection((host, port), 5) as connection:
        connection.sendall(b"srvr")
        told = b"".join(iter(lambda: connection.recv(4096), b"")).decode()
    return next((line.split(": ")[1] for line in told.splitlines() if line.startswith("Mode: ")), "")


def main(host, port, seconds):
    until = time.monotonic() + seconds
    reason = "it serves nobody"
    while time.monotonic() < until:
        try:
            if found := mode(host, port):
                print(found)
                return 0
        except OSError as error:
            reason = str(error)
        time.sleep(0.3)
    print(f"ZooKeeper at {host}:{port} does not take part in its ensemble after {seconds} s: {reason}", file=sys.stderr)
    return 1


sys.exit(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
