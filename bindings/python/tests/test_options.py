"""What options may be: their types, their values, and how wrong ones are refused."""
import re

import pytest

import wsabi
from support import RawServer, drive, url
from test_lists import CONNECT, SERVE

SIZES = {"max_message_bytes": 0, "max_fragments": 1, "max_handshake_bytes": 256,
         "max_handshake_headers": 1, "max_pending_handshakes": 1, "high_water_bytes": 0,
         "low_water_bytes": 0, "max_backlog_bytes": 1 << 20, "backlog": 1}
TIMES = ("handshake_timeout", "hold_timeout", "ping_interval", "ping_timeout", "idle_timeout",
         "close_timeout")
FLAGS = ("no_delay", "reuse_port")
CALLBACKS = tuple(name for name in SERVE if name.startswith("on_"))
NOBODY = "ws://127.0.0.1:9/"  # nobody comes to connect: the option is refused before


def users(option):
    """Who takes an option: `connect`, `serve`, or both."""
    return [who for who, options in (("connect", CONNECT), ("serve", SERVE)) if option in options]


def each(options):
    return [(who, option) for option in options for who in users(option)]


def start(loop, who, **options):
    if who == "connect":
        return wsabi.connect(NOBODY, loop=loop, **options)
    return wsabi.serve("127.0.0.1", 0, loop=loop, **options)


def refused(loop, who, error, *words, **options):
    """The text with which an option is refused; nothing may be left of the attempt."""
    with pytest.raises(error) as caught:
        start(loop, who, **options)
    for word in words:
        assert re.search(rf"(?<!\w){re.escape(str(word))}(?!\w)", str(caught.value)), \
            (word, str(caught.value))
    assert not loop.dispatch()
    loop.run_forever()  # which has nothing to run
    return str(caught.value)


# --- the types ---------------------------------------------------------------------------


@pytest.mark.parametrize("who, option", each(SIZES))
@pytest.mark.parametrize("bad", ["1", 1.5, b"1", [], object, None], ids=repr)
def test_a_size_is_an_int(loop, who, option, bad):
    refused(loop, who, TypeError, option, type(bad).__name__, **{option: bad})


@pytest.mark.parametrize("who, option", each(SIZES))
def test_a_size_is_no_bool(loop, who, option):
    refused(loop, who, TypeError, option, "bool", **{option: True})


@pytest.mark.parametrize("who, option", each(TIMES))
@pytest.mark.parametrize("bad", ["1", b"1", [], object(), 1j], ids=lambda bad: type(bad).__name__)
def test_a_time_is_a_number(loop, who, option, bad):
    refused(loop, who, TypeError, option, type(bad).__name__, **{option: bad})


@pytest.mark.parametrize("who, option", each(TIMES))
def test_a_time_is_no_bool(loop, who, option):
    refused(loop, who, TypeError, option, "bool", **{option: True})


@pytest.mark.parametrize("who, option", each(
    [option for option in TIMES if option not in ("ping_interval", "idle_timeout")]))
def test_a_time_that_cannot_be_off_refuses_none(loop, who, option):
    refused(loop, who, TypeError, option, "NoneType", **{option: None})


@pytest.mark.parametrize("who, option", each(FLAGS))
@pytest.mark.parametrize("bad", [1, "yes", None], ids=repr)
def test_a_flag_is_a_bool(loop, who, option, bad):
    refused(loop, who, TypeError, option, type(bad).__name__, **{option: bad})


@pytest.mark.parametrize("who, option", each(CALLBACKS))
@pytest.mark.parametrize("bad", [1, "print", [print]], ids=repr)
def test_a_callback_is_callable(loop, who, option, bad):
    refused(loop, who, TypeError, option, type(bad).__name__, **{option: bad})


@pytest.mark.parametrize("who, option", each(CALLBACKS))
def test_a_coroutine_function_is_no_callback(loop, who, option):
    async def callback(*arguments):
        pass

    refused(loop, who, TypeError, option, "coroutine", **{option: callback})


@pytest.mark.parametrize("who, option", each(CALLBACKS))
def test_none_is_no_callback(loop, who, option):
    start(loop, who, **{option: None}, **({"on_error": print} if who == "connect" else {})
          if option != "on_error" else {})


@pytest.mark.parametrize("who, option, bad", [
    ("connect", "origin", 1), ("connect", "origin", b"http://a"), ("connect", "unix_path", 1),
    ("serve", "unix_path", 1.5), ("connect", "subprotocols", 5), ("serve", "subprotocols", 5),
    ("connect", "subprotocols", "chat"), ("serve", "subprotocols", "chat"),
    ("serve", "subprotocols", b"chat"), ("serve", "origins", 5), ("serve", "origins", b"any"),
    ("serve", "origins", None), ("connect", "headers", 5), ("connect", "headers", "A: b"),
    ("connect", "factory", 5), ("serve", "factory", None)])
def test_other_options_have_types_too(loop, who, option, bad):
    options = {option: bad}
    with pytest.raises(TypeError) as caught:
        if option == "unix_path" and who == "serve":
            wsabi.serve(loop=loop, **options)
        else:
            start(loop, who, **options)
    assert re.search(rf"\b{option}\b", str(caught.value))
    assert type(bad).__name__ in str(caught.value)


@pytest.mark.parametrize("who", ["connect", "serve"])
@pytest.mark.parametrize("bad", [[1], ["chat", None], [b"chat"]], ids=repr)
def test_subprotocols_are_text(loop, who, bad):
    refused(loop, who, TypeError, "subprotocols", type(bad[-1]).__name__, subprotocols=bad)


@pytest.mark.parametrize("bad", [[1], [b"http://a"], [None]], ids=repr)
def test_origins_are_text(loop, bad):
    refused(loop, "serve", TypeError, "origins", type(bad[0]).__name__, origins=bad)


@pytest.mark.parametrize("bad", [[("a",)], ["ab"], [("a", 1)], [(1, "a")], {"a": 1}, [("a", b"b")]],
                         ids=repr)
def test_headers_are_pairs_of_text(loop, bad):
    refused(loop, "connect", TypeError, "headers", headers=bad)


@pytest.mark.parametrize("bad", [1, None, b"ws://a/", ["ws://a/"]], ids=repr)
def test_a_url_is_text(loop, bad):
    with pytest.raises(TypeError, match=rf"url.*{type(bad).__name__}"):
        wsabi.connect(bad, loop=loop)


@pytest.mark.parametrize("host, port, name, given", [
    (5, 0, "host", "int"), (b"127.0.0.1", 0, "host", "bytes"), ("127.0.0.1", "0", "port", "str"),
    ("127.0.0.1", None, "port", "NoneType"), ("127.0.0.1", 1.5, "port", "float"),
    ("127.0.0.1", True, "port", "bool")])
def test_host_and_port_have_types(loop, host, port, name, given):
    with pytest.raises(TypeError, match=rf"{name}.*{given}"):
        wsabi.serve(host, port, loop=loop)


@pytest.mark.parametrize("who", ["connect", "serve"])
def test_a_loop_is_one_of_two_kinds(who):
    with pytest.raises(TypeError, match=r"loop must be a wsabi.Loop, an asyncio loop or None, not int"):
        start(5, who)


def test_a_server_is_one_of_wsabi(loop):
    for bad in (5, wsabi.Server, object()):
        with pytest.raises(TypeError, match="server must be an instance of wsabi.Server"):
            wsabi.serve("127.0.0.1", 0, loop=loop, server=bad)


@pytest.mark.parametrize("who", ["connect", "serve"])
def test_an_option_that_does_not_exist_is_named(loop, who):
    with pytest.raises(TypeError, match="max_mesage_bytes"):
        start(loop, who, max_mesage_bytes=1)


def test_options_are_keywords(loop):
    with pytest.raises(TypeError, match="positional"):
        wsabi.connect(NOBODY, loop)
    with pytest.raises(TypeError, match="positional"):
        wsabi.serve("127.0.0.1", 0, loop)


# --- the values --------------------------------------------------------------------------


@pytest.mark.parametrize("who, option", each(SIZES))
def test_a_size_is_not_negative(loop, who, option):
    refused(loop, who, wsabi.InvalidArgument, option, -1, **{option: -1})


@pytest.mark.parametrize("who, option", each(SIZES))
def test_a_size_fits_the_core(loop, who, option):
    refused(loop, who, wsabi.InvalidArgument, option, 1 << 64, **{option: 1 << 64})


@pytest.mark.parametrize("who, option", each(
    ["max_fragments", "max_handshake_bytes", "max_handshake_headers", "max_pending_handshakes",
     "backlog"]))
def test_a_count_fits_the_core(loop, who, option):
    refused(loop, who, wsabi.InvalidArgument, option, 1 << 32, **{option: 1 << 32})


@pytest.mark.parametrize("who, option", each(
    [option for option, least in SIZES.items() if least and option != "backlog"]))
def test_a_size_below_the_least_is_refused(loop, who, option):
    bad = SIZES[option] - 1
    refused(loop, who, wsabi.InvalidArgument, option, bad, **{option: bad})


@pytest.mark.parametrize("who, option", each(SIZES))
def test_the_least_size_is_allowed(loop, who, option):
    options = {option: SIZES[option]}
    if who == "connect":
        options["on_error"] = lambda ws, error: None
    start(loop, who, **options)


@pytest.mark.parametrize("who, option", each(TIMES))
@pytest.mark.parametrize("bad", [0, -1, -0.001, float("nan"), float("inf"), 1e30], ids=repr)
def test_a_time_is_some_time(loop, who, option, bad):
    refused(loop, who, wsabi.InvalidArgument, option, **{option: bad})


@pytest.mark.parametrize("who, option", each(TIMES))
def test_a_refused_time_is_shown(loop, who, option):
    text = refused(loop, who, wsabi.InvalidArgument, option, **{option: -2.5})
    assert "-2.5" in text and "expected" in text


@pytest.mark.parametrize("who, option", each(TIMES))
@pytest.mark.parametrize("good", [1, 0.5, 3600.0, 86400 * 365], ids=repr)
def test_a_time_is_an_int_or_a_float(loop, who, option, good):
    options = {option: good}
    if who == "connect":
        options["on_error"] = lambda ws, error: None
    start(loop, who, **options)


@pytest.mark.parametrize("who", ["connect", "serve"])
@pytest.mark.parametrize("option, other, limit", [
    ("low_water_bytes", "high_water_bytes", 1 << 20), ("low_water_bytes", "high_water_bytes", 7),
    ("high_water_bytes", "max_backlog_bytes", 1 << 21)])
def test_waters_are_in_order(loop, who, option, other, limit):
    lower = {"low_water_bytes": 0} if option == "high_water_bytes" else {}
    start(loop, who, **{option: limit, other: limit}, **lower, on_error=lambda ws, error: None)
    refused_in(loop, who, {option: limit + 1, other: limit}, option, other, limit + 1, limit)


def refused_in(loop, who, options, *words):
    with pytest.raises(wsabi.InvalidArgument) as caught:
        start(loop, who, **options)
    for word in words:
        assert str(word) in str(caught.value)


@pytest.mark.parametrize("who", ["connect", "serve"])
@pytest.mark.parametrize("high", [0, 1, 1 << 10, 1 << 30])
def test_a_high_water_alone_takes_the_others_along(loop, who, high):
    start(loop, who, high_water_bytes=high, on_error=lambda ws, error: None)


@pytest.mark.parametrize("who", ["connect", "serve"])
@pytest.mark.parametrize("bad", ["a b", "", "a,b", "a\r\nb", "ä", "a\0"], ids=repr)
def test_a_subprotocol_is_a_token(loop, who, bad):
    refused(loop, who, wsabi.InvalidArgument, "subprotocol", subprotocols=["fine", bad])


@pytest.mark.parametrize("who", ["connect", "serve"])
def test_a_subprotocol_is_given_once(loop, who):
    assert "twice" in refused(loop, who, wsabi.InvalidArgument, "chat", subprotocols=["chat", "chat"])


@pytest.mark.parametrize("bad", ["example.com", "https://", "https://a/path", "some", ""], ids=repr)
def test_an_origin_of_the_list_has_its_form(loop, bad):
    refused(loop, "serve", wsabi.InvalidArgument, "origin", origins=[bad])


@pytest.mark.parametrize("bad", ["same_host", "ANY", "https://example.com", ""], ids=repr)
def test_origins_as_text_is_one_of_two_words(loop, bad):
    text = refused(loop, "serve", wsabi.InvalidArgument, "origins", origins=bad)
    assert "same-host" in text and "any" in text and repr(bad).strip("'") in text


@pytest.mark.parametrize("bad", ["http://a\r\nX: y", "http://a\0", " http://a", "\x7f"], ids=repr)
def test_the_origin_of_a_client_is_a_field_value(loop, bad):
    refused(loop, "connect", wsabi.InvalidArgument, "origin", origin=bad)


@pytest.mark.parametrize("name, value", [
    ("a b", "c"), ("", "c"), ("X", "a\r\nb"), ("X", "a\0"), ("X\r\n", "a"), ("X:", "a"), ("X", " a")],
    ids=repr)
def test_headers_have_their_grammar(loop, name, value):
    refused(loop, "connect", wsabi.InvalidArgument, "header", headers=[(name, value)])


@pytest.mark.parametrize("name", ["Host", "UPGRADE", "connection", "Sec-WebSocket-Key",
                                  "sec-websocket-protocol", "Content-Length"])
def test_headers_of_wsabi_cannot_be_given(loop, name):
    refused(loop, "connect", wsabi.InvalidArgument, name, headers={name: "x"})


@pytest.mark.parametrize("port", [-1, 65536, 1 << 70])
def test_a_port_has_sixteen_bits(loop, port):
    with pytest.raises(wsabi.InvalidArgument) as caught:
        wsabi.serve("127.0.0.1", port, loop=loop)
    assert "port" in str(caught.value) and "65535" in str(caught.value)


@pytest.mark.parametrize("host", ["", "a b", "127.0.0.1\0", "[::1", "[127.0.0.1]"], ids=repr)
def test_a_host_has_its_form(loop, host):
    with pytest.raises((wsabi.InvalidArgument, wsabi.TransportError), match="host"):
        wsabi.serve(host, 0, loop=loop)


def test_a_unix_path_excludes_host_and_port(loop, tmp_path):
    for host, port, name in (("127.0.0.1", 0, "host"), (None, 80, "port")):
        with pytest.raises(wsabi.InvalidArgument, match="unix_path") as caught:
            wsabi.serve(host, port, loop=loop, unix_path=tmp_path / "s")
        assert name in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_a_unix_path_has_its_length(loop, tmp_path):
    with pytest.raises((wsabi.InvalidArgument, wsabi.TransportError), match="unix|path"):
        wsabi.serve(loop=loop, unix_path=tmp_path / ("x" * 200))


@pytest.mark.parametrize("bad, word", [
    ("ftp://a/", "ftp"), ("ws:/a", "ws"), ("a", "a"), ("ws://a b/", "a b"), ("ws://a/#x", "#"),
    ("ws://", "host"), ("ws://a/\r\n", "percent-encoded"), ("", "URL"), ("ws://u:p@a/", "a"),
    ("ws://a:70000/", "70000"), ("/path", "/path")], ids=repr)
def test_a_url_has_its_form(loop, bad, word):
    with pytest.raises(wsabi.InvalidArgument, match="(?i)url") as caught:
        wsabi.connect(bad, loop=loop)
    assert "expected" in str(caught.value) or word in str(caught.value)


def test_wss_is_unsupported(loop):
    with pytest.raises(wsabi.Unsupported, match="wss.*TLS"):
        wsabi.connect("wss://127.0.0.1/", loop=loop)


# --- what is copied, what is kept --------------------------------------------------------


def test_lists_are_copied(loop):
    subprotocols, headers = ["a"], {"X-A": "1"}
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, subprotocols=subprotocols, headers=headers)
        subprotocols.append("b"), headers.update({"X-B": "2"})
        with peer.accept() as raw:
            assert raw.request.get("Sec-WebSocket-Protocol") == "a"
            assert raw.request.get("X-B") is None
            ws.on_error = lambda ws, error: None
            ws.terminate()
            drive(loop, lambda: ws.state == wsabi.State.CLOSED)


def test_iterables_are_taken(loop):
    server = wsabi.serve("127.0.0.1", 0, loop=loop, subprotocols=(p for p in ["a"]),
                         origins=(o for o in ["https://a.example"]))
    opened = []
    wsabi.connect(url(server), loop=loop, subprotocols=("b", "a"), origin="https://a.example",
                  headers=iter([("X-A", "1")]), on_open=opened.append)
    drive(loop, lambda: opened)
    assert opened[0].subprotocol == "a"
