"""Files of tables that prepare read are not counted among those left out or not read."""

import pytest

from tests.support import prepared
from tests.support.label_sets import jpeg, rgb, write


@pytest.mark.parametrize("more, others", [({}, ""), ({"notes.csv": "a,b\n"}, "not read: 1 .csv")])
@pytest.mark.parametrize("images", ["photos", ""])
def test_tables_that_flags_name_were_read(more, others, images, tmp_path, capsys):
  colours = "name,r,g,b\nsky,0,0,0\nroad,9,0,0\n"
  table = "file,site\n" + "".join(f"{i}.jpg,{i // 2}\n" for i in range(4))
  texts = {"legend.csv": colours, "sites.csv": table, **more}
  contents = {f"photos/{i}.jpg": jpeg(8, 8, i) for i in range(4)}
  maps = {f"masks/{i}.png": rgb([[[0, 0, 0], [9, 0, 0]] * 4] * 8) for i in range(4)}
  source = write(tmp_path / "in", contents | maps | texts)
  flags = [f"--images={images}", "--labels=masks"] if images else []
  flags += [f"--colours={source}/legend.csv", "--hold_out=0.5", f"--by=csv:{source}/sites.csv:site"]
  assert prepared.main(f"--source={source}", f"--out={tmp_path / 'out'}", *flags) == 0
  said = capsys.readouterr().out
  assert "left out by" not in said and ("not read" in said) == bool(others) and others in said
