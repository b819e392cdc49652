"""What a process of Kalinka keeps for itself."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HEAPS = """
import ctypes, threading
from pathlib import Path
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
    told = subprocess.run([sys.executable, "-c", HEAPS.format(prepared=prepared)], capture_output=True, check=True)
    return told.stdout.count(b"<heap nr=")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives threads heaps of their own")
def test_threads_share_one_heap_so_that_what_a_flood_took_is_used_again() -> None:
    assert heaps("") > 1
    assert heaps("service._spare_memory()") == 1
