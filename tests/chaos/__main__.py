"""`make chaos`: break everything, one after another, under a steady load, and count every message.

Example: python -m tests.chaos --only kill-pub kill-sub --seed 7
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import report
from tests.chaos.memory import growth
from tests.chaos.outcome import Outcome
from tests.chaos.proxy import Proxy
from tests.chaos.scenario import DELIVERIES, PROFILES, SESSIONS, Scenario
from tests.chaos.scenarios import ALL
from tests.chaos.setting import layout, opened, write_config
from tests.chaos.stage import Options, Stage

LOGS = Path(__file__).parents[2] / "build" / "chaos"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="these scenarios, in this order")
    parser.add_argument("--skip", nargs="+", metavar="NAME", default=[], help="not these")
    parser.add_argument("--profile", choices=PROFILES, default="small")
    parser.add_argument("--delivery", choices=DELIVERIES, default="broker")
    parser.add_argument("--session", choices=SESSIONS, default="clean")
    parser.add_argument("--random", type=int, metavar="N", help="N blows drawn by the seed")
    parser.add_argument("--seconds", type=float, help="begin no further scenario after that time")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="replays a random schedule")
    parser.add_argument("--rate", type=float, default=300.0, help="messages a second, each way")
    parser.add_argument("--devices", type=int, default=30)
    parser.add_argument(
        "--sabotage", default="", metavar="MISTAKE", help="auto-ack or commit-early: see the proof fail; or no-way-back"
    )
    parser.add_argument(
        "--slack", type=float, default=1.0, help="multiplies the bounds of recovery, where other work has the machine"
    )
    parser.add_argument("--ci", action="store_true", help="the run that is bounded to ten minutes")
    parser.add_argument("--list", action="store_true", help="show the scenarios, and what must arrive in each")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into a page")
    parser.add_argument("--logs", type=Path, default=LOGS, help="where the logs of the bridge go")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    chosen = schedule(args)
    if args.list:
        print("\n\n".join(f"{one.name}\n  breaks: {one.breaks}\n  must arrive: {one.must}" for one in chosen))
        return 0
    told = run(args, chosen)
    print(f"\n{report.text(told)}")
    if args.write:
        write(args.write, told)
    return 0 if told.good else 1


def schedule(args: argparse.Namespace) -> list[Scenario]:
    """The scenarios of this run, in their order."""
    if unknown := [name for name in [*args.only, *args.skip] if name not in ALL]:
        raise SystemExit(f"no such scenario: {', '.join(unknown)}; there are {', '.join(ALL)}")
    chosen = [ALL[name] for name in args.only] or [one for one in ALL.values() if one.ci or not args.ci]
    chosen = [one for one in chosen if args.profile in one.profiles and one.name not in args.skip]
    if args.random:
        return random.Random(args.seed).choices(chosen, k=args.random)
    return chosen


def shown(words: Sequence[str]) -> str:
    """The command that plays the same; where its logs go says nothing to others."""
    kept = [word for at, word in enumerate(words) if "--logs" not in (word, words[at - 1] if at else "")]
    return " ".join(["python -m tests.chaos", *kept])


def run(args: argparse.Namespace, chosen: Sequence[Scenario]) -> report.Report:
    """Play them on a lab."""
    options = Options(
        args.delivery,
        args.session,
        args.devices,
        args.rate,
        seed=args.seed,
        sabotage=args.sabotage,
        slack=args.slack,
    )
    command = shown(sys.argv[1:])
    say(f"seed {args.seed}: {', '.join(one.name for one in chosen)}")
    with opened(layout(args.profile, args.delivery), say) as lab:
        logs: Path = args.logs
        if logs == LOGS:
            shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True, exist_ok=True)
        proxy = Proxy((lab.layout.addresses[0], lab.layout.ports.zookeeper))
        config = write_config(lab, logs, args.delivery, [proxy.address])
        stage = Stage(lab, config, logs, proxy, options, say)
        try:
            stage.open()
            outcomes = play(stage, chosen, args.seconds)
            sizes = stage.bridge.memory(stage.begun)
            faults = [f"metrics: {fault}" for fault in stage.unbalanced[:20]]
            faults += [f"{name} ended with {code}" for name, code in stage.bridge.stop().items() if code]
        finally:
            stage.close()
            proxy.close()
        grown = [one for one in (growth(name, notes) for name, notes in sorted(sizes.items())) if one]
    notes = [f"{stage.bridge.scrapes} scrapes: records in = outcomes + given back + in flight, in each of them"]
    setting = (
        f"seed {args.seed}, profile {args.profile}, delivery {args.delivery}, {args.session} sessions, "
        f"{args.devices} devices, {args.rate:.0f} messages/s each way; {report.machine(os.getloadavg())}"
    )
    return report.Report(command, setting, tuple(outcomes), tuple(grown), tuple(faults), tuple(notes))


def play(stage: Stage, chosen: Sequence[Scenario], seconds: float | None) -> list[Outcome]:
    outcomes = []
    begun = time.monotonic()
    for at, one in enumerate(chosen):
        if seconds is not None and time.monotonic() - begun > seconds:
            say(f"not played, for {seconds:.0f} s are over: {', '.join(left.name for left in chosen[at:])}")
            break
        say(f"{one.name}: {one.breaks}")
        outcome = stage.play(one)
        say(f"    {'  '.join(report.row(outcome))}  [{outcome.seconds:.0f} s]")
        for fault in outcome.faults:
            say(f"    FAULT {fault}")
        outcomes.append(outcome)
    return outcomes


BEGIN, END = "<!-- the table: written by the command -->", "<!-- end of the table -->"


def write(page: Path, told: report.Report) -> None:
    """Replace what stands between the marks of a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{report.markdown(told)}\n\n{END}{after}")


_START = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - _START:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
