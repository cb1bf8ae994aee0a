from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from scifm.execution.workers import threads_of_a_worker, worker_pool

SLEEPER = """
    import os, time
    from scifm.execution.workers import worker_pool

    if __name__ == "__main__":
        with worker_pool(1) as pool:
            print(pool.submit(os.getpid).result(), flush=True)
            for _ in range(5):  # the pool hands some of them to the worker, beyond recall
                last = pool.submit(time.sleep, 600)
            last.result()
"""


def has_ended(process: int) -> bool:
    for _ in range(400):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_when_their_parent_does(tmp_path, number):
    script = tmp_path / "sleeper.py"
    script.write_text(textwrap.dedent(SLEEPER))
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)
        parent.send_signal(number)
        assert parent.wait(60) != 0
    assert has_ended(worker)


def _own_signal(number: int) -> int:
    os.kill(os.getpid(), number)
    return number


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_sent_to_all_processes_kills_no_worker(number):
    """A worker decides nothing: its parent gets the same signal and stops the pool."""
    with worker_pool(1) as pool:
        assert pool.submit(_own_signal, number).result() == number
        assert pool.submit(max, 1, 2).result() == 2


def test_a_pool_computes():
    with worker_pool(1) as executor:
        assert executor.submit(max, 1, 2).result() == 2


def test_cores_are_shared(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [threads_of_a_worker(n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]
