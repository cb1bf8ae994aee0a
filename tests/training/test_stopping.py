from __future__ import annotations

import os
import pickle
import signal

import pytest

from scifm.errors import StopRequested
from scifm.training.processes import STOP_SIGNALS, stop_requests


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_becomes_a_question_and_the_first_one_counts(number):
    before = signal.getsignal(number)
    with stop_requests() as asked:
        assert asked() is None
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), number)
        request = asked()
    assert isinstance(request, StopRequested)
    assert str(request) == number.name
    assert signal.getsignal(number) is before


def test_ctrl_c_is_no_request_of_a_scheduler():
    with stop_requests() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert type(asked()) is KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_it_travels_between_processes():
    sent = pickle.loads(pickle.dumps(StopRequested("SIGUSR1")))
    assert (type(sent), str(sent)) == (StopRequested, "SIGUSR1")
