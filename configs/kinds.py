"""The kinds of run that a config has: what follows the colon in `--config=NAME:KIND`."""


class UnknownKind(ValueError):
  """A config has no such kind of run; `kinds` holds those that it has, the default first."""

  def __init__(self, arg: str, kinds: tuple[str, ...]):
    names = ", ".join(f":{kind}" for kind in kinds if kind)
    super().__init__(f"this config has no kind of run ':{arg}'; it has {names}")
    self.kinds = kinds


def parse(arg: str | None, kinds: tuple[str, ...]) -> str:
  """Returns the kind of run, given after the colon in `--config=NAME:KIND`; by default the first of `kinds`.

  Raises:
    UnknownKind: the config has no such kind.
  """
  if not arg:
    return kinds[0]
  if arg not in kinds:
    raise UnknownKind(arg, kinds)
  return arg
