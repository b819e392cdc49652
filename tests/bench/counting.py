"""`python -m tests.bench.counting`: what counting takes of the threads that carry messages, in CPU time.

No server is needed: what a pipeline does for each message to count it is done here and nothing else, a million times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Message

from kalinka_jms.metrics.buckets import Buckets
from kalinka_jms.pub.account import Account, Flight
from kalinka_jms.pub.window import Pending, Window
from kalinka_jms.stomp.frames import Frame
from kalinka_jms.sub.account import Accounts
from kalinka_jms.sub.share import Outcome, Share

MESSAGES = 200_000
WINDOW = 100
"""Messages acknowledged at once: those of 5 ms at 20,000 a second."""

RUNS = 5


def frames() -> list[Frame]:
    """As ActiveMQ sends them, 20 of each millisecond."""
    now = int(time.time() * 1000)
    head = "MESSAGE\ncontent-length:256\nexpires:0\ndestination:/queue/q\nack:ID\\cx-%d\nsubscription:1\npriority:4"
    more = (
        "\noriginal-destination:/topic/mqtt.beast.mqtt.wolverine.pub\nmessage-id:ID\\cx\\c-1\\c1\\c%d\npersistent:true"
    )
    return [
        Frame(f"{head % n}{more % n}\ntimestamp:{now - 50 + n // 20}".encode(), b"x" * 256) for n in range(MESSAGES)
    ]


def up(every: list[Frame], counted: bool) -> None:
    """A window opened and settled; `counted`: a scene of its own for what that takes without the counting."""
    window, tally = Window("q"), Buckets()
    for start in range(0, len(every), WINDOW):
        for frame in every[start : start + WINDOW]:
            pending = Pending(frame, window)
            if counted:
                pending.tally = tally
            pending(None, None)
            window.open(pending)
        window.settle(time.time()) if counted else _settled(window)


def _settled(window: Window) -> int:
    """`Window.settle` as it would be without counting."""
    size = 0
    last: Pending | None = None
    order = window._order
    told: list[Pending] = []
    while order and order[0].verdict:
        last = order.popleft()
        size += len(last.frame.head) + len(last.frame.body)
        if told and told[-1].verdict == last.verdict:
            told.pop()
        told.append(last)
    return size


def down(every: list[Any]) -> None:
    """Records taken, and delivered: what both ends count."""
    accounts, share = Accounts(), Share("0", 0)
    for start in range(0, len(every), WINDOW):
        messages = every[start : start + WINDOW]
        accounts.take(share, messages[0].topic(), len(messages))
        accounts.end(share, messages, Outcome.DELIVERED)


def states() -> None:
    """Statements, as one is made four times a second."""
    account = Account()
    account.confirmed["a"].add(0.1)
    account.confirmed["b"].add(0.1)
    for _ in range(10_000):
        account.state(Flight(1, 1, 1, ("q",)))


def best(call: Callable[..., None], *arguments: Any) -> float:
    """Seconds of CPU, the least of several runs."""
    times = []
    for _ in range(RUNS):
        begun = time.process_time()
        call(*arguments)
        times.append(time.process_time() - begun)
    return min(times)


def main() -> None:
    every = frames()
    with_it, without = best(up, every, True), best(up, every, False)
    more: Any = {"timestamp": (1, int(time.time() * 1000) - 50)}
    records = [
        Message(topic="0.mqtt.mqtt", partition=0, offset=n, key=b"d", value=b"x", **more) for n in range(MESSAGES)
    ]
    print(f"up, counted in the window    {(with_it - without) / MESSAGES * 1e6:6.2f} µs a message")
    print(f"down, taken and outcome      {best(down, records) / MESSAGES * 1e6:6.2f} µs a record")
    print(f"up, a statement              {best(states) / 10_000 * 1e6:6.2f} µs, four times a second")


if __name__ == "__main__":
    main()
