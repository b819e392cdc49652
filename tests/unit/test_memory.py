"""What a process of Kalinka keeps for itself."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, threading
from kalinka_jms import service

{prepared}
kept = []
threads = [threading.Thread(target=lambda: kept.append(b"x" * 10_000)) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
c = ctypes.CDLL(None)
c.fopen.restype = ctypes.c_void_p
out = c.fopen(b"/dev/stdout", b"w")
c.malloc_info(0, ctypes.c_void_p(out))
c.fclose(ctypes.c_void_p(out))
"""


def heaps(prepared: str) -> int:
    plain = {name: value for name, value in os.environ.items() if name not in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")}
    code = HEAPS.format(prepared=prepared)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=plain)
    return told.stdout.count(b"<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads heaps of their own")
def test_threads_share_one_heap_so_that_what_a_flood_took_is_used_again() -> None:
    assert heaps("") > 1
    assert heaps("service._set_up_memory()") == 1
