"""The benchmark judges: goals, regressions, and the page that says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import names, regression, report, results
from tests.bench.goals import GOALS, judge
from tests.bench.parts import PARTS, parts
from tests.bench.results import Results
from tests.bench.rows import AT_LEAST_ONCE, Part, Row, Spread, difference, ratio
from tests.bench.scale import QUICK, Scale
from tests.bench.sections import SECTIONS
from tests.bench.turns import Contender, by_turns


def row(name: str, rate: Sequence[float], cpu: Sequence[float], guarantee: str = AT_LEAST_ONCE) -> Row:
    return Row(name, guarantee, "always", {"rate": list(rate), "cpu": list(cpu), "rss": [1e6] * len(rate)})


def uplink(*, rate: float = 18_000, cpu: float = 12) -> Results:
    rows = [
        row(names.PUB, [rate * 0.9, rate, rate * 1.1], [cpu * 0.9, cpu, cpu * 1.1]),
        row(names.BARE_UP, [18_000 * 0.9, 18_000, 18_000 * 1.1], [9, 10, 11]),
        row("Camel, transacted, 1 consumer", [1500, 1600, 1700], [254] * 3),
        row("Camel, transacted, 16 consumers", [4000, 4200, 4400], [147] * 3),
        row(names.CAMEL_FASTEST, [16_000, 16_500, 17_000], [35] * 3, "weaker"),
    ]
    return {"pub": Part("make bench", {"cores": "2"}, {"messages": 50_000, "rounds": 3}, rows)}


def seen(of: Results, words: str) -> tuple[float, str]:
    (verdict,) = (one for one in judge(of) if words in one.goal.text)
    assert verdict.seen
    return pytest.approx(verdict.seen.median, rel=1e-3), verdict.words


def test_a_ratio_is_made_round_by_round() -> None:
    # the machine halves its speed in the second round: the ratio does not see it
    one, other = row("a", [100, 50, 100], [1, 1, 1]), row("b", [200, 100, 200], [1, 1, 1])
    assert ratio(one, other, "rate") == Spread(0.5, 0.5, 0.5, 3)
    assert difference(one, other, "rate").median == -100


def test_rounds_that_do_not_pair_are_no_ratio() -> None:
    with pytest.raises(ValueError):
        ratio(row("a", [1, 2], [1, 1]), row("b", [1], [1]), "rate")


def test_goals_are_met_or_short_by_how_much() -> None:
    assert seen(uplink(), "rate of a bare reader") == (1.0, "met")
    assert seen(uplink(rate=9000), "rate of a bare reader") == (0.5, "**short by 47%**")
    assert seen(uplink(cpu=25), "CPU of that loop") == (2.5, "**short by 100%**")


def test_rounds_on_both_sides_of_a_limit_are_told() -> None:
    rows = [row(names.PUB, [16_000, 16_900, 18_000], [12] * 3), row(names.BARE_UP, [18_000] * 3, [10] * 3)]
    found = seen({"pub": Part("make bench", {}, {}, rows)}, "rate of a bare reader")
    assert found[1] == "**short by 1%** (rounds on both sides)"


def test_camels_best_mode_is_its_best_in_that_figure_and_exact() -> None:
    assert seen(uplink(), "rate of Camel's best at-least-once")[0] == 18_000 / 4200
    assert seen(uplink(), "CPU of Camel's cheapest at-least-once")[0] == 12 / 147


def test_what_was_not_measured_is_said_so() -> None:
    verdicts = judge(uplink())
    assert {one.words for one in verdicts if one.goal.part != "pub"} == {"not measured"}
    assert not any(one.met for one in verdicts if one.seen is None)


def test_memory_and_latency_have_goals_of_their_own() -> None:
    memory = Row(names.PUB, AT_LEAST_ONCE, "always", {"early": [100.0], "rss": [104.0]})
    latency = [
        Row(name, AT_LEAST_ONCE, "always", {"p50": [p50], "p99": [2 * p50]})
        for name, p50 in ((names.RELAY, 10.0), (names.BRIDGED, 14.0))
    ]
    of = {"memory": Part("", {}, {}, [memory]), "latency": Part("", {}, {}, latency)}
    assert seen(of, "pub: memory") == (1.04, "met")
    assert seen(of, "added at p50") == (4, "met")
    assert seen(of, "added at p99") == (8, "met")


def test_a_slower_machine_is_no_regression() -> None:
    slow = uplink()
    for one in slow["pub"].rows:
        one.values["rate"] = [value / 3 for value in one.values["rate"]]
        one.values["cpu"] = [value * 3 for value in one.values["cpu"]]
    text, stands = regression.report(regression.changes(uplink(), slow))
    assert stands, text
    assert "WORSE" not in text


def test_a_bridge_that_costs_more_is_one() -> None:
    text, stands = regression.report(regression.changes(uplink(), uplink(cpu=24)))
    assert not stands
    assert "WORSE pub: CPU of that loop" in text
    assert "ok    pub: rate of a bare" in text


def test_within_the_tolerance_is_none_nor_where_the_ranges_touch() -> None:
    assert regression.report(regression.changes(uplink(), uplink(cpu=13)))[1]
    wide = uplink(cpu=24)
    wide["pub"].rows[0].values["cpu"][0] = 5.0
    assert regression.report(regression.changes(uplink(), wide))[1]


def test_a_better_one_is_none() -> None:
    assert regression.report(regression.changes(uplink(), uplink(cpu=4, rate=40_000)))[1]


def test_nothing_to_compare_is_no_success() -> None:
    assert not regression.report(regression.changes({}, uplink()))[1]


def test_milliseconds_are_never_compared() -> None:
    def latency(added: float) -> Results:
        rows = [Row(names.RELAY, "", "", {"p50": [1.0]}), Row(names.BRIDGED, "", "", {"p50": [1.0 + added]})]
        return {"latency": Part("", {}, {}, [Row(r.name, "", "", {**r.values, "p99": [1.0]}) for r in rows])}

    assert regression.changes(latency(1), latency(100)) == []


def test_results_are_kept_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "performance.json"
    assert results.load(path) == {}
    results.save(path, uplink())
    first = path.read_bytes()
    kept = results.load(path)["pub"]
    assert kept.to_json() | {"rows": []} == uplink()["pub"].to_json() | {"rows": []}
    for one, other in zip(kept.rows, uplink()["pub"].rows, strict=True):
        assert (one.name, one.guarantee, one.sync) == (other.name, other.guarantee, other.sync)
        assert one.values["rate"] == pytest.approx(other.values["rate"])
    results.save(path, results.load(path))
    assert path.read_bytes() == first


def test_the_page_has_goals_ratios_and_absolutes() -> None:
    page = report.page(uplink())
    assert page.index("## Goals") < page.index("rate ×") < page.index("messages/s |")
    assert "| Camel, transacted, 16 consumers | at least once | always | 4,200 (4,000 to 4,400) | 147.0" in page
    assert "| Camel, transacted, 16 consumers | 4.29 (" in page
    assert "`make bench` gave pub:\n- cores: 2" in page
    assert "Kafka → broker\n" not in page


def test_every_part_has_a_section_and_every_goal_a_part() -> None:
    assert [section.part for section in SECTIONS if section.part not in PARTS] == []
    assert {section.part for section in SECTIONS} == set(PARTS)
    assert {goal.part for goal in GOALS} <= set(PARTS)


def test_parts_can_be_named_alone_or_in_groups() -> None:
    assert parts([]) == list(PARTS)
    assert parts(["latency", "pub"]) == ["pub", "latency"]
    assert parts(["growth"]) == ["devices", "bytes", "brokers", "stubs"]


def test_contenders_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []

    def run(name: str) -> dict[str, float]:
        order.append(name)
        return {"rate": float(len(order))}

    rows = by_turns([Contender(name, "", lambda name=name: run(name)) for name in "ab"], 2, "always")  # type: ignore[misc]
    assert order == ["a", "b"] * 3
    assert [one.values for one in rows] == [{"rate": [3.0, 5.0]}, {"rate": [4.0, 6.0]}]


def test_quick_is_less_of_the_same() -> None:
    whole = Scale()
    assert QUICK.runs < whole.runs >= 5
    assert set(QUICK.crowds) <= set(whole.crowds) and set(QUICK.sizes) <= set(whole.sizes)
    assert Scale(chosen=("camel",)).wants(names.CAMEL_FASTEST)
    assert not Scale(chosen=("camel",)).wants(names.PUB)


def test_the_page_in_docs_is_the_one_of_the_results_in_docs() -> None:
    docs = Path(__file__).parents[2] / "docs"
    kept = results.load(docs / "performance.json")
    if kept:
        assert (docs / "performance.md").read_text() == report.page(kept, notes=(docs / "speed.md").exists())
