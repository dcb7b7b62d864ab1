"""How the chat room's page looks and is handled: contrast, themes, keyboard, phones."""
from check_examples import expect

from .chromium import Tab
from .played import enter, said, tell

# --- how it looks ---------------------------------------------------------------------------------

# Texts whose contrast with what is behind them is below WCAG 2's AA.
POOR = """(() => {
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const over = (...colours) => {
  canvas.clearRect(0, 0, 1, 1);
  for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const light = (rgb) => rgb.map((c) => c / 255).map((c) => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const behind = (element) => (element ? [...behind(element.parentElement), getComputedStyle(element).backgroundColor] : []);
const ratio = (element, part) => {
  const ground = behind(element);
  const [a, b] = [light(over(...ground)), light(over(...ground, getComputedStyle(element, part).color))];
  return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
};
const inside = $('#join').open ? '#join *' : '#room *';
const seen = all(inside).filter((e) => e.getClientRects().length && !e.closest('.unseen')
  && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()));
return [...seen.map((e) => [e.tagName, e.className, e.textContent, ratio(e)]),
  ...all(inside).filter((e) => e.placeholder).map((e) => ['placeholder', '', e.placeholder, ratio(e, '::placeholder')])]
  .filter((one) => !(one[3] >= (window.all_poor ? 99 : 4.5)));
})()"""


def can_be_read(browser, room, scheme):
    with Tab(browser, room.page, played=True, colorScheme=scheme) as tab:
        tab.join("")
        tab.until("$('#join-error').textContent !== ''")
        poor = tab.get(POOR)
        # Names of all tints.
        people = [f"bea{i}" for i in range(24)]
        enter(tab, "kim", [said(n, "see https://example.org/", 1000 * i) for i, n in enumerate(people)],
              [{"name": name, "from": "python"} for name in people])
        tints = tab.get("new Set(all('#log .group').map((group) => group.dataset.tint)).size")
        expect(tints == 8, f"only {tints} tints")
        tell(tab, said("kim", "own https://example.org/", 30_000), {"type": "error", "text": "no"},
             {"type": "left", "name": "bea1", "time": 31_000})
        tab.until("$('#say-error').textContent !== ''")
        tab.do("hang_up", 1001, "")
        poor += tab.get(POOR)
        expect(not poor, f"poor contrast: {poor[:5]}")
        tab.get("window.all_poor = true")
        expect(len(tab.get(POOR)) > 60, "no text was looked at")


def has_two_themes(browser, room):
    dark = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).every((c) => c < 60)"
    with Tab(browser, room.page, played=True, colorScheme="light") as tab:
        enter(tab, "kim")
        tab.until(f"!({dark})")
        tab.do("emulateMedia", {"colorScheme": "dark"})
        tab.until(dark)
        tab.do("click", "#theme")
        tab.until(f"!({dark}) && $('#theme').title === 'Switch to dark colours'")
        tab.do("reload")
        tab.until(f"$('#join').open && !({dark})")
        enter(tab, "kim")
        tab.do("click", "#theme")
        tab.until(dark)
        tab.do("emulateMedia", {"colorScheme": "light"})
        tab.until(f"!({dark})")


def works_by_keyboard(browser, room):
    with Tab(browser, room.page, played=True) as tab:
        enter(tab, "kim")
        reached = set()
        for _ in range(12):
            tab.do("key", "Tab")
            reached.add(tab.get("document.activeElement.id || document.activeElement.type"))
        expect(reached >= {"theme", "leave", "scroller", "text", "submit"}, f"Tab reaches {reached}")


def fits_a_phone(browser, room):
    with Tab(browser, room.page, played=True, viewport={"width": 360, "height": 640},
             hasTouch=True) as tab:
        enter(tab, "kim", [said("bea", "hello", 1)], [{"name": "bea", "from": "c"}])
        expect(tab.get("!$('#list').getClientRects().length"), "the members take the room's place")
        expect(tab.get("$('#toggle-count').textContent") == "2", "nobody sees how many are here")
        tab.do("click", "#members-toggle")
        tab.until("$('#list').getClientRects().length && texts('#list bdi').includes('bea')")
        tab.do("key", "Escape")
        tab.until("!$('#list').getClientRects().length")
        tab.do("hang_up", 1001, "")
        tab.until("state() === 'waiting'")
        expect(tab.get("$('#state-text').scrollWidth <= $('#state-text').clientWidth"
                       " && document.documentElement.scrollWidth <= innerWidth"),
               "one cannot read that it reconnects")
        tab.do("click", "#members-toggle")
        tab.do("setViewportSize", {"width": 1200, "height": 800})
        tab.until("box($('#list')).left > box($('#scroller')).right - 1 && !$('#members').matches(':popover-open')")


CHECKS = [
    ("contrast, light", can_be_read, "light"),
    ("contrast, dark", can_be_read, "dark"),
    ("two themes", has_two_themes),
    ("by keyboard", works_by_keyboard),
    ("on a phone", fits_a_phone),
]
