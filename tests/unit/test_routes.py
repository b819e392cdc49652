"""Templates, names, and routes in both directions."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kalinka_jms.config.settings import DEFAULT_DOWN, DEFAULT_UP, DownRoute, UpRoute
from kalinka_jms.errors import RecordError
from kalinka_jms.names import FORBIDDEN
from kalinka_jms.routes import CANARY, Downlinks, Uplinks, device_of, matches, refusal, to_jms, to_mqtt
from kalinka_jms.stomp.frames import Frame, escape
from kalinka_jms.template import Template

ids = st.text(st.characters(codec="utf-8", exclude_characters=FORBIDDEN + "\x00"), min_size=1, max_size=40).filter(
    lambda id: refusal(id) is None
)
levels = st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=8)
names = st.sampled_from(["a", "b", "source", "device"])
literals = st.text(string.ascii_letters + string.digits + "._$-", max_size=8)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    """Any template with whole levels."""
    parts: list[str] = []
    free = ["a", "b", "source", "device"]
    for _ in range(draw(st.integers(1, 6))):
        place = bool(free) and draw(st.booleans())
        parts.append(f"{{{free.pop()}}}" if place else draw(literals))
    if draw(st.booleans()):
        parts.append("{rest#}")
    return Template("/".join(parts))


@given(template=templates(), data=st.data())
def test_match_is_the_inverse_of_format(template: Template, data: st.DataObject) -> None:
    values = {name: data.draw(levels) for name in template.names}
    if "rest" in values:
        values["rest"] = "/".join(data.draw(st.lists(levels, min_size=1, max_size=3)))
        assume(values["rest"])
    assert template.match(template.format(values)) == values


@given(template=templates(), text=st.text(string.ascii_letters + "/", max_size=20))
def test_what_matches_can_be_put_together_again(template: Template, text: str) -> None:
    values = template.match(text)
    if values is not None:
        assert template.format(values) == text


@given(a=templates(), b=templates(), data=st.data())
def test_contains_and_overlaps_agree_with_matching(a: Template, b: Template, data: st.DataObject) -> None:
    some = st.text("xy._", min_size=1, max_size=3)
    text = b.format({name: data.draw(some) for name in b.names})
    assert a.contains(a) and a.overlaps(a)
    assert a.overlaps(b) == b.overlaps(a)
    if a.contains(b):
        assert a.overlaps(b)
        assert a.match(text) is not None
    if a.match(text) is not None:
        assert a.overlaps(b)


@given(st.text())
def test_jms_and_mqtt_names_are_each_others_inverse(topic: str) -> None:
    assert to_mqtt(to_jms(topic)) == topic


def test_names_as_activemq_translates_them() -> None:
    assert to_jms("mqtt/+/mqtt/dev1/#") == "mqtt.*.mqtt.dev1.>"
    assert to_jms("mqtt/de.v") == "mqtt.de/v"


# seen with DestinationFilter and DestinationMap of ActiveMQ 6.3.1, which agree
WILDCARDS = [
    ("a.b", "a.b", True), ("a.b", "a", False), ("a.b", "a.b.c", False),
    ("a.>", "a", True), ("a.>", "a.b", True), ("a.>", "a.b.c", True), ("a.>", "x.b", False), ("a.>", "a.", True),
    ("a.*", "a", False), ("a.*", "a.b", True), ("a.*", "a.b.c", False), ("a.*", "a.", True),
    ("*.b", "a.b", True), ("*.b", "x.y.b", False), ("*.*", "a.b", True), ("*.*", "a", False),
    ("a.*.>", "a", False), ("a.*.>", "a.b", True), ("a.*.>", "a.b.c.d", True),
    (">", "a", True), (">", "a.b.c", True), ("*.>", "a", True), ("*.*.>", "a", False),
    ("a.*.c", "a.b.c", True), ("a.*.c", "a.b", False), ("a.*.c.>", "a.b.c", True), ("a.*.c.>", "a.b", False),
    ("a..b", "a..b", True), ("a..b", "a.b", False), ("a.b.>", "a", False),
]  # fmt: skip


@pytest.mark.parametrize(("filter", "destination", "expected"), WILDCARDS)
def test_wildcards_as_activemq_matches_them(filter: str, destination: str, expected: bool) -> None:
    assert matches(filter, destination) is expected


REFUSED = [
    (b"", "the id is empty"),
    (b"\xff", "the id is not UTF-8"),
    ("\ud800", "the id is not UTF-8"),
    ("5.0", 'the id contains "."'),
    (" dev1", "the id begins or ends with a blank"),
    ("dev1\t", "the id begins or ends with a blank"),
    ("dev1\u00a0", "the id begins or ends with a blank"),
    ("de\x00v", "the id contains NUL"),
    ("kalinka-canary", "the id is reserved for Kalinka"),
    ("kalinka-probe", "the id is reserved for Kalinka"),
    *((f"de{sign}v", f'the id contains "{sign}"') for sign in ".,?*>#+/"),
]


@pytest.mark.parametrize(("id", "reason"), REFUSED)
def test_refused_ids(id: str | bytes, reason: str) -> None:
    assert refusal(id) == reason


@pytest.mark.parametrize("id", ["dev1", "a:b", "a\\b", "a%b", "a;b", "a b", "设备", "5", "x" * 7000])
def test_ids_that_are_fine(id: str) -> None:
    assert refusal(id) is refusal(id.encode()) is None


@given(source=ids, device=ids)
@example(source="dev1", device="dev2")
def test_the_default_routes_carry_any_id_there_and_back(source: str, device: str) -> None:
    up = Uplinks(DEFAULT_UP, ("0",)).link(f"mqtt/{source}/mqtt/{device}/pub")
    assert (up.topic, up.key, up.device, up.source) == ("0.mqtt.mqtt", device.encode(), device, source)
    assert up.headers == (
        ("kalinka.source", source.encode()),
        ("mqtt.topic", f"mqtt/{source}/mqtt/{device}/pub".encode()),
    )
    down = Downlinks(DEFAULT_DOWN, ("0",)).link(up.topic, device, source)
    assert down.destination == f"mqtt.{source}.mqtt.{device}.sub"
    assert to_mqtt(down.destination) == f"mqtt/{source}/mqtt/{device}/sub"


def test_the_back_end_gets_records_keyed_by_their_source() -> None:
    up = Uplinks(DEFAULT_UP, ("0",)).link("mqtt/dev1/sparkcluster/pub")
    assert (up.topic, up.key, up.device, up.source) == ("0.mqtt.sparkcluster", b"dev1", "", "dev1")


def test_the_back_end_reaches_a_device_without_a_source() -> None:
    down = Downlinks(DEFAULT_DOWN, ("0",)).link("0.sparkcluster.mqtt", "dev1", None)
    assert (down.destination, down.place, down.route) == ("sparkcluster.mqtt.dev1.sub", 1, DEFAULT_DOWN[1])


@given(source=ids, device=ids)
def test_the_destination_is_read_from_the_frame(source: str, device: str) -> None:
    uplinks = Uplinks(DEFAULT_UP, ("0",))
    destination = escape(f"/topic/mqtt.{source}.mqtt.{device}.pub")
    frame = Frame(f"MESSAGE\ndestination:/queue/x\noriginal-destination:{destination}".encode(), b"")
    assert uplinks.link_destination(frame) is uplinks.link(f"mqtt/{source}/mqtt/{device}/pub")


def test_the_same_topic_is_worked_out_once() -> None:
    uplinks, downlinks = Uplinks(DEFAULT_UP, ("0",)), Downlinks(DEFAULT_DOWN, ("0",))
    assert uplinks.link("mqtt/a/mqtt/b/pub") is uplinks.link("mqtt/a/mqtt/b/pub")
    assert downlinks.link("0.mqtt.mqtt", "b", "a") is downlinks.link("0.mqtt.mqtt", "b", "a")


def frame(head: bytes) -> Frame:
    return Frame(b"MESSAGE\n" + head, b"")


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"destination:/queue/kalinka.mqtt.pub", "not published to a topic: '/queue/kalinka.mqtt.pub'"),
        (b"a:b", "not published to a topic: ''"),
        (b"original-destination:/topic/\xff", "the topic is not UTF-8"),
        (b"original-destination:/topic/\\x", "undefined escape '\\\\x' in a STOMP header"),
        (b"original-destination:/topic/elsewhere", "no route for the MQTT topic 'elsewhere'"),
        (b"original-destination:/topic/mqtt..mqtt.b.pub", "source '': the id is empty"),
        (b"original-destination:/topic/mqtt.a/b.mqtt.c.pub", "source 'a.b': the id contains \".\""),
        (b"original-destination:/topic/" + b"x" * 8001, "the MQTT topic is longer than 8000 bytes"),
    ],
)
def test_messages_without_a_place_in_kafka(head: bytes, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        Uplinks(DEFAULT_UP, ("0",)).link_destination(frame(head))
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("topic", "device", "source", "reason"),
    [
        ("elsewhere", "a", "b", "no route for the Kafka topic elsewhere"),
        ("0.mqtt.mqtt", "a.b", "b", "device 'a.b': the id contains \".\""),
        ("0.mqtt.mqtt", "a", "b.c", "source 'b.c': the id contains \".\""),
        ("0.mqtt.mqtt", "a", None, "no source, and the route's destination mqtt/{source}/mqtt/{device}/sub needs one"),
        ("0.sparkcluster.mqtt", "x" * 8000, None, "the destination is longer than 8000 bytes"),
    ],
)
def test_records_without_a_destination(topic: str, device: str, source: str | None, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        Downlinks(DEFAULT_DOWN, ("0",)).link(topic, device, source)
    assert str(caught.value) == reason


def test_the_first_route_that_matches_wins_and_the_rest_becomes_levels() -> None:
    routes = (
        UpRoute(from_="t/special/{x}", topic="special", key="{x}"),
        UpRoute(from_="t/{device}/{rest#}", topic="t.{rest}", key="{device}-{rest}"),
    )
    uplinks = Uplinks(routes, ("0",))
    assert uplinks.link("t/special/a").topic == "special"
    link = uplinks.link("t/dev1/a/b")
    assert (link.topic, link.key, link.headers) == ("t.a.b", b"dev1-a/b", (("mqtt.topic", b"t/dev1/a/b"),))
    with pytest.raises(RecordError, match=r"'t\.ä' cannot be a Kafka topic"):
        uplinks.link("t/dev1/ä")


@given(device=ids)
def test_a_device_has_one_group_wherever_it_is_worked_out(device: str) -> None:
    links = [Uplinks(DEFAULT_UP, ("a", "b", "c")).link(f"mqtt/{source}/mqtt/{device}/pub") for source in ("x", "y")]
    assert links[0].group == links[1].group
    assert links[0].topic == f"{links[0].group}.mqtt.mqtt"


def test_all_groups_are_used() -> None:
    uplinks = Uplinks(DEFAULT_UP, ("a", "b", "c"))
    assert {uplinks.link(f"mqtt/x/mqtt/dev{n}/pub").group for n in range(50)} == {"a", "b", "c"}


def test_what_a_sub_reads_and_where_devices_listen() -> None:
    downlinks = Downlinks(DEFAULT_DOWN, ("a", "b"))
    assert downlinks.topics == ("a.mqtt.mqtt", "a.sparkcluster.mqtt", "b.mqtt.mqtt", "b.sparkcluster.mqtt")
    assert downlinks.presence_topics == ("mqtt.*.mqtt.*.sub", "sparkcluster.mqtt.*.sub")
    assert downlinks.canaries == (f"mqtt.{CANARY}.mqtt.{CANARY}.sub", f"sparkcluster.mqtt.{CANARY}.sub")
    assert downlinks.route_for("b.mqtt.mqtt") == (DEFAULT_DOWN[0], "b")


def test_a_group_may_be_part_of_the_destination() -> None:
    route = DownRoute(from_="{group}.x", to="x/{group}/{device}")
    downlinks = Downlinks((route,), ("a", "b"))
    assert downlinks.presence_topics == ("x.a.*", "x.b.*")
    link = downlinks.link("b.x", "dev1", None)
    assert (link.destination, link.group) == ("x.b.dev1", "b")


@given(groups=st.sets(st.sampled_from("abc"), min_size=1), data=st.data())
def test_a_link_says_which_canary_speaks_for_it(groups: set[str], data: st.DataObject) -> None:
    routes = (
        *DEFAULT_DOWN,
        DownRoute(from_="{group}.x", to="x/{group}/{device}"),
        DownRoute(from_="{group}.more", to="sparkcluster/mqtt/{device}/sub"),
    )
    downlinks = Downlinks(routes, sorted(groups))
    link = downlinks.link(data.draw(st.sampled_from(downlinks.topics)), "dev1", "dev2")
    topic, canary = downlinks.presence_topics[link.place], downlinks.canaries[link.place]
    assert matches(topic, link.destination) and matches(topic, canary)
    assert link.destination.replace("dev1", CANARY).replace("dev2", CANARY) == canary


@pytest.mark.parametrize(
    ("filter", "devices"),
    [
        ("mqtt.*.mqtt.dev1.sub", ("dev1",)),
        ("mqtt.srv.mqtt.dev1.sub", ("dev1",)),
        ("mqtt.*.mqtt.dev1.>", ("dev1",)),
        ("mqtt.*.mqtt.dev1.sub.>", ("dev1",)),
        ("*.*.*.dev1.*", ("dev1",)),
        ("*.mqtt.dev1.>", ("dev1",)),
        ("sparkcluster.mqtt.dev1.sub", ("dev1",)),
        ("mqtt.*.mqtt.*.sub", ()),
        ("mqtt.dev1.>", ()),
        ("mqtt.>", ()),
        (">", ()),
        ("mqtt.*.mqtt.dev1", ()),
        ("mqtt.*.mqtt.dev1.pub", ()),
        ("mqtt.*.mqtt.dev1.sub.more", ()),
        ("other.*.mqtt.dev1.sub", ()),
        ("mqtt.*.mqtt.de/v.sub", ()),
    ],
)
def test_the_device_that_a_filter_names(filter: str, devices: tuple[str, ...]) -> None:
    assert Downlinks(DEFAULT_DOWN, ("0",)).devices(filter) == devices


def test_routes_that_differ_only_in_who_is_who_are_told_apart() -> None:
    routes = (DownRoute(from_="a", to="x/{source}/{device}"), DownRoute(from_="b", to="x/{device}/{source}"))
    downlinks = Downlinks(routes, ("0",))
    assert downlinks.presence_topics == ("x.*.*",)
    assert downlinks.canaries == (f"x.{CANARY}.{CANARY}",)
    assert downlinks.devices("x.dev1.*") == downlinks.devices("x.*.dev1") == ("dev1",)


@given(device=ids, source=ids)
def test_a_device_that_is_named_can_get_what_the_route_sends(device: str, source: str) -> None:
    template = Template(DEFAULT_DOWN[0].to)
    destination = Downlinks(DEFAULT_DOWN, ("0",)).link("0.mqtt.mqtt", device, source).destination
    for filter in (destination, f"mqtt.*.mqtt.{device}.sub", f"mqtt.*.mqtt.{device}.>"):
        assert device_of(template, filter) == device
        assert matches(filter, destination)
