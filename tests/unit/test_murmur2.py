"""The hash is Java's, bit for bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.murmur2 import murmur2, place


@pytest.mark.parametrize(
    ("text", "signed"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_values_of_kafkas_own_test(text: str, signed: int) -> None:
    assert murmur2(text.encode()) == signed & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("ids", "of_three", "of_two"),
    [
        ("cyclops beast archangel mystique", "0000", "0011"),
        ("pyro phoenix rouge colossus", "1111", "0011"),
        ("wolverine iceman sabretooth jean", "2222", "0011"),
    ],
)
def test_the_values_of_the_java_kalinkas_test(ids: str, of_three: str, of_two: str) -> None:
    keys = [id.encode() for id in ids.split()]
    assert "".join(str(place(key, 3)) for key in keys) == of_three
    assert "".join(str(place(key, 2)) for key in keys) == of_two


@given(key=st.binary(max_size=40), count=st.integers(1, 1000))
def test_a_place_is_one_of_the_partitions(key: bytes, count: int) -> None:
    assert 0 <= place(key, count) < count


@given(key=st.binary(min_size=1, max_size=40), bit=st.integers(0, 7), data=st.data())
def test_one_bit_makes_another_hash(key: bytes, bit: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key) - 1))
    other = bytearray(key)
    other[at] ^= 1 << bit
    assert murmur2(bytes(other)) != murmur2(key)  # every step of it can be undone, so one word cannot collide
