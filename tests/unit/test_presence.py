"""Which filters prove where a device listens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_DOWN
from kalinka_jms.registry.presence import Presence, overlaps
from kalinka_jms.routes import Downlinks, matches

presence = Presence(Downlinks(DEFAULT_DOWN, ("0",)))


@pytest.mark.parametrize(
    "filter",
    [
        "mqtt.*.mqtt.dev1.sub",
        "mqtt.srv.mqtt.dev1.sub",
        "mqtt.*.mqtt.dev1.>",
        "mqtt.srv.mqtt.dev1.>",
        "*.*.*.dev1.sub",
        "mqtt.*.mqtt.dev1.*",
        "mqtt.*.mqtt.dev1.sub.>",
        "sparkcluster.mqtt.dev1.sub",
        "sparkcluster.mqtt.dev1.>",
    ],
)
def test_a_filter_that_names_a_device_at_its_place_proves_it(filter: str) -> None:
    assert presence(filter) == ("dev1",)


@pytest.mark.parametrize(
    "filter",
    [">", "mqtt.>", "mqtt.*.mqtt.*.sub", "mqtt.*.mqtt.>", "*.*.*.*.*", "sparkcluster.>", "mqtt.srv.mqtt.*.sub"],
)
def test_a_filter_with_a_wildcard_there_proves_nothing(filter: str) -> None:
    assert presence(filter) == ()


def test_whoever_listens_in_the_place_of_the_canary_is_not_a_device() -> None:
    assert presence("mqtt.*.mqtt.kalinka-canary.sub") == ()


@pytest.mark.parametrize(
    "filter",
    [
        "mqtt.*.mqtt.kalinka-probe.sub",
        "other.x",
        "mqtt.srv.mqtt.dev1.pub",
        "mqtt.srv.mqtt.dev1",
        "kalinka.echo.1",
        "mqtt.*.mqtt.dev1.sub.x",
    ],
)
def test_other_filters_have_nothing_to_do_with_devices(filter: str) -> None:
    assert presence(filter) is None


names = st.lists(st.sampled_from("ab"), min_size=1, max_size=4).map(".".join)
wildcards = st.tuples(st.lists(st.sampled_from("ab*"), min_size=1, max_size=3), st.sampled_from(["", ".>"])).map(
    lambda pair: ".".join(pair[0]) + pair[1]
)


@given(wildcards, wildcards, names)
def test_two_filters_that_match_one_destination_overlap(one: str, other: str, name: str) -> None:
    assert overlaps(one, other) == overlaps(other, one)
    if matches(one, name) and matches(other, name):
        assert overlaps(one, other)


@given(wildcards, names)
def test_a_filter_and_a_plain_destination_overlap_when_it_matches(one: str, name: str) -> None:
    assert overlaps(one, name) == matches(one, name)
