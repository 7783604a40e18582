"""Memory of the process tree and its ceiling."""

import os
import resource
import subprocess
import sys

import pytest

from dr_tfx.machine import resources

# A small process: of TensorFlow's libraries, this one's share depends on who else has them loaded.
HOLDS = """
import subprocess, sys
from dr_tfx.machine import resources

print(resources.tree_gb())
held = b"1" * 200_000_000
print(resources.tree_gb())
del held
code = "held = b'1' * 300_000_000; print(flush=True); input()"
pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
with subprocess.Popen([sys.executable, "-c", code], **pipes) as child:
    child.stdout.readline()
    print(resources.tree_gb())
    child.communicate(b"\\n")
"""


def test_what_a_process_and_its_children_hold_is_counted():
    command = [sys.executable, "-c", HOLDS]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    before, itself, child = map(float, printed.split())
    assert 0.005 < before < 0.2
    assert itself - before == pytest.approx(0.2, abs=0.01)
    assert child - before == pytest.approx(0.3, abs=0.03)  # Python's own memory adds some.


def test_it_looks_once_a_second_and_keeps_the_peak(monkeypatch):
    found = iter([1.0, 3.0, 2.0])
    monkeypatch.setattr(resources, "tree_gb", lambda: next(found))
    clock = [0.0]
    monkeypatch.setattr(resources.time, "monotonic", lambda: clock[0])
    memory = resources.Memory(2.5)
    assert not memory.exceeded() and not memory.exceeded()
    clock[0] = 1.1
    assert memory.exceeded()
    clock[0] = 2.2
    assert not memory.exceeded()
    assert memory.peak_gb == 3.0
    memory.restart()
    assert memory.peak_gb == 2.0
    assert "uses 2.00 GB" in str(memory.error()) and "--max_memory_gb" in str(memory.error())


def test_one_heap_serves_all_threads():
    code = (
        "import ctypes, sys, threading, time; from dr_tfx.machine import resources;"
        "sys.argv[1] == 'one' and resources.tune_malloc();"
        "hold = lambda: (bytearray(5000), time.sleep(.3));"
        "threads = [threading.Thread(target=hold) for _ in range(6)];"
        "[t.start() for t in threads]; time.sleep(.1);"
        "ctypes.CDLL(None).malloc_stats()"
    )

    def heaps(which):
        command = [sys.executable, "-c", code, which]
        return subprocess.run(command, capture_output=True, text=True, check=True).stderr.count(
            "Arena "
        )

    try:
        before = heaps("many")
    except subprocess.CalledProcessError:
        pytest.skip("no glibc")
    assert before > 1 and heaps("one") == 1


def test_what_is_freed_is_taken_again_without_a_page_fault():
    code = (
        "import resource, sys; from dr_tfx.machine import resources;"
        "sys.argv[1] == 'tuned' and resources.tune_malloc();"
        "make = lambda: [b'x' * 9_000_000 for _ in range(5)];"
        "make(); make();"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt;"
        "before = faults();"
        "[make().clear() for _ in range(20)];"
        "print(faults() - before)"
    )

    def faults(which):
        command = [sys.executable, "-c", code, which]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    pages = 20 * 45_000_000 // resource.getpagesize()
    if faults("as it is") < pages / 4:
        pytest.skip("this system's malloc keeps what is freed by itself")
    assert faults("tuned") < pages / 100


def test_a_process_ends_without_a_search_for_cycles():
    script = (
        "import atexit, gc; from dr_tfx.machine import resources; "
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000)); resources.end_quickly()"
    )  # What is registered last runs first.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_cores_are_those_that_the_process_may_use():
    script = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from dr_tfx.machine import resources; print(resources.cores())"
    )
    if hasattr(os, "sched_setaffinity"):
        assert subprocess.check_output([sys.executable, "-c", script], text=True) == "1\n"
    assert 1 <= resources.cores() <= (os.cpu_count() or 1)
