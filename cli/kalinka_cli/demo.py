"""`kalinka demo`: see it work, on real servers."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kalinka_jms.lab.lab import Lab
    from kalinka_jms.lab.ledger import Verdict

Seconds = Annotated[float, typer.Option(min=3, help="Seconds of traffic.")]
Rate = Annotated[
    float, typer.Option(min=0.1, help="Rounds a second; a round is one message from everyone to everyone.")
]
Size = Annotated[int, typer.Option(min=0, help="Bytes of a message.")]
Victim = Annotated[
    str, typer.Option("--kill", help="The service of which one instance is killed: pub, sub or registry.")
]
Report = Annotated[Path | None, typer.Option("--json", help="Also write the ledger as JSON to this file.")]


def demo(seconds: Seconds = 30, rate: Rate = 20, size: Size = 256, kill: Victim = "sub", json: Report = None) -> None:
    """Three devices on three brokers and a back end on Kafka speak to each other through the bridge.

    In the middle one device moves to another broker and one process of the bridge is killed. The lab is brought up for
    it, and down again unless it was up. At the end the ledger: sent, received, lost. It fails unless lost is 0.

    Example: kalinka demo --kill pub
    """
    from kalinka_jms.lab.demo import SERVICES, Plan, run
    from kalinka_jms.lab.lab import Lab
    from kalinka_jms.lab.stage import open_stage

    if kill not in SERVICES:
        raise typer.BadParameter(f"one of {', '.join(SERVICES)}", param_hint="--kill")
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    with open_stage() as stage:
        lab = Lab.at(say=stage.say)
        verdict = run(Plan(seconds=seconds, rate=rate, size=size, victim=kill), lab, stage)
    _report(verdict, lab, json)


def _interrupt(*_: object) -> None:
    """The first signal ends the demo in order; another one would only interrupt that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _report(verdict: Verdict, lab: Lab, path: Path | None) -> None:
    from kalinka_jms.lab.demo import tails
    from kalinka_jms.lab.report import as_json, as_text

    if path is not None:
        path.write_text(as_json(verdict))
    typer.echo(as_text(verdict))
    typer.echo("Latency is that of the whole way; for the device that moved it includes the time it was away.")
    if not verdict.proven:
        typer.echo(tails(lab), err=True)
        typer.echo(f"FAILED: lost {verdict.total.lost} of {verdict.total.sent}", err=True)
        raise typer.Exit(1)
    typer.echo(f"Lost 0 of {verdict.total.sent}.")
