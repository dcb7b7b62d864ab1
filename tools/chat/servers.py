"""The rules of examples/chat.md at a server.

Does not know: the clients of the examples.
"""
import contextlib
import http.client
import json
import re
import signal
import socket
import struct
import time
from urllib.parse import urlsplit

from chat.peers import LONGEST, NARROW, Peer, member, refusal
from chat.programs import SECONDS, server
from check_examples import call, expect, explains_itself
from checkout import ROOT
from websocket import BINARY, CLOSE, TEXT, frame

PAGE = ROOT / "examples" / "browser" / "index.html"


# --- joining -----------------------------------------------------------------


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


# --- saying --------------------------------------------------------------------


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


# --- hostile members -------------------------------------------------------------


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


def talk(speakers, count):
    """They say as much as they can, in turn, and read it; the events that the first was told."""
    told = []
    for number in range(count):
        speakers[number % len(speakers)].say(LONGEST)
        told += [speaker.until("said") for speaker in speakers][0]
    return told


def drops_who_does_not_keep_up(url):
    """By others' talk: 600 KiB, of which the kernels hold some."""
    with contextlib.ExitStack() as stack:
        speakers = [stack.enter_context(member(url, f"Speaker{n}")) for n in range(6)]
        slow = stack.enter_context(Peer(url, NARROW))
        slow.join("Slow")
        events = talk(speakers, 150)
        left = [n for n, e in enumerate(events) if e["type"] == "left" and e["name"] == "Slow"]
        expect(left, "600 KB wait for it, and it has not left")
        told = sum(len(json.dumps(e, ensure_ascii=False).encode()) for e in events[:left[0]])
        expect(told > 250 << 10, f"it was dropped when {told} bytes were told")
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
    with member(url, "Ahead1") as one, member(url, "Ahead2") as two, Peer(url, NARROW) as behind:
        behind.join("Behind")
        talk([one, two], 60)  # 240 KiB, whatever the kernels hold of them.
        for _ in range(60):
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


def is_quiet(program):
    said = [line for line in program.log.read_text("utf-8", "replace").splitlines()
            if not line.startswith("examples/run: building")]
    expect(not said, f"it said {said[-10:]}")


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
        check(f"{what}: says nothing on stderr", is_quiet, program)
    check(f"{what}: 1,000 members", holds_a_thousand, language)
    check(f"{what}: SIGTERM", stops_well, language, signal.SIGTERM, False)
    check(f"{what}: SIGINT, and a member that does not read", stops_well, language, signal.SIGINT,
          True)
    check(f"{what}: a port that is taken, a page that is missing", says_what_it_cannot_do, language)
    check(f"{what}: no port", explains_itself, language, "chat-server")
    check(f"{what}: an unknown flag", explains_itself, language, "chat-server", "0", "--nope")
