"""What a stream of one direction contains: where the head ends, where messages end, and where the
Close frame begins. Headers are read, payloads are stepped over.

Does not know: sockets, or whether anything is right.
"""

CLOSE = 8
SHORTEST_CLOSE = 4  # header and code; masked ones have four more
LONGEST_HEADER = 14


class Stream:
    """A direction's bytes, as they come. Positions count from its first byte."""

    def __init__(self):
        self.at = 0  # how much has come
        self.messages = 0  # how many are complete
        self.head_end = None
        self.close_at = self.close_end = None
        self._head = b""
        self._header = b""  # the part of a frame header that has come
        self._left = 0  # of the payload
        self._ends_message = False

    def feed(self, data):
        """Takes in what follows; gives the positions where messages end in it."""
        ends = []
        start, at = self.at, 0
        self.at += len(data)
        if self.head_end is None:
            at = self._feed_head(data)
        while at < len(data):
            if self._left == 0:
                at = self._feed_header(data, at, start)
            step = min(self._left, len(data) - at)
            at += step
            self._left -= step
            if self._left == 0 and self._ends_message:
                self._ends_message = False
                ends.append(start + at)
        self.messages += len(ends)
        return ends

    def _feed_head(self, data):
        """How much of the data belongs to the HTTP head."""
        before = len(self._head)
        self._head += data
        found = self._head.find(b"\r\n\r\n")
        if found < 0:
            return len(data)
        self.head_end = found + 4
        self._head = b""
        return self.head_end - before

    def _feed_header(self, data, at, start):
        """Reads a frame header, which may come in pieces; where what follows it begins."""
        known = len(self._header)
        header = self._header + data[at:at + LONGEST_HEADER - known]
        opcode = header[0] & 15
        if opcode == CLOSE and self.close_at is None:
            self.close_at = start + at - known
        size, length = header_of(header)
        if size is None:
            self._header = header
            return len(data)
        self._header = b""
        self._left = length
        if opcode == CLOSE and self.close_end is None:
            self.close_end = self.close_at + size + length
        self._ends_message = header[0] & 0x80 != 0 and opcode < CLOSE
        return at + size - known

    def position(self, phase, offset):
        """Where that is, if it is known yet: an offset from the beginning of a phase. One beyond the
        Close frame is its end."""
        if phase == "handshake":
            return offset
        if phase == "messages":
            return None if self.head_end is None else self.head_end + offset
        if self.close_at is None or (self.close_end is None and offset > SHORTEST_CLOSE):
            return None
        return min(self.close_at + offset, self.close_end or self.close_at + offset)


def header_of(data):
    """Size of the frame header that these bytes begin with, and of its payload (RFC 6455 §5.2)."""
    if len(data) < 2:
        return None, 0
    length, extended = data[1] & 0x7F, 0
    if length > 125:
        extended = 2 if length == 126 else 8
        length = int.from_bytes(data[2:2 + extended], "big")
    size = 2 + extended + (4 if data[1] & 0x80 else 0)
    return (size, length) if len(data) >= size else (None, 0)
