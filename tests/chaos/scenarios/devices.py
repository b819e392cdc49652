"""Devices that behave badly: they flap, vanish, or listen to everything."""

from __future__ import annotations

import time

from kalinka_jms.lab.device import MqttBroker
from tests.chaos.eavesdropper import Eavesdropper
from tests.chaos.proxy import Proxy
from tests.chaos.scenario import scenario
from tests.chaos.scenarios.servers import BROKEN, LINK
from tests.chaos.stage import Stage

FLAPPING = 15
"""Times that devices flap, once a second."""
KEEPALIVE = 4
"""Seconds; the broker gives a silent device 2.5 times as long."""
STILL = 5.0
"""Seconds that no other device, and no other stream of its broker, may be silent for because of a bad one."""


@scenario(
    "flapping",
    breaks=f"six devices go to the next broker every second, {FLAPPING} times; every other time by a broken connection",
    must=BROKEN + " A device that leaves in order loses nothing but what the broker drops as it takes the UNSUBSCRIBE "
    "(same rule). The other devices never pause.",
)
def flapping(stage: Stage) -> None:
    flappers = stage.chance.sample(stage.names, 6)
    stage.blow(f"{len(flappers)} devices flap")
    for turn in range(FLAPPING):
        for at, name in enumerate(flappers):
            stage.next_broker(name, politely=(turn + at) % 2 == 0)
        time.sleep(1)
    stage.blow("they stay")
    stage.listening()
    stage.recovered(up=LINK, down=LINK)
    stage.silence(STILL, [name for name in stage.names if name not in flappers])


@scenario(
    "half-open",
    breaks="two devices vanish without a packet; one is back at another broker at once, one after the broker noticed",
    must=BROKEN + " For a device that is back that ends with its first message there; else when its keep-alive "
    "ran out at the broker.",
)
def half_open(stage: Stage) -> None:
    back, away = stage.fleet.at("dev2")[:2]
    broker = stage.fleet.broker("dev2")
    proxy = Proxy((broker.host, broker.port))
    try:
        for name in (back, away):
            stage.fleet.devices[name].keepalive = KEEPALIVE
            stage.fleet.move(name, MqttBroker(broker.name, *proxy.address))
        stage.until(lambda: all(stage.fleet.devices[name].at_target for name in (back, away)), 30, "they are back")
        time.sleep(1)
        proxy.freeze()
        stage.blow(f"{back} and {away} vanish")
        stage.fleet.vanish(back, stage.fleet.broker("dev3"))
        stage.fleet.vanish(away, None)
        stage.recovered(up=LINK, down=LINK)
        stage.until(lambda: stage.ends.settled(away), 60, f"the broker notices that {away} is gone")
        stage.blow(f"the broker has noticed; {away} is back")
        stage.fleet.go(away, stage.fleet.broker("dev1"))
        stage.listening()
        stage.recovered(up=LINK, down=LINK)
    finally:
        for name in (back, away):
            stage.fleet.devices[name].keepalive = stage.fleet.keepalive
        proxy.close()


@scenario(
    "eavesdropper",
    breaks="an MQTT client on # at dev1 and dev2 hides from these brokers that devices are absent, while devices move",
    must=BROKEN + " While it listens the broker reports no absence, so the window ends with the device's first message "
    "on its next connection.",
    ci=False,
)
def eavesdropper(stage: Stage) -> None:
    ears = [Eavesdropper(stage.fleet.broker(name)) for name in ("dev1", "dev2")]
    try:
        stage.ends.hiding.update(("dev1", "dev2"))
        stage.blow("somebody listens to everything")
        for _ in range(4):
            moved = stage.shuffle(5)
            stage.until(lambda: all(stage.fleet.devices[name].at_target for name in moved), 30, "they have moved")  # noqa: B023
            time.sleep(1)
        stage.blow("the last of the devices have moved")
        stage.recovered(up=LINK, down=LINK)
    finally:
        for ear in ears:
            ear.close()
        stage.ends.hiding.clear()
