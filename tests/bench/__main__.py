"""`make bench`: what Kalinka takes, beside bare loops, the libraries alone, and other bridges.

Everything runs on one lab, contenders by turns, so that a slow minute of the machine is everybody's. Counts are
verified: what arrived is what was sent. Parts can be run one by one; each replaces its own results in
docs/performance.json, from which docs/performance.md and its plots are written anew.
"""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from kalinka_jms.lab.lab import Lab
from kalinka_jms.lab.layout import Layout
from tests.bench import machine, plots, regression, report, results
from tests.bench.parts import GROUPS, PARTS, parts
from tests.bench.rows import Part
from tests.bench.scale import QUICK, Scale
from tests.bench.stand import Stand

DOCS = Path(__file__).parents[2] / "docs"
JSON, PAGE = DOCS / "performance.json", DOCS / "performance.md"
NOTES = DOCS / "speed.md"


def main() -> int:
    """Measure, and write or compare; 1 where a part failed, or is worse than what is kept."""
    options = _options()
    if options.render:
        render()
        return 0
    _allow_many_sockets()
    for ending in (signal.SIGTERM, signal.SIGHUP):  # the lab and the bridge go down with us
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    scale = _scale(options)
    kept, found, whole = results.load(JSON), results.Results(), True
    writes = not options.check and not options.contenders
    for name, part in _measured(options, scale):
        if part is None:
            whole = False
            continue
        found[name] = part
        print("\n".join(report.absolutes(part.rows)), flush=True)
        if writes:
            results.save(JSON, {**results.load(JSON), name: part})
            render()
    if options.check:
        text, stands = regression.report(regression.changes(kept, found), options.tolerance)
        print(text)
        return 0 if stands and whole else 1
    return 0 if whole else 1


def render() -> None:
    """Write the page and its plots from the results that are kept."""
    kept = results.load(JSON)
    PAGE.write_text(report.page(kept, notes=NOTES.exists()))
    plots.draw(kept, DOCS)


def _measured(options: argparse.Namespace, scale: Scale) -> Iterator[tuple[str, Part | None]]:
    """Each part that is wanted as it is done; None for one that failed."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(Layout(Path(folder) / "lab", "small", options.address), _say)
        lab.up()
        try:
            stand = Stand(lab, Path(folder))
            for name in parts(options.only):
                yield name, _part(name, stand, scale)
        finally:
            lab.down(wipe=True)


def _part(name: str, stand: Stand, scale: Scale) -> Part | None:
    _say(f"{name}:")
    begun = time.monotonic()
    try:
        rows = PARTS[name](stand, scale)
    except Exception:
        traceback.print_exc()
        _say(f"{name} failed; what is kept of it stays")
        return None
    _say(f"{name}: {time.monotonic() - begun:.0f} s")
    return Part(_command(), machine.describe(), scale.amounts(name), rows)


def _command() -> str:
    """How to run it again, anywhere."""
    words, arguments = list(sys.argv[1:]), []
    while words:
        word = words.pop(0)
        if word == "--address":
            words = words[1:]
        elif not word.startswith("--address="):
            arguments.append(word)
    return f'make bench ARGS="{shlex.join(arguments)}"' if arguments else "make bench"


def _scale(options: argparse.Namespace) -> Scale:
    given = {name: getattr(options, name) for name in ("runs", "messages", "devices") if getattr(options, name)}
    if options.runs:
        given["points"] = options.runs
    if options.messages:
        given["each"] = options.messages
    return replace(QUICK if options.quick else Scale(), chosen=tuple(options.contenders), **given)


def _allow_many_sockets() -> None:
    """As many as the system lets a process have: thousands of devices are in one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--only", nargs="+", default=[], choices=[*PARTS, *GROUPS], help="these parts; all without it")
    add("--quick", action="store_true", help="fewer rounds, messages and points: a look in a quarter of an hour")
    add("--runs", type=int, help="counted rounds")
    add("--messages", type=int, help="messages a contender carries in a round")
    add("--devices", type=int)
    add("--contenders", nargs="+", default=[], help="those whose name has one of these in it; then nothing is written")
    add("--check", action="store_true", help="compare the ratios with docs/performance.json, and write nothing")
    add("--tolerance", type=float, default=regression.TOLERANCE, help="how much worse a ratio may be")
    add("--render", action="store_true", help="measure nothing: write the page and the plots from the JSON")
    address = os.environ.get("KALINKA_LAB_ADDRESS") or "127.0.51.20"
    add("--address", default=address, help="the first address of the lab")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
