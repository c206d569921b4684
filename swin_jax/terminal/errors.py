"""The exceptions that end a command with one line, without a traceback."""

import errno

# Errors of storage that is full, failing or gone; with others, a path cannot be what the user asks for.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_OF_STORAGE = (*_NO_SPACE, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE)


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


def is_of_storage(error: BaseException) -> bool:
  """Returns whether storage is full, failing or gone, so that the same command may succeed later."""
  return isinstance(error, OSError) and error.errno in _OF_STORAGE


def reason(error: OSError) -> str:
  """Returns the cause of a failure of the storage, in a few words."""
  return "no space left on the disk" if error.errno in _NO_SPACE else error.strerror or str(error)


def cannot_write(
  path: object, error: OSError, advice: str = "choose another name", done: str = "written"
) -> BadInput:
  """Returns the error for an output that cannot be written.

  Args:
    path: the output, as the user knows it.
    error: why.
    advice: what to do if the path is at fault.
    done: the verb: "written" or "created".

  Returns:
    A Fault if storage is full, failing or gone, otherwise BadInput.
  """
  if is_of_storage(error):
    return Fault(f"{path} cannot be {done}: {reason(error)}; once that is solved, the same command continues")
  return BadInput(f"{path} cannot be {done}: {reason(error)}; {advice}")
