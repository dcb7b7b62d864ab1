#!/usr/bin/env python3
"""Tries what examples/chat.md says: the rules at each chat server, then each chat client, alone and
in the room of every server.

    check_chat.py             every language there is
    check_chat.py python c    servers and clients of some of them

One line for each check, and a closing line `N passed, N failed, N skipped`.
"""
import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import resource
import signal
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import checkout
from chat import LANGUAGES, SECONDS, Member
from check_examples import Checks, call, closed_port, expect, explains_itself
from checkout import ROOT, TARGET, Program
from websocket import BINARY, CLOSE, TEXT, Client, frame

LOGS = TARGET / "examples" / "chat"
PAGE = ROOT / "examples" / "browser" / "index.html"
SERVERS = ("c", "python")
COUNT = itertools.count()  # No two programs write the same log.
LONGEST = "\N{GRINNING FACE}" * 1000  # The longest text, in the most bytes.


class ChecksOfThreads(Checks):
    """Checks made at the same time; for most of it they wait."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __call__(self, name, check, *arguments):
        error = None
        try:
            check(*arguments)
        except Exception as e:
            error = AssertionError(f"{type(e).__name__}: {e}" if str(e) else type(e).__name__)
        with self.lock:
            super().__call__(name, again, error)


def again(error):
    if error:
        raise error


class Refused(Exception):
    """The handshake was answered with this status."""


class Peer(Client):
    """A member made of frames and nothing else."""

    def __init__(self, url, options=()):
        parts = urlsplit(url)
        self.socket = socket.socket()
        self._buffer = b""
        for option in options:
            self.socket.setsockopt(*option)
        self.socket.settimeout(SECONDS)
        self.socket.connect((parts.hostname, parts.port))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}"
            "\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        status = int(head.split()[1])
        if status != 101:
            self.socket.close()
            raise Refused(status)

    def put(self, kind, **fields):
        self.send_text(json.dumps({"type": kind, **fields}, ensure_ascii=False))

    def send_text(self, text):
        self.send(TEXT, text.encode())

    def get(self):
        """The next event."""
        opcode, payload = self.receive()
        if opcode == CLOSE:
            raise ConnectionError(f"closed with {self.reason_of(payload)}")
        expect(opcode == TEXT, f"a frame with opcode {opcode}")
        event = json.loads(payload.decode())
        expect(isinstance(event, dict) and isinstance(event.get("type"), str), f"not {event!r}")
        return event

    def until(self, kind, **fields):
        """The events up to the first of that kind with these fields."""
        events = []
        while not events or events[-1]["type"] != kind or any(
                events[-1].get(name) != value for name, value in fields.items()):
            events.append(self.get())
        return events

    def error(self):
        """The next event is an error that says something."""
        event = self.get()
        expect(event["type"] == "error" and event["text"], f"no error but {event}")

    def join(self, name, **fields):
        """Joins; the welcome."""
        self.put("join", name=name, **{"from": "test", **fields})
        event = self.get()
        expect(event["type"] == "welcome", f"{name!r} is not welcome: {event}")
        return event

    def say(self, text):
        self.put("say", text=text)

    @staticmethod
    def reason_of(payload):
        return (struct.unpack("!H", payload[:2])[0] if payload else 1005, payload[2:].decode())

    def closed(self):
        """Code and reason of the server's Close, which is answered."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                with contextlib.suppress(OSError):
                    self.send(CLOSE, payload[:2])
                return self.reason_of(payload)

    def abort(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextlib.contextmanager
def member(url, name, **fields):
    with Peer(url) as peer:
        peer.welcome = peer.join(name, **fields)
        yield peer


def server(language, *arguments, port=0):
    return Program(checkout.example(language, "chat-server", port, *arguments),
                   LOGS / f"{language}-server-{next(COUNT)}.log")


def refusal(url):
    try:
        Peer(url).socket.close()
    except Refused as error:
        return error.args[0]
    return 101


# --- a server: joining -----------------------------------------------------------------


def is_at_one_path(url):
    base = url.removesuffix("/chat")
    for path, wanted in [("/", 404), ("/other", 404), ("/chat/x", 404), ("/chat", 101),
                         ("/chat?from=here", 101)]:
        expect(refusal(base + path) == wanted, f"{path} is answered with {refusal(base + path)}")


def serves_the_page(url):
    parts = urlsplit(url)
    for method, path, wanted in [("GET", "/", 200), ("HEAD", "/", 200), ("POST", "/", 405),
                                 ("GET", "/health", 200), ("GET", "/other", 404),
                                 ("GET", "/../Cargo.toml", 404), ("GET", "/chat", 426)]:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read()
        expect(response.status == wanted, f"{method} {path}: status {response.status}")
        if path == "/" and wanted == 200 and PAGE.is_file():
            expect(response.headers["Content-Type"] == "text/html; charset=utf-8",
                   f"{response.headers['Content-Type']}")
            expect(int(response.headers["Content-Length"]) == PAGE.stat().st_size, "its length")
            expect(body == (b"" if method == "HEAD" else PAGE.read_bytes()), "not the page")
        if path == "/health":
            expect(body.strip() == b"ok", f"/health is {body!r}")
        connection.close()


def welcomes(url):
    before = int(time.time() * 1000)
    with member(url, "Welma") as one, member(url, "Welda", **{"from": "x" * 16}) as two:
        expect(two.welcome["name"] == "Welda", f"{two.welcome}")
        expect(two.welcome["members"][-2:] == [{"name": "Welma", "from": "test"},
                                               {"name": "Welda", "from": "x" * 16}],
               f"members {two.welcome['members']}")
        last = two.welcome["history"][-1]
        expect((last["type"], last["name"], last["from"]) == ("joined", "Welma", "test"),
               f"the last of the history is {last}")
        event = one.until("joined", name="Welda")[-1]
        expect(event["from"] == "x" * 16, f"{event}")
        expect(before - 1000 <= event["time"] <= time.time() * 1000 + 1000, f"time {event['time']}")
        two.say("hi")
        # The new one is not told of itself.
        for peer in one, two:
            events = peer.until("said", name="Welda", text="hi")
            expect(not any(e["type"] == "joined" and e["name"] == "Welda" for e in events),
                   f"{events}")
            expect(set(events[-1]) == {"type", "name", "from", "text", "time"}, f"{events[-1]}")


def takes_and_refuses_names(url):
    for name in ["a", "x" * 20, "Ünïcödé", "名前" * 10, "Жанна", "a-b_c.d", "42", "𝒜𐐀", "अनीता"]:
        with member(url, name) as peer:
            expect(peer.welcome["name"] == name, f"{name!r} became {peer.welcome['name']!r}")
    with Peer(url) as peer:
        for name in ["", "x" * 21, "名前" * 10 + "x", "a b", "<b>", "a/b", "a\0", "a\n", "\u202eabc",
                     "a\u200b", "@", "😀", 5, None, ["ann"], {"name": "ann"}]:
            peer.put("join", name=name)
            event = peer.get()
            expect(event["type"] == "error" and event["text"], f"{name!r} is answered by {event}")
        peer.put("join")
        peer.error()
        peer.join("Tried")  # Another one, on the same connection.


def knows_from(url):
    with Peer(url) as peer:
        for speaks_from in ["x" * 17, 5, ["c"]]:
            peer.put("join", name="Frida", **{"from": speaks_from})
            peer.error()
        peer.put("join", name="Frida")
        me = peer.get()["members"][-1]
        expect(me["name"] == "Frida" and me.get("from", "") == "", f"without a from: {me}")


def has_each_name_once(url):
    with member(url, "Taken"), member(url, "Жора"), Peer(url) as other:
        for name in ["Taken", "taken", "TAKEN", "жОРА"]:
            other.put("join", name=name)
            other.error()
        other.join("Untaken")
        other.put("join", name="Twice")
        other.error()


def frees_the_name_of_who_left(url):
    with member(url, "Stays") as stays:
        for leave in (lambda peer: peer.close(), lambda peer: peer.abort()):
            peer = Peer(url)
            peer.join("Goes")
            leave(peer)
            peer.socket.close()
            stays.until("left", name="Goes")
        with member(url, "goes"):
            pass


def wants_a_name_in_time(idle):
    for peer in idle:
        expect(peer.closed() == (1008, "join first"), "not closed with 1008 join first")


# --- a server: saying --------------------------------------------------------------------


def tells_what_is_said(url):
    with member(url, "Teller", **{"from": "c"}) as one, member(url, "Hearer") as two:
        texts = ["x", LONGEST, "größer ∮ 漢字 ع", "\0\x01\x1b[31m\n\r\t\"\\/", "</script>", " "]
        for text in texts:
            one.say(text)
            for peer in one, two:
                event = peer.until("said")[-1]
                expect((event["name"], event["from"]) == ("Teller", "c"), f"{event}")
                expect(event["text"] == text, f"{text[:20]!r} became {event['text'][:20]!r}")
        one.send_text(' \t\r\n{ "x" : [ -1.5e3, true, null, {"type": "join"} ] , '
                      '"t\\u0079pe": "s\\u0061y", "text": "\\ud83d\\ude00\\/\\n" } ')
        expect(two.until("said")[-1]["text"] == "\N{GRINNING FACE}/\n", "escapes are not read")


def refuses_texts(url):
    with member(url, "Wordy") as peer, Peer(url) as stranger:
        for text in ["", LONGEST[:-1] + "xx", "x" * 1001, 5, None, ["x"]]:
            peer.say(text)
            peer.error()
        peer.put("say")
        peer.error()
        stranger.say("who am I?")
        stranger.error()
        peer.say("the end")
        events = peer.until("said")
        expect(events[-1]["text"] == "the end", f"{events}")


def ignores_what_it_does_not_know(url):
    with member(url, "Dancer") as peer:
        peer.put("dance", steps=[1, 2, 3])
        peer.send_text('{"type":"say2","text":"x","type2":"say"}')
        peer.say("that was it")
        event = peer.get()
        expect(event.get("text") == "that was it", f"it answered {event}")


def takes_fragments(url):
    with member(url, "Parter") as peer:
        text = '{"type": "say", "text": "in täils"}'.encode()
        at = text.index("ä".encode()) + 1  # Within the character.
        peer.socket.sendall(bytes([frame(TEXT, text[:at])[0] & 0x7F]) + frame(TEXT, text[:at])[1:]
                            + frame(9, b"ping") + frame(0, text[at:]))
        expect(peer.until("said")[-1]["text"] == "in täils", "not what was said")


def keeps_fifty(url):
    with member(url, "Hist1") as one, member(url, "Hist2") as two:
        wanted = []
        for number in range(25):
            for peer, name in (one, "Hist1"), (two, "Hist2"):
                peer.say(f"{number} of {name}")
                wanted.append(peer.until("said", name=name)[-1])
        with member(url, "Hist3") as three:
            expect(three.welcome["history"] == wanted, f"the history is {three.welcome['history']}")
        one.until("left", name="Hist3")
        with member(url, "Hist4") as four:
            history = four.welcome["history"]
            expect(len(history) == 50 and history[:-2] == wanted[2:], f"{len(history)} in history")
            expect([(e["type"], e["name"]) for e in history[-2:]]
                   == [("joined", "Hist3"), ("left", "Hist3")], f"it ends with {history[-2:]}")


def slows_down_who_says_much(url):
    with member(url, "Fast") as fast, member(url, "Calm") as calm:
        fast.socket.sendall(b"".join(
            frame(TEXT, json.dumps({"type": "say", "text": f"{n}"}).encode()) for n in range(45)))
        fast.until("joined", name="Calm")
        kinds = [fast.get()["type"] for _ in range(45)]
        told = kinds.count("said")
        expect(30 <= told <= 35 and told + kinds.count("error") == 45, f"{told} were told")
        calm.say("and I?")
        expect(len(calm.until("said", name="Calm")) == told + 1, "the others heard something else")
        fast.until("said", name="Calm")
        end = time.monotonic() + SECONDS
        while True:  # Until it may again.
            fast.say("again")
            if fast.get()["type"] == "said":
                break
            expect(time.monotonic() < end, "it may not say anything any more")
            time.sleep(0.1)


# --- a server: hostile members -------------------------------------------------------------


def refuses_what_is_no_object(url):
    deep = "[" * 4000
    with member(url, "Judge") as judge:
        for text in ["hello", "[]", "1", "null", '"join"', "", "{", '{"type":"say"', "{}x", "{'a':1}",
                     '{"type":NaN}', '{"a":1,}', '{"a":01}', '{"a":"\t"}', '{"a":"\\x"}', "{a:1}",
                     '{"a" 1}', deep, '{"a":' * 700, "\ufeff{}"]:
            with member(url, "Culprit") as culprit:
                culprit.send_text(text)
                code, reason = culprit.closed()
                expect(code == 1003, f"{text[:20]!r} is closed with {code} {reason}")
            judge.until("left", name="Culprit")
        with member(url, "Culprit") as culprit:
            culprit.send(BINARY, b'{"type":"say","text":"x"}')
            expect(culprit.closed()[0] == 1003, "a binary message is not closed with 1003")
        judge.until("left", name="Culprit")
        with Peer(url) as stranger:
            stranger.send(BINARY, b"")
            expect(stranger.closed()[0] == 1003, "before joining it is not closed with 1003")
        with member(url, "Culprit") as culprit:
            culprit.send(TEXT, b'{"type":"say","text":"\xff"}')
            expect(culprit.closed()[0] == 1007, "text that is not UTF-8 is not closed with 1007")
        judge.until("left", name="Culprit")
        judge.say("next")
        expect("said" not in [e["type"] for e in judge.until("said")[:-1]], "something was told")


def tells_no_half_characters(url):
    """What half a surrogate pair is answered with is the server's choice; nobody gets to see one."""
    for half in ["\\ud800", "\\udc00x", "\\ud800\\u0041", "\\ude00\\ud83d"]:
        with member(url, "Whole") as whole, member(url, "Half") as half_one:
            half_one.send_text('{"type":"say","text":"%s"}' % half)
            half_one.put("say", text="after that")
            with contextlib.suppress(ConnectionError):
                half_one.until("said", text="after that")
            whole.say("next")
            for event in whole.until("said", text="next"):
                json.dumps(event, ensure_ascii=False).encode()


def has_a_limit_of_bytes(url):
    message = '{"type":"say","text":"big","pad":"%s"}'
    pad = 4096 - len(message % "")
    with member(url, "Big") as peer:
        peer.send_text(message % ("x" * pad))
        expect(peer.until("said")[-1]["text"] == "big", "4,096 bytes were not told")
        peer.send_text(message % ("x" * (pad + 1)))
        expect(peer.closed()[0] == 1009, "4,097 bytes are not closed with 1009")
    with member(url, "Big2") as peer:
        first = frame(TEXT, b"{" + b" " * 4000)
        peer.socket.sendall(bytes([first[0] & 0x7F]) + first[1:] + frame(0, b" " * 96))
        expect(peer.closed()[0] == 1009, "4,097 bytes in two frames are not closed with 1009")


# Small segments and a small window: the kernels hold little between the server and this one.
NARROW = [(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536), (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]


def talk(speakers, count):
    """They say as much as they can, in turn, and read what is said; what they were told."""
    events = []
    for number in range(count):
        speakers[number % len(speakers)].say(LONGEST)
        events += [speaker.until("said", text=LONGEST) for speaker in speakers][0]
    return events


def drops_who_does_not_keep_up(url):
    """By others' talk: 600 KiB, of which the kernels hold some."""
    with contextlib.ExitStack() as stack:
        speakers = [stack.enter_context(member(url, f"Speaker{n}")) for n in range(6)]
        slow = stack.enter_context(Peer(url, NARROW))
        slow.join("Slow")
        events = talk(speakers, 150)
        expect(any(e["type"] == "left" and e["name"] == "Slow" for e in events),
               "600 KB wait for it, and it has not left")
        code, reason = slow.closed()
        expect((code, reason) == (1013, "too slow"), f"it was closed with {code} {reason}")


def drops_who_does_not_read_its_errors(url):
    with member(url, "Asker") as asker, member(url, "Watch") as watch:
        question = frame(TEXT, b'{"type":"say"}') * 1000
        asker.socket.settimeout(0.5)
        with contextlib.suppress(OSError):
            for _ in range(400):
                asker.socket.sendall(question)
        watch.until("left", name="Asker")
        asker.socket.settimeout(SECONDS)
        expect(asker.closed() == (1013, "too slow"), "not closed with 1013 too slow")


def bears_who_is_a_little_behind(url):
    with member(url, "Ahead") as ahead, Peer(url, NARROW) as behind:
        behind.join("Behind")
        talk([ahead], 28)
        for _ in range(28):
            expect(behind.until("said")[-1]["text"] == LONGEST, "not what was said")


def holds_a_thousand(language):
    with server(language) as program, contextlib.ExitStack() as stack:
        url = program.url() + "/chat"
        peers = [stack.enter_context(Peer(url)) for _ in range(1000)]
        for number, peer in enumerate(peers):
            peer.put("join", name=f"m{number}")
        sizes = []
        for number, peer in enumerate(peers):
            welcome = peer.get()
            expect(welcome["type"] == "welcome", f"member {number} is answered by {welcome}")
            expect(welcome["name"] == f"m{number}", f"{welcome['name']}")
            sizes.append(len(welcome["members"]))
        expect(sorted(sizes) == list(range(1, 1001)), "the lists of members do not grow by one")
        expect(refusal(url) == 503, f"the 1,001st is answered with {refusal(url)}")
        last = peers.pop()
        last.send(CLOSE, struct.pack("!H", 1000))
        peers[0].until("left", name="m999")
        end = time.monotonic() + SECONDS
        while refusal(url) != 101:  # Until the transport is gone, too.
            expect(time.monotonic() < end, "there is no room after one has left")
            time.sleep(0.05)
        peers[1].say("to all")
        for peer in peers[::100]:
            peer.until("said", text="to all")
        program.terminate()
        expect(peers[2].closed()[0] == 1001, "not closed with 1001")
        stack.close()
        status = program.wait(SECONDS)
        expect(status == 0, f"status {status}{program.tail()}")


def stops_well(language, number, has_slow_member):
    with server(language) as program:
        url = program.url() + "/chat"
        with member(url, "Ann") as ann, Peer(url) as stranger, Peer(url, NARROW) as slow:
            if has_slow_member:
                slow.join("Slow")
            else:
                slow.abort()
            talk([ann], 20)
            program.process.send_signal(number)
            for peer in ann, stranger:
                expect(peer.closed()[0] == 1001, "not closed with 1001")
                peer.socket.close()
            status = program.wait(SECONDS)  # Also when one does not read.
            expect(status == 0, f"status {status}{program.tail()}")


def says_what_it_cannot_do(language):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        status, out, err = call(language, "chat-server", port)
        expect(status not in (0, 2, 101) and not out, f"status {status}, {out!r}")
        expect(port in err and "Traceback" not in err, f"the error does not name the port: {err!r}")
    with server(language, "--page", "no-such-file.html", "--host", "127.0.0.1") as program:
        parts = urlsplit(program.url())
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=SECONDS)
        connection.request("GET", "/")
        response = connection.getresponse()
        expect(response.status == 404 and b"--page" in response.read(), "a missing page")
        connection.close()


def check_server(check, language):
    what = f"{language} chat-server"
    with server(language) as program:
        url = program.url(120) + "/chat"
        idle = [Peer(url), Peer(url)]
        idle[1].put("join", name="<not a name>")
        for words, function in [
            ("is at one path", is_at_one_path),
            ("serves the page", serves_the_page),
            ("welcomes", welcomes),
            ("names", takes_and_refuses_names),
            ("from", knows_from),
            ("names that are taken", has_each_name_once),
            ("who leaves", frees_the_name_of_who_left),
            ("tells what is said", tells_what_is_said),
            ("texts it refuses", refuses_texts),
            ("what it does not know", ignores_what_it_does_not_know),
            ("fragments", takes_fragments),
            ("history of 50", keeps_fifty),
            ("no more than 10 a second", slows_down_who_says_much),
            ("what is no JSON object", refuses_what_is_no_object),
            ("half characters", tells_no_half_characters),
            ("4,096 bytes", has_a_limit_of_bytes),
            ("a slow member", drops_who_does_not_keep_up),
            ("a member that does not read errors", drops_who_does_not_read_its_errors),
            ("a member a little behind", bears_who_is_a_little_behind),
        ]:
            check(f"{what}: {words}", function, url)
        check(f"{what}: join first", wants_a_name_in_time, idle)
        expect_quiet = lambda: expect(not program.tail(), f"it complained{program.tail()}")
        check(f"{what}: says nothing on stderr", expect_quiet)
    check(f"{what}: 1,000 members", holds_a_thousand, language)
    check(f"{what}: SIGTERM", stops_well, language, signal.SIGTERM, False)
    check(f"{what}: SIGINT, and a member that does not read", stops_well, language, signal.SIGINT,
          True)
    check(f"{what}: a port that is taken, a page that is missing", says_what_it_cannot_do, language)
    check(f"{what}: no port", explains_itself, language, "chat-server")
    check(f"{what}: an unknown flag", explains_itself, language, "chat-server", "0", "--nope")


# --- a client, alone -----------------------------------------------------------------------


class Host:
    """A chat server for one client at a time, that does what a check wants."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/chat"
        return self

    def __exit__(self, *_):
        self.listener.close()

    def request(self):
        """The next connection, and the key of its request."""
        connection, _ = self.listener.accept()
        connection.settimeout(SECONDS)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        return connection, re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]

    def refuse(self, status):
        connection, _ = self.request()
        with connection:
            connection.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n"
                               "Connection: close\r\n\r\n".encode())

    def accept(self):
        """The next connection, open, and the `join` that came by it."""
        connection, key = self.request()
        accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                           + base64.b64encode(accept) + b"\r\n\r\n")
        guest = Guest(connection)
        return guest, guest.get()


class Guest:
    """A client that is open at a Host."""

    def __init__(self, connection):
        self.connection = connection

    def frame(self, opcode, payload):
        size = len(payload)
        head = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
        self.connection.sendall(bytes([0x80 | opcode]) + head + payload)

    def put(self, **event):
        self.frame(TEXT, json.dumps(event).encode())

    def welcome(self, name, others=(), history=()):
        self.put(type="welcome", name=name, history=list(history), more={"a": [1]},
                 members=[{"name": n, "from": "test", "age": 7} for n in (*others, name)])

    def take(self, size):
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            expect(more, "the client's connection ended")
            data += more
        return data

    def read(self):
        """The next frame that is neither ping nor pong, unmasked."""
        while True:
            first, second = self.take(2)
            size = second & 127
            if size == 126:
                size = int.from_bytes(self.take(2), "big")
            key = self.take(4)
            payload = bytes(octet ^ key[i % 4] for i, octet in enumerate(self.take(size)))
            if first & 15 not in (9, 10):
                return first & 15, payload

    def get(self):
        opcode, payload = self.read()
        expect(opcode == TEXT, f"a frame with opcode {opcode}: {payload}")
        return json.loads(payload.decode())

    def close(self, code, reason=b""):
        with self.connection:
            self.frame(CLOSE, struct.pack("!H", code) + reason)
            while self.read()[0] != CLOSE:
                pass

    def closed(self):
        opcode, payload = self.read()
        expect(opcode == CLOSE, f"a frame with opcode {opcode} instead of Close: {payload}")
        with self.connection:
            self.frame(CLOSE, payload)
        return struct.unpack("!H", payload)[0]


@contextlib.contextmanager
def running(language, url, name, *arguments):
    with Member(language, url, name, *arguments, log=LOGS / f"{language}-{name}-{next(COUNT)}.log") as client:
        yield client


def ends(client, status, *lines):
    got = client.rest()
    expect(got == (status, list(lines)), f"it ended with {got}{client.tail()}")


def joins_says_and_leaves(language):
    with Host() as host, running(language, host.url, "ann", "--say", "eins", "--say", "zwei") as client:
        guest, join = host.accept()
        expect(join == {"type": "join", "name": "ann", "from": LANGUAGES[language]}, f"{join}")
        guest.welcome("Ann", ["Böb"], [
            {"type": "joined", "name": "Böb", "from": "c", "time": 7},
            {"type": "said", "name": "Böb", "from": "c", "text": "früh", "time": 8, "x": None},
            {"type": "left", "name": "Eve", "from": "", "time": 8}])
        for text in "eins", "zwei":
            expect(guest.get() == {"type": "say", "text": text}, f"{text} was not said")
        client.say("")
        client.say("drei ∮ \U0001f600 \"\\")
        expect(guest.get() == {"type": "say", "text": "drei ∮ \U0001f600 \"\\"}, "stdin was not said")
        guest.put(type="dance", name="Böb")
        guest.put(type="said", name="Böb", text="a\nb\x1b[31m\x9b\u2028c", time=9, **{"from": "c"})
        guest.put(type="joined", name="Cem", time=9, **{"from": "rust"})
        guest.put(type="left", name="Cem", time=9, **{"from": "rust"})
        guest.put(type="error", text="too fast")
        client.until("! too fast")
        client.end_input()
        expect(guest.closed() == 1000, "it did not close with 1000")
        ends(client, 0, "+ left")


def prints_what_it_hears(language):
    with Host() as host, running(language, host.url, "ann") as client:
        guest, _ = host.accept()
        guest.welcome("Ann", ["Böb"], [
            {"type": "joined", "name": "Böb", "from": "c", "time": 7},
            {"type": "said", "name": "Böb", "from": "c", "text": "früh", "time": 8, "x": None},
            {"type": "left", "name": "Eve", "from": "c++", "time": 8}])
        guest.put(type="dance", name="Böb")
        guest.put(type="said", name="Böb", text="a\nb\x1b[31m\x9b\u2028c", time=9, **{"from": "c"})
        guest.put(type="joined", name="Cem", time=9, **{"from": "rust"})
        guest.put(type="left", name="Cem", time=9, **{"from": "rust"})
        guest.put(type="said", name="Ann", text="me", time=9, **{"from": "x"})
        guest.put(type="error", text="too fast")
        lines = client.until("! too fast")
        wanted = ["+ joined as Ann, Böb, Ann here", "* Böb [c] joined", "Böb [c]: früh",
                  "* Eve [c++] left", "Böb [c]: a\ufffdb\ufffd[31m\ufffd\ufffdc", "* Cem [rust] joined",
                  "* Cem [rust] left", "Ann [x]: me", "! too fast"]
        expect(lines == wanted, f"it prints {lines}")


def leaves_after_messages_of_others(language):
    with Host() as host, running(language, host.url, "ann", "--await", "2") as client:
        guest, _ = host.accept()
        guest.welcome("ann", ["bob"], [{"type": "said", "name": "bob", "text": "1", "time": 1}])
        for name, text in ("ann", "mine"), ("bob", "2"), ("ann", "mine"), ("bob", "3"):
            guest.put(type="said", name=name, text=text, time=2)
        expect(guest.closed() == 1000, "it did not close with 1000")
        status, lines = client.rest()
        expect(status == 0 and lines[-1] == "+ left", f"it ended with {status}, {lines}")


def comes_back(language):
    with Host() as host, running(language, host.url, "ann", "--say", "once") as client:
        guest, _ = host.accept()
        past = [{"type": "said", "name": "bob", "from": "c", "text": "old", "time": 5}]
        guest.welcome("ann", history=past)
        expect(guest.get()["text"] == "once", "it did not say what it was told to")
        guest.close(1013, b"too slow")
        match = re.fullmatch(r"- disconnected: .*too slow.*; again in (\d+\.\d) s",
                             client.until("- .*")[-1])
        expect(match and 0.5 <= float(match[1]) <= 0.8, "it does not say when it comes back")
        host.refuse(503)
        match = re.fullmatch(r"- disconnected: .*503.*; again in (\d+\.\d) s",
                             client.until("- .*")[-1])
        expect(match and 1.0 <= float(match[1]) <= 1.5, f"not again after 1 s to 1.5 s")
        guest, join = host.accept()
        expect(join["name"] == "ann", f"it joins by {join}")
        guest.put(type="error", text="that name is taken")  # Its own old connection has it.
        expect(guest.closed() == 1000, "it goes on without a name")
        guest, join = host.accept()
        guest.welcome("ann", history=[*past, {"type": "left", "name": "bob", "from": "c", "time": 6}])
        lines = client.until(r"\* bob \[c\] left")
        expect("bob [c]: old" not in lines, f"it shows the history again: {lines}")
        client.say("back")
        expect(guest.get() == {"type": "say", "text": "back"}, "it says something else")
        client.terminate()
        expect(guest.closed() == 1000, "SIGTERM: it did not close with 1000")
        ends(client, 0, "+ left")


def does_not_come_back(language):
    with Host() as host:
        with running(language, host.url, "ann", "--once") as client:
            host.accept()[0].close(1001, b"bye")
            status, lines = client.rest()
            expect(status == 1 and len(lines) == 1 and "again" not in lines[0]
                   and re.match("- disconnected: .*bye", lines[0]), f"--once: {status}, {lines}")
        with running(language, host.url, "ann") as client:
            host.refuse(404)
            status, lines = client.rest()
            expect(status == 1 and "404" in lines[0] and "again" not in lines[0],
                   f"refused: {status}, {lines}")
        with running(language, host.url, "ann") as client:
            guest, _ = host.accept()
            guest.put(type="error", text="that name is taken")
            expect(guest.closed() == 1000, "it goes on without a name")
            status, lines = client.rest()
            expect(status == 1 and lines[0] == "! that name is taken"
                   and not any("again" in line for line in lines), f"name taken: {status}, {lines}")


def survives_nonsense(language):
    """A server that speaks no chat is no reason to crash."""
    for message in [b"hello", b"[]", b"{}", b'{"type":5}', b'{"type":"welcome"}',
                    b'{"type":"said"}', b'{"type":"error"}', b'{"type":"left","name":5,"time":"x"}',
                    b"[" * 60000]:
        with Host() as host, running(language, host.url, "ann", "--once") as client:
            guest, _ = host.accept()
            guest.frame(TEXT, message)
            with contextlib.suppress(AssertionError, OSError):
                guest.close(1001, b"bye")
            status, lines = client.rest()
            expect(status in (0, 1), f"{message[:30]}: status {status}, {lines}{client.tail()}")
            expect("Traceback" not in client.tail() and "panicked" not in client.tail(),
                   f"{message[:30]}: {client.tail()}")


def finds_no_server(language):
    url = f"ws://127.0.0.1:{closed_port()}/chat"
    status, out, _ = call(language, "chat-client", url, "ann", "--once")
    expect(status == 1 and re.fullmatch("- disconnected: .+\n", out), f"status {status}, {out!r}")
    status, out, err = call(language, "chat-client", "ftp://127.0.0.1/chat", "ann")
    expect(status == 1 and re.search(r"\bws\b", err) and "Traceback" not in err, f"{status}, {out!r}, {err!r}")


def check_client(check, language):
    what = f"{language} chat-client"
    for words, function in [
        ("joins, says and leaves", joins_says_and_leaves),
        ("prints what it hears", prints_what_it_hears),
        ("--await", leaves_after_messages_of_others),
        ("comes back", comes_back),
        ("does not come back", does_not_come_back),
        ("a server that makes no sense", survives_nonsense),
        ("no server", finds_no_server),
    ]:
        check(f"{what}: {words}", function, language)
    for arguments in [(), ("ws://127.0.0.1:1/",), ("ws://127.0.0.1:1/", "ann", "--nope"),
                      ("ws://127.0.0.1:1/", "ann", "--await", "none"),
                      ("ws://127.0.0.1:1/", "ann", "more")]:
        check(f"{what}: usage{''.join(f' {a}' for a in arguments[1:])}", explains_itself, language,
              "chat-client", *arguments)


# --- every client at every server -----------------------------------------------------------


def is_heard_by_all(clients, said):
    """Each says a line; every one prints every line, in the same order."""
    for client in clients:
        client.say(f"{said} from {client.language}")
    wanted = {f"{c.name} [{LANGUAGES[c.language]}]: {said} from {c.language}" for c in clients}
    orders = []
    for client in clients:
        lines = []
        while len(lines) < len(wanted):
            lines += [line for line in client.until(".*") if line in wanted]
        orders.append(lines)
    expect(all(set(order) == wanted for order in orders), f"they print {orders}")
    expect(all(order == orders[0] for order in orders), f"in different orders: {orders}")


def check_room(check, languages, server_language):
    """All clients in one room, whose server is stopped and started again on the same port."""
    def what(language):
        return f"{language} chat-client with {server_language}"

    with contextlib.ExitStack() as stack:
        clients = []

        def joins(language):
            client = stack.enter_context(running(language, url, f"in-{language}"))
            names = ", ".join(c.name for c in (*clients, client))
            client.until(re.escape(f"+ joined as {client.name}, {names} here"))
            for other in clients:
                other.until(re.escape(f"* {client.name} [{LANGUAGES[language]}] joined"))
            clients.append(client)

        def returns(client):
            client.until(r"- disconnected: .*; again in \d+\.\d s")
            client.until(re.escape(f"+ joined as {client.name}, ") + ".* here")

        def leaves(client):
            client.end_input()
            lines = client.until(re.escape("+ left"))
            expect(client.wait(SECONDS) == 0, f"it ended badly after {lines}")
            for other in clients[clients.index(client) + 1:]:
                other.until(re.escape(f"* {client.name} [{LANGUAGES[client.language]}] left"))

        program = stack.enter_context(server(server_language))
        address = program.url(120)
        url = f"{address}/chat"
        for language in languages:
            check(f"{what(language)}: joins", joins, language)
        check(f"all clients with {server_language}: hear one another", is_heard_by_all, clients, "hi")
        program.terminate()
        check(f"{server_language} chat-server: stops among clients", lambda: expect(
            program.wait(SECONDS) == 0, f"it ended badly{program.tail()}"))
        program = stack.enter_context(server(server_language, port=urlsplit(url).port))
        program.url()
        for client in clients:
            check(f"{what(client.language)}: comes back", returns, client)
        check(f"all clients with {server_language}: hear one another again", is_heard_by_all, clients,
              "again")
        for client in list(clients):
            check(f"{what(client.language)}: leaves", leaves, client)


def main():
    check = ChecksOfThreads()
    found = checkout.examples()
    wanted = sys.argv[1:] or list(LANGUAGES)
    if unknown := set(wanted) - set(LANGUAGES):
        sys.exit(f"no language {', '.join(sorted(unknown))}; there are {', '.join(LANGUAGES)}")
    # A thousand members are that many descriptors, here and in the server.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[1], 1 << 16), limits[1]))
    there = {}
    for role, languages in ("server", SERVERS), ("client", LANGUAGES):
        there[role] = []
        for language in [language for language in languages if language in wanted]:
            name = f"chat-{role}"
            if name not in found.get(language, []):
                check.skip(f"{language} {name}", "there is none")
            elif not checkout.build_example(language, name):
                check(f"{language} {name}: builds", expect, False, "the build failed")
            else:
                there[role].append(language)
    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(check_server, check, language) for language in there["server"]]
        tasks += [pool.submit(check_client, check, language) for language in there["client"]]
        tasks += [pool.submit(check_room, check, there["client"], language)
                  for language in there["server"]]
    for task in tasks:
        task.result()
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
