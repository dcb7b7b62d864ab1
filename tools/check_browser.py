#!/usr/bin/env python3
"""The chat room's page, in headless Chromium: against the C chat server, with members that speak
from other languages, and against a room that is played here.

    check_browser.py                  every check
    check_browser.py --screenshots    a lively room into docs/images, and no checks

One line for each check, and a closing line `N passed, N failed, N skipped`.
"""
import argparse
import contextlib
import json
import re
import shutil
import sys

import checkout
from browser import looks, played
from browser.chromium import NUMBERS, SECONDS, STATE, Browser, Tab
from chat.programs import LANGUAGES, Member
from check_examples import Checks, expect
from checkout import ROOT, Program
from websocket import TEXT, Client

IMAGES = ROOT / "docs" / "images"


# --- the room and its members --------------------------------------------------------------


def fresh(name):
    """A name that nobody has had: all checks share one room."""
    return f"{name}{next(NUMBERS)}"


class Room(Program):
    """A chat server, C's if no other is asked for."""

    def __init__(self, port=0, language="c"):
        super().__init__(checkout.example(language, "chat-server", port),
                         STATE / f"{language}-server.log")
        self.chat = self.url(300) + "/chat"
        self.page = self.chat.replace("ws:", "http:").removesuffix("chat")
        self.port = int(self.chat.split(":")[2].removesuffix("/chat"))


class Guest(Client):
    """A member without a program: what a client may send, it sends."""

    def __init__(self, room, name, where="python"):
        super().__init__(room.chat, SECONDS)
        self.tells(type="join", name=name, **{"from": where})
        self.hears(type="welcome")

    def tells(self, **message):
        self.send(TEXT, json.dumps(message, ensure_ascii=False).encode())

    def say(self, text):
        self.tells(type="say", text=text)

    def hears(self, **wanted):
        while True:
            opcode, payload = self.receive()
            expect(opcode == TEXT, f"it was closed instead of {wanted}: {payload!r}")
            message = json.loads(payload)
            if wanted.items() <= message.items():
                return message


def client(language, room, name):
    return Member(language, room.chat, name)


# --- joining ---------------------------------------------------------------------------------


def asks_for_a_name(browser, room):
    with Tab(browser, room.page) as tab:
        tab.until("$('#join').open && document.activeElement === $('#name')")
        for name, words in [("", "is needed"), ("a b", "no spaces"), ("a/b", "“/”"),
                            ("x" * 21, "at most 20 characters, this has 21")]:
            tab.join(name)
            wrong = tab.get("$('#join-error').textContent")
            expect(words in wrong and tab.get("$('#join').open && state() === 'out'"),
                   f"to {name!r} it says {wrong!r}")
        tab.do("key", "Escape")
        expect(tab.get("$('#join').open"), "Escape led into a room without a name")


def joins(browser, room):
    name = fresh("zoë")
    with Guest(room, fresh("Δημήτρης"), "rust") as guest, Tab(browser, room.page) as tab:
        tab.joins(name)
        guest.hears(type="joined", name=name, **{"from": "browser"})
        expect(tab.get("document.activeElement === $('#text')"), "one cannot write at once")
        expect(tab.get("$('#announce').textContent") == "Connected", "the state is not announced")
        listed = tab.get("texts('#list li .name')")
        expect(f"{name} (you)" in listed, f"the members are {listed}")
        expect(tab.get("$('#count').textContent") == f"{len(listed)} here", "the count is wrong")


def tells_that_a_name_is_taken(browser, room):
    taken, free = fresh("ann"), fresh("eve")
    with Guest(room, taken), Client(room.chat, SECONDS) as other, Tab(browser, room.page) as tab:
        other.send(TEXT, json.dumps({"type": "join", "name": taken}).encode())
        refusal = json.loads(other.receive()[1])
        expect(refusal["type"] == "error", f"the server answers {refusal}")
        tab.join(taken.upper())
        tab.until(f"$('#join-error').textContent === {json.dumps(refusal['text'])}")
        expect(tab.get("$('#join').open && document.activeElement === $('#name')"), "no other try")
        tab.joins(free)


def remembers_the_name(browser, room):
    name = fresh("ines")
    with Tab(browser, room.page) as tab:
        tab.joins(name)
        tab.do("reload")
        tab.until("$('#join').open")
        expect(tab.get("$('#name').value") == name, "the name is forgotten")
        tab.do("key", "Enter")
        tab.until("state() === 'joined'")


def leaves(browser, room):
    name = fresh("uma")
    with Guest(room, fresh("guest")) as guest, Tab(browser, room.page) as tab:
        tab.joins(name)
        guest.hears(type="joined", name=name)
        tab.do("click", "#leave")
        guest.hears(type="left", name=name)
        tab.until("$('#join').open && state() === 'out' && $('#leave').hidden")
        tab.joins(fresh("uma"))


# --- talking ---------------------------------------------------------------------------------


def talks_with(browser, room, language):
    me, name = fresh("web"), fresh(language)
    with Tab(browser, room.page) as tab, client(language, room, name) as member:
        member.until(rf"\+ joined as {name}, .* here")
        tab.joins(me)
        member.until(rf"\* {me} \[browser\] joined")
        tab.until(f"texts('#list bdi').includes('{name}')")
        member.say("größer ∮ 漢字")
        tab.hears(name, "größer ∮ 漢字")
        expect(tab.get(f"said('{name}', 'größer ∮ 漢字').closest('.group:not(.own)').querySelector('.from')"
                       ".textContent.toLowerCase()").startswith(LANGUAGES[language]),
               "nobody sees where it speaks from")
        tab.say("<b>schöner</b> \\ \" 👋")
        member.until(re.escape(f"{me} [browser]: <b>schöner</b> \\ \" 👋"))
        member.end_input()
        status, _ = member.rest()
        expect(status == 0, f"status {status}{member.tail()}")
        tab.until(f"note('{name} left') && !texts('#list bdi').includes('{name}')")
        with client(language, room, name):
            tab.until(f"note('{name} joined from ') && texts('#list bdi').includes('{name}')")


def shows_own_messages_apart(browser, room):
    me, other = fresh("me"), fresh("other")
    with Guest(room, other) as guest, Tab(browser, room.page) as tab:
        tab.joins(me)
        guest.say("first")
        tab.hears(other, "first")
        tab.say("mine")
        tab.hears(me, "mine")
        tab.say("and mine")
        tab.hears(me, "and mine")
        expect(tab.get(f"""(() => {{
            const [own, others] = [said('{me}', 'mine'), said('{other}', 'first')];
            const colour = (element) => getComputedStyle(element).backgroundColor;
            return own.closest('.own') && !others.closest('.own')
              && box(own).left > box(others).right && colour(own) !== colour(others);
        }})()"""), "own messages look like others'")
        expect(tab.get(f"said('{me}', 'mine').parentElement === said('{me}', 'and mine').parentElement"),
               "they are not grouped")
        expect(tab.get("!all('#pending *').length && $('#text').value === ''"), "it still waits")


def says_several_lines(browser, room):
    me = fresh("poet")
    with Tab(browser, room.page) as tab:
        tab.joins(me)
        tab.do("fill", "#text", "one")
        tab.do("key", "Shift+Enter")
        tab.do("key", "2")
        tab.do("key", "Enter")
        tab.hears(me, "one\n2")


def has_the_rooms_limit(browser, room):
    me = fresh("long")
    with Tab(browser, room.page) as tab:
        tab.joins(me)
        tab.say("😀" * 1001)
        tab.until("$('#say-error').textContent.includes('at most 1000 characters, this has 1001')")
        expect(tab.get("$('#text').value.length") == 2002, "what was written is gone")
        tab.say("😀" * 1000)
        tab.hears(me, "😀" * 1000)
        expect(tab.get("$('#say-error').textContent") == "", "the error stays")


def gives_back_what_the_server_refuses(browser, room):
    me = fresh("hasty")
    with Tab(browser, room.page) as tab:
        tab.joins(me)
        tab.get("""Array.from({length: 40}, (_, i) => {
            $('#text').value = `hasty ${i}`;
            $('#composer').requestSubmit();
        }).length""")
        tab.until("$('#say-error').textContent !== '' && !all('#pending *').length")
        told = tab.get("texts('#log .own .bubble').filter((text) => text.startsWith('hasty '))")
        kept = tab.get("$('#text').value").split("\n")
        expect(told and kept and told + kept == [f"hasty {i}" for i in range(40)],
               f"told: {told}, given back: {kept}")


def shows_the_history(browser, room):
    name, me = fresh("elder"), fresh("young")
    with Guest(room, name) as guest:
        for i in range(3):
            guest.say(f"once {i}")
            guest.hears(type="said", name=name)
        with Tab(browser, room.page) as tab:
            tab.joins(me)
            tab.hears(name, "once 2")
            shown = tab.get(f"texts('#log .bubble').filter((text) => text.startsWith('once '))")
            expect(shown == ["once 0", "once 1", "once 2"], f"it shows {shown}")
            tab.until("atEnd()")


# --- coming back ------------------------------------------------------------------------------


def comes_back_after_a_restart(browser, language):
    with Room(language=language) as room, Tab(browser, room.page) as tab:
        tab.tolerated = ("WebSocket connection to",)
        tab.joins("phoenix")
        tab.say("before")
        tab.hears("phoenix", "before")
        room.terminate()
        tab.until("state() === 'waiting'")
        expect(room.wait(SECONDS) == 0, "the server ended badly")
        expect(tab.get("/Reconnecting in [0-9]+ s/.test($('#state-text').textContent)"
                       " && $('#announce').textContent.includes('Reconnecting')"), "nobody is told")
        tab.say("while away")
        expect(tab.get("$('#say-error').textContent.startsWith('Not connected')"), "no error")
        with Room(room.port, language):
            tab.until("state() === 'joined'")
            expect(tab.get("$('#text').value") == "while away", "what was written is gone")
            expect(tab.get("texts('#log .bubble')") == ["before"], "the history is doubled or lost")
            expect(tab.get("texts('#list li .name')") == ["phoenix (you)"], "the list is wrong")
            expect(tab.get("!$('#join').open && note('Back in the room')"), "it did not rejoin")
            tab.do("focus", "#text")
            tab.do("key", "Enter")
            tab.hears("phoenix", "while away")


# --- pictures for the README ------------------------------------------------------------------------

TALK = [
    ("kurt", "c", "The new gateway is up. One fd, and the rest of my poll loop stayed as it was."),
    ("mei", "python", "Nice! The sensors report from asyncio here: https://sensors.example.org/today"),
    (None, None, "I see them come in. Who draws the curve for the roof?"),
    ("nils", "node", "I do. Give me five minutes, the old one drew night as zero."),
    ("Δημήτρης", "rust", "Καλημέρα! The replay of yesterday is through: same numbers, to the last bit."),
    ("vera", "cpp", None),
    ("vera", "cpp", "Good morning. Then I switch the simulator off."),
    ("مريم", "python", "صباح الخير، المحطة الثالثة تعمل الآن"),
    (None, None, "Good morning, Maryam! Station three is back on the map."),
    (None, None, "Thank you all."),
]


def take_pictures(browser):
    """Of the C server's room, with the members of the languages whose client there is."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    clients = checkout.examples()
    with contextlib.ExitStack() as stack:
        room = stack.enter_context(Room())
        tab = stack.enter_context(Tab(browser, room.page, viewport={"width": 1200, "height": 788}))
        tab.joins("zoë")
        people = {None: tab}

        def let_join(name, language):
            if "chat-client" in clients[language]:
                people[name] = stack.enter_context(client(language, room, name))
            else:
                people[name] = stack.enter_context(Guest(room, name, language))
            tab.until(f"note('{name} joined')")

        late = {name for name, _, text in TALK if text is None}
        for name, language, _ in TALK:
            if name not in people and name not in late:
                let_join(name, language)
        for name, language, text in TALK:
            if text is None:
                let_join(name, language)
            else:
                people[name].say(text)
                tab.hears(name or "zoë", text)
        tab.until("$('#pending').childElementCount === 0 && atEnd()")
        for scheme in ("light", "dark"):
            tab.do("emulateMedia", {"colorScheme": scheme})
            tab.until(f"document.documentElement.dataset.shown === '{scheme}'")
            tab.do("screenshot", {"path": str(IMAGES / f"chat-{scheme}.png"), "animations": "disabled",
                                  "caret": "hide"})
            print(f"docs/images/chat-{scheme}.png")


# --- all of them ------------------------------------------------------------------------------------


def run(check, browser):
    examples = checkout.examples()
    languages = [language for language, names in examples.items() if "chat-client" in names]
    checks = [
        ("asks for a name", asks_for_a_name),
        ("joins", joins),
        ("a name that is taken", tells_that_a_name_is_taken),
        ("remembers the name", remembers_the_name),
        ("leaves", leaves),
        *((f"talks with {language}", talks_with, language) for language in languages),
        ("own messages are apart", shows_own_messages_apart),
        ("several lines", says_several_lines),
        ("1,000 characters", has_the_rooms_limit),
        ("too many messages", gives_back_what_the_server_refuses),
        ("the history", shows_the_history),
        *played.CHECKS,
        *looks.CHECKS,
    ]
    with Room() as room:
        for name, what, *arguments in checks:
            check(f"browser: {name}", what, browser, room, *arguments)
    for language in LANGUAGES:
        if language not in languages:
            check.skip(f"browser: talks with {language}", f"there is no examples/{language}/chat-client")
    for language in ("c", "python"):
        name = f"browser: comes back after a restart of {language}'s server"
        if "chat-server" in examples[language]:
            check(name, comes_back_after_a_restart, browser, language)
        else:
            check.skip(name, f"there is no examples/{language}/chat-server")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screenshots", action="store_true")
    options = parser.parse_args()
    check = Checks()
    chromium = shutil.which("chromium")
    if chromium is None:
        print("SKIP  chromium is missing (apt-get install chromium, or make deps-apt)")
        check.skipped += 1
    else:
        try:
            with Browser(chromium) as browser:
                if options.screenshots:
                    take_pictures(browser)
                    return 0
                run(check, browser)
        except checkout.Unavailable as e:
            check.skip("browser", e)
        except RuntimeError as e:
            check("browser: starts", expect, False, e)
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
