"""Templates of topics and keys: `mqtt/{source}/mqtt/{device}/pub`. `{name}` is one level, `{name#}` the rest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(#?)\}")


@dataclass(frozen=True, slots=True)
class Place:
    """A placeholder. `rest` takes one level or more, otherwise it is one level or a part of it."""

    name: str
    rest: bool = False


Part = str | Place


@dataclass(frozen=True)
class Template:
    """A parsed template. Raises ValueError, with what would be right, for a text that is none."""

    text: str
    separator: str = "/"

    def __post_init__(self) -> None:
        literal = "".join(part for part in self.parts if isinstance(part, str))
        if "{" in literal or "}" in literal:
            raise ValueError("has a brace that is not part of {name} or {name#}")
        if twice := next((name for name in self.names if self.names.count(name) > 1), None):
            raise ValueError(f"names {{{twice}}} twice")
        if any(isinstance(part, Place) and part.rest for part in self.parts[:-1]):
            raise ValueError("has {name#} before its end")

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Texts and placeholders, in order."""
        return tuple(self._parts())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the placeholders, in order."""
        return tuple(part.name for part in self.parts if isinstance(part, Place))

    @cached_property
    def levels(self) -> tuple[Part, ...]:
        """What stands between the separators. Raises ValueError where a placeholder is not a whole level."""
        return tuple(self._level(level) for level in self.text.split(self.separator))

    def match(self, text: str) -> dict[str, str] | None:
        """What the placeholders stand for in `text`, or None where the template does not match."""
        found = self._pattern.fullmatch(text)
        return found.groupdict() if found else None

    def format(self, values: Mapping[str, str]) -> str:
        """The text with the placeholders filled. Raises KeyError for a name without a value."""
        return "".join(part if isinstance(part, str) else values[part.name] for part in self.parts)

    def bound(self, values: Mapping[str, str]) -> Template:
        """The template with only these names filled."""
        known = {name: values.get(name, f"{{{name}}}") for name in self.names}
        return Template(self.format(known), self.separator)

    def contains(self, other: Template) -> bool:
        """Whether this template matches everything that `other` matches."""
        mine, others = self.levels, other.levels
        for a, b in zip(mine, others, strict=False):
            if isinstance(a, Place) and a.rest:
                return True
            if (isinstance(b, Place) and b.rest) or (isinstance(a, str) and a != b):
                return False
        return len(mine) == len(others)

    def overlaps(self, other: Template) -> bool:
        """Whether some text matches both."""
        mine, others = self.levels, other.levels
        for a, b in zip(mine, others, strict=False):
            if any(isinstance(level, Place) and level.rest for level in (a, b)):
                return True
            if isinstance(a, str) and isinstance(b, str) and a != b:
                return False
        return len(mine) == len(others)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        one = f"[^{re.escape(self.separator)}]*"
        places = (
            re.escape(part) if isinstance(part, str) else f"(?P<{part.name}>{'.+' if part.rest else one})"
            for part in self.parts
        )
        return re.compile("".join(places), re.DOTALL)

    def _parts(self) -> Iterator[Part]:
        at = 0
        for found in _PLACE.finditer(self.text):
            if found.start() > at:
                yield self.text[at : found.start()]
            yield Place(found[1], bool(found[2]))
            at = found.end()
        if at < len(self.text):
            yield self.text[at:]

    def _level(self, level: str) -> Part:
        if found := _PLACE.fullmatch(level):
            return Place(found[1], bool(found[2]))
        if "{" in level:
            raise ValueError(f'has "{level}" as a level: a placeholder should be a whole level')
        return level


def device_of(template: Template, filter_jms: str) -> str | None:
    """The device that a JMS filter names at its place in an MQTT template; None where it names none there.

    A filter that could not take any topic of the template names none either.
    """
    levels, given = template.levels, filter_jms.split(".")
    rest = given[-1] == ">"
    if rest:
        given.pop()
    if len(given) > len(levels) or (not rest and len(given) < len(levels)):
        return None
    device = None
    for level, sign in zip(levels, given, strict=False):
        if isinstance(level, str):
            if sign not in ("*", level):
                return None
        elif level.name == "device" and sign != "*":
            device = sign
    return device
