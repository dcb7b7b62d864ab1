#!/usr/bin/env python3
"""Tries what examples/chat.md says: the rules at each chat server, then each chat client, alone and
in the room of every server.

    check_chat.py             every language there is
    check_chat.py python c    servers and clients of some of them

One line for each check, and a closing line `N passed, N failed, N skipped`.
"""
import contextlib
import re
import resource
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import checkout
from chat.clients import check_client
from chat.programs import LANGUAGES, SECONDS, Member, server
from chat.servers import check_server
from check_examples import Checks, expect

SERVERS = ("c", "python")


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
            kind = "" if isinstance(e, AssertionError) else f"{type(e).__name__}: "
            error = AssertionError(f"{kind}{e}"[:600])
        with self.lock:
            super().__call__(name, again, error)


def again(error):
    if error:
        raise error


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
            client = stack.enter_context(Member(language, url, f"in-{language}"))
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
