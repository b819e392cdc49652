import sys
from pathlib import Path

import pytest

from kalinka_jms.errors import LabError
from kalinka_jms.lab.instances import Instances

GOOD = """
import json, signal, sys, threading
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
print("not a record", file=sys.stderr)
print(json.dumps({"message": "ready", "service": sys.argv[1]}), file=sys.stderr, flush=True)
over.wait()
"""
BAD = "raise SystemExit('no broker: ' + sys.argv[1])"
SLOW = "print('still at it', flush=True); import time; time.sleep(60)"
DEAF = GOOD.replace("over.set()", "None")


def _instances(tmp_path: Path, script: str) -> Instances:
    return Instances(
        tmp_path / "kalinka.toml", tmp_path / "logs", command=(sys.executable, "-c", f"import sys\n{script}")
    )


def test_instances_are_numbered_started_and_stopped(tmp_path: Path) -> None:
    with _instances(tmp_path, GOOD) as instances:
        instances.start("pub", 2)
        instances.start("sub")
        instances.wait_ready(10)
        assert [instance.name for instance in instances.all] == ["pub-1", "pub-2", "sub-1"]
        assert instances.stop() == {"pub-1": 0, "pub-2": 0, "sub-1": 0}
        assert instances.stop() == {}


def test_one_that_serves_metrics_tells_where(tmp_path: Path) -> None:
    told = 'print(json.dumps({"message": "metrics", "address": sys.argv[-1]}), file=sys.stderr, flush=True)\n'
    script = GOOD.replace("print(json", f"{told}print(json", 1)
    command = (sys.executable, "-c", f"import sys\n{script}")
    options = ("--metrics", "127.0.0.1:7")
    with Instances(tmp_path / "kalinka.toml", tmp_path / "logs", command, options) as instances:
        instances.start("pub")
        instances.wait_ready(10)
        assert instances.all[0].metrics == "http://127.0.0.1:7/metrics"
    with _instances(tmp_path, GOOD) as instances:
        instances.start("pub")
        instances.wait_ready(10)
        assert instances.all[0].metrics == ""


def test_one_that_was_killed_is_not_among_the_running(tmp_path: Path) -> None:
    with _instances(tmp_path, GOOD) as instances:
        first, second = instances.start("pub", 2)
        instances.wait_ready(10)
        first.kill()
        assert instances.of("pub") == [second]
        assert second.stop() == 0


def test_one_that_ends_while_starting_is_named_with_its_last_words(tmp_path: Path) -> None:
    with _instances(tmp_path, BAD) as instances:
        instance = instances.start("pub")[0]
        with pytest.raises(LabError, match=r"(?s)pub-1 ended with 1.*no broker: pub"):
            instance.wait_ready(10)


def test_one_that_is_not_ready_in_time_is_named_with_its_last_words(tmp_path: Path) -> None:
    with _instances(tmp_path, SLOW) as instances:
        instance = instances.start("pub")[0]
        with pytest.raises(LabError, match="pub-1 is not ready"):
            instance.wait_ready(0.2)
        instance.kill()


def test_one_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with _instances(tmp_path, DEAF) as instances:
        instance = instances.start("pub")[0]
        instance.wait_ready(10)
        with pytest.raises(LabError, match="did not stop within"):
            instance.stop(0.2)
        assert not instance.running


def test_an_error_leaves_no_process_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _instances(tmp_path, DEAF) as instances:
        instances.start("sub", 2)
        raise KeyboardInterrupt
    assert not any(instance.running for instance in instances.all)
