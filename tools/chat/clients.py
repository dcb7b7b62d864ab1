"""What each client of the chat does and prints, at a server that does what a check wants.

Does not know: the servers of the examples.
"""
import contextlib
import re

from chat.peers import Host
from chat.programs import LANGUAGES, Member
from check_examples import call, closed_port, expect, explains_itself
from websocket import TEXT


def joins_says_and_leaves(language):
    says = ("--say", "eins", "--say", "zwei")
    with Host() as host, Member(language, host.url, "ann", *says) as client:
        guest, join = host.accept()
        expect(join == {"type": "join", "name": "ann", "from": LANGUAGES[language]}, f"{join}")
        guest.welcome("ann")
        for text in "eins", "zwei":
            expect(guest.get() == {"type": "say", "text": text}, f"{text} was not said")
        client.say("")
        line = 'drei ∮ \N{GRINNING FACE} "\\'
        client.say(line)
        expect(guest.get() == {"type": "say", "text": line}, "stdin was not said")
        client.say("x" * 5000)  # More than a message may have.
        client.until("! .*")
        client.process.stdin.write(b"the last line")  # Without an end.
        client.end_input()
        expect(guest.get() == {"type": "say", "text": "the last line"}, "the last line was not said")
        expect(guest.closed() == 1000, "it did not close with 1000")
        status, lines = client.rest()
        expect((status, lines) == (0, ["+ left"]), f"it ended with {status}, {lines}{client.tail()}")


def prints_what_it_hears(language):
    with Host() as host, Member(language, host.url, "ann") as client:
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
    with Host() as host, Member(language, host.url, "ann", "--await", "2") as client:
        guest, _ = host.accept()
        guest.welcome("ann", ["bob"], [{"type": "said", "name": "bob", "text": "1", "time": 1}])
        for name, text in ("ann", "mine"), ("bob", "2"), ("ann", "mine too"):
            guest.put(type="said", name=name, text=text, time=2)
        client.until("ann: mine too")
        client.say("still here")
        expect(guest.get() == {"type": "say", "text": "still here"}, "it left too early")
        client.end_input()  # Which ends nothing before what is awaited has come.
        guest.put(type="said", name="bob", text="3", time=2)
        expect(guest.closed() == 1000, "it did not close with 1000")
        status, lines = client.rest()
        expect(status == 0 and lines[-1] == "+ left", f"it ended with {status}, {lines}")


def comes_back(language):
    with Host() as host, Member(language, host.url, "ann", "--say", "once") as client:
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
        expect(match and 1.0 <= float(match[1]) <= 1.5, "not again after 1 s to 1.5 s")
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
        status, lines = client.rest()
        expect((status, lines) == (0, ["+ left"]), f"it ended with {status}, {lines}{client.tail()}")


def does_not_come_back(language):
    with Host() as host:
        with Member(language, host.url, "ann", "--once") as client:
            host.accept()[0].close(1001, b"bye")
            status, lines = client.rest()
            expect(status == 1 and len(lines) == 1 and "again" not in lines[0]
                   and re.match("- disconnected: .*bye", lines[0]), f"--once: {status}, {lines}")
        with Member(language, host.url, "ann") as client:
            host.refuse(404)
            status, lines = client.rest()
            expect(status == 1 and "404" in lines[0] and "again" not in lines[0],
                   f"refused: {status}, {lines}")
        with Member(language, host.url, "ann") as client:
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
        with Host() as host, Member(language, host.url, "ann", "--once") as client:
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
