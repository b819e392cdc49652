"""The lab's directory: its lock, its layout, and what is deleted of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab import directory
from kalinka_jms.lab.layout import Layout


def quiet(_: str) -> None:
    pass


def test_a_layout_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "full", "127.0.9.1")
    directory.save(layout, "config")
    assert directory.saved_layout(tmp_path) == layout
    assert (tmp_path / directory.CONFIG).read_text() == "config"
    directory.forget(tmp_path)
    directory.forget(tmp_path)
    assert directory.saved_layout(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"profile": "small", "base_address": "x", "ports": {"a": 1}}'])
def test_a_torn_layout_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    assert directory.saved_layout(tmp_path) is None


def test_only_what_a_lab_made_is_deleted(tmp_path: Path) -> None:
    directory.save(Layout(tmp_path), "")
    for name in ("small", "log", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    directory.wipe(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine"]


def test_an_empty_directory_goes_with_its_lab(tmp_path: Path) -> None:
    place = tmp_path / "lab"
    with directory.locked(place, quiet):
        directory.save(Layout(place), "")
        directory.wipe(place)
    assert not place.exists()


def test_the_second_waits_and_says_so_even_if_the_directory_is_wiped_meanwhile(tmp_path: Path) -> None:
    place = tmp_path / "lab"
    waits = Event()

    def second() -> bool:
        with directory.locked(place, lambda _: waits.set()):
            return place.is_dir()

    with ThreadPoolExecutor(1) as pool:
        with directory.locked(place, quiet):
            result = pool.submit(second)
            assert waits.wait(30)
            assert not result.done()
            directory.wipe(place)
        assert result.result(30)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LabError, match="name another with --state"), directory.locked(tmp_path / "file" / "lab", quiet):
        pass


def test_what_cannot_be_written_is_an_error_of_the_lab(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="disk full"), directory.locked(tmp_path, quiet):
        raise OSError("disk full")
