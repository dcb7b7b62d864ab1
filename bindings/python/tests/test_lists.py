"""The lists that every language has: options and their defaults, and the kinds of errors."""
import inspect
import re

import pytest

import wsabi
from support import CHECKOUT
from wsabi import _errors, _wsabi

ERROR_RS = (CHECKOUT / "core/src/error.rs").read_text()
CONFIG_RS = (CHECKOUT / "core/src/config.rs").read_text()
HEADER = (CHECKOUT / "include/wsabi.h").read_text()

KINDS = [(symbol.removeprefix("WSABI_E_"), int(number)) for number, symbol in
         re.findall(r'^\s+\w+ = (-\d+), "(WSABI_E_\w+)";', ERROR_RS, re.M)]


def value_of(text):
    """A value of the core's `Default`, in Python's units."""
    if match := re.fullmatch(r"Some\((.+)\)", text):
        return value_of(match[1])
    if match := re.fullmatch(r"Duration::from_secs\((\d+)\)", text):
        return float(match[1])
    if match := re.fullmatch(r"(\d+) << (\d+)", text):
        return int(match[1]) << int(match[2])
    return {"None": None, "true": True, "false": False}.get(text) if text in (
        "None", "true", "false") else int(text.replace("_", ""))


CORE_DEFAULTS = {name: value_of(text) for name, text in re.findall(
    r"^            (\w+): (.+),$", CONFIG_RS.split("impl Default for Config")[1].split("}")[0], re.M)}


def limits_of_the_header():
    """The fields of wsabi_limits, by Python's names."""
    body = HEADER.split("typedef struct wsabi_limits {")[1].split("} wsabi_limits;")[0]
    names = re.findall(r"^  uint\d+_t (\w+);", body, re.M)
    return [re.sub("_ms$", "", name) for name in names if not name.startswith("reserved")]


def keyword_options(function):
    return {name: parameter.default for name, parameter in
            inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


CONNECT, SERVE = keyword_options(wsabi.connect), keyword_options(wsabi.serve)


def test_there_is_something_to_compare():
    assert len(KINDS) >= 30
    assert len(CORE_DEFAULTS) >= 15
    assert len(limits_of_the_header()) >= 14


def test_the_error_kinds_are_the_core_s():
    assert sorted(_wsabi.ERROR_KINDS) == sorted(KINDS)


def test_the_error_kinds_are_the_header_s():
    defined = {name.removeprefix("WSABI_E_"): int(number) for name, number in
               re.findall(r"^#define (WSABI_E_\w+) \((-\d+)\)$", HEADER, re.M)}
    assert dict(_wsabi.ERROR_KINDS) == defined


def test_every_error_kind_has_an_exception():
    assert set(_errors._CLASSES) == {name for name, _ in KINDS}


@pytest.mark.parametrize("name, number", KINDS)
def test_an_exception_tells_its_kind(name, number):
    error = _errors.make(name, number, "the text", 0, 0, None)
    assert (error.kind, error.number, str(error)) == (name, number, "the text")
    assert type(error) is _errors._CLASSES[name]


def test_the_defaults_of_the_extension_are_the_core_s():
    for name, value in CORE_DEFAULTS.items():
        assert _wsabi.DEFAULTS[name] == value, name


def test_the_extension_has_no_default_that_nobody_can_set():
    options = set(CONNECT) | set(SERVE) | set(inspect.signature(wsabi.Loop).parameters)
    assert set(_wsabi.DEFAULTS) <= options | {"grace"}


@pytest.mark.parametrize("name", sorted(_wsabi.DEFAULTS))
def test_the_signatures_show_the_defaults_of_the_extension(name):
    for options in (CONNECT, SERVE):
        if name in options:
            given = options[name]
            assert (given, type(given)) == (_wsabi.DEFAULTS[name], type(_wsabi.DEFAULTS[name]))


def test_every_limit_of_the_core_can_be_given():
    assert set(CORE_DEFAULTS) <= set(SERVE)
    of_servers = {"hold_timeout", "max_pending_handshakes"}
    assert set(CORE_DEFAULTS) - of_servers <= set(CONNECT)
    assert not of_servers & set(CONNECT), "a client has no such thing"


def test_the_limits_are_those_of_the_header():
    assert set(limits_of_the_header()) | {"no_delay", "stream_messages", "deflate"} == set(CORE_DEFAULTS)


def test_the_limits_of_the_header_say_the_same_defaults():
    body = HEADER.split("typedef struct wsabi_limits {")[1].split("} wsabi_limits;")[0]
    told = re.findall(r"Default (\S+?)(?: MiB| KiB)?[.;,]?(?=[\s;.]).*?\n   \*/\n  uint\d+_t (\w+);",
                      body, re.S)
    for number, name in told:
        if not number.strip(".;").isdigit():
            continue
        value = CORE_DEFAULTS[re.sub("_ms$", "", name)]
        unit = 1000 if name.endswith("_ms") else 1
        if isinstance(value, int) and value >= 1 << 17:
            unit = 1 / (1 << 20) if value >= 1 << 20 else 1 / (1 << 10)
        assert value * unit == int(number.strip(".;")), name


def test_the_options_of_the_listening_socket_are_the_core_s():
    core = (CHECKOUT / "core/src/net/listener.rs").read_text()
    assert int(re.search(r"backlog: (\d+),", core)[1]) == SERVE["backlog"]
    assert "reuse_port: false" in core and SERVE["reuse_port"] is False


def test_the_options_of_the_loop_are_the_core_s():
    core = (CHECKOUT / "core/src/net/loop.rs").read_text()
    body = core.split("impl Default for LoopOptions")[1].split("\n}")[0]
    parameters = inspect.signature(wsabi.Loop).parameters
    for name in ("max_events", "max_inbox_bytes"):
        text = re.search(rf"{name}: (.+),", body)[1]
        assert parameters[name].default == value_of(text), name


def test_the_options_of_compression_are_the_core_s():
    body = CONFIG_RS.split("impl Default for DeflateOptions")[1].split("\n}")[0]
    core = {name: value_of(text) for name, text in re.findall(r"(\w+): (\w+),$", body, re.M)}
    assert len(core) == 8
    assert {name: getattr(wsabi.Deflate(), name) for name in core} == core
    assert set(inspect.signature(wsabi.Deflate).parameters) == set(core)


def test_what_is_agreed_and_reached_has_the_core_s_fields():
    for kind, file, name in ((wsabi.Agreed, "protocol/extension.rs", "Agreed"),
                             (wsabi.Reached, "net/broadcast.rs", "Reached")):
        body = (CHECKOUT / "core/src" / file).read_text().split(f"pub struct {name} {{")[1]
        assert list(kind._fields) == re.findall(r"pub (\w+): \w+", body.split("\n}")[0])


def test_stats_has_the_core_s_fields():
    core = (CHECKOUT / "core/src/net/context.rs").read_text()
    body = core.split("pub struct Stats {")[1].split("\n}")[0]
    assert list(wsabi.Stats._fields) == re.findall(r"pub (\w+): u64", body)


def test_stopped_has_the_core_s_fields():
    core = (CHECKOUT / "core/src/net/listener.rs").read_text()
    body = core.split("pub struct Stopped {")[1].split("\n}")[0]
    assert list(wsabi.Stopped._fields) == re.findall(r"pub (\w+): u64", body)


def test_the_callbacks_are_those_of_the_header():
    body = HEADER.split("typedef struct wsabi_handlers {")[1].split("} wsabi_handlers;")[0]
    callbacks = set(re.findall(r"^  wsabi_on_\w+ (on_\w+);", body, re.M))
    assert len(callbacks) >= 10
    assert callbacks == {name for name in SERVE if name.startswith("on_")}
    servers_only = {"on_upgrade", "on_http", "on_stopped"}
    assert callbacks - servers_only == {name for name in CONNECT if name.startswith("on_")}
    for name in callbacks:
        assert callable(getattr(wsabi.Server, name))
    for name in callbacks - servers_only:
        assert callable(getattr(wsabi.WebSocket, name))


def test_the_payload_of_keepalive_is_the_core_s():
    core = (CHECKOUT / "core/src/protocol/connection.rs").read_text()
    payload = re.search(r'KEEPALIVE_PAYLOAD: &\[u8\] = b"(.+)";', core)[1]
    assert wsabi.KEEPALIVE_PAYLOAD == payload.encode()
