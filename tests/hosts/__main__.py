"""Play on the three hosts, which are up and deployed.

python -m tests.hosts demo | upgrade | secure | chaos [power-off] [cut-link] [reboot]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial

from kalinka_jms.errors import KalinkaError
from kalinka_jms.lab.demo import Demo, Place, Plan
from kalinka_jms.lab.ledger import Verdict
from kalinka_jms.lab.report import as_text
from kalinka_jms.lab.stage import Lines
from tests.hosts.blows import BLOWS, Chaos
from tests.hosts.hosts import PLACE
from tests.hosts.upgrade import upgrade

BEGUN = time.monotonic()


def demo(place: Place) -> Verdict:
    """The demo's scenario, with its devices and its back end here and everything else there."""
    with Lines() as stage:
        return Demo(Plan(seconds=15, rate=10, patience=180), place, stage).play()


def say(text: str) -> None:
    """A step, with the seconds since the start."""
    print(f"[{time.monotonic() - BEGUN:5.1f} s] {text}", flush=True)


def chaos(names: Sequence[str]) -> Verdict:
    """Hosts break, one after another; `names`, if any, are all that happens to them."""
    verdict, recoveries = Chaos(say, [blow for blow in BLOWS if not names or blow.name in names]).play()
    print("\n".join(f"recovery: {one}" for one in recoveries))
    return verdict


def rollout() -> Verdict:
    """A new version, instance by instance."""
    return upgrade(say)


def safe() -> Verdict:
    """The secure profile: the demo as devices with logins, then attacks that must fail."""
    from tests.hosts.secure import attack, place

    verdict = demo(place())
    attack(say)
    return verdict


def main(arguments: list[str]) -> int:
    plays = {"demo": partial(demo, PLACE), "chaos": partial(chaos, arguments[1:]), "upgrade": rollout, "secure": safe}
    if not arguments or arguments[0] not in plays:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        verdict = plays[arguments[0]]()
    except KalinkaError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print(as_text(verdict))
    print(f"{'lost' if verdict.proven else 'FAILED: lost'} {verdict.total.lost} of {verdict.total.sent}")
    return 0 if verdict.proven else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
