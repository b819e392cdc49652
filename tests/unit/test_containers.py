"""The image's recipe, as far as it can be read without any container."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]


def test_the_image_is_nobodys_root_and_its_base_is_public() -> None:
    text = (TOP / "Containerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == ["10001:10001"]
    assert re.findall(r"^ARG BASE=(.*)$", text, re.MULTILINE) == ["docker.io/library/python:3.13-slim"]
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
