"""The chat room's page against a room that is played here, message by message.

What no real server says, or says only now and then: lost connections and long waits, by a clock of
the tests; and what a page has to put up with.
"""
import itertools
import json

from check_examples import expect

from .chromium import Tab


def said(name, text, time, **more):
    return {"type": "said", "name": name, "from": "test", "text": text, "time": time, **more}


def tell(tab, *messages):
    tab.do("tell", *(json.dumps(m) if isinstance(m, dict) else m for m in messages))


def enter(tab, name, history=(), members=()):
    """The page joins a room that is played here."""
    tab.join(name)
    let_in(tab, name, history, members)


def let_in(tab, name, history=(), members=()):
    asks(tab, name)
    tell(tab, {"type": "welcome", "name": name, "history": list(history),
               "members": [*members, {"name": name, "from": "browser"}]})
    tab.until("state() === 'joined'")


def asks(tab, name):
    asked = json.loads(tab.do("heard"))
    expect(asked == {"type": "join", "name": name, "from": "browser"}, f"it asks {asked}")


def asks_again_when_it_took_long(browser, room):
    """Who is not in the room in time is closed, and may still be thinking of a name."""
    with Tab(browser, room.page, played=True, clock=True) as tab:
        tab.do("freeze")
        tab.join("ann")
        asks(tab, "ann")
        tell(tab, {"type": "error", "text": "taken"})
        tab.until("$('#join-error').textContent === 'taken'")
        tab.do("hang_up", 1008, "join first")
        tab.do("pass", 60_000)
        expect(tab.get("state() === 'out' && $('#join-error').textContent === 'taken'"), "it does not wait")
        enter(tab, "eve")


def says_that_nobody_answers(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        tab.join("ann")
        asks(tab, "ann")
        tab.do("hang_up", 1013, "")
        tab.until("state() === 'waiting' && $('#join-error').textContent.includes('cannot be reached')")
        let_in(tab, "ann")
        tab.until("!$('#join').open")


# --- coming back ------------------------------------------------------------------------------


def waits_as_the_protocol_says(browser, room):
    with Tab(browser, room.page, played=True, clock=True) as tab:
        tab.do("freeze")
        tab.join("kim")
        for delays in [(500, 1000, 2000, 4000, 8000, 10000, 10000), (500, 1000)]:
            let_in(tab, "kim")  # to be in the room begins it anew
            for attempt, delay in enumerate(delays, 1):
                tab.do("hang_up", 1001, "")
                tab.until("state() === 'waiting'")
                tab.do("pass", delay - 1)
                expect(tab.get("state()") == "waiting", f"it came back before {delay} ms")
                tab.do("pass", delay // 2 + 2)
                expect(tab.get("state()") == "connecting", f"it waited more than {delay * 1.5:g} ms")
                if attempt < len(delays):
                    asks(tab, "kim")


def does_not_double_the_history(browser, room):
    old = [said("bea", f"old {i}", 1000 * i) for i in range(60)]
    gone = {"type": "left", "name": "kim", "from": "browser", "time": 70_000}
    new = [said("bea", f"new {i}", 100_000 + i) for i in range(5)]
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim", old[:50])
        tell(tab, *old[50:])
        tab.hears("bea", "old 59")
        tab.do("hang_up", 1001, "")
        let_in(tab, "kim", [*old[16:], gone, *new[:-1]][-50:])
        tell(tab, new[-1])
        tab.hears("bea", "new 4")
        shown = tab.get("texts('#log .bubble')")
        expect(shown == [m["text"] for m in old + new], f"it shows {shown}")
        expect(not tab.get("note('kim left')"), "one reads that one left oneself")


def says_that_something_is_missing(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim", [said("bea", "seen", 1000)])
        tab.do("hang_up", 1001, "")
        let_in(tab, "kim", [said("bea", f"later {i}", 2000 + i) for i in range(50)])
        tab.until("texts('#log .rule').some((text) => text.includes('not shown'))")
        expect(len(tab.get("texts('#log .bubble')")) == 51, "messages are lost")


def tries_again_while_its_ghost_has_the_name(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim")
        tab.do("hang_up", 1001, "")
        for _ in range(2):
            tab.do("heard")
            tell(tab, {"type": "error", "text": "That name is taken."})
            tab.until("state() === 'waiting'")
            expect(tab.get("!$('#join').open && $('#announce').textContent.includes('taken')"),
                   "one is turned out of the room")
        let_in(tab, "kim")


def keeps_what_nobody_answered(browser, room):
    with Tab(browser, room.page, played=True, clock=True) as tab:
        tab.do("freeze")
        enter(tab, "kim")
        for text in ("one", "two"):
            tab.say(text)
            tab.do("heard")
        expect(tab.get("texts('#pending .bubble')") == ["one", "two"], "they are not shown")
        tab.do("pass", 15_001)
        tab.until("state() === 'waiting' && note('Connection lost: no answer')")
        tab.do("pass", 751)
        # The room heard the first of them, and lost the connection before it could say so.
        let_in(tab, "kim", [said("kim", "one", 5000)])
        expect(tab.get("texts('#log .own .bubble')") == ["one"], "what was heard is missing")
        expect(tab.get("$('#text').value === 'two' && !all('#pending *').length"), "no second try")
        expect(tab.get("$('#say-error').textContent") != "", "no word about it")


def stays_out_when_it_left(browser, room):
    with Tab(browser, room.page, played=True, clock=True) as tab:
        tab.do("freeze")
        enter(tab, "kim")
        tab.do("hang_up", 1001, "")
        tab.until("state() === 'waiting'")
        tab.do("click", "#leave")
        tab.do("pass", 60_000)
        expect(tab.get("state() === 'out' && $('#join').open"), "it went back")
        enter(tab, "lea")


# --- what it puts up with -----------------------------------------------------------------------

HTML = "<img src=x onerror=hacked=1><script>hacked=1</script>"


def shows_html_as_text(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim", members=[{"name": HTML, "from": HTML}])
        tell(tab, {"type": "joined", "name": f"2{HTML}", "from": HTML, "time": 1},
             said(HTML, HTML, 2, **{"from": HTML}), {"type": "left", "name": HTML, "time": 3},
             said("bea", "javascript:hacked=1 https://127.0.0.1/\"onclick=hacked=1 http://[", 4),
             {"type": "error", "text": HTML})
        tab.until("$('#say-error').textContent !== ''")
        expect(tab.get("$('#say-error').textContent") == HTML, "the error is changed")
        expect(tab.get("texts('#log .bubble')")[0] == HTML, "the message is changed")
        expect(tab.get("texts('#list bdi')").count(f"2{HTML}") == 1, "the name is changed")
        expect(tab.get("!all('img').length && all('script').length === 1 && typeof hacked === 'undefined'"),
               "it became HTML")
        links = tab.get("all('#log a').map((a) => [a.textContent, a.protocol, a.rel])")
        expect(links == [["https://127.0.0.1/", "https:", "noopener noreferrer"]], f"links: {links}")


def ignores_what_it_does_not_know(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim")
        tell(tab, "", "no JSON", "null", "[]", "7", "{}", '{"type":"toString"}',
             {"type": "constructor"}, {"type": "said"}, {"type": "said", "name": 1, "text": "x"},
             {"type": "joined", "name": None}, {"type": "welcome"}, {"type": "error", "text": {}},
             {"type": "typing", "name": "bea"},
             said("bea", "no time", "yesterday", **{"from": 7}), said("bea", "too late", 1e300, more=1))
        tab.hears("bea", "too late")
        expect(tab.get("texts('#log .bubble')") == ["no time", "too late"], "something else is shown")
        tell(tab, {"type": "welcome", "name": "kim", "members": "all", "history": [None, 1, {}]})
        tab.until("$('#count').textContent === '0 here'")


def survives_names_and_words(browser, room):
    names = ["W" * 20, "مريم-العربية", "שלום", "A" + "\u0301" * 19, "e_.-9"]
    words = ["x" * 1000, "مرحبا بالجميع", "👩‍👩‍👧‍👦" * 60, "\u202e" + "override", "https://example.org/" + "y" * 900]
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim", [said(n, w, 1000 * i, **{"from": "i" * 16})
                           for i, (n, w) in enumerate(itertools.product(names, words))],
              [{"name": name, "from": "i" * 16} for name in names])
        for width in (1200, 360):
            tab.do("setViewportSize", {"width": width, "height": 700})
            tab.until(f"innerWidth === {width}")
            expect(tab.get("document.documentElement.scrollWidth <= innerWidth && "
                           "$('#scroller').scrollWidth <= $('#scroller').clientWidth && "
                           "$('#list').scrollWidth <= $('#list').clientWidth"),
                   f"something is wider than the window of {width}")
            expect(tab.get("""all('#log .by').every((by) => [...by.children].map(box).every(
                (one, i, them) => i === 0 || them[i - 1].right <= one.left || them[i - 1].bottom <= one.top + 1))"""),
                   "a name turned its line round")


def stays_within_bounds(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim")
        for start in range(0, 5000, 500):
            tell(tab, *(said(f"bea{i // 3 % 7}", f"message {i}", i) for i in range(start, start + 500)))
        tab.until("all('#log .bubble').at(-1)?.textContent === 'message 4999' && atEnd()")
        count = tab.get("all('#log .bubble').length")
        expect(1900 < count <= 2000, f"{count} messages are kept")
        expect(tab.get("all('#list li').length") == 1, "those who speak are no members")


def does_not_pull_a_reader_away(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim", [said("bea", f"line {i}", i * 400_000) for i in range(50)])
        tab.until("atEnd() && $('#latest').hidden")
        tab.do("hover", "#scroller")
        tab.do("wheel", -800)
        tab.until("!$('#latest').hidden && !atEnd()")
        tab.do("wheel", -200)
        before = tab.until("$('#scroller').scrollTop")
        tell(tab, *(said("bea", f"new {i}", 90_000_000 + i) for i in range(5)))
        tab.until("$('#latest').textContent === '↓ 5 new'")
        expect(tab.get("$('#scroller').scrollTop") <= before and not tab.get("atEnd()"), "it moved")
        tab.do("click", "#latest")
        tab.until("atEnd() && $('#latest').hidden")
        tell(tab, said("bea", "last", 91_000_000))
        tab.until("said('bea', 'last') && atEnd()")


def counts_what_came_unseen(browser, room):
    def hide(yes):
        tab.get(f"""Object.defineProperty(document, 'hidden', {{configurable: true, value: {yes}}})
            && document.dispatchEvent(new Event('visibilitychange'))""")
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim")
        tell(tab, said("bea", "seen", 1))
        tab.hears("bea", "seen")
        expect(tab.get("document.title") == "Chat room", "what is seen is counted")
        hide("true")
        tell(tab, said("bea", "unseen", 2), {"type": "joined", "name": "leo", "time": 3}, said("bea", "too", 4))
        tab.until("document.title === '(2) Chat room'")
        expect(tab.get("$('#log .rule.new').nextElementSibling.textContent.includes('unseen')"),
               "no mark before the first of them")
        hide("false")
        tab.until("document.title === 'Chat room'")


CHECKS = [
    ("a name that takes long", asks_again_when_it_took_long),
    ("nobody answers", says_that_nobody_answers),
    ("waits as the protocol says", waits_as_the_protocol_says),
    ("does not double the history", does_not_double_the_history),
    ("a gap in the history", says_that_something_is_missing),
    ("its ghost has the name", tries_again_while_its_ghost_has_the_name),
    ("keeps what nobody answered", keeps_what_nobody_answered),
    ("stays out when it left", stays_out_when_it_left),
    ("HTML is text", shows_html_as_text),
    ("ignores what it does not know", ignores_what_it_does_not_know),
    ("any name and word", survives_names_and_words),
    ("keeps 2,000 messages", stays_within_bounds),
    ("leaves a reader in peace", does_not_pull_a_reader_away),
    ("counts what came unseen", counts_what_came_unseen),
]
