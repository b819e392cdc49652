"""How much is measured: whole, or quick for a look."""

from __future__ import annotations

from dataclasses import dataclass, field

CURVES = ("devices", "bytes", "brokers", "stubs")
"""Parts that are curves."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of a run; the defaults are those of a whole one."""

    runs: int = 5
    """Counted rounds, after one to warm up."""
    points: int = 5
    """Counted rounds of each point of a curve."""
    messages: int = 100_000
    """Messages a contender carries in a round."""
    each: int = 50_000
    """Messages of each point of a curve."""
    devices: int = 1000
    seconds: float = 20.0
    """Of pulses in a round of `latency`."""
    memory: int = 1_000_000
    """Messages of `memory`."""
    early: int = 100_000
    """Messages after which it looks first."""
    crowds: tuple[int, ...] = (1, 10, 100, 1000, 10_000)
    """Devices of the points of a curve on a real broker."""
    fake_crowds: tuple[int, ...] = (10_000, 20_000, 40_000)
    brokers: tuple[int, ...] = (1, 2, 3, 5, 10, 20)
    sizes: tuple[int, ...] = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
    """Bytes of a payload."""
    chosen: tuple[str, ...] = field(default=())
    """Contenders whose name contains one of these; nothing: all."""

    def amounts(self, part: str) -> dict[str, int]:
        """What the page says of a part's numbers."""
        if part == "memory":
            return {
                "messages": self.memory,
                "first look after": self.early,
                "devices": self.devices,
                "rounds": self.runs,
            }
        if part == "latency":
            return {"rounds": self.runs, "seconds a round": round(self.seconds)}
        if part == "cores":
            return {"messages": 4 * self.messages, "rounds": self.runs, "devices": self.devices}
        if part == "bytes":
            return {"messages at most": self.each, "rounds": self.points}
        if part in ("devices", "stubs"):
            return {"messages": self.each, "rounds": self.points}
        if part == "brokers":
            return {"messages": self.each, "rounds": self.points, "devices": self.devices}
        return {"messages": self.messages, "rounds": self.runs, "devices": self.devices}

    def wants(self, name: str) -> bool:
        """Whether a contender of that name takes part."""
        return not self.chosen or any(word.lower() in name.lower() for word in self.chosen)


QUICK = Scale(
    runs=3,
    points=2,
    messages=15_000,
    each=15_000,
    devices=300,
    seconds=6.0,
    memory=300_000,
    crowds=(1, 1000),
    fake_crowds=(1000, 30_000),
    brokers=(1, 3, 20),
    sizes=(64, 4096, 262_144),
)
"""For a look: every part works as in a whole run, and ends within a quarter of an hour on two cores."""
