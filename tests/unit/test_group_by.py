"""By what a route chooses the group of a record."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kalinka_jms.config import UpRoute, load, notes
from kalinka_jms.config.settings import DEFAULT_UP
from kalinka_jms.errors import ConfigError
from kalinka_jms.murmur2 import place
from kalinka_jms.routes import Uplinks

FILE = """
[kafka]
"bootstrap.servers" = "127.0.33.20:9092"
[zookeeper]
hosts = "127.0.33.20:2181"
"""
BY_SOURCE = tuple(route.model_copy(update={"group_by": "source"}) for route in DEFAULT_UP)

ids = st.text(
    st.characters(codec="utf-8", exclude_characters=".,?*>#+/\x00", exclude_categories=["C", "Z"]), min_size=1
).filter(lambda id: not id.startswith("kalinka-"))


def written(tmp_path: Path, groups: int, routes: str) -> Path:
    brokers = (f'[[brokers]]\nname = "dev{n}"\nstomp = "stomp://h{n}:1"\ngroup = "{n}"\n' for n in range(groups))
    (file := tmp_path / "kalinka.toml").write_text("".join(brokers) + FILE + routes)
    return file


@given(source=ids, device=ids, groups=st.integers(1, 12))
def test_by_source_the_group_is_the_number_of_the_sources_hash(source: str, device: str, groups: int) -> None:
    uplinks = Uplinks(BY_SOURCE, [str(number) for number in range(groups)])
    number = place(source.encode(), groups)
    assert uplinks.link(f"mqtt/{source}/mqtt/{device}/pub").topic == f"{number}.mqtt.mqtt"
    assert uplinks.link(f"mqtt/{source}/sparkcluster/pub").topic == f"{number}.mqtt.sparkcluster"


def test_by_device_a_group_uses_every_partition_of_its_topic() -> None:
    links = [Uplinks(DEFAULT_UP, ("0", "1")).link(f"mqtt/x/mqtt/dev{n}/pub") for n in range(200)]
    assert {place(link.key, 4) for link in links if link.group == "0"} == {0, 1, 2, 3}


def test_groups_that_are_numbers_come_in_their_order(tmp_path: Path) -> None:
    assert load(written(tmp_path, 12, "")).groups == tuple(str(number) for number in range(12))


def test_by_source_needs_a_source(tmp_path: Path) -> None:
    route = '[[routes.up]]\nfrom = "a/{device}"\ntopic = "t"\nkey = "{device}"\ngroup_by = "source"\n'
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, 1, route))
    (found,) = caught.value.problems
    assert str(found) == 'routes.up[0].from = "a/{device}": should have {source}, because group_by = "source"'


@pytest.mark.parametrize(("groups", "key", "noted"), [(2, "{source}", 1), (1, "{source}", 0), (2, "from {source}", 0)])
def test_one_hash_for_group_and_partition_is_noted(tmp_path: Path, groups: int, key: str, noted: int) -> None:
    route = f'[[routes.up]]\nfrom = "a/{{source}}"\ntopic = "{{group}}.t"\nkey = "{key}"\ngroup_by = "source"\n'
    found = notes(load(written(tmp_path, groups, route)))
    assert len(found) == noted
    assert all(str(note).startswith('routes.up[0].key = "{source}": is placed by the hash that') for note in found)


def test_the_default_is_by_device() -> None:
    assert UpRoute(from_="a/{device}", topic="t", key="{device}").group_by == "device"
