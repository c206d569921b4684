"""What `prepare` prints besides its table, and where: how the source was understood, and the next commands."""

from swin_jax.data.read import facts
from tests.support import images
from tests.support.prepared import main


def test_how_a_source_was_understood_is_printed_once_at_the_start(tmp_path, capsys):
  images.make_folder(tmp_path / "in", {"training_set": 6, "test_set": 4})
  assert main(tmp_path / "in", tmp_path / "out") == 0
  lines = capsys.readouterr().out.splitlines()
  notes = facts.read(str(tmp_path / "out")).origin.notes
  assert len(notes) and list(notes) == lines[: len(notes)]
  assert all(lines.count(note) == 1 for note in notes)
  assert not any("training_set" in line for line in lines[len(notes) :])
  assert main(f"--out={tmp_path / 'out'}") == 0  # without the source, from what the facts keep
  described = capsys.readouterr().out.splitlines()
  assert all(described.count(note) == 1 for note in notes)
