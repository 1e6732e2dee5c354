"""Asking servers on loopback, with one client for all of them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, final

import attrs
import numpy as np
from peer_case import Door, Server
from typing_extensions import override

PORTS = range(20_000, 30_000, 7)
START_SECONDS = 90.0
STOP_SECONDS = 20.0
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"output":1}'

Ask = Callable[[], Awaitable[Any]]


@attrs.frozen
class Load:
    """What so many clients came to: requests a second, and the percentiles of their latency in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float


@final
class Connection(asyncio.Protocol):
    """A kept connection that asks one request at a time, and does as little as HTTP allows.

    What the client does not do, the server has the processor for: the two share two cores.
    """

    def __init__(self) -> None:
        self.received = b""
        self.needed = 0
        self.chunked = False
        self.answer: asyncio.Future[bytes] | None = None

    @override
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @override
    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.needed and not self.chunked:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.received[:end].lower()
            at = head.find(b"content-length:")
            if at >= 0:
                self.needed = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            else:
                self.chunked = True
        if self.chunked:
            complete = self.received.endswith(b"\r\n0\r\n\r\n")
        else:
            complete = len(self.received) >= self.needed
        if complete and self.answer is not None:
            self.answer.set_result(self.received)
            self.received, self.needed, self.answer, self.chunked = b"", 0, None, False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        found = await self.answer
        if not found.startswith(b"HTTP/1.1 200"):
            raise AssertionError(found[:500])
        return found


def said(answer: bytes) -> Any:
    """The JSON in an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"content-length:" in head.lower():
        return json.loads(body)
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        whole, body = whole + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return json.loads(whole)


async def load(asks: Sequence[Ask], seconds: float) -> Load:
    """As many clients as there are asks, each asking again as soon as it is answered."""
    latencies: list[float] = []
    clock = time.perf_counter

    async def client(ask: Ask, until: float) -> None:
        begun = clock()
        while begun < until:
            await ask()
            ended = clock()
            latencies.append(ended - begun)
            begun = ended

    begun = clock()
    await asyncio.gather(*(client(ask, begun + seconds) for ask in asks))
    took = clock() - begun
    return Load(len(latencies) / took, *(float(np.percentile(latencies, percent)) * 1e3 for percent in (50, 99)))


async def connected(port: int, count: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(count)]


def asking(connection: Connection, request: bytes) -> Ask:
    return lambda: connection.ask(request)


async def loaded(port: int, requests: Sequence[bytes], warm: float, seconds: float) -> Load:
    """New connections in each turn, because servers close those that are silent for some seconds."""
    connections = await connected(port, len(requests))
    asks = [asking(connection, request) for connection, request in zip(connections, requests, strict=True)]
    await load(asks, warm)
    found = await load(asks, seconds)
    for connection in connections:
        connection.transport.close()
    return found


async def answered(port: int, door: Door, rows: np.ndarray[Any, Any]) -> list[float]:
    """What the door answers when all rows are asked at once."""
    connections = await connected(port, len(rows))
    asks = (connection.ask(door.request(row)) for connection, row in zip(connections, rows, strict=True))
    found = [door.read(said(answer)) for answer in await asyncio.gather(*asks)]
    for connection in connections:
        connection.transport.close()
    return found


def free_ports(together: int = 3) -> int:
    """The first of so many neighbouring ports that nobody listens on."""
    for first in PORTS:
        try:
            for port in range(first, first + together):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise OSError("no free port")


async def ready(process: subprocess.Popen[bytes], port: int, server: Server, row: np.ndarray[Any, Any]) -> None:
    until = time.monotonic() + START_SECONDS
    for door in server.doors:
        while True:
            try:
                (connection,) = await connected(port, 1)
                await asyncio.wait_for(connection.ask(door.request(row)), timeout=10)
                connection.transport.close()
                break
            except (OSError, AssertionError, TimeoutError) as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{door.name} did not start") from error
                await asyncio.sleep(0.3)


@contextmanager
def running(server: Server, row: np.ndarray[Any, Any]) -> Iterator[int]:
    """The server in a process group of its own, and its port; what it prints is shown where it does not start."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        directory, port = Path(name), free_ports()
        environment = {**os.environ, **server.environment}
        with open(directory / "output", "w+b") as output:
            process = subprocess.Popen(
                server.command(port, directory),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
            try:
                try:
                    asyncio.run(ready(process, port, server, row))
                except RuntimeError:
                    print((directory / "output").read_text(errors="replace")[-4_000:], file=sys.stderr)
                    raise
                time.sleep(server.settle_seconds)
                yield port
            finally:
                stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@final
class Echo(asyncio.Protocol):
    """Answers the same to whatever arrives in one piece: what the socket and the client cost by themselves."""

    @override
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER)


def socket_only() -> Server:
    door = Door(
        "a socket, no server: a constant answered", "/", lambda row: row.tolist(), lambda found: found["output"]
    )
    return Server(lambda port, directory: [sys.executable, __file__, str(port)], [door])


async def echo(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(echo(int(sys.argv[1])))
