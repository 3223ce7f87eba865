"""The watcher: the process that a command on several hosts is, beside the one that trains."""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from t5like.errors import HangError, HostLostError, UserError
from t5like.hosts.desk import BEAT_SECONDS, Desk, bind_address, split_address
from t5like.hosts.find import Hosts, whole_number
from t5like.hosts.lines import Lines
from t5like.hosts.member import MEMBER, Membership
from t5like.hosts.noise import Noise
from t5like.hosts.verdict import GRACE_SECONDS
from t5like.preemption import nothing_new
from t5like.watchdog.process import TrainingProcess
from t5like.watchdog.signals import heeding

JOIN_SECONDS, TIMEOUT_SECONDS = "T5LIKE_JOIN_SECONDS", "T5LIKE_HOST_TIMEOUT_SECONDS"
_DEFAULTS = {JOIN_SECONDS: "300", TIMEOUT_SECONDS: "300"}

_RETRY_SECONDS = 0.2
# A training process that is interrupted while it waits for other hosts does not hear of it.
_INTERRUPT_SECONDS = 10.0

_GO_ON = "all hosts end; given again on each, the same command goes on from the last checkpoint."


def watch(hosts: Hosts, environment: Mapping[str, str]) -> int:
    """Returns the exit code of the training process that it starts and watches.

    Raises:
      HostLostError: a host never joined, or was lost later.
      UserError: host 0 cannot listen, or the hosts' numbers do not fit one another.
    """
    seconds = {name: whole_number({**_DEFAULTS, **environment}, name) for name in _DEFAULTS}
    for name, value in seconds.items():
        if value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1.")
    join_seconds, timeout_seconds = float(seconds[JOIN_SECONDS]), float(seconds[TIMEOUT_SECONDS])
    with contextlib.ExitStack() as stack:
        if hosts.host == 0:
            desk = Desk(hosts, join_seconds=join_seconds, timeout_seconds=timeout_seconds)
            stack.callback(desk.close)
        connection = stack.enter_context(contextlib.closing(_join(hosts, join_seconds)))
        # The desk, which waits as long, has the first word on who is late.
        start = _first_word(hosts, connection, 2 * join_seconds + timeout_seconds)
        watcher = stack.enter_context(_Watcher(hosts, connection, timeout_seconds, start, environment))
        return watcher.run()


def _join(hosts: Hosts, join_seconds: float) -> Lines:
    """Returns a connection to the desk, once there is one.

    Raises:
      HostLostError: there is none in time.
    """
    deadline = time.monotonic() + join_seconds
    while True:
        try:
            connection = Lines(socket.create_connection(split_address(hosts.coordinator), timeout=5.0))
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise HostLostError(
                    f"{hosts.called(0)} has not answered at {hosts.coordinator} within {join_seconds:g} s "
                    f"({error.strerror or error}); {_GO_ON}"
                ) from error
            time.sleep(_RETRY_SECONDS)
    connection.send(host=hosts.host, num_hosts=hosts.num_hosts, name=hosts.name)
    return connection


def _first_word(hosts: Hosts, connection: Lines, seconds: float) -> dict[str, Any]:
    """Returns the message that the run starts with.

    Raises:
      HostLostError: somebody has not come.
    """
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for message in connection.receive() if selector.select(BEAT_SECONDS) else ():
                _heed(message)
                if message.get("kind") == "start":
                    return message
            if not connection.is_open or time.monotonic() > deadline:
                raise HostLostError(f"{hosts.called(0)} is gone: its connection has closed; {_GO_ON}")


def _heed(message: dict[str, Any]) -> None:
    """Raises what a message of the desk says has gone wrong."""
    if message.get("kind") == "lost":
        raise HostLostError(f"{message['sentence']}; {_GO_ON}")
    if message.get("kind") == "refusal":
        raise UserError(message["sentence"])


class _Watcher:
    """One training process, and the desk's word on all."""

    def __init__(
        self,
        hosts: Hosts,
        desk: Lines,
        timeout_seconds: float,
        start: dict[str, Any],
        environment: Mapping[str, str],
    ) -> None:
        """Starts the training process: this process's own command line again, told what it is part of."""
        self._hosts, self._desk, self._timeout_seconds = hosts, desk, timeout_seconds
        self._names = start["names"]
        self._noise = Noise()
        membership = Membership(
            host=hosts.host,
            names=tuple(start["names"]),
            coordinator=start["coordinator"],
            bind_address=bind_address(split_address(hosts.coordinator)[0]),
            local_device=hosts.local_device,
            timeout_seconds=timeout_seconds,
            noise=self._noise.write_end,
        )
        told = {MEMBER: membership.to_text()}
        self._process = TrainingProcess({**environment, **told}, pass_fds=(self._noise.write_end,))
        os.close(self._noise.write_end)

    def __enter__(self) -> "_Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._noise.close()

    def run(self) -> int:
        """Returns the exit code of the training process.

        Raises:
          HostLostError: a host is lost, this one or another.
          KeyboardInterrupt: the training process did not heed it by itself.
        """
        with selectors.DefaultSelector() as selector, self._signals() as interrupts:
            selector.register(self._desk, selectors.EVENT_READ)
            selector.register(self._process, selectors.EVENT_READ)
            selector.register(self._noise, selectors.EVENT_READ)
            next_beat = 0.0
            turned = heard = time.monotonic()
            while (code := self._process.poll()) is None:
                for key, _ in selector.select(BEAT_SECONDS / 5):
                    if key.fileobj is self._desk:
                        heard = time.monotonic()
                        self._hear_desk()
                    elif not (self._noise.take() if key.fileobj is self._noise else self._process.hear()):
                        selector.unregister(key.fileobj)
                self._noise.pass_on()
                now = time.monotonic()
                # Where this process itself was stopped, the desk has had no chance to be heard.
                stopped_seconds = max(0.0, now - turned - BEAT_SECONDS)
                heard += stopped_seconds
                self._process.forgive(stopped_seconds)
                turned = now
                if now - heard > self._timeout_seconds:
                    raise self._lost(0, f"has not been heard of for {self._timeout_seconds:g} s")
                if what := self._process.overdue():
                    raise self._hung(what)
                if now >= next_beat:
                    next_beat = now + BEAT_SECONDS
                    self._desk.send(
                        kind="beat",
                        mark=self._process.facts.get("mark", 0),
                        is_under_way=self._process.facts.get("is_under_way", False),
                        quiet_seconds=now - self._process.last_sign,
                    )
        self._process.hear()
        self._noise.take()
        self._desk.send(kind="ended", exit_code=code, why=self._process.facts.get("why", ""))
        if code < 0 and not interrupts:
            self._await_verdict()
        self._noise.pass_on(everything=True)
        if code < 0 and interrupts:
            raise KeyboardInterrupt
        if code < 0:
            raise self._lost(self._hosts.host, f"was ended by {signal.Signals(-code).name}")
        return code

    def _await_verdict(self) -> None:
        """Leaves the desk time to say where it began: JAX ends this process when that of the first host is gone."""
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._desk, selectors.EVENT_READ)
            while time.monotonic() < deadline:
                if selector.select(BEAT_SECONDS) and self._hear_desk():
                    return

    def _lost(self, host: int, what: str) -> HostLostError:
        return HostLostError(f"{self._hosts.called(host, self._names[host])} {what}; {_GO_ON}")

    def _hung(self, what: str) -> HangError:
        """Returns the error of a training process that has hung, having told the others and shown its stacks."""
        self._process.show_stacks()
        self._desk.send(kind="ended", exit_code=HangError.exit_code, why=f"has hung: {what}")
        called = self._hosts.called(self._hosts.host, self._names[self._hosts.host])
        return HangError(f"{called} has hung: {what}. Above are the stacks of its threads; {_GO_ON}")

    def _hear_desk(self) -> bool:
        """Returns whether the desk has nothing more to say, as all have ended."""
        for message in self._desk.receive():
            if message.get("stands_still"):
                self._process.show_stacks()
            _heed(message)
            if message.get("kind") == "done":
                return True
        if not self._desk.is_open:
            raise self._lost(0, "is gone: its connection has closed")
        return False

    @contextlib.contextmanager
    def _signals(self) -> Iterator[list[int]]:
        """Hands on what asks this process to end, and gives the interrupts so far; other signals are final.

        SIGTERM is handed on once there is something to save; JAX tells it to all hosts, which save the same step.
        """
        interrupts: list[int] = []

        def interrupt(number: int, frame: object) -> None:
            interrupts.append(number)
            self._process.send_signal(signal.SIGINT)
            signal.signal(signal.SIGALRM, lambda *_: self._process.kill())
            signal.setitimer(signal.ITIMER_REAL, _INTERRUPT_SECONDS)

        def end(number: int, frame: object) -> None:
            self._process.kill()
            sys.exit(128 + number)

        def terminate(number: int, frame: object) -> None:
            if not self._process.facts.get("is_under_way", False):
                raise nothing_new()
            self._process.send_signal(signal.SIGTERM)

        try:
            with heeding({signal.SIGINT: interrupt, signal.SIGTERM: terminate, signal.SIGHUP: end}):
                yield interrupts
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
