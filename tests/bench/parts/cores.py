"""Two `pub` on different brokers use two cores: against stubs, as real brokers would need the cores themselves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from kalinka_jms.lab.waiting import wait_until
from tests.bench import names, settings
from tests.bench.meter import measure
from tests.bench.rows import AT_LEAST_ONCE, Row
from tests.bench.scale import Scale
from tests.bench.stand import UP, Stand
from tests.bench.stubs import Load, Stubs
from tests.bench.turns import Contender, Figures, by_turns

FACTOR = 2
"""Times the messages of other parts, for each broker: stubs are fast."""


def run(stand: Stand, scale: Scale) -> list[Row]:
    """One process for both brokers, and one for each, by turns."""
    contenders = (
        Contender(names.ONE_PROCESS, AT_LEAST_ONCE, lambda: _run(stand, scale, [[0, 1]])),
        Contender(names.TWO_PROCESSES, AT_LEAST_ONCE, lambda: _run(stand, scale, [[0], [1]])),
    )
    return by_turns(contenders, scale.runs, "no journal")


def _run(stand: Stand, scale: Scale, shares: Sequence[Sequence[int]]) -> Figures:
    """`shares`: the brokers of each process."""
    each = scale.messages * FACTOR
    with Stubs([Load(each, scale.devices)] * 2) as stubs, ExitStack() as stack:
        pids = []
        for share in shares:
            config = settings.write(
                stand.lab, stand.log("pub").with_suffix(".toml"), [stubs.addresses[i] for i in share]
            )
            (pub,) = stack.enter_context(stand.instances("pub", config=config))
            pub.wait_ready(60)
            pids.append(pub.pid)
        start = stand.end(UP)
        stubs.open()
        run = measure(pids[0], lambda: stand.end(UP) - start, 2 * each, *pids[1:])
        assert wait_until(lambda: stubs.count == 2 * each, 10), f"{stubs.count} of {2 * each} acknowledged"
    return {**run.figures, "cores": run.cpu / run.seconds}
