"""The package as it is installed: where it is, what it is called, and how it explains itself."""
import contextlib
import importlib.metadata
import inspect
import io
import pydoc
import re
import sys
import sysconfig
from pathlib import Path

import pytest

import wsabi
from support import CHECKOUT, script
from wsabi import _errors, _types, _wsabi

PUBLIC = sorted(wsabi.__all__)


def test_comes_from_the_wheel_and_not_from_the_checkout():
    place = Path(wsabi.__file__).resolve()
    assert "site-packages" in place.parts
    assert place.is_relative_to(Path(sysconfig.get_path("platlib")).resolve())
    assert not place.is_relative_to(CHECKOUT / "bindings")
    assert Path(_wsabi.__file__).parent == Path(wsabi.__file__).parent


def test_the_working_folder_is_outside_of_the_checkout():
    assert not Path.cwd().is_relative_to(CHECKOUT)


def test_every_source_of_the_checkout_is_installed_as_it_is():
    sources = CHECKOUT / "bindings/python/python/wsabi"
    installed = Path(wsabi.__file__).parent
    names = {path.name for path in sources.iterdir() if path.suffix in (".py", ".pyi", ".typed")}
    assert "py.typed" in names
    for name in names:
        assert (installed / name).read_bytes() == (sources / name).read_bytes(), name


def test_the_version_is_that_of_the_metadata_and_of_the_workspace():
    assert wsabi.__version__ == importlib.metadata.version("wsabi")
    manifest = (CHECKOUT / "Cargo.toml").read_text()
    assert re.search(r'^version = "(.+)"$', manifest, re.M)[1] == wsabi.__version__


def test_the_metadata_is_whole():
    metadata = importlib.metadata.metadata("wsabi")
    assert metadata["Summary"]
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT OR Apache-2.0"
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert "wsabi.serve" in metadata.get_payload() or "wsabi.serve" in metadata.get("Description", "")
    assert not importlib.metadata.requires("wsabi"), "the package needs nothing else"


def test_the_wheel_carries_the_licences():
    names = [file.name for file in importlib.metadata.files("wsabi")]
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= set(names)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists(name):
    assert getattr(wsabi, name) is not None


def test_all_is_sorted_and_without_repetition():
    assert len(set(PUBLIC)) == len(wsabi.__all__)


def test_star_import_gives_what_all_says():
    namespace = {}
    exec("from wsabi import *", namespace)
    assert set(PUBLIC) <= set(namespace)


@pytest.mark.parametrize(
    "name", [name for name in PUBLIC if inspect.isclass(getattr(wsabi, name))
             or inspect.isroutine(getattr(wsabi, name))])
def test_every_public_name_has_a_docstring(name):
    thing = getattr(wsabi, name)
    text = inspect.getdoc(thing)
    assert text and len(text) > 20, name


@pytest.mark.parametrize("owner", [
    wsabi.Loop, wsabi.WebSocket, wsabi.Server, wsabi.Request, wsabi.Headers, wsabi.Response,
    wsabi.Accept, wsabi.WebSocketError])
def test_every_public_member_has_a_docstring(owner):
    bare = []
    for name in dir(owner):
        if name.startswith("_") or name in dir(Exception) or name in ("with_traceback", "args"):
            continue
        member = inspect.getattr_static(owner, name)
        if not (callable(member) or isinstance(member, property) or inspect.isdatadescriptor(member)):
            continue
        text = inspect.getdoc(getattr(owner, name))
        if not text and not inspect.ismemberdescriptor(member):
            bare.append(name)
    assert not bare


@pytest.mark.parametrize("name", ["send", "close", "ping", "pause", "terminate", "send_fragment"])
def test_methods_say_what_they_raise_or_return(name):
    assert len(inspect.getdoc(getattr(wsabi.WebSocket, name))) > 40


@pytest.mark.parametrize("thing, words", [
    (wsabi.connect, ["ws://example.com/chat", "max_message_bytes", "InvalidArgument"]),
    (wsabi.serve, ["on_upgrade", "origins", "same-host", "TransportError"]),
    (wsabi.Loop, ["fileno", "dispatch", "poll", "run_forever"]),
    (wsabi.WebSocket, ["send", "close", "on_message"]),
    (wsabi, ["wsabi.serve"]),
])
def test_help_explains(thing, words):
    text = pydoc.plain(pydoc.render_doc(thing))
    for word in words:
        assert word in text


def test_help_prints():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        help(wsabi.connect)
    assert re.search(r"max_message_bytes: '?int'? = 16777216", out.getvalue())


@pytest.mark.parametrize("method", ["send", "close", "send_fragment", "ping"])
def test_builtin_methods_have_signatures(method):
    names = list(inspect.signature(getattr(wsabi.WebSocket, method)).parameters)
    assert names[0] == "self"
    assert len(names) > 1


def test_the_signature_of_loop_names_its_options():
    assert {"max_events", "max_inbox_bytes", "logger"} <= set(
        inspect.signature(wsabi.Loop).parameters)


@pytest.mark.parametrize("error", sorted(
    (getattr(_errors, name) for name in _errors.__all__ if name != "Address"),
    key=lambda cls: cls.__name__))
def test_errors_come_from_one_base_and_are_public(error):
    assert issubclass(error, wsabi.WebSocketError)
    assert getattr(wsabi, error.__name__) is error


@pytest.mark.parametrize("error, base", [
    (wsabi.InvalidArgument, ValueError), (wsabi.InvalidState, RuntimeError),
    (wsabi.WrongThread, RuntimeError), (wsabi.Forked, RuntimeError),
    (wsabi.TransportError, OSError), (wsabi.ConnectionTimeout, TimeoutError),
    (wsabi.HandshakeRefused, wsabi.HandshakeError)])
def test_errors_are_also_what_python_calls_them(error, base):
    assert issubclass(error, base)


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isclass(getattr(wsabi, name))])
def test_classes_know_that_they_are_of_wsabi(name):
    assert getattr(wsabi, name).__module__.split(".")[0] == "wsabi"


def test_types_module_exports_are_public():
    hidden = {"HeaderList", "HeadersLike"}  # names for annotations only
    assert set(_types.__all__) - hidden <= set(PUBLIC)


def test_importing_does_not_import_asyncio():
    # It costs tens of milliseconds, and callbacks need none of it.
    assert script("import sys, wsabi; print('asyncio' in sys.modules)") == "False\n"


def test_importing_starts_nothing():
    out = script("""
        import os
        before = sorted(os.listdir("/proc/self/fd"))
        import wsabi, threading
        print(len(os.listdir("/proc/self/fd")) - len(before), threading.active_count())
    """)
    assert out == "0 1\n"


def test_the_wheel_is_for_this_version():
    assert f"cp{sys.version_info[0]}{sys.version_info[1]}" in next(
        line for line in importlib.metadata.distribution("wsabi").read_text("WHEEL").splitlines()
        if line.startswith("Tag:"))
