"""What goes to the logger `wsabi`, at which level, and what does not."""
import logging
import threading

import pytest

import wsabi
from support import Notes, Pair, RawClient, drive, script, serve, settle, url


@pytest.fixture
def mine():
    """A logger of a test's own, and what it got."""
    logger = logging.Logger("mine", logging.DEBUG)
    records = []

    class Handler(logging.Handler):
        def emit(self, record):
            records.append(record)

    logger.addHandler(Handler())
    return logger, records


@pytest.fixture
def verbose(log):
    """The logger `wsabi` at its most talkative."""
    logger = logging.getLogger("wsabi")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    yield log
    logger.setLevel(before)


def texts(records, level=None):
    return [record.getMessage() for record in records if level in (None, record.levelno)]


def test_starts_are_told_at_info(mine):
    logger, records = mine
    with wsabi.Loop(logger=logger) as loop:
        server = serve(loop)
        (text,) = texts(records, logging.INFO)
        assert f"127.0.0.1:{server.port}" in text


def test_every_connections_fate_is_told_at_debug(mine):
    logger, records = mine
    with wsabi.Loop(logger=logger) as loop:
        pair = Pair(loop)
        pair.client.close(1000)
        pair.until_closed()
        assert len([t for t in texts(records, logging.DEBUG) if "closed, 1000" in t]) == 2
        raw = RawClient(loop, pair.server)
        raw.write(b"nonsense\r\n\r\n")
        raw.rest()
        settle(loop)
        assert "opening handshake failed" in texts(records, logging.DEBUG)[-1]
    assert not [record for record in records if record.levelno > logging.INFO]


@pytest.mark.parametrize("level, levels", [
    (logging.INFO, {logging.INFO}), (logging.WARNING, set()), (logging.CRITICAL + 1, set()),
    (logging.DEBUG, {logging.INFO, logging.DEBUG})])
def test_the_level_of_the_logger_decides(mine, level, levels):
    logger, records = mine
    logger.setLevel(level)
    with wsabi.Loop(logger=logger) as loop:
        pair = Pair(loop)
        pair.client.terminate()
        pair.until_closed()
    assert {record.levelno for record in records} == levels


def test_the_default_logger_is_wsabi(verbose):
    with wsabi.Loop() as loop:
        server = serve(loop)
        assert any(str(server.port) in text for text in texts(verbose.take(), logging.INFO))


def test_an_adapter_will_do(mine):
    logger, records = mine
    adapter = logging.LoggerAdapter(logger, {"who": "me"})
    with wsabi.Loop(logger=adapter) as loop:
        serve(loop)
    assert records[0].who == "me"


def test_percent_signs_are_text(mine):
    logger, records = mine
    with wsabi.Loop(logger=logger) as loop:
        server = serve(loop)
        raw = RawClient(loop, server)
        raw.write(b"GET %s%d%n HTTP/1.1\r\nHost: %s\r\n\r\n")
        raw.rest()
        settle(loop)
    assert [record.getMessage() for record in records]


def test_a_handler_that_calls_back_is_refused_and_harmless(mine):
    logger, records = mine
    caught = []

    class Calling(logging.Handler):
        def emit(self, record):
            for call in (lambda: serve(loop), loop.dispatch, lambda: pair and pair.client.send("x"),
                         loop.stats, loop.close):
                try:
                    call()
                except wsabi.WebSocketError as error:
                    caught.append(error.kind)

    logger.addHandler(Calling())
    pair = None
    with wsabi.Loop(logger=logger) as loop:
        first = len(caught)
        pair = Pair(loop)
        assert len(caught) > first and set(caught) <= {"REENTRANT", "CLOSED"}
        pair.client.close()
        pair.until_closed()
        assert not loop.closed or pair.at_client.closed


def test_a_handler_that_fails_does_not_touch_the_loop(mine, capsys):
    logger, records = mine

    class Failing(logging.Handler):
        def emit(self, record):
            raise LookupError("in the handler")

    logger.addHandler(Failing())
    with wsabi.Loop(logger=logger) as loop:
        with pytest.MonkeyPatch.context() as patch:
            seen = []
            patch.setattr("sys.unraisablehook", lambda unraisable: seen.append(unraisable.exc_type))
            pair = Pair(loop)
            pair.client.send("x")
            pair.drive(lambda: pair.at_server.messages)
            pair.client.close()
            pair.until_closed()
        assert set(seen) == {LookupError}


def test_exceptions_of_callbacks_go_to_the_default_logger_with_their_traceback(loop, log):
    def on_message(ws, data):
        raise ValueError("mine")

    pair = Pair(loop, {"on_message": on_message, "on_error": None})
    pair.client.send("x")
    pair.until_closed()
    (record,) = [record for record in log.take() if record.levelno == logging.ERROR]
    assert record.getMessage() == "exception in on_message"
    text = logging.Formatter().formatException(record.exc_info)
    assert "in on_message" in text and "ValueError: mine" in text


def test_a_client_that_cannot_connect_is_a_warning(loop, log):
    ws = wsabi.connect("ws://127.0.0.1:9/", loop=loop)
    drive(loop, lambda: ws.close_code)
    (record,) = log.take()[-1:]
    assert record.levelno == logging.WARNING
    assert "ws://127.0.0.1:9/" in record.getMessage() and "refused" in record.getMessage().lower()


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_a_client_that_gives_up_itself_is_not_warned_of(loop, log, how):
    ws = wsabi.connect("ws://192.0.2.1/", loop=loop)
    getattr(ws, how)()
    drive(loop, lambda: ws.close_code)
    assert [record for record in log.take() if record.levelno >= logging.WARNING] == []


def test_a_client_with_on_error_is_not_logged(loop, log):
    notes = Notes()
    wsabi.connect("ws://127.0.0.1:9/", loop=loop, **notes.callbacks())
    drive(loop, lambda: notes.closed)
    assert [record for record in log.take() if record.levelno >= logging.WARNING] == []


def test_logging_from_several_loops_in_threads(mine):
    logger, records = mine

    def there():
        with wsabi.Loop(logger=logger) as loop:
            server = serve(loop, on_close=lambda ws, code, reason: server.stop())
            wsabi.connect(url(server), loop=loop, on_open=lambda ws: ws.close())
            loop.run_forever()

    threads = [threading.Thread(target=there) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([text for text in texts(records) if "listening" in text]) == 4


def test_the_library_configures_no_logging():
    assert script("""
        import logging, wsabi
        logger = logging.getLogger("wsabi")
        wsabi.serve("127.0.0.1", 0)
        print(logger.handlers, logger.level, logger.propagate, logging.getLogger().handlers)
    """) == "[] 0 True []\n"
