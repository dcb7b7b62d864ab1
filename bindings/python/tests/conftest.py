"""The fixtures of all tests, and what holds for each: it ends, leaks no thread and logs nothing.

Does not know: what any test is about.
"""
import asyncio
import gc
import logging
import signal
import threading

import pytest
import uvloop

import support
import wsabi

#: A test that takes longer is broken, on any machine.
TEST_SECONDS = 100


@pytest.fixture(autouse=True)
def deadline():
    """Ends a test that hangs where Python's signal handlers still run."""
    def late(*_):
        raise TimeoutError(f"the test did not end within {TEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TEST_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class _Log(logging.Handler):
    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def take(self):
        """What was logged so far, which is looked at, and so is no fault."""
        taken, self.records = self.records, []
        return taken


@pytest.fixture(autouse=True)
def log():
    """What the logger `wsabi` got. A warning or worse that no test has taken is a fault."""
    logger = logging.getLogger("wsabi")
    handler = _Log()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    left = [record.getMessage() for record in handler.records if record.levelno >= logging.WARNING]
    assert not left, f"logged: {left}"


@pytest.fixture(autouse=True)
def by_hand():
    """Closes the sockets that a test has opened by hand."""
    yield
    while support.opened:
        support.opened.pop().close()


@pytest.fixture(autouse=True)
def threads():
    """Threads of a test end with it; wsabi's own, which resolve names, are not Python's."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
    for thread in left:
        thread.join(support.DEADLINE)
    assert not [thread for thread in left if thread.is_alive()]


@pytest.fixture
def loop():
    """A loop, closed when the test is over."""
    with wsabi.Loop() as loop:
        yield loop
    assert loop.closed


@pytest.fixture
def default():
    """The thread's default loop, for tests of what uses it."""
    loop = wsabi.default_loop()
    yield loop
    loop.close()


@pytest.fixture
def collected():
    """Collects garbage before and after, so that what a test leaves is found in it."""
    gc.collect()
    yield gc.collect
    gc.collect()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine function in a new event loop of each kind."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(main):
        loop = factory()
        try:
            return loop.run_until_complete(asyncio.wait_for(main(), support.DEADLINE))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            del loop
            gc.collect()
    return run
