"""A link that can fail: forwards TCP from a port of the agent's host to an API server, untouched, until it is told otherwise.

A program of its own, so that it neither waits for the churn nor slows it: `link_proxy.py SETTINGS`, where SETTINGS is JSON with `netns`
(where the port is opened), `port` and `upstream` ([address, port]). Each line on stdin is a mode, each is answered by a line on stdout:

pass   everything goes through
cut    connections are reset, new ones too
slow   every piece waits 300 ms, 64 KiB a second
hole   half-open: nothing goes through, nothing is closed. A connection that lived in a hole stays dead for ever, as when a NAT box
       has forgotten it; only its owner's time limits can tell
"""

import asyncio
import ctypes
import json
import os
import socket
import struct
import sys

_CLONE_NEWNET = 0x40000000
_PIECE = 16384


def listen_in(netns, port):
    """A socket that listens on loopback of another network namespace; connections made later start from our own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            if libc.setns(fd, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        finally:
            os.close(fd)

    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        enter(netns)
        listener = socket.create_server(("127.0.0.1", port), backlog=256)
    finally:
        enter(f"/proc/self/fd/{home}")
        os.close(home)
    return listener


class _Connection:
    def __init__(self, link, writers):
        self.link = link
        self.writers = writers
        self.dead = link.mode == "hole"

    def reset(self):
        for writer in self.writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def pump(self, reader, writer):
        while piece := await reader.read(_PIECE):
            if self.dead:
                continue
            if self.link.mode == "slow":
                await asyncio.sleep(0.3 + len(piece) / 65536)
            if not self.dead:
                writer.write(piece)
                await writer.drain()


class Link:
    def __init__(self, upstream):
        self.upstream = upstream
        self.mode = "pass"
        self._connections = set()

    def set_mode(self, mode):
        self.mode = mode
        for connection in list(self._connections):
            if mode == "cut":
                connection.reset()
            elif mode == "hole":
                connection.dead = True

    async def serve(self, reader, writer):
        connection = _Connection(self, [writer])
        self._connections.add(connection)
        try:
            if self.mode == "cut":
                connection.reset()
                return
            if connection.dead:
                while await reader.read(_PIECE):  # until the client gives up
                    pass
                return
            above, below = await asyncio.open_connection(*self.upstream)
            connection.writers.append(below)
            pumps = [asyncio.create_task(connection.pump(reader, below)), asyncio.create_task(connection.pump(above, writer))]
            try:
                done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                # Of a dead connection the client may not learn that the server has closed it.
                if connection.dead and pumps[0] not in done:
                    await asyncio.wait(pumps[:1])
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            connection.reset()  # the upstream refuses: so does the link
        finally:
            self._connections.discard(connection)
            for each in connection.writers:
                each.close()


async def _main(settings):
    link = Link(settings["upstream"])
    listener = listen_in(settings["netns"], settings["port"])
    server = await asyncio.start_server(link.serve, sock=listener)
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    async with server:
        # The owner's end of the pipe closes when it dies, however it dies.
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            link.set_mode(line.strip())
            print("ok", flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
