"""Mistakes in routes: templates that mean nothing, routes that are never reached, loops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

from kalinka_jms.config.fields import is_kafka_topic
from kalinka_jms.config.settings import DownRoute, UpRoute
from kalinka_jms.errors import Problem
from kalinka_jms.names import parked_topic
from kalinka_jms.template import Place, Template

Up = Sequence[tuple[int, UpRoute]]
Down = Sequence[tuple[int, DownRoute]]
"""Routes with their numbers in the file, from 0."""


def problems(up: Up, down: Down, groups: Sequence[str], dead: str) -> tuple[Problem, ...]:
    """Every mistake in these routes. `dead` is the dead-letter topic."""
    found = [*_each(up, down, groups)]
    if not found:  # only what is right by itself can be compared
        found = [*_unreachable(up), *_same_topic(down, groups), *_reserved(up, down, groups, dead)]
        found += [*_loops(up, down, groups), *_envelopes(up, down)]
    return tuple(found)


def notes(up: Sequence[UpRoute], groups: Sequence[str]) -> tuple[Problem, ...]:
    """What may be meant, and may not."""
    return (*_overlaps(up), *(_same_hash(up) if len(groups) > 1 else ()))


def _overlaps(up: Sequence[UpRoute]) -> Iterator[Problem]:
    """Topics that two routes have, where neither is a special case of the other."""
    for (i, a), (j, b) in combinations(enumerate(Template(route.from_) for route in up), 2):
        if a.overlaps(b) and not a.contains(b) and not b.contains(a):
            remedy = f"overlaps with routes.up[{i}]; what both match goes there"
            yield Problem(f"routes.up[{j}].from", f'"{b.text}"', remedy)


def _same_hash(up: Sequence[UpRoute]) -> Iterator[Problem]:
    """Group and partition by one hash of one id: 2 groups and 12 partitions leave 6 of them empty in each topic."""
    for number, route in enumerate(up):
        if route.group_by == "source" and route.key == "{source}":
            remedy = (
                "is placed by the hash that chose its group: records may use only some of the topic's partitions; "
                'a key such as "from {source}" uses all of them'
            )
            yield Problem(f"routes.up[{number}].key", f'"{route.key}"', remedy)


def _each(up: Up, down: Down, groups: Sequence[str]) -> Iterator[Problem]:
    for number, up_route in up:
        yield from _named(f"routes.up[{number}]", _up_mistakes(up_route))
    for number, down_route in down:
        yield from _named(f"routes.down[{number}]", _down_mistakes(down_route, groups))


def _named(route: str, mistakes: Iterator[tuple[str, str, str]]) -> Iterator[Problem]:
    return (Problem(f"{route}.{key}", f'"{text}"', remedy) for key, text, remedy in mistakes)


def _up_mistakes(route: UpRoute) -> Iterator[tuple[str, str, str]]:
    yield from (("from", route.from_, remedy) for remedy in _mqtt(route.from_, None))
    known = _names(route.from_)
    if "group" in known:
        yield "from", route.from_, "should not have {group}: Kalinka chooses it"
    if route.group_by == "source" and "source" not in known:
        yield "from", route.from_, 'should have {source}, because group_by = "source"'
    topic = known | {"group"}
    yield from (("topic", route.topic, remedy) for remedy in _text(route.topic, topic, kafka=True))
    yield from (("key", route.key, remedy) for remedy in _text(route.key, known, kafka=False))


def _down_mistakes(route: DownRoute, groups: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    yield from (("from", route.from_, remedy) for remedy in _text(route.from_, {"group"}, kafka=True))
    if len(groups) > 1 and "group" not in _names(route.from_):
        yield "from", route.from_, "should have {group}, because there are several groups"
    yield from (("to", route.to, remedy) for remedy in _mqtt(route.to, {"source", "device", "group"}))
    if "device" not in _names(route.to):
        yield "to", route.to, "should have {device} as one of its levels"


def _names(text: str) -> set[str]:
    try:
        return set(Template(text).names)
    except ValueError:
        return set()


def _mqtt(text: str, known: set[str] | None) -> Iterator[str]:
    """Mistakes in a template of an MQTT topic; `known` are the names it may use, None for any."""
    try:
        levels = Template(text).levels
    except ValueError as error:
        yield str(error)
        return
    places = [level for level in levels if isinstance(level, Place)]
    if known is not None:
        yield from _strangers([place.name for place in places], known)
    if any(place.rest and (known is not None or place.name in ("source", "device")) for place in places):
        yield "has {name#} where one level is needed"
    for sign in "+#*>,?":
        if any(isinstance(level, str) and sign in level for level in levels):
            yield f'has "{sign}"; write {{name}} for one level and {{name#}} for the rest'


def _text(text: str, known: set[str], *, kafka: bool) -> Iterator[str]:
    """Mistakes in a template of a Kafka topic or a key."""
    try:
        template = Template(text, ".")
    except ValueError as error:
        yield str(error)
        return
    yield from _strangers(template.names, known)
    if kafka and not is_kafka_topic(template.format(dict.fromkeys(template.names, "x"))):
        yield "should be the name of a Kafka topic (letters, digits, . _ -; at most 249)"


def _strangers(names: Sequence[str], known: set[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            choice = ", ".join(f"{{{one}}}" for one in sorted(known)) or "nothing, for `from` names nothing"
            yield f"has {{{name}}}; known here are {choice}"


def _unreachable(up: Up) -> Iterator[Problem]:
    for (i, a), (j, b) in combinations(up, 2):
        if Template(a.from_).contains(Template(b.from_)):
            remedy = f"is never reached: routes.up[{i}] takes all of its topics; should stand before it"
            yield Problem(f"routes.up[{j}].from", f'"{b.from_}"', remedy)


def _topics(text: str, groups: Sequence[str]) -> set[str]:
    template = Template(text, ".")
    return {template.bound({"group": group}).text for group in groups}


def _same_topic(down: Down, groups: Sequence[str]) -> Iterator[Problem]:
    for (i, a), (j, b) in combinations(down, 2):
        if _topics(a.from_, groups) & _topics(b.from_, groups):
            remedy = f"is never reached: routes.down[{i}] reads the same topic"
            yield Problem(f"routes.down[{j}].from", f'"{b.from_}"', remedy)


def _reserved(up: Up, down: Down, groups: Sequence[str], dead: str) -> Iterator[Problem]:
    reserved = {dead, *(parked_topic(group) for group in groups)}
    texts = [(f"routes.up[{i}].topic", route.topic) for i, route in up]
    texts += [(f"routes.down[{i}].from", route.from_) for i, route in down]
    for key, text in texts:
        if taken := _topics(text, groups) & reserved:
            yield Problem(key, f'"{text}"', f"should be another topic: Kalinka keeps {min(taken)} for itself")


def _loops(up: Up, down: Down, groups: Sequence[str]) -> Iterator[Problem]:
    for (i, a), (j, b) in product(up, down):
        if Template(a.from_).overlaps(Template(b.to)) and _topics(a.topic, groups) & _topics(b.from_, groups):
            remedy = f"is a loop: routes.up[{i}] brings back to Kafka what this route sends"
            yield Problem(f"routes.down[{j}].to", f'"{b.to}"', remedy)


def _envelopes(up: Up, down: Down) -> Iterator[Problem]:
    for (i, a), (j, b) in product(up, down):
        if a.topic == b.from_ and a.envelope != b.envelope:
            remedy = f'should be "{a.envelope}", which routes.up[{i}] writes into the same topic'
            yield Problem(f"routes.down[{j}].envelope", f'"{b.envelope}"', remedy)
