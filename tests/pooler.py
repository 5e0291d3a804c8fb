"""A pooler of transactions before a PostgreSQL: any number of clients, one session for all."""

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg.pq.abc import PGconn
from sqlalchemy import make_url

from deployments.local.ports import LOOPBACK

_READY, _IDLE, _TERMINATE = b"Z", b"I", b"X"
#: A simple query, and the end of an extended one.
_ASKS = (b"Q", b"S")


def _read(from_: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        some = from_.recv(size - len(content))
        if not some:
            raise ConnectionError("closed")
        content += some
    return content


def _message(from_: socket.socket) -> tuple[bytes, bytes]:
    """A message's type, and all of its bytes."""
    head = _read(from_, 5)
    return head[:1], head + _read(from_, struct.unpack("!I", head[1:])[0] - 4)


def _until_ready(server: socket.socket, client: socket.socket) -> bool:
    """Pass on what the server says until it takes the next. Whether no transaction is open."""
    while True:
        kind, content = _message(server)
        client.sendall(content)
        if kind == _READY:
            return content[-1:] == _IDLE


@contextmanager
def pooled(url: str) -> Iterator[str]:
    """The URL of the pooler, for the same database."""
    given = make_url(url).set(drivername="postgresql")
    with psycopg.connect(given.render_as_string(hide_password=False)) as session:
        greeting = _greeting(session.pgconn)
        server = socket.socket(fileno=os.dup(session.pgconn.socket))
        server.setblocking(True)
        listener = socket.create_server((LOOPBACK, 0))
        thread = threading.Thread(target=_accept, args=(listener, server, greeting))
        thread.start()
        try:
            at = given.set(host=LOOPBACK, port=listener.getsockname()[1])
            yield at.render_as_string(hide_password=False)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            listener.close()
            server.close()


def _accept(listener: socket.socket, server: socket.socket, greeting: bytes) -> None:
    turn = threading.Lock()
    while True:
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        threading.Thread(target=_serve, args=(client, server, greeting, turn), daemon=True).start()


def _serve(
    client: socket.socket, server: socket.socket, greeting: bytes, turn: threading.Lock
) -> None:
    """Give the client the session for one transaction after another."""
    holds = False
    try:
        _refuse_encryption(client)
        client.sendall(greeting)
        while (message := _message(client))[0] != _TERMINATE:
            if not holds:
                turn.acquire()
                holds = True
            server.sendall(message[1])
            if message[0] in _ASKS and _until_ready(server, client):
                turn.release()
                holds = False
    except OSError:
        pass  # the client went away
    finally:
        client.close()
        if holds:
            turn.release()


def _greeting(session: PGconn) -> bytes:
    """What a server says to a client that it lets in."""

    def message(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("!I", len(content) + 4) + content

    told = b"".join(
        message(b"S", name + b"\0" + (session.parameter_status(name) or b"") + b"\0")
        for name in (b"server_version", b"client_encoding", b"standard_conforming_strings")
    )
    return message(b"R", struct.pack("!I", 0)) + told + message(_READY, _IDLE)


def _refuse_encryption(client: socket.socket) -> None:
    """Read the client's start, which may ask for encryption first."""
    while True:
        size, code = struct.unpack("!II", _read(client, 8))
        _read(client, size - 8)
        if code == 196608:
            return
        client.sendall(b"N")
