"""Sending: what may be sent, as what it arrives, fragments, pings and pongs."""
import array
import ctypes
import mmap

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, drive, serve

TEXTS = ["", "a", "hello", "ä", "日本語", "😀", "a\0b", "mixed ä 日 😀", "\x7f\x80\u07ff\u0800\uffff\U00010000",
         "x" * 125, "x" * 126, "x" * 65535, "x" * 65536, "ä" * 40000, "日" * 70000]
BINARIES = [b"", b"a", b"\0\xff", bytes(range(256)), b"x" * 125, b"x" * 126, b"x" * 65536,
            b"\xff" * 200000]


def identify(value):
    return f"{type(value).__name__}-{len(value)}-{value[:1]!r}"


@pytest.mark.parametrize("text", TEXTS, ids=identify)
def test_text_arrives_as_text(loop, text):
    pair = Pair(loop)
    assert pair.client.send(text) is True
    assert pair.remote.send(text) is True
    pair.drive(lambda: pair.at_server.messages and pair.at_client.messages)
    assert pair.at_server.messages == pair.at_client.messages == [text]
    assert type(pair.at_server.messages[0]) is str


@pytest.mark.parametrize("data", BINARIES, ids=identify)
def test_bytes_arrive_as_bytes(loop, data):
    pair = Pair(loop)
    assert pair.client.send(data) is True
    assert pair.remote.send(data) is True
    pair.drive(lambda: pair.at_server.messages and pair.at_client.messages)
    assert pair.at_server.messages == pair.at_client.messages == [data]
    assert type(pair.at_server.messages[0]) is bytes


def memory():
    area = mmap.mmap(-1, 4096)
    area[:3] = b"abc"
    return memoryview(area)[:3]


@pytest.mark.parametrize("make", [
    lambda: bytearray(b"abc"), lambda: memoryview(b"abc"), lambda: memoryview(bytearray(b"xabcx"))[1:4],
    lambda: array.array("b", b"abc"), lambda: (ctypes.c_char * 3).from_buffer_copy(b"abc"), memory,
    lambda: type("Bytes", (bytes,), {})(b"abc")],
    ids=["bytearray", "memoryview", "slice", "array", "ctypes", "mmap", "subclass"])
@pytest.mark.parametrize("method", ["send", "send_binary"])
def test_bytes_like_objects_are_sent_as_binary(loop, make, method):
    pair = Pair(loop)
    getattr(pair.client, method)(make())
    pair.drive(lambda: pair.at_server.messages)
    assert pair.at_server.messages == [b"abc"]


def test_buffers_of_larger_items_are_sent_as_their_octets(loop):
    pair = Pair(loop)
    numbers = array.array("d", [1.5, -2.0, 3e300])
    pair.client.send(numbers)
    pair.client.send(memoryview(bytes(24)).cast("B", (4, 6)))
    pair.client.send(array.array("i"))
    pair.drive(lambda: len(pair.at_server.messages) == 3)
    assert pair.at_server.messages == [numbers.tobytes(), bytes(24), b""]


def test_a_subclass_of_str_is_text(loop):
    class Text(str):
        pass

    pair = Pair(loop)
    pair.client.send(Text("abc"))
    pair.drive(lambda: pair.at_server.messages)
    assert pair.at_server.messages == ["abc"]


def test_what_is_sent_is_copied(loop):
    pair = Pair(loop)
    data = bytearray(b"before")
    big = bytearray(1 << 20)
    pair.client.send(data)
    pair.client.send(big)
    data[:] = b"after!"
    data.append(1), big.clear()  # which a buffer that is still borrowed would forbid
    pair.drive(lambda: len(pair.at_server.messages) == 2)
    assert pair.at_server.messages == [b"before", bytes(1 << 20)]


@pytest.mark.parametrize("view", [
    memoryview(b"abcdef")[::2], memoryview(b"abcdef")[::-1],
    memoryview(bytes(24)).cast("B", (4, 6))[::2]], ids=["step", "reversed", "rows"])
@pytest.mark.parametrize("method", ["send", "send_binary", "send_text", "ping", "pong"])
def test_what_is_not_contiguous_is_refused(loop, view, method):
    pair = Pair(loop)
    with pytest.raises(BufferError, match="contiguous"):
        getattr(pair.client, method)(view)
    assert pair.client.buffered_amount == 0


@pytest.mark.parametrize("bad", [None, 1, 1.5, True, ["a"], ("a",), {"a": 1}, object(), range(3), str],
                         ids=lambda bad: type(bad).__name__)
@pytest.mark.parametrize("method", ["send", "send_text", "send_binary", "ping", "pong"])
def test_what_is_no_data_is_refused(loop, bad, method):
    pair = Pair(loop)
    with pytest.raises(TypeError, match=rf"data.*{type(bad).__name__}"):
        getattr(pair.client, method)(bad)
    with pytest.raises(TypeError):
        pair.client.send_fragment(bad, True)
    pair.client.send("fine")
    pair.drive(lambda: pair.at_server.messages == ["fine"])


def test_a_released_memoryview_is_refused(loop):
    pair = Pair(loop)
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(ValueError, match="released"):
        pair.client.send(view)


@pytest.mark.parametrize("method", ["send", "send_text", "ping", "pong"])
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc80"], ids=ascii)
def test_lone_surrogates_are_refused(loop, method, text):
    pair = Pair(loop)
    with pytest.raises(UnicodeEncodeError):
        getattr(pair.client, method)(text)
    with pytest.raises(UnicodeEncodeError):
        pair.client.send_fragment(text, True)
    with pytest.raises(UnicodeEncodeError):
        pair.client.close(1000, text)
    assert pair.client.state == wsabi.State.OPEN


def test_send_text_takes_utf8_octets(loop):
    pair = Pair(loop)
    pair.client.send_text("ä")
    pair.client.send_text("ä".encode())
    pair.client.send_text(bytearray(b"abc"))
    pair.drive(lambda: len(pair.at_server.messages) == 3)
    assert pair.at_server.messages == ["ä", "ä", "abc"]
    for bad in (b"\xff", "ä".encode()[:1], b"\xed\xa0\x80", b"\xc0\x80"):
        with pytest.raises(wsabi.InvalidArgument, match="UTF-8"):
            pair.client.send_text(bad)


def test_send_binary_refuses_text(loop):
    pair = Pair(loop)
    with pytest.raises(TypeError, match="str"):
        pair.client.send_binary("text")


@pytest.mark.parametrize("call", [
    lambda ws: ws.send(), lambda ws: ws.send("a", "b"), lambda ws: ws.send(text="a"),
    lambda ws: ws.send_fragment("a"), lambda ws: ws.send_fragment("a", 1),
    lambda ws: ws.send_fragment("a", True, True), lambda ws: ws.ping(b"a", b"b"),
    lambda ws: ws.close("1000"), lambda ws: ws.close(1000, b"x"), lambda ws: ws.close(1000, None),
    lambda ws: ws.close(1.5)])
def test_wrong_arguments_are_refused(loop, call):
    pair = Pair(loop)
    with pytest.raises(TypeError):
        call(pair.client)
    assert pair.client.state == wsabi.State.OPEN


def test_data_may_be_given_by_name(loop):
    pair = Pair(loop)
    pair.client.send(data="a")
    pair.client.send_fragment(data="b", fin=True, text=True)
    pair.drive(lambda: pair.at_server.messages == ["a", "b"])


# --- on the wire ---------------------------------------------------------------------------


def opened(loop, **options):
    kept = []
    server = serve(loop, on_open=kept.append, **options)
    raw = RawClient(loop, server)
    raw.open()
    drive(loop, lambda: kept, raw)
    return kept[0], raw


@pytest.mark.parametrize("size, head", [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10)])
def test_a_message_is_one_frame(loop, size, head):
    ws, raw = opened(loop)
    ws.send(b"x" * size)
    raw.drive(lambda: len(raw.incoming) >= size + head)
    assert len(raw.incoming) == size + head
    assert raw.frame() == frames.Frame(frames.BINARY, b"x" * size)


def test_fragments_are_frames(loop):
    ws, raw = opened(loop)
    for data, fin in (("a", False), ("", False), ("b", True)):
        assert ws.send_fragment(data, fin) is True
    assert [raw.frame() for _ in range(3)] == [
        frames.Frame(frames.TEXT, b"a", False), frames.Frame(frames.CONTINUATION, b"", False),
        frames.Frame(frames.CONTINUATION, b"b", True)]


@pytest.mark.parametrize("data, text, opcode", [
    ("a", None, frames.TEXT), (b"a", None, frames.BINARY), (b"a", True, frames.TEXT),
    (b"a", False, frames.BINARY), ("a", True, frames.TEXT), ("a", False, frames.BINARY)])
def test_the_type_of_a_fragment(loop, data, text, opcode):
    ws, raw = opened(loop)
    ws.send_fragment(data, True, text=text)
    assert raw.frame().opcode == opcode


def test_fragments_may_cut_a_character(loop):
    pair = Pair(loop)
    whole = "aä日😀".encode()
    for cut in range(1, len(whole)):
        pair.client.send_fragment(whole[:cut], False, text=True)
        pair.client.send_fragment(whole[cut:], True, text=True)
    pair.drive(lambda: len(pair.at_server.messages) == len(whole) - 1)
    assert set(pair.at_server.messages) == {"aä日😀"}
    with pytest.raises(wsabi.InvalidArgument, match="UTF-8"):
        pair.client.send_fragment(whole[:2], True, text=True)


def test_amid_a_fragmented_message(loop):
    pair = Pair(loop)
    pair.client.send_fragment("a", False)
    for call in (lambda: pair.client.send("x"), lambda: pair.client.send(b"x"),
                 lambda: pair.client.send_fragment(b"x", True)):
        with pytest.raises(wsabi.InvalidState, match="fragment"):
            call()
    assert pair.client.ping(b"between") and pair.client.pong(b"between")
    pair.client.send_fragment("b", True)
    pair.client.send("c")
    pair.drive(lambda: len(pair.at_server.messages) == 2)
    assert pair.at_server.messages == ["ab", "c"]
    assert pair.at_server.count("on_ping") == 1


def test_text_after_binary_fragments(loop):
    pair = Pair(loop)
    pair.client.send_fragment(b"\xff", False)
    pair.client.send_fragment(b"\xfe", True)
    pair.client.send_fragment("text", True)
    pair.drive(lambda: pair.at_server.messages == [b"\xff\xfe", "text"])


# --- pings and pongs -----------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 125, "text", "ä", bytearray(b"x"), memoryview(b"x")],
                         ids=repr)
def test_pings_are_answered(loop, data):
    pair = Pair(loop)
    assert pair.client.ping(data) is True
    octets = data.encode() if isinstance(data, str) else bytes(data)
    pair.drive(lambda: pair.at_client.count("on_pong"))
    assert pair.at_server.named("on_ping") == [("on_ping", octets)]
    assert pair.at_client.named("on_pong") == [("on_pong", octets)]


def test_pings_and_pongs_without_data(loop):
    pair = Pair(loop)
    pair.client.ping()
    pair.client.pong()
    pair.drive(lambda: pair.at_client.count("on_pong") and pair.at_server.count("on_pong"))
    assert pair.at_server.named("on_ping") == [("on_ping", b"")]
    assert pair.at_server.named("on_pong") == [("on_pong", b"")]


@pytest.mark.parametrize("method", ["ping", "pong"])
@pytest.mark.parametrize("data", [b"x" * 126, "ä" * 63], ids=len)
def test_control_frames_have_125_octets(loop, method, data):
    pair = Pair(loop)
    with pytest.raises(wsabi.InvalidArgument, match="126 bytes.*125"):
        getattr(pair.client, method)(data)


def test_an_unsolicited_pong_is_not_answered(loop):
    notes = Notes()
    kept = []
    server = serve(loop, **{**notes.callbacks(), "on_open": kept.append})
    raw = RawClient(loop, server)
    raw.open()
    raw.send(frames.PONG, b"unasked")
    raw.send(frames.PING, b"asked")
    assert raw.frame() == frames.Frame(frames.PONG, b"asked")
    assert notes == [("on_pong", b"unasked"), ("on_ping", b"asked")]


# --- much ------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"\xab" * (16 << 20), "z" * (16 << 20), "ä" * (8 << 20)],
                         ids=["bytes", "ascii", "text"])
def test_sixteen_mebibytes_both_ways(loop, data):
    pair = Pair(loop)
    pair.client.send(data)
    pair.remote.send(data)
    pair.drive(lambda: pair.at_server.messages and pair.at_client.messages)
    assert pair.at_server.messages[0] == data and pair.at_client.messages[0] == data
    assert pair.client.buffered_amount == pair.remote.buffered_amount == 0


def test_many_messages_keep_their_order(loop):
    pair = Pair(loop, {"on_message": lambda ws, data: ws.send(data)})
    for number in range(20000):
        pair.client.send(str(number) if number % 2 else number.to_bytes(4, "big"))
    pair.drive(lambda: len(pair.at_client.messages) == 20000)
    assert pair.at_client.messages == [
        str(n) if n % 2 else n.to_bytes(4, "big") for n in range(20000)]
