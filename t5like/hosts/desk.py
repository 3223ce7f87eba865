"""The desk in host 0's watcher: it calls the roll, hears how far everybody is, and gives one verdict to all."""

import ipaddress
import math
import selectors
import socket
import threading
import time
from typing import Any

from t5like.errors import UserError
from t5like.hosts.find import Hosts
from t5like.hosts.lines import Lines
from t5like.hosts.verdict import HostRecord, find_lost

BEAT_SECONDS = 0.5
# What is sent at the end may take so long to arrive.
_PARTING_SECONDS = 5.0


def split_address(coordinator: str) -> tuple[str, int]:
    """Returns address and port of "address:port"."""
    address, _, port = coordinator.rpartition(":")
    return address.strip("[]"), int(port)


def bind_address(address: str) -> str:
    """Returns where host 0 listens: at this machine alone where all hosts are on it, else at all its addresses.

    Its own name is no such place: on many machines that means the loopback, where others cannot come.
    """
    if address == "localhost":
        return "127.0.0.1"
    try:
        return address if ipaddress.ip_address(address).is_loopback else ""
    except ValueError:
        return ""


def _listen(address: str, port: int) -> socket.socket:
    """Returns a socket that listens where other hosts find `address`, at any free port if it is 0."""
    bound = bind_address(address)
    if bound == "" and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server((bound, port), family=socket.AF_INET6 if ":" in bound else socket.AF_INET)


class Desk:
    """A thread that ends by itself once every host has ended, well or by a verdict."""

    def __init__(self, hosts: Hosts, *, join_seconds: float, timeout_seconds: float) -> None:
        """Begins to listen.

        Raises:
          UserError: the port cannot be had.
        """
        self._hosts, self._join_seconds, self._timeout_seconds = hosts, join_seconds, timeout_seconds
        self._address, port = split_address(hosts.coordinator)
        try:
            self._server = _listen(self._address, port)
        except OSError as error:
            raise UserError(
                f"Host 0 cannot listen at {hosts.coordinator} ({error.strerror}); give all hosts another port."
            ) from error
        self._records: dict[int, HostRecord] = {}
        self._connections: dict[Lines, int | None] = {}
        self._has_started = self._is_closing = False
        self._stood_still, self._stood_until = 0.0, -math.inf
        self._verdict: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._run, name="t5like-desk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Waits until every host has heard the end; a roll call that is not over ends with that."""
        self._is_closing = True
        self._thread.join()

    def _run(self) -> None:
        deadline = time.monotonic() + self._join_seconds
        with selectors.DefaultSelector() as selector, self._server:
            selector.register(self._server, selectors.EVENT_READ)
            next_beat, turned = 0.0, time.monotonic()
            while not self._is_over():
                for key, _ in selector.select(BEAT_SECONDS / 5):
                    if key.fileobj is self._server:
                        connection = Lines(self._server.accept()[0])
                        self._connections[connection] = None
                        selector.register(connection, selectors.EVENT_READ)
                    else:
                        self._hear(key.fileobj, selector)  # type: ignore[arg-type]
                now = time.monotonic()
                if now - turned > self._timeout_seconds / 2:
                    self._stood_still, self._stood_until = now - turned, now
                turned = now
                self._judge(now, deadline)
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    self._tell(kind="beat")
            self._part(selector)

    def _is_over(self) -> bool:
        all_ended = self._has_started and all(r.exit_code is not None for r in self._records.values())
        return self._verdict is not None or all_ended

    def _tell(self, **message: Any) -> None:
        for connection in self._connections:
            connection.send(**message)

    def _hear(self, connection: Lines, selector: selectors.BaseSelector) -> None:
        for message in connection.receive():
            host, now = self._connections[connection], time.monotonic()
            if host is None:
                self._welcome(connection, message)
                continue
            record = self._records[host]
            record.heard = now
            if message.get("kind") == "beat":
                if message["mark"] != record.mark:
                    record.mark, record.moved = message["mark"], now
                record.is_under_way = message["is_under_way"]
                record.quiet_seconds = message["quiet_seconds"]
            elif message.get("kind") == "ended":
                record.exit_code, record.why, record.ended = message["exit_code"], message["why"], now
        if not connection.is_open:
            selector.unregister(connection)
            host = self._connections.pop(connection)
            connection.close()
            if host is not None:
                self._records[host].is_connected = False

    def _welcome(self, connection: Lines, message: dict[str, Any]) -> None:
        """Takes a host on the roll, or sends it away."""
        host, num_hosts, name = (message.get(key) for key in ("host", "num_hosts", "name"))
        if not isinstance(host, int) or not isinstance(name, str) or not 0 <= host < self._hosts.num_hosts:
            connection.is_open = False
            return
        if num_hosts != self._hosts.num_hosts:
            reason = (
                f"Host {host} ({name}) was told of {num_hosts} hosts, and host 0 of {self._hosts.num_hosts}"
            )
        elif host in self._records:
            reason = f"Two processes are host {host}, on {self._records[host].name} and on {name}"
        else:
            now = time.monotonic()
            self._records[host] = HostRecord(name=name, heard=now, moved=now)
            self._connections[connection] = host
            if len(self._records) == self._hosts.num_hosts:
                self._start()
            return
        refusal = {"kind": "refusal", "sentence": f"{reason}; give each host a number of its own."}
        if self._has_started:  # whoever comes now does not end what runs
            connection.send(**refusal)
            connection.end_sending()
        else:
            self._verdict = refusal

    def _start(self) -> None:
        """Tells everybody that all are there, and where their training processes meet."""
        now = time.monotonic()
        for record in self._records.values():
            record.heard = record.moved = now
        with _listen(self._address, 0) as free:
            port = free.getsockname()[1]
        names = [self._records[host].name for host in range(self._hosts.num_hosts)]
        address = f"[{self._address}]" if ":" in self._address else self._address
        self._has_started = True
        self._tell(kind="start", names=names, coordinator=f"{address}:{port}")

    def _judge(self, now: float, deadline: float) -> None:
        if self._verdict is not None:
            return
        if self._has_started:
            records = [self._records[host] for host in range(self._hosts.num_hosts)]
            lost = find_lost(records, now, timeout_seconds=self._timeout_seconds)
            if lost is not None and now - self._stood_until < self._timeout_seconds:
                lost = 0, f"stood still for {self._stood_still:.1f} s"  # and the others have gone for that
            if lost is not None:
                called = self._hosts.called(lost[0], records[lost[0]].name)
                is_there = records[lost[0]].exit_code is None and records[lost[0]].is_connected
                self._verdict = {
                    "kind": "lost",
                    "host": lost[0],
                    "sentence": f"{called} {lost[1]}",
                    "stands_still": is_there,
                }
            return
        gone = [host for host, record in self._records.items() if not record.is_connected]
        missing = [host for host in range(self._hosts.num_hosts) if host not in self._records]
        if self._is_closing:
            self._verdict = {
                "kind": "lost",
                "sentence": f"{self._hosts.called(0, self._hosts.name)} has ended",
            }
        elif gone:
            called = self._hosts.called(gone[0], self._records[gone[0]].name)
            self._verdict = {"kind": "lost", "sentence": f"{called} is gone: its connection has closed"}
        elif now > deadline:
            called = ", ".join(map(self._hosts.called, missing))
            verb = "has" if len(missing) == 1 else "have"
            self._verdict = {
                "kind": "lost",
                "sentence": f"{called} {verb} not joined within {self._join_seconds:g} s",
            }

    def _part(self, selector: selectors.BaseSelector) -> None:
        """Says the last word, and listens until everybody has gone: what they still send would else undo it."""
        self._tell(**(self._verdict or {"kind": "done"}))
        deadline = time.monotonic() + _PARTING_SECONDS
        for connection in self._connections:
            connection.end_sending()
        lost = (self._verdict or {}).get("host")
        while set(self._connections.values()) - {lost} and time.monotonic() < deadline:
            for key, _ in selector.select(BEAT_SECONDS / 5):
                if key.fileobj is self._server:
                    self._server.accept()[0].close()
                else:
                    self._hear(key.fileobj, selector)  # type: ignore[arg-type]
        for connection in self._connections:
            connection.close()
