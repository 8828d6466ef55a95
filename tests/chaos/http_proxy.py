"""An API server at its worst: terminates TLS with the cluster's own certificate, passes requests on, answers some of them itself.

A program of its own: `http_proxy.py SETTINGS`, JSON with `netns`, `port`, `upstream` as link_proxy has them, and `certificate`, `key`,
`authority` (files). Each line on stdin names the faults of now, with commas, or nothing; the answer on stdout is a JSON object of counters.

watch-ends   watches end after 0.02 to 0.6 s: properly, by a reset, or in the middle of an event
gone         seven of ten watches are answered with 410, as HTTP status or as event in the stream; the others end as above
throttle     eight of ten calls are answered with 429 and a Retry-After of 1 to 3 s
latency      every call takes 5 s more

It speaks HTTP/1.1, so an agent that prefers HTTP/2 is tested with the other protocol here; link_proxy leaves that to the two ends.
"""

import asyncio
import collections
import json
import os
import random
import ssl
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a program

from chaos.link_proxy import listen_in  # noqa: E402

FAULTS = ("watch-ends", "gone", "throttle", "latency")
LATENCY = 5.0
_LARGEST_HEAD = 65536
_BODILESS = (204, 304)


class _Head:
    def __init__(self, raw):
        self.raw = raw
        lines = raw.decode("latin-1").split("\r\n")
        self.first = lines[0].split(" ", 2)
        self.fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}

    @property
    def chunked(self):
        return self.fields.get("transfer-encoding", "").lower() == "chunked"

    @property
    def length(self):
        return int(self.fields["content-length"]) if "content-length" in self.fields else None


async def _read_head(reader):
    try:
        return _Head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError:
        return None


async def _pieces(reader, head, until_end):
    """The body of a message, framing included, piece by piece. `until_end`: without a length it lasts until the connection ends."""
    if head.chunked:
        size = -1
        while size != 0:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
    elif head.length is not None:
        left = head.length
        while left > 0:
            piece = await reader.readexactly(min(left, 65536))
            left -= len(piece)
            yield piece
    elif until_end:
        while piece := await reader.read(65536):
            yield piece


def _status(code, reason, message, **headers):
    """A whole answer with a Status object."""
    body = json.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}).encode()
    fields = {"Content-Type": "application/json", "Content-Length": len(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = f"HTTP/1.1 {code} {reason}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return head.encode() + body


def _gone_in_stream():
    status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old resource version"}
    event = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(event), event)


class Server:
    def __init__(self, settings):
        self.settings = settings
        self.faults = frozenset()
        self.counters = collections.Counter()
        self.watching = set()  # writers of watches that go on
        self.random = random.Random(1)
        self.trust = ssl.create_default_context(cafile=settings["authority"])

    def set_faults(self, names):
        self.faults = frozenset(name for name in names if name in FAULTS)
        if self.faults & {"watch-ends", "gone"}:
            for writer in self.watching:  # those from before would go on for minutes
                writer.transport.abort()

    async def serve(self, reader, writer):
        above = None
        try:
            while head := await _read_head(reader):
                body = b"".join([piece async for piece in _pieces(reader, head, False)])
                watches = any(part in ("watch=1", "watch=true") for part in head.first[1].partition("?")[2].split("&"))
                self.counters["requests"] += 1
                answer = await self._own_answer(watches)
                if answer:
                    writer.write(answer)
                    await writer.drain()
                    continue
                if above is None or above[0].at_eof():
                    above = await asyncio.open_connection(*self.settings["upstream"], ssl=self.trust, limit=_LARGEST_HEAD)
                if not await self._pass_on(head, body, watches, above, reader, writer):
                    return
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            print(f"a connection ended: {error!r}", file=sys.stderr, flush=True)
        finally:
            for each in [writer] + ([above[1]] if above else []):
                each.transport.abort() if each.transport.is_closing() else each.close()

    async def _own_answer(self, watches):
        if "latency" in self.faults:
            self.counters["delayed"] += 1
            await asyncio.sleep(LATENCY)
        if "throttle" in self.faults and self.random.random() < 0.8:
            self.counters["429"] += 1
            return _status(429, "TooManyRequests", "too many requests, please try again later", Retry_After=self.random.randint(1, 3))
        if watches and "gone" in self.faults and self.random.random() < 0.7:
            self.counters["410"] += 1
            return _gone_in_stream() if self.random.random() < 0.5 else _status(410, "Expired", "too old resource version")
        return None

    async def _pass_on(self, head, body, watches, above, reader, writer):
        """One call to the API server and back. False when the connection cannot be used again."""
        above[1].write(head.raw + body)
        await above[1].drain()
        answer = await _read_head(above[0])
        if answer is None:
            return False
        code = int(answer.first[1])
        writer.write(answer.raw)
        await writer.drain()
        if code == 101:
            await _join((reader, writer), above)
            return False
        if head.first[0] == "HEAD" or code in _BODILESS:
            return True
        pieces = _pieces(above[0], answer, True)
        if watches and code == 200 and self.faults & {"watch-ends", "gone"}:
            await self._end_early(pieces, writer)
            return False
        if watches:
            self.watching.add(writer)
        try:
            async for piece in pieces:
                writer.write(piece)
                await writer.drain()
        finally:
            self.watching.discard(writer)
        return answer.chunked or answer.length is not None

    async def _end_early(self, pieces, writer):
        """A watch for a short time, then one of three ends."""
        self.counters["watches ended"] += 1
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.random.uniform(0.02, 0.6)
        manner = self.random.choice(("properly", "reset", "in an event"))
        try:
            while True:
                piece = await asyncio.wait_for(anext(pieces), ends - loop.time())
                if manner == "in an event" and loop.time() > ends - 0.3:
                    writer.write(piece[: len(piece) // 2])
                    await writer.drain()
                    break
                writer.write(piece)
                await writer.drain()
        except (asyncio.TimeoutError, StopAsyncIteration):
            if manner == "properly":
                writer.write(b"0\r\n\r\n")
                await writer.drain()
                return
        writer.transport.abort()


async def _join(one, other):
    """Bytes both ways, until one side ends."""

    async def pump(reader, writer):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()

    pumps = [asyncio.create_task(pump(one[0], other[1])), asyncio.create_task(pump(other[0], one[1]))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for each in pumps:
        each.cancel()


async def _main(settings):
    server = Server(settings)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(settings["certificate"], settings["key"])
    tls.set_alpn_protocols(["http/1.1"])
    listener = listen_in(settings["netns"], settings["port"])
    listening = await asyncio.start_server(server.serve, sock=listener, ssl=tls, limit=_LARGEST_HEAD)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    async with listening:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            server.set_faults(line.strip().split(","))
            print(json.dumps(server.counters), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
