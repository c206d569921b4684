"""The one exception that means: the user's input is wrong, and here is the mend."""


class BadInput(Exception):
  """Bad input of the user's: `main` prints the message as one line and exits with code 2.

  The message says what is wrong, where, and how to mend it. Programming errors are ordinary exceptions, with a traceback.
  """
