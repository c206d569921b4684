"""The exceptions that end a command in one line, without a traceback."""


class BadInput(Exception):
  """Bad input of the user's: `main` prints the message as one line and exits with code 2.

  The message says what is wrong, where, and how to mend it. Programming errors are ordinary exceptions, with
  a traceback.
  """


class Fault(BadInput):
  """What failed around the run, and not its input: storage, a save, a process. `main` exits with code 74,
  EX_IOERR.

  The message says what failed; once it is mended, or has mended itself, the same command goes on.
  """


class Preempted(Exception):
  """The run was asked to stop and has saved what it did: `main` exits with code 75, EX_TEMPFAIL: run me
  again.
  """
