"""Logs: JSON or for people, fields, states once."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from kalinka_jms import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root, hook = logging.getLogger(), threading.excepthook
    names = ["", "kalinka", *logs.LIBRARIES]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(root.handlers)
    yield
    root.handlers[:], threading.excepthook = handlers, hook
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_the_fields_and_a_time_in_utc() -> None:
    logs.setup(stream=(stream := io.StringIO()))
    logging.getLogger("kalinka.pub").info("link up", extra={"broker": "dev1", "kalinka.id": b"dev1/\xff", "tries": 2})
    (line,) = lines(stream)
    assert str(line.pop("time")).endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "kalinka.pub",
        "message": "link up",
        "broker": "dev1",
        "kalinka.id": "dev1/\\xff",
        "tries": 2,
    }


def test_a_terminal_gets_one_readable_line_whatever_a_device_is_called() -> None:
    logs.setup(stream=(stream := Terminal()))
    extra = {"device": "a\nb", "broker": "dev1", "reason": "no route", "number": 3}
    logging.getLogger("kalinka.sub").warning("dead\nletter", extra=extra)
    (line,) = stream.getvalue().splitlines()
    assert line[13:] == r'warning sub      dead\nletter  device="a\nb"  broker=dev1  reason="no route"  number=3'


def test_the_last_setup_counts_and_levels_are_those_of_kalinka() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.setup(stream=first)
    logs.setup("warning", stream=second)
    logging.getLogger("kalinka.pub").info("quiet")
    logging.getLogger("kalinka.pub").warning("loud")
    assert first.getvalue() == ""
    assert [line["message"] for line in lines(second)] == ["loud"]


def test_libraries_are_tamed() -> None:
    logs.setup("debug", stream=(stream := io.StringIO()))
    for name in ("stomp.py", "kazoo.client", "somebody"):
        logging.getLogger(name).info("CONNECT passcode")
    assert stream.getvalue() == ""
    logs.setup(stream=stream)
    logging.getLogger("stomp.py").error("lost")
    logging.getLogger("kazoo.client").warning("dropped")
    assert stream.getvalue() == ""


def test_what_libraries_repeat_is_logged_once_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    logs.setup(stream=(stream := io.StringIO()))
    clock = [0.0]
    monkeypatch.setattr("kalinka_jms.logs.time.monotonic", lambda: clock[0])
    for _ in range(3):
        logging.getLogger("kalinka.kafka").error("broker down after %d ms", clock[0])
        logging.getLogger("kalinka.sub").info("ours")
        clock[0] += 40.0
    said = [line["message"] for line in lines(stream)]
    assert said == ["broker down after 0 ms", "ours", "ours", "broker down after 80 ms", "ours"]


def test_a_state_is_said_when_it_changes() -> None:
    logs.setup(stream=(stream := io.StringIO()))
    changes = logs.Changes(logging.getLogger("kalinka.pub"))
    assert changes.say("dev1", "link up", broker="dev1")
    assert not changes.say("dev1", "link up", broker="dev1")
    assert changes.say("dev2", "link up", broker="dev2")
    assert changes.say("dev1", "link lost", logging.WARNING, broker="dev1", reason="refused after 1 s")
    assert not changes.say("dev1", "link lost", logging.WARNING, broker="dev1", reason="refused after 2 s")
    changes.forget("dev1")
    assert changes.say("dev1", "link lost", broker="dev1")
    assert [line["message"] for line in lines(stream)] == ["link up", "link up", "link lost", "link lost"]


def test_what_kills_a_thread_is_logged() -> None:
    logs.setup(stream=(stream := io.StringIO()))

    def die() -> None:
        raise LookupError("nothing")

    thread = threading.Thread(target=die, name="reader")
    thread.start()
    thread.join()
    (line,) = lines(stream)
    assert (line["level"], line["message"], line["thread_name"]) == ("critical", "a thread died", "reader")
    assert "LookupError: nothing" in str(line["traceback"])
