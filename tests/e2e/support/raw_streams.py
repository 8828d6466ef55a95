"""SPDY/3.1 and WebSocket clients that do what they are told, byte by byte: for every subprotocol that kubectl does not choose.

A `Door` is where requests go: the API server, or port 10250 with a client certificate. Reading happens on a thread of each
session, so a test may leave a stream unread without stopping the others.
"""

import base64
import hashlib
import json
import os
import select
import socket
import ssl
import struct
import threading
import time
import zlib

WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow authorization "
    "cache-control connection content-base content-encoding content-language content-length content-location content-md5 content-range "
    "content-type date etag expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since "
    "last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status"
).split() + ["200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin"]
TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative Information"
    "204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error"
    "501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, "
    "Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in WORDS) + TAIL.encode()
assert hashlib.sha256(DICTIONARY).hexdigest() == "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02"


class Refused(Exception):
    def __init__(self, status, headers, body):
        super().__init__(f"{status} {body!r}")
        self.status, self.headers, self.body = status, headers, body


class Door:
    def __init__(self, address, port, tls, headers=None):
        self.address, self.port, self.tls, self.headers = address, port, tls, headers or {}

    @classmethod
    def of_cluster(cls, cluster):
        """The API server, as administrator."""
        api = cluster.api
        return cls(api._host, api._port, api._tls, {k: v for k, v in api._headers.items() if k == "Authorization"})

    @classmethod
    def of_agent(cls, agent, pair):
        return cls(agent.address, agent.port, agent.tls(pair))

    def connect(self, timeout=20):
        plain = socket.create_connection((self.address, self.port), timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(plain, server_hostname=self.address)

    def request(self, method, path, headers):
        """A connection on which the server has answered 101, its headers, and what came behind them. Refused otherwise."""
        connection = self.connect()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.address}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in list(self.headers.items()) + list(headers)]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        data = b""
        while b"\r\n\r\n" not in data:
            block = connection.recv(65536)
            if not block:
                raise Refused(0, {}, data.decode(errors="replace"))
            data += block
        head, rest = data.split(b"\r\n\r\n", 1)
        first, *others = head.decode().split("\r\n")
        answered = {}
        for line in others:
            name, value = line.split(":", 1)
            answered[name.strip().lower()] = value.strip()
        status = int(first.split()[1])
        if status != 101:
            length = int(answered.get("content-length", "0"))
            connection.settimeout(5)
            while len(rest) < length:
                block = connection.recv(65536)
                if not block:
                    break
                rest += block
            connection.close()
            raise Refused(status, answered, rest.decode(errors="replace"))
        return connection, answered, rest


class Session:
    """A connection with a reading thread. `feed(bytes)` of the subclass runs on it, under `changed`."""

    def __init__(self, connection, early):
        self._connection = connection
        connection.setblocking(False)
        self._tls = threading.Lock()  # two threads must not be inside one TLS connection
        self.changed = threading.Condition()
        self.ended = None
        self.closing = False
        self._early = early
        self._thread = threading.Thread(target=self._read, daemon=True)

    def _begin(self):
        self._thread.start()

    def _read(self):
        block = self._early
        try:
            while True:
                if block:
                    with self.changed:
                        self.feed(block)
                        self.changed.notify_all()
                with self._tls:
                    try:
                        block = self._connection.recv(65536)
                        if not block:
                            raise EOFError("the peer closed the connection")
                        continue
                    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        block = b""
                select.select([self._connection], [], [], 0.2)
                if self.closing:
                    raise EOFError("closed by the test")
        except (OSError, EOFError, ValueError) as error:
            with self.changed:
                self.ended = self.ended or error
                self.changed.notify_all()

    def send_raw(self, data, timeout=30):
        view, deadline = memoryview(data), time.monotonic() + timeout
        while view:
            with self._tls:
                try:
                    view = view[self._connection.send(view) :]
                    continue
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            assert time.monotonic() < deadline, "the peer takes nothing"
            select.select([], [self._connection], [], 0.2)

    def wait(self, predicate, timeout=20, what="something"):
        deadline = time.monotonic() + timeout
        with self.changed:
            while not predicate():
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout} s for {what}; ended: {self.ended!r}"
                self.changed.wait(min(left, 1))

    def cut(self):
        """The end without a goodbye."""
        self.closing = True
        self._thread.join(5)
        self._connection.close()

    close = cut


class Stream:
    def __init__(self, session, number, kind):
        self.session, self.number, self.kind = session, number, kind
        self.data = bytearray()
        self.replied = self.ended = self.reset = False

    def write(self, data):
        self.session.write(self.number, data)

    def end(self):
        self.session.end(self.number)

    def read_all(self, timeout=30):
        """Everything up to the stream's end; a reset or the session's end count as one."""
        self.session.wait(lambda: self.ended or self.reset or self.session.ended, timeout, f"the end of {self.kind}, which has {bytes(self.data[-200:])!r}")
        return bytes(self.data)

    def read_until(self, size, timeout=30):
        self.session.wait(
            lambda: len(self.data) >= size or self.ended or self.reset or self.session.ended, timeout, f"{size} bytes of {self.kind}, which has {len(self.data)}"
        )
        return bytes(self.data)


class Spdy(Session):
    def __init__(self, connection, early=b"", tunnel=None):
        super().__init__(connection, early)
        self._deflate = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
        self._inflate = zlib.decompressobj(15, zdict=DICTIONARY)
        self._buffer = bytearray()
        self._next = 1
        self._sending = threading.Lock()
        self.streams = {}
        self.goaway = False
        self.pings = []
        self._tunnel = tunnel
        self._begin()

    def _send(self, data):
        with self._sending:
            self.send_raw(self._tunnel.frame(data) if self._tunnel else data)

    def _block(self, headers):
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            plain += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, timeout=20, wait=True, **headers):
        with self._sending:
            number = self._next
            self._next += 2
            stream = self.streams[number] = Stream(self, number, headers.get("streamtype", "?"))
            body = struct.pack(">IIBB", number, 0, 0, 0) + self._block(headers)
            frame = struct.pack(">HHI", 0x8003, 1, len(body)) + body
            self.send_raw(self._tunnel.frame(frame) if self._tunnel else frame)
        if wait:
            self.wait(lambda: stream.replied or stream.reset or self.ended, timeout, f"the reply for {headers}")
        return stream

    def write(self, number, data):
        for begin in range(0, len(data), 32768):
            block = data[begin : begin + 32768]
            self._send(struct.pack(">II", number, len(block)) + block)

    def end(self, number):
        self._send(struct.pack(">II", number, 1 << 24))

    def reset(self, number):
        self._send(struct.pack(">HHIII", 0x8003, 3, 8, number, 5))

    def ping(self, number=1):
        self._send(struct.pack(">HHII", 0x8003, 6, 4, number))

    def feed(self, block):
        self._buffer += self._tunnel.unframe(block) if self._tunnel else block
        while len(self._buffer) >= 8:
            first, second = struct.unpack(">II", self._buffer[:8])
            length = second & 0xFFFFFF
            if len(self._buffer) < 8 + length:
                return
            payload, flags = bytes(self._buffer[8 : 8 + length]), second >> 24
            del self._buffer[: 8 + length]
            if first >> 31:
                self._control(first & 0xFFFF, flags, payload)
            else:
                stream = self.streams.get(first)
                if stream is not None:
                    assert stream.replied, "data before the reply"
                    stream.data += payload
                    stream.ended |= bool(flags & 1)

    def _control(self, kind, flags, payload):
        number = struct.unpack(">I", payload[:4])[0] if len(payload) >= 4 else 0
        if kind == 2:
            self._inflate.decompress(payload[4:])
            self.streams[number].replied = True
            self.streams[number].ended |= bool(flags & 1)
        elif kind == 3:
            if number in self.streams:
                self.streams[number].reset = True
        elif kind == 6:
            self.pings.append(number)
        elif kind == 7:
            self.goaway = True


class WebSocket(Session):
    """Messages as (opcode, payload) in `messages`; channels of binary and base64 protocols in `channels`."""

    def __init__(self, connection, early, protocol):
        super().__init__(connection, early)
        self.protocol = protocol
        self._frames = Frames()
        self.messages = []
        self.channels = {}
        self.close_code = None
        self.pongs = []
        self._begin()

    def channel(self, number):
        return bytes(self.channels.get(number, b""))

    def send(self, channel, data):
        if "base64" in self.protocol:
            self.send_raw(self._frames.frame(str(channel).encode() + base64.b64encode(data), opcode=1))
        else:
            self.send_raw(self._frames.frame(bytes([channel]) + data))

    def close_channel(self, number):
        self.send_raw(self._frames.frame(bytes([255, number])))

    def ping(self, payload=b"?"):
        self.send_raw(self._frames.frame(payload, opcode=9))

    def feed(self, block):
        for opcode, payload in self._frames.take(block):
            if opcode in (1, 2):
                self.messages.append((opcode, payload))
                if payload:
                    base = "base64" in self.protocol
                    number = payload[0] - ord("0") if base else payload[0]
                    self.channels.setdefault(number, bytearray())
                    self.channels[number] += base64.b64decode(payload[1:]) if base else payload[1:]
            elif opcode == 8:
                self.close_code = struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 0
            elif opcode == 9:
                self.send_raw(self._frames.frame(payload, opcode=10))
            elif opcode == 10:
                self.pongs.append(payload)

    def wait_end(self, timeout=30):
        self.wait(lambda: self.close_code is not None or self.ended, timeout, f"the end; there are {self.messages[-3:]}")

    def status(self):
        """The Status of the error channel (v4 and later)."""
        return json.loads(self.channel(3))


class Frames:
    """WebSocket frames of a client."""

    def __init__(self):
        self._buffer = bytearray()
        self._message = None

    def frame(self, payload, opcode=2):
        mask = os.urandom(4)
        length = len(payload)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, length)
        keys = mask * (length // 4 + 1)
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(keys[:length], "big")).to_bytes(length, "big") if length else b""
        return head + mask + masked

    def take(self, block):
        self._buffer += block
        while len(self._buffer) >= 2:
            opcode, length, begin = self._buffer[0] & 15, self._buffer[1] & 127, 2
            assert not self._buffer[1] & 128, "a server must not mask"
            if length == 126:
                if len(self._buffer) < 4:
                    return
                length, begin = struct.unpack(">H", self._buffer[2:4])[0], 4
            elif length == 127:
                if len(self._buffer) < 10:
                    return
                length, begin = struct.unpack(">Q", self._buffer[2:10])[0], 10
            if len(self._buffer) < begin + length:
                return
            final, payload = self._buffer[0] & 128, bytes(self._buffer[begin : begin + length])
            del self._buffer[: begin + length]
            if opcode in (8, 9, 10):
                yield opcode, payload
                continue
            if opcode:
                self._message = (opcode, b"")
            self._message = (self._message[0], self._message[1] + payload)
            if final:
                yield self._message

    def unframe(self, block):
        return b"".join(payload for opcode, payload in self.take(block) if opcode == 2)


def spdy(door, path, versions, method="POST"):
    headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")] + [("X-Stream-Protocol-Version", version) for version in versions]
    if method == "POST":
        headers.append(("Content-Length", "0"))
    connection, answered, rest = door.request(method, path, headers)
    session = Spdy(connection, rest)
    session.protocol = answered.get("x-stream-protocol-version")
    return session


def _websocket(door, path, protocols):
    key = base64.b64encode(os.urandom(16)).decode()
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", key)]
    if protocols:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
    connection, answered, rest = door.request("GET", path, headers)
    expected = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
    assert answered["sec-websocket-accept"] == expected
    return connection, answered.get("sec-websocket-protocol", ""), rest


def websocket(door, path, *protocols):
    connection, protocol, rest = _websocket(door, path, protocols)
    return WebSocket(connection, rest, protocol)


def tunnel(door, path):
    """SPDY inside a WebSocket, as current kubectls forward ports."""
    connection, protocol, rest = _websocket(door, path, ["SPDY/3.1+portforward.k8s.io"])
    session = Spdy(connection, rest, tunnel=Frames())
    session.protocol = protocol
    return session


def command(session, stdin=True, stdout=True, stderr=True, tty=False):
    """The streams of exec or attach, opened as kubectl does."""
    wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr and not tty, "resize": tty}
    return {kind: session.open(streamtype=kind) for kind, needed in wanted.items() if needed}


def forward(session, port, request, wait=True):
    """One forwarded connection: its data and its error stream."""
    headers = {"port": str(port), "requestid": str(request)}
    error = session.open(streamtype="error", wait=wait, **headers)
    error.end()
    return session.open(streamtype="data", wait=wait, **headers), error
