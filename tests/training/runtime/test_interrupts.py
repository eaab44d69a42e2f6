"""Ctrl+C, once and more often, while a training tidies up."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from training.runtime.interrupts import interrupted_once


def press(which: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), which)
    time.sleep(0.01)  # a handler runs between two lines


@pytest.fixture(autouse=True)
def _handler(own_signals: None):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_does_not_break_the_tidying_up(caplog: pytest.LogCaptureFixture):
    tidied = []

    @interrupted_once()
    def work() -> None:
        try:
            press()
        except KeyboardInterrupt:
            press()
            tidied.append("run closed")
            raise

    with pytest.raises(KeyboardInterrupt):
        work()
    assert tidied == ["run closed"]
    assert caplog.messages == ["stopping; once more ends it however far it is"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_third_ends_what_hangs():
    @interrupted_once()
    def work() -> None:
        try:
            press()
        except KeyboardInterrupt:
            press()
            press()
            pytest.fail("it goes on")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_a_scheduler_s_sigterm_stops_as_ctrl_c_does():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), interrupted_once():
            press(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with interrupted_once():
            press(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_one_inside_another_and_other_threads_change_nothing():
    with interrupted_once():
        handler = signal.getsignal(signal.SIGINT)
        with interrupted_once():
            assert signal.getsignal(signal.SIGINT) is handler
        inside = []
        thread = threading.Thread(target=lambda: inside.append(_enter()))
        thread.start()
        thread.join()
        assert inside == [handler]


def _enter() -> object:
    with interrupted_once():
        return signal.getsignal(signal.SIGINT)
