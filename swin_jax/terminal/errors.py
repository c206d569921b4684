"""The exceptions that end a command with one line, without a traceback."""


class BadInput(Exception):
  """Invalid user input: `main` prints the message as one line and exits with code 2.

  The message says what is wrong, where, and how to fix it. Programming errors are ordinary exceptions, with a
  traceback.
  """


class Fault(BadInput):
  """A failure of the run's environment, not of its input: storage, a save, a process.

  `main` exits with code 74, EX_IOERR. The message says what failed; once the cause is fixed or gone, the same
  command continues the run.
  """


class Preempted(Exception):
  """The run was asked to stop and has saved its progress.

  `main` exits with code 75, EX_TEMPFAIL: the command should be run again.
  """
