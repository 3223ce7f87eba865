"""The exceptions a user is meant to read."""


class UserError(Exception):
    """Something the user gave cannot work; the message is one sentence saying what, where and what to do.

    Entry points print the message on standard error, without a traceback, and end with `exit_code`.
    Raise it before anything is written to a workdir.
    """

    exit_code = 2


class DamagedDataError(UserError):
    """A part of the data cannot be read, after retries; the message names the file and the line or record."""

    exit_code = 3
