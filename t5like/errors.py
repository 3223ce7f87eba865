"""The exceptions a user is meant to read."""


class UserError(Exception):
    """Something the user gave cannot work; the message is one sentence saying what, where and what to do.

    Entry points print the message on standard error, without a traceback, and end with `exit_code`.
    Raise it before anything is written to a workdir.
    """

    exit_code = 2


class DamagedDataError(UserError):
    """A part of the data cannot be read, after retries; the message names the file and the line or record.

    Attributes:
      what_is_lost: what cannot be read because of it, in words.
    """

    exit_code = 3
    what_is_lost = "the rest of its block"


class DamagedRecordError(DamagedDataError):
    """A record is not what it should be, and those that follow it can be read."""

    what_is_lost = "that record"


class CheckpointError(UserError):
    """A checkpoint cannot be written, or none that is there can be used; the message names it."""

    exit_code = 5


class DivergenceError(UserError):
    """The numbers of a run are not numbers any more; its last checkpoint is from before that."""

    exit_code = 6


class PreemptedError(BaseException):
    """The run was told to end by SIGTERM, and what there was to save is saved; given again, it goes on.

    As KeyboardInterrupt it is no error, so that nothing that gets over an error gets over this.
    """

    exit_code = 7


class HostLostError(UserError):
    """A host of the run has not joined, is gone, or does nothing any more; the message names it."""

    exit_code = 4


class HangError(UserError):
    """A phase of a run has lasted for longer than it may; the message names it, and stacks are printed before it."""

    exit_code = 8
