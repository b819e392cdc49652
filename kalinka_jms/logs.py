"""Logs: for people on a terminal, JSON lines otherwise. Only the standard `logging`; fields go in through `extra`.

    log.info("link up", extra={"broker": "dev1"})

Normal operation is quiet: a state is logged when it changes (`Changes`), and what libraries repeat is logged once a
while. A line about one message carries `kalinka.id`, `device` and `broker`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

LEVELS = ("debug", "info", "warning", "error")

LIBRARIES = {"stomp.py": logging.CRITICAL, "kazoo": logging.ERROR, "paho": logging.ERROR}
"""Loggers that tell what Kalinka's own state changes tell already, and the level from which they are heard.

stomp.py logs every lost connection with a traceback, kazoo every attempt to connect. None of them is ever heard below
warning: their debug lines hold payloads.
"""

REPEATING = ("kalinka.kafka", "kazoo", "stomp.py")
"""Loggers that say the same again and again while a server is away (`kalinka.kafka` carries librdkafka's own lines)."""

REPEAT_AFTER = 60.0
"""Seconds after which the same line of such a logger is logged again."""

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_NUMBERS = re.compile(r"\d+")
_MOST_LINES = 1000


def setup(level: str = "info", stream: TextIO | None = None, as_json: bool | None = None) -> None:
    """Send all logs to `stream` (standard error); as JSON unless that is a terminal. `level` is one of LEVELS.

    May be called again: the last call counts. What kills a thread is logged, too.
    """
    stream = stream or sys.stderr
    handler = _Handler(stream)
    human = stream.isatty() if as_json is None else not as_json
    handler.setFormatter(Human() if human else Json())
    handler.addFilter(Repeats())
    root = logging.getLogger()
    for old in [old for old in root.handlers if isinstance(old, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("kalinka").setLevel(level.upper())
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(logging.WARNING if level == "debug" else least)
    threading.excepthook = _thread_died


class Changes:
    """Says a state when it changes, and only then. May be shared by threads."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[Hashable, str] = {}
        self._lock = threading.Lock()

    def say(self, subject: Hashable, state: str, level: int = logging.INFO, **fields: Any) -> bool:
        """Log `state` with the fields unless it is the last that was said of `subject`; whether it was logged.

        Fields that only illustrate (a reason, a number) do not make a state another one.
        """
        with self._lock:
            if self._last.get(subject) == state:
                return False
            self._last[subject] = state
        self._log.log(level, state, extra=fields)
        return True

    def forget(self, subject: Hashable) -> None:
        """Whatever is said of `subject` next is a change."""
        with self._lock:
            self._last.pop(subject, None)


class Repeats(logging.Filter):
    """Lets a line of a repeating logger pass once in REPEAT_AFTER seconds; numbers in it do not count."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(REPEATING):
            return True
        line, now = (record.name, _NUMBERS.sub("#", record.getMessage())), time.monotonic()
        if now - self._passed.get(line, -REPEAT_AFTER) < REPEAT_AFTER:
            return False
        if len(self._passed) >= _MOST_LINES:
            self._passed.clear()
        self._passed[line] = now
        return True


class Json(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line = line | {key: value for key, value in _fields(record) if key not in line}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Human(logging.Formatter):
    """Local time, level, part of Kalinka, message, fields: one line, whatever a device calls itself."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        name = record.name.removeprefix("kalinka.")
        fields = "".join(f"  {key}={_shown(value)}" for key, value in _fields(record))
        text = f"{at} {record.levelname.lower():7} {name:8} {_printable(record.getMessage())}{fields}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, to be told from handlers of others."""


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for key, value in vars(record).items():
        if key not in _OWN:
            yield key, value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    plain = text and text.isprintable() and not any(sign in text for sign in ' "=')
    return text if plain or not isinstance(value, str) else json.dumps(text, ensure_ascii=False)


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _thread_died(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    error: tuple[type[BaseException], BaseException, TracebackType | None] | None = None
    if args.exc_value is not None:
        error = args.exc_type, args.exc_value, args.exc_traceback
    name = args.thread.name if args.thread else "unknown"
    logging.getLogger("kalinka").critical("a thread died", exc_info=error, extra={"thread_name": name})
