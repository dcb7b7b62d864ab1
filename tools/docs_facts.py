"""What README.md and docs/ state that can be looked up: links, names, commands, tables.

Does not know: what blocks of code do; `check_docs.py` runs those.
"""
import json
import re
import shutil
import subprocess
from functools import cache

import checkout
from checkout import ROOT

README = ROOT / "README.md"
LIMITS = ROOT / "docs" / "limits.md"
ERRORS = ROOT / "docs" / "errors.md"
PYTHON = checkout.TARGET / "venv-examples" / "bin" / "python"

FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
# Commands of a shell itself.
BUILT_IN = {"cd", "export", "source"}
# Folders of the repository; inline code that begins with one names a file.
FOLDERS = ("bench", "bindings", "conformance", "core", "docs", "examples", "ffi", "include", "tools")


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def prose(page):
    """A page without its blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


@cache
def source(name):
    return (ROOT / name).read_text("utf-8")


# --- links and names ---------------------------------------------------------------------------


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        yield re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    links += re.findall(r'(?:src|srcset|href)="([^"]+)"', prose(page))
    wrong = []
    for link in links:
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            wrong.append(f"{link}: there is no such file")
        elif anchor and anchor not in anchors(target):
            wrong.append(f"{link}: there is no such heading")
    expect(links and not wrong, "; ".join(wrong) or "there is no link")


def paths_exist(page):
    found = re.findall(r"`([\w./-]+)`", prose(page))
    wrong = [path for path in found
             if path.split("/")[0] in FOLDERS and "/" in path and not (ROOT / path).exists()]
    expect(not wrong, f"there is no {', '.join(wrong)}")


def names_are_known(page):
    """C's names are the header's; what looks like one and is another's is known there."""
    known = "".join([source("include/wsabi.h"), source("Cargo.toml"),
                     *(path.read_text("utf-8")
                       for path in (ROOT / "bindings" / "node" / "lib").glob("*.js"))])
    names = set(re.findall(r"\b(?:wsabi|WSABI)_\w+", prose(page)))
    wrong = [name for name in sorted(names)
             if not name.endswith("_") and not re.search(rf"\b{name}\b", known)]
    expect(not wrong, f"nothing is called {', '.join(wrong)}")


# --- commands ----------------------------------------------------------------------------------


def commands(page):
    for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
        for line in block.splitlines():
            words = re.sub(r"(^|\s)#.*", "", line).split()
            while words and re.fullmatch(r"\w+=\S*", words[0]):
                words.pop(0)
            if words:
                yield words


def commands_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", source("Makefile"), re.M))
    wrong = []
    for words in commands(page):
        command = words[0]
        if command == "make":
            wrong += [f"make {word}" for word in words[1:] if "=" not in word and word not in targets]
        elif command == "examples/run":
            names = checkout.examples()
            if words[1:] and words[2] not in names.get(words[1], []):
                wrong.append(" ".join(words))
        elif "/" in command:
            if not (ROOT / command).exists():
                wrong.append(command)
        elif command not in BUILT_IN and command != "pip" and shutil.which(command) is None:
            wrong.append(command)
    inline = re.findall(r"`make ([a-z-]+)[^`]*`", prose(page))
    wrong += [f"make {name}" for name in inline if name not in targets]
    expect(not wrong, f"there is no {'; '.join(wrong)}")


# --- tables ------------------------------------------------------------------------------------


def tables(page):
    """The tables of a page: lists of rows, each a list of cells."""
    for lines in re.findall(r"(?:^\|.*\|\n)+", page.read_text("utf-8"), re.M):
        rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                for line in lines.splitlines()]
        yield [rows[0], *rows[2:]]


def table(page, header):
    for rows in tables(page):
        if rows[0][0] == header:
            return rows[1:]
    raise AssertionError(f"there is no table whose first column is {header!r}")


def code_of(cell):
    return re.findall(r"`([^`]*)`", cell)


def same(what, written, true):
    missing, wrong = sorted(set(true) - set(written)), sorted(set(written) - set(true))
    different = sorted(key for key in set(true) & set(written) if true[key] != written[key])
    expect(written == true,
           f"{what}: " + "; ".join([f"{key} is missing" for key in missing]
                                   + [f"{key} does not exist" for key in wrong]
                                   + [f"{key} is {written[key]}, not {true[key]}" for key in different]))


def python_says(program):
    expect(PYTHON.exists(), "the Python package is not built (examples/run --build python minimal)")
    done = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True)
    expect(done.returncode == 0, done.stderr)
    return json.loads(done.stdout)


def kinds_of_the_core():
    """{symbol: (number, variant)}"""
    found = re.findall(r'^    (\w+) = (-\d+), "(\w+)";$', source("core/src/error.rs"), re.M)
    return {symbol: (int(number), variant) for variant, number, symbol in found}


def errors_are_the_sources():
    core = kinds_of_the_core()
    cpp = {symbol: name for name, symbol in
           re.findall(r"\b(\w+) = (WSABI_E_\w+)", source("include/wsabi.hpp"))}
    # A class that the package does not show goes by the one it is derived from.
    python = python_says(
        "import json, wsabi, wsabi._errors as e\n"
        "shown = lambda c: c.__name__ if hasattr(wsabi, c.__name__) else shown(c.__mro__[1])\n"
        "print(json.dumps({'WSABI_E_' + kind: shown(c) for kind, c in e._CLASSES.items()}))")
    written = {}
    for first, variant, status, exception, _ in table(ERRORS, "C, and its number"):
        symbol, number = re.fullmatch(r"`(\w+)` (-\d+)", first).groups()
        written[symbol] = (int(number), *code_of(variant), *code_of(status), *code_of(exception))
    true = {symbol: (number, variant, cpp.get(symbol), python.get(symbol))
            for symbol, (number, variant) in core.items()}
    same("the errors", written, true)


def errors_send_these_close_codes():
    """The documentation of each kind has the close code, where there is one."""
    true = {}
    for doc, symbol in re.findall(r'((?:^    ///.*\n)+)    \w+ = -\d+, "(\w+)";', source("core/src/error.rs"),
                                  re.M):
        if match := re.search(r"close code(?:\s+///)? (\d+)", doc):
            true[symbol] = match[1]
    written = {}
    for kinds, peer in table(ERRORS, "kind"):
        if match := re.match(r"Close (\d+)", peer):
            written |= {symbol: match[1] for symbol in code_of(kinds)}
    same("the close codes", written, true)


def errors_are_nodes():
    """What the package makes of a kind stands in its row: the code, or the words."""
    program = """
      const e = require(process.argv[1]);
      const of = (error) => error.code ?? error.message;
      const place = { address: 'host', port: 1 };
      const at = (kind, os = 0) => of(e.handshakeError(e.KIND[kind], os, 'words', 404,
                                                        { place, isOffering: false, deflate: null }));
      const received = (kind) => of(e.receiveError(e.KIND[kind], 'words'));
      console.log(JSON.stringify({
        INVALID_TEXT: received('INVALID_TEXT'), MESSAGE_TOO_BIG: received('MESSAGE_TOO_BIG'),
        TOO_MANY_FRAGMENTS: received('TOO_MANY_FRAGMENTS'), PROTOCOL: received('PROTOCOL'),
        REFUSED: at('REFUSED'), HANDSHAKE_TIMEOUT: at('HANDSHAKE_TIMEOUT'), LOST: at('LOST'),
        CONNECT: at('CONNECT', 111), RESOLVE: at('RESOLVE'), UNSUPPORTED: of(e.notSupported('it')),
        FULL: of(e.fullError('words')),
      }));"""
    done = subprocess.run(["node", "-e", program, ROOT / "bindings" / "node" / "lib" / "errors.js"],
                          capture_output=True, text=True)
    expect(done.returncode == 0, done.stderr)
    rows = [rows for rows in tables(ERRORS) if rows[0] == ["kind", "in Node.js"]]
    expect(len(rows) == 1, "there is no table of the errors in Node.js")
    written = {symbol: cell for kinds, cell in rows[0][1:] for symbol in code_of(kinds)}
    wrong = [f"{kind} is {words!r}" for kind, words in json.loads(done.stdout).items()
             if f"`{words}`" not in written.get(f"WSABI_E_{kind}", "")]
    expect(not wrong, "; ".join(wrong))
    unknown = set(written) - set(kinds_of_the_core())
    expect(not unknown, f"there is no {', '.join(sorted(unknown))}")


def amount(words):
    """`16 MiB`, `65,536`, `10 s`, `off` and `none` as the sources have them."""
    if words in ("off", "none"):
        return None
    number, _, unit = words.replace(",", "").partition(" ")
    return int(number) * {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20}[unit]


# What `Config` has besides limits and times.
NO_LIMITS = {"no_delay", "stream_messages", "deflate"}


def defaults_of(struct):
    """{field: default} of a struct in the core's configuration, times in seconds."""
    text = re.search(rf"impl Default for {struct} \{{.*?^\}}", source("core/src/config.rs"),
                     re.M | re.S)[0]
    values = {}
    for name, value in re.findall(r"^            (\w+): (.*),$", text, re.M):
        if name in NO_LIMITS:
            continue
        if seconds := re.search(r"from_secs\((\d+)\)", value):
            values[name] = int(seconds[1])
        elif value in ("None", "false"):
            values[name] = None
        else:
            number, _, shift = value.replace("_", "").partition(" << ")
            values[name] = int(number) << int(shift or 0)
    return values


def limits_of_the_core():
    return defaults_of("Config")


def compression_is_the_sources():
    rows = [rows for rows in tables(LIMITS) if rows[0][0].startswith("C: `wsabi_deflate`")]
    expect(len(rows) == 1, "there is no table of the options of compression")
    written = {name: amount(row[1]) for row in rows[0][1:] for name in code_of(row[0])}
    same("the core's options of compression", written, defaults_of("DeflateOptions"))
    for name, struct in [("wsabi.h", r"typedef struct wsabi_deflate \{(.*?)\}"),
                         ("wsabi.hpp", r"^struct Deflate \{(.*?)^\};")]:
        text = re.search(struct, source(f"include/{name}"), re.M | re.S)[1]
        fields = set(re.findall(r"^  (?:[\w:<>]+) (\w+)[ ;]", text, re.M)) - {"enabled"}
        same(f"the options of compression in {name}", dict.fromkeys(written, ""), dict.fromkeys(fields, ""))


def limits_are_the_sources():
    rows = table(LIMITS, "C: `wsabi_limits`")
    core = limits_of_the_core()
    same("the core's limits", {code_of(row[1])[0]: amount(row[3]) for row in rows}, core)
    struct = re.search(r"typedef struct wsabi_limits \{(.*?)\}", source("include/wsabi.h"), re.S)[1]
    names = re.findall(r"^  uint\d+_t (\w+);$", struct, re.M)
    same("the header's limits", {code_of(row[0])[0]: "" for row in rows}, dict.fromkeys(names, ""))
    struct = re.search(r"^struct Limits \{(.*?)^\};", source("include/wsabi.hpp"), re.M | re.S)[1]
    names = re.findall(r"^  std::[\w:]+ (\w+)[ {]", struct, re.M)
    same("the limits of wsabi.hpp", {code_of(row[1])[0]: "" for row in rows}, dict.fromkeys(names, ""))
    python = python_says(
        "import inspect, json, wsabi\n"
        "parameters = inspect.signature(wsabi.serve).parameters\n"
        "print(json.dumps({n: p.default for n, p in parameters.items()\n"
        "    if n.startswith(('max_', 'high_', 'low_')) and n != 'max_buffered_bytes'\n"
        "    or n.endswith(('_timeout', '_interval'))}))")
    same("Python's limits", {code_of(row[2])[0]: amount(row[3]) for row in rows}, python)
    for first, second, third, _ in rows:
        names = {re.sub("_ms$", "", code_of(cell)[0]) for cell in (first, second, third)}
        expect(len(names) == 1, f"one row has {', '.join(sorted(names))}")


def limits_are_nodes():
    program = """
      const { DEFAULTS, limitsOf } = require(process.argv[1]);
      // What the code reads besides the options of ws.
      const own = new Set();
      limitsOf(new Proxy({ ...DEFAULTS }, { get(target, name) {
        if (!(name in target)) own.add(name);
        return target[name];
      } }));
      console.log(JSON.stringify({ defaults: DEFAULTS, own: [...own] }));"""
    done = subprocess.run(["node", "-e", program, ROOT / "bindings" / "node" / "lib" / "options.js"],
                          capture_output=True, text=True)
    expect(done.returncode == 0, done.stderr)
    says = json.loads(done.stdout)
    core = limits_of_the_core()
    true = {name: str(says["defaults"][name]) for name in ("maxPayload", "maxFragments", "closeTimeout")}
    for name in set(says["own"]) - {"stream"}:
        field = re.sub("[A-Z]", lambda match: "_" + match[0].lower(), name)
        value = core[field]
        # As with ws there are no pings by default, and a backlog has no limit.
        if name in ("pingInterval", "maxBacklogBytes") or value is None:
            true[name] = "none"
        else:
            true[name] = str(value * 1000 if re.search("Timeout|Interval", name) else value)
    rows = next(rows for rows in tables(LIMITS) if rows[0] == ["option", "default", "the limit"])[1:]
    # The budget is an option of a server, not one of the limits of its connections.
    true["maxBufferedBytes"] = "none"
    same("Node's limits", {code_of(row[0])[0]: row[1] for row in rows}, true)
    known = {name for row in table(LIMITS, "C: `wsabi_limits`") for name in code_of(row[0])}
    known.add("max_buffered_bytes")
    unknown = {name for row in rows for name in code_of(row[2])} - known
    expect(not unknown, f"wsabi_limits has no {', '.join(sorted(unknown))}")


def lines_of_loops_are_in_the_guide():
    guide = (ROOT / "docs" / "loop.md").read_text("utf-8")
    lines = [code.replace("\\|", "|") for row in table(README, "loop") for code in code_of(row[1])
             if not re.fullmatch(r"wsabi\.\w+", code)]
    missing = [line for line in lines if line not in guide]
    expect(len(lines) >= 5 and not missing, f"docs/loop.md does not have {'; '.join(missing)}")


# Pages whose facts the installed Python package is asked for.
NEED_PYTHON = {ERRORS, LIMITS}

OF_EVERY_PAGE = {
    "links lead somewhere": links_lead_somewhere,
    "the paths it names exist": paths_exist,
    "the names it uses exist": names_are_known,
    "the commands it gives exist": commands_exist,
}
OF_ONE_PAGE = [
    (ERRORS, "the errors are those of the sources", errors_are_the_sources),
    (ERRORS, "the close codes are those of the core", errors_send_these_close_codes),
    (ERRORS, "the errors in Node.js are those of its package", errors_are_nodes),
    (LIMITS, "the limits are those of the sources", limits_are_the_sources),
    (LIMITS, "the options of compression are those of the sources", compression_is_the_sources),
    (LIMITS, "the limits in Node.js are those of its package", limits_are_nodes),
    (README, "the lines for other loops are in the guide", lines_of_loops_are_in_the_guide),
]


def checks(pages):
    """(what, function without arguments) for each fact of these pages."""
    for page in pages:
        name = page.relative_to(ROOT)
        for what, check in OF_EVERY_PAGE.items():
            yield f"{name}: {what}", lambda check=check, page=page: check(page)
        for of, what, check in OF_ONE_PAGE:
            if of == page:
                yield f"{name}: {what}", check
