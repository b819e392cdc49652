from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.lab.payload import Payload

names = st.text(st.characters(exclude_characters="\t", exclude_categories=["Cs"]), max_size=20)
payloads = st.builds(Payload, names, names, names, st.integers(0, 10**9), st.integers(0, 2 * 10**18))


@given(payloads, st.integers(0, 2000))
def test_what_is_written_is_read_again(payload: Payload, size: int) -> None:
    body = payload.encode(size)
    assert Payload.decode(body) == payload
    assert len(body) == max(size, len(payload.encode()))


@given(st.binary(max_size=200))
def test_any_bytes_are_either_traffic_or_not(body: bytes) -> None:
    decoded = Payload.decode(body)
    assert decoded is None or body.startswith(b"kalinka\t")


def test_what_is_not_traffic() -> None:
    good = Payload("run", "a", "b", 1, 2).encode()
    for body in (
        b"",
        b"\x00",
        b"\xff\xfe",
        b"kalinka\t\xff\tb\tc\t1\t2\t",
        good.replace(b"\t1\t", b"\t-1\t"),
        good[:-1],
    ):
        assert Payload.decode(body) is None
