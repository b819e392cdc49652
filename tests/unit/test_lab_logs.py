"""What servers printed."""

from __future__ import annotations

from pathlib import Path

from kalinka_jms.lab import logs


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert logs.tail(log, 5) == []
    log.write_bytes(b"one\ntwo\nthr\xffee\n")
    assert logs.tail(log, 2) == ["two", "thr\ufffdee"]
    assert logs.tail(log, 0) == []


def test_messages_leave_stack_frames_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "printed nothing" in logs.messages(log)
    log.write_text("ERROR broken\n\tat a.B.c(B.java:1)\nCaused by: port\n\tat d\n\t... 3 more\n")
    assert logs.messages(log) == "ERROR broken\nCaused by: port"


def test_following_gives_whole_lines_and_survives_a_new_file(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    lines = logs.follow([log])
    places = {log: log.stat().st_size}
    with log.open("a") as file:
        file.write("new\nhal")
    assert logs._new(log, places) == ["new"]
    with log.open("a") as file:
        file.write("f\n")
    assert logs._new(log, places) == ["half"]
    log.write_text("again\n")
    assert logs._new(log, places) == ["again"]
    assert logs._new(log, places) == []
    lines.close()  # type: ignore[attr-defined]
