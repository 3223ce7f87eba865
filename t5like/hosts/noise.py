"""What native code prints on standard error: passed on a little later, for when a host is lost it is an echo of that."""

import os
import time

# JAX says at once that it has lost touch with another host, at length; the watchers say it in this time.
_HELD_SECONDS = 2.0


class Noise:
    """A pipe that the training process has in place of its standard error, where Python itself does not write.

    Attributes:
      write_end: for the training process, to be closed here once it has it.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._held: list[tuple[float, bytes]] = []

    def fileno(self) -> int:
        """Returns what a selector waits for."""
        return self._read_end

    def take(self) -> bool:
        """Returns whether more may come, having read what there is."""
        try:
            read = os.read(self._read_end, 1 << 16)
        except BlockingIOError:
            return True
        self._held.append((time.monotonic(), read))
        return bool(read)

    def pass_on(self, *, everything: bool = False) -> None:
        """Prints what has been held long enough, or everything."""
        until = time.monotonic() - (0.0 if everything else _HELD_SECONDS)
        while self._held and self._held[0][0] <= until:
            os.write(2, self._held.pop(0)[1])

    def close(self) -> None:
        """Forgets what is still held."""
        os.close(self._read_end)
