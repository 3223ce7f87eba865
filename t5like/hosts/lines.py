"""How watchers talk: one JSON object a line."""

import contextlib
import json
import socket
from typing import Any

_MOST_BYTES = 1 << 20  # of a line; whoever sends more is none of ours
_SEND_SECONDS = 5.0


class Lines:
    """A connection that messages come from and go to.

    Attributes:
      is_open: whether the other side may still say something.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._read = connection, b""
        self.is_open = True
        connection.settimeout(_SEND_SECONDS)

    def fileno(self) -> int:
        """Returns what a selector waits for."""
        return self._connection.fileno()

    def send(self, **message: Any) -> None:
        """Sends a message; where the other side is gone, nothing happens before it is read from."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Returns the messages that have come; call it when the selector says so."""
        try:
            read = self._connection.recv(1 << 16)
        except OSError:
            read = b""
        *lines, self._read = (self._read + read).split(b"\n")
        messages = []
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            read = b""
        if not read or len(self._read) > _MOST_BYTES or not all(isinstance(m, dict) for m in messages):
            self.is_open = False
        return [message for message in messages if isinstance(message, dict)]

    def end_sending(self) -> None:
        """Tells the other side that nothing more will come; what was sent still arrives."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()
