"""The two exceptions that end a command in one line, without a traceback."""


class BadInput(Exception):
  """Bad input of the user's: `main` prints the message as one line and exits with code 2.

  The message says what is wrong, where, and how to mend it. Programming errors are ordinary exceptions, with a traceback.
  """


class Preempted(Exception):
  """The run was asked to stop and has saved what it did: `main` exits with code 75, EX_TEMPFAIL: run me again."""
