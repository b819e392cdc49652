"""What a run plays, and how it reads: schedules replay, a table cannot hide a fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import report
from tests.chaos.__main__ import BEGIN, END, parser, schedule, shown, write
from tests.chaos.memory import MIB, TOLERANCE, growth
from tests.chaos.outcome import Outcome, Recovery
from tests.chaos.scenario import Scenario
from tests.chaos.scenarios import ALL
from tests.chaos.verdict import Count

SCENARIO = Scenario("kill-pub", "breaks", "must", lambda _: None)


def names(*arguments: str) -> list[str]:
    return [one.name for one in schedule(parser().parse_args(arguments))]


def test_the_same_seed_draws_the_same_blows() -> None:
    assert names("--random", "20", "--seed", "7") == names("--random", "20", "--seed", "7")
    assert names("--random", "20", "--seed", "7") != names("--random", "20", "--seed", "8")


def test_by_default_everything_that_the_profile_can_play() -> None:
    assert set(names()) == {one.name for one in ALL.values() if "small" in one.profiles}
    assert set(names("--profile", "full")) == {one.name for one in ALL.values() if "full" in one.profiles}


def test_chosen_in_the_given_order() -> None:
    assert names("--only", "kill-sub", "kill-pub") == ["kill-sub", "kill-pub"]
    assert "kill-sub" not in names("--skip", "kill-sub")


def test_the_command_that_a_table_shows() -> None:
    assert shown(["--only", "kill-pub", "--logs", "somewhere", "--ci"]) == "python -m tests.chaos --only kill-pub --ci"


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such scenario: kill-bill"):
        names("--only", "kill-bill")


def test_the_bounded_run_breaks_every_kind_of_thing() -> None:
    chosen = set(names("--ci"))
    assert chosen < set(names())
    assert {"kill-pub", "kill-sub", "kill-registry", "kill-all", "kill-broker", "pause-kafka", "flapping"} <= chosen


def test_every_scenario_says_what_it_breaks_and_what_must_arrive() -> None:
    assert all(one.breaks and one.must for one in ALL.values())


def outcome(*faults: str) -> Outcome:
    counts = {"up": Count(promised=10, duplicates=1), "down": Count(promised=20, dark=2)}
    recoveries = [Recovery("up", 3.0, 1.25), Recovery("down", 10.0, None)]
    return Outcome(SCENARIO, counts, recoveries, faults=list(faults))  # type: ignore[arg-type]


def test_a_row() -> None:
    assert report.row(outcome()) == (
        *("kill-pub", "10", "20", "0", "2", "0", "1/0", "1.2 s (< 3)", "never (< 10)", "ok"),
    )
    assert report.row(outcome("up: lost 1"))[-1] == "FAILED"


def test_one_fault_anywhere_fails_the_run() -> None:
    good = report.Report("command", "setting", (outcome(),), ())
    assert good.good
    assert not replace(good, outcomes=(outcome(), outcome("lost"))).good
    assert not replace(good, faults=("metrics: pub-1",)).good
    assert not replace(good, outcomes=()).good
    assert "- kill-pub: lost" in report.text(replace(good, outcomes=(outcome("lost"),)))


def test_a_table_in_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, report.Report("the command", "setting", (outcome(),), ()))
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n") and text.endswith(f"{END}\nafter\n")
    assert "the command" in text and "| kill-pub | 10 |" in text and "old" not in text


def test_memory_that_grows_is_not_flat() -> None:
    leak = growth("sub-1", [100 * MIB + second * MIB for second in range(200)])
    assert leak is not None and not leak.flat and "NOT FLAT" in str(leak)


def test_memory_that_grew_at_the_start_and_stayed_is_flat() -> None:
    steady = growth("sub-1", [40 * MIB] * 10 + [90 * MIB] * 190)
    assert steady is not None and steady.flat
    spike = growth("sub-1", [40 * MIB] * 150 + [400 * MIB] * 10 + [40 * MIB + TOLERANCE] * 40)
    assert spike is not None and spike.flat and spike.peak == 400 * MIB


def test_a_short_life_says_nothing() -> None:
    assert growth("sub-1", [MIB] * 10) is None
