"""Work done in other processes, in which the end of any of them is noticed by the others."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from t5like.errors import UserError

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def in_processes(
    prepare: Callable[[], Callable[[_Task], _Result]], tasks: Sequence[_Task], *, num_processes: int
) -> Iterator[_Result]:
    """Yields what comes of each task, as it comes; a process has one task at a time.

    The processes end with the iterator, in the middle of their tasks where it is closed early. Where this process is
    killed, they end after their tasks.

    Args:
      prepare: called once in each process, for what is called with each task; it is pickled, and so are tasks and
        results.

    Raises:
      UserError: a task raised it, or a process was killed.
    """
    context = multiprocessing.get_context("spawn")  # threads of ours may hold locks that a fork would copy
    remaining = list(reversed(tasks))
    workers: dict[Connection, multiprocessing.context.SpawnProcess] = {}
    try:
        for _ in range(min(num_processes, len(tasks))):
            connection, their_connection = context.Pipe()
            process = context.Process(target=_serve, args=(their_connection, prepare), daemon=True)
            process.start()
            their_connection.close()
            workers[connection] = process
            _send(connection, process, remaining.pop())
        while workers:
            ready = wait(list(workers))
            for connection in [connection for connection in workers if connection in ready]:
                result = _receive(connection, workers[connection])
                if remaining:
                    _send(connection, workers[connection], remaining.pop())
                else:
                    connection.close()
                    workers.pop(connection).join()
                yield result
    finally:
        for connection, process in workers.items():
            process.terminate()
            process.join()
            connection.close()


def _send(connection: Connection, process: multiprocessing.context.SpawnProcess, task: Any) -> None:
    try:
        connection.send(task)
    except OSError as error:  # it has ended; perhaps it said why
        if connection.poll():
            _receive(connection, process)
        raise _ended(process) from error


def _receive(connection: Connection, process: multiprocessing.context.SpawnProcess) -> Any:
    try:
        result = connection.recv()
    except (EOFError, OSError) as error:
        raise _ended(process) from error
    if isinstance(result, UserError):
        raise result
    return result


def _ended(process: multiprocessing.context.SpawnProcess) -> UserError:
    process.join()
    return UserError(
        f"A process at work ended with exit code {process.exitcode}; if memory is short, lower --num_processes. "
        "What was finished is kept."
    )


def _serve(connection: Connection, prepare: Callable[[], Callable[[_Task], _Result]]) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all of a terminal; the first process ends the others
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # there are processes enough
    try:
        try:
            work = prepare()
        except UserError as error:
            connection.send(error)
            return
        while True:
            task = connection.recv()
            try:
                connection.send(work(task))
            except UserError as error:
                connection.send(error)
    except (EOFError, BrokenPipeError):  # no more tasks, or nobody to do them for
        return
