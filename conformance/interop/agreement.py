"""What two endpoints have to agree on about permessage-deflate (RFC 7692 §7.1), from what each was
told: a model of how the libraries here offer and answer, to compare the headers with.

An endpoint is (library, window or None for the library's own defaults, context takeover).
"""
import re
from typing import NamedTuple


class Agreed(NamedTuple):
    """The four parameters; absent ones have the values that this has by default."""
    server_bits: int = 15
    client_bits: int = 15
    server_takeover: bool = True
    client_takeover: bool = True

    def __str__(self):
        return (f"windows of {self.server_bits} and {self.client_bits} bits, the server "
                f"{'with' if self.server_takeover else 'without'}, the client "
                f"{'with' if self.client_takeover else 'without'} context takeover")


class Refused(Exception):
    """The server refuses the handshake: `ws` does so where it cannot accept an offer."""


class Offer(NamedTuple):
    server_bits: int | None = None
    client_bits: int | None = None  # 15 also where it is named without a value
    server_takeover: bool = True
    client_takeover: bool = True


def offers(client):
    library, bits, takeover = client
    if library == "aiohttp":  # tells the server its window, and nothing else
        return [Offer(None if bits in (None, 15) else bits, 15)]
    if bits is None:
        return [Offer(12, 12) if library == "websockets" else Offer(None, 15)]
    offer = Offer(bits, bits, takeover, takeover)
    if library == "wsabi":  # its own window is its own business; a smaller one can be declined
        second = Offer(None, 15, takeover, takeover)
        return [second] if bits == 15 else [second._replace(server_bits=bits), second]
    return [offer]


def answer(server, offered):
    """What the server agrees to."""
    library, bits, takeover = server
    for offer in offered:
        if library == "aiohttp":  # does as it is told, and leaves the client alone
            return Agreed(offer.server_bits or 15, 15, offer.server_takeover)
        if bits is None:
            bits, takeover = (12, True) if library == "websockets" else (None, True)
        limits = (offer.server_takeover and takeover, offer.client_takeover and takeover)
        if library == "ws":  # names what it was told, or goes on
            if bits is None:
                return Agreed(offer.server_bits or 15, 15, *limits)
            if bits > (offer.server_bits or 15) or bits > (offer.client_bits or 0):
                continue
            return Agreed(bits, bits, *limits)
        return Agreed(min(bits, offer.server_bits or 15),
                      min(bits, offer.client_bits) if offer.client_bits else 15, *limits)
    raise Refused


def agreement(client, server):
    return answer(server, offers(client))


def read(header):
    """The agreement that a response's Sec-WebSocket-Extensions says; None without one."""
    if header == "":
        return None
    name, *params = re.split(r"\s*;\s*", header.strip())
    found = dict(re.fullmatch(r"(\w+)(?:=(\d+))?", param).groups() for param in params)
    if name != "permessage-deflate" or len(found) != len(params):
        raise ValueError(f"{header!r} is no answer to an offer of permessage-deflate")
    agreed = Agreed(int(found.pop("server_max_window_bits", 15)),
                    int(found.pop("client_max_window_bits", 15)),
                    found.pop("server_no_context_takeover", 0) == 0,
                    found.pop("client_no_context_takeover", 0) == 0)
    if found:
        raise ValueError(f"{header!r} names parameters that there are not")
    return agreed
