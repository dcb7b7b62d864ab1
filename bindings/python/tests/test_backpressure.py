"""A peer that does not read: what send answers, the backlog, on_drain, pause and resume."""
import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, RawServer, drive, serve, settle

KIB, MIB = 1 << 10, 1 << 20
WATERS = {"high_water_bytes": 64 * KIB, "low_water_bytes": 16 * KIB, "max_backlog_bytes": 256 * KIB}


class Deaf:
    """A connection whose peer, by hand, does not read until it is told."""

    def __init__(self, loop, side, **options):
        self.notes = Notes()
        options = {**WATERS, "ping_interval": None, **self.notes.callbacks(), **options}
        if side == "server":
            server = serve(loop, **options)
            self.raw = RawClient(loop, server, receive_buffer=4 * KIB)
            self.raw.open()
            drive(loop, lambda: server.connections)
            self.ws = server.connections[0]
        else:
            peer = RawServer(loop, receive_buffer=4 * KIB)
            self.ws = wsabi.connect(peer.url, loop=loop, **options)
            self.raw = peer.open()
            drive(loop, lambda: self.ws.state == wsabi.State.OPEN)
        self.raw.reading = False
        self.loop = loop

    def fill(self):
        """Sends until the backlog is above high water; how many messages that took."""
        count = 1
        while self.ws.send(bytes(KIB)):
            count += 1
            assert count < 100000
        return count

    def fill_up(self):
        """Sends until nothing more is accepted; how many messages that took."""
        count = 0
        while True:
            try:
                self.ws.send(bytes(KIB))
            except wsabi.BufferFull:
                return count
            count += 1

    def read(self):
        self.raw.reading = True
        drive(self.loop, lambda: self.ws.buffered_amount == 0, self.raw)
        settle(self.loop, self.raw)

    def received(self):
        """How many data frames the peer has."""
        count = 0
        while found := frames.decode(self.raw.incoming):
            count += found[0].opcode < 8
            del self.raw.incoming[:found[1]]
        return count


both = pytest.mark.parametrize("side", ["server", "client"])


@both
def test_false_above_high_water(loop, side):
    deaf = Deaf(loop, side)
    deaf.fill()
    assert WATERS["high_water_bytes"] < deaf.ws.buffered_amount \
        <= WATERS["high_water_bytes"] + 2 * KIB
    assert deaf.ws.send("x") is False
    assert loop.stats().buffered_bytes == deaf.ws.buffered_amount
    assert deaf.notes.count("on_drain") == 0


@both
def test_buffer_full_at_the_hard_cap(loop, side):
    deaf = Deaf(loop, side)
    deaf.fill_up()
    before = deaf.ws.buffered_amount
    assert WATERS["max_backlog_bytes"] - 2 * KIB <= before <= WATERS["max_backlog_bytes"] + 2 * KIB
    for call in (lambda: deaf.ws.send(bytes(KIB)), lambda: deaf.ws.send_text("x" * KIB),
                 lambda: deaf.ws.send_fragment(bytes(KIB), True)):
        with pytest.raises(wsabi.BufferFull, match="backlog|bytes") as caught:
            call()
        assert caught.value.kind == "FULL"
        assert str(WATERS["max_backlog_bytes"]) in str(caught.value)
    assert deaf.ws.buffered_amount == before, "nothing of them was queued"
    assert deaf.ws.state == wsabi.State.OPEN


@both
def test_nothing_that_was_accepted_is_lost_and_nothing_refused_arrives(loop, side):
    deaf = Deaf(loop, side)
    accepted = deaf.fill_up()
    deaf.read()
    assert deaf.received() == accepted
    assert deaf.ws.send("again") is True


@both
@pytest.mark.parametrize("how", ["fill", "fill_up"])
def test_on_drain_comes_once_at_low_water(loop, side, how):
    amounts = []
    deaf = Deaf(loop, side, on_drain=lambda ws: amounts.append(ws.buffered_amount))
    getattr(deaf, how)()
    deaf.ws.send("x" if how == "fill" else "")
    settle(loop)
    assert amounts == []
    deaf.read()
    assert len(amounts) == 1 and amounts[0] <= WATERS["low_water_bytes"]
    deaf.raw.reading = False
    deaf.raw.incoming.clear()
    deaf.fill()
    deaf.read()
    assert len(amounts) == 2


@both
def test_without_backpressure_there_is_no_drain(loop, side):
    deaf = Deaf(loop, side)
    deaf.raw.reading = True
    for _ in range(20):
        assert deaf.ws.send(bytes(KIB)) is True
    settle(loop, deaf.raw)
    assert deaf.notes.count("on_drain") == 0


@both
def test_one_message_of_any_size_is_accepted_below_high_water(loop, side):
    deaf = Deaf(loop, side)
    assert deaf.ws.send(bytes(4 * MIB)) is False
    assert deaf.ws.buffered_amount > WATERS["max_backlog_bytes"]
    with pytest.raises(wsabi.BufferFull):
        deaf.ws.send(bytes(1))


def test_on_drain_may_go_on_sending(loop):
    left = [200]

    def pump(ws):
        while left[0]:
            left[0] -= 1
            if not ws.send(bytes(16 * KIB)):
                return

    deaf = Deaf(loop, "server", on_drain=pump)
    pump(deaf.ws)
    assert 0 < left[0] < 200
    deaf.raw.reading = True
    drive(loop, lambda: not left[0] and not deaf.ws.buffered_amount, deaf.raw)
    settle(loop, deaf.raw)
    assert deaf.received() == 200


@pytest.mark.parametrize("high", [0, 1, 1000])
def test_small_high_waters(loop, high):
    deaf = Deaf(loop, "server", high_water_bytes=high, low_water_bytes=0)
    deaf.ws.send(bytes(4 * MIB))
    assert deaf.ws.send("x") is False if deaf.ws.buffered_amount < 256 * KIB else True
    with pytest.raises(wsabi.BufferFull):
        deaf.ws.send(bytes(256 * KIB))
    deaf.read()
    assert deaf.notes.count("on_drain") == 1
    assert deaf.ws.send("x") is True


def test_pings_and_pongs_hear_of_the_backlog_too(loop):
    deaf = Deaf(loop, "server")
    deaf.fill()
    assert deaf.ws.ping(b"x") is False and deaf.ws.pong(b"x") is False
    deaf.fill_up()
    while deaf.ws.buffered_amount < WATERS["max_backlog_bytes"] - 130:
        deaf.ws.send(bytes(100))
    with pytest.raises(wsabi.BufferFull):
        deaf.ws.ping(bytes(125))


def test_of_pongs_that_wait_only_the_latest_is_kept(loop):
    deaf = Deaf(loop, "server")
    deaf.fill()
    before = deaf.ws.buffered_amount
    for number in range(2000):
        deaf.raw.send(frames.PING, str(number))
    drive(loop, lambda: deaf.notes.count("on_ping") == 2000)
    assert deaf.ws.buffered_amount < before + 200
    deaf.read()
    pongs = []
    while found := frames.decode(deaf.raw.incoming):
        pongs += [found[0].payload] if found[0].opcode == frames.PONG else []
        del deaf.raw.incoming[:found[1]]
    assert pongs[-1] == b"1999" and len(pongs) <= 2


def test_closing_goes_behind_the_backlog(loop):
    deaf = Deaf(loop, "server")
    accepted = deaf.fill()
    deaf.ws.close(1000, "bye")
    assert deaf.ws.state == wsabi.State.CLOSING
    deaf.raw.reading = True
    seen = [deaf.raw.frame() for _ in range(accepted + 1)]
    assert seen[-1].close == (1000, "bye")


def test_terminating_drops_the_backlog(loop):
    deaf = Deaf(loop, "server")
    deaf.fill()
    deaf.ws.terminate()
    assert deaf.ws.buffered_amount == 0
    drive(loop, lambda: deaf.notes.closed)
    assert deaf.notes.count("on_drain") == 0
    assert loop.stats().buffered_bytes == 0


# --- the other direction -------------------------------------------------------------------


def test_pause_stops_reading_and_resume_loses_nothing(loop):
    pair = Pair(loop)
    pair.remote.pause()
    for number in range(100):
        pair.client.send(str(number))
    pair.settle()
    assert pair.at_server.messages == []
    pair.remote.resume()
    pair.drive(lambda: len(pair.at_server.messages) == 100)
    assert pair.at_server.messages == [str(number) for number in range(100)]


def test_pause_in_the_midst_of_messages(loop):
    got = []

    def on_message(ws, data):
        got.append(data)
        ws.pause()

    pair = Pair(loop, {"on_message": on_message})
    for number in range(10):
        pair.client.send(str(number))
    for count in range(1, 11):
        pair.drive(lambda: len(got) == count)
        pair.settle()
        assert len(got) == count, "one message for each resume"
        pair.remote.resume()
    assert got == [str(number) for number in range(10)]


def test_pause_and_resume_twice_are_fine(loop):
    pair = Pair(loop)
    pair.remote.pause()
    pair.remote.pause()
    pair.remote.resume()
    pair.remote.resume()
    pair.client.send("x")
    pair.drive(lambda: pair.at_server.messages == ["x"])


def test_a_paused_connection_may_send_and_be_closed(loop):
    pair = Pair(loop)
    pair.remote.pause()
    pair.remote.send("x")
    pair.drive(lambda: pair.at_client.messages == ["x"])
    pair.remote.terminate()
    pair.until_closed()


def test_a_peer_s_close_waits_while_paused(loop):
    pair = Pair(loop)
    pair.remote.pause()
    pair.client.close(1000, "bye")
    pair.settle()
    assert not pair.at_server.closed
    pair.remote.resume()
    pair.until_closed()
    assert pair.remote.close_reason == "bye"


def test_a_client_that_is_paused_presses_back_on_its_server(loop):
    pair = Pair(loop, WATERS)
    pair.client.pause()
    sent = 0
    while pair.remote.send(bytes(64 * KIB)):
        sent += 1
        pair.settle()
        assert sent < 2000
    assert pair.at_client.messages == []
    pair.client.resume()
    pair.drive(lambda: pair.at_server.count("on_drain") and len(pair.at_client.messages) == sent + 1)


@pytest.mark.parametrize("method", ["pause", "resume", "flush"])
def test_after_the_end_they_are_refused(loop, method):
    pair = Pair(loop)
    pair.client.terminate()
    pair.until_closed()
    with pytest.raises(wsabi.ConnectionClosed):
        getattr(pair.client, method)()
    assert pair.client.buffered_amount == 0


def test_a_posted_flush_of_everything(loop):
    pair = Pair(loop)
    waiting = []

    def inside():
        pair.client.send("x")
        waiting.append(pair.client.buffered_amount)
        pair.client.flush()
        waiting.append(pair.client.buffered_amount)
        pair.client.send("y")
        waiting.append(pair.client.buffered_amount)
        loop.flush()
        waiting.append(pair.client.buffered_amount)

    loop.call_soon_threadsafe(inside)
    pair.drive(lambda: len(pair.at_server.messages) == 2)
    assert waiting[0] > 0 and waiting[1] == 0 and waiting[2] > 0 and waiting[3] == 0
