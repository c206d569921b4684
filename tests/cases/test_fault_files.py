"""Files that mean harm are refused by name, and nothing that they name is read or that they claim taken."""

import tracemalloc

import pytest

from tests.support import attacks, cases
from tests.support.prepared import main, read


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_virtual_raster_copies_no_file(as_zip, tmp_path, capsys):
  source = cases.copy("faults", tmp_path)
  rasters = tmp_path / "rasters"
  attacks.good_raster(rasters / "good.tif", 1)
  (source / "vrt_reads_local_file.tif").rename(rasters / "vrt_reads_local_file.tif")
  (rasters / "secret.txt").write_bytes(attacks.SECRET[:1024])
  packed = attacks.zipped(rasters) if as_zip else rasters
  assert main(packed, tmp_path / "out", "--tile=16", "--max_bad_fraction=0.5") == 0
  assert (
    "vrt_reads_local_file.tif: cannot be read as a raster: it holds XML (VRTDataset)"
    in capsys.readouterr().err
  )
  assert not any(attacks.SECRET[:16] in record for record in attacks.records(tmp_path / "out"))


@pytest.mark.parametrize(
  "name, code, message",
  [
    ("zip_bomb_1500MB.zip", 0, "left out a/big.png: expands from 1,565,450 to 1,610,612,736 bytes"),
    ("npy_header_349TiB.zip", 2, "1.npy: cannot be read as an array: its header claims an array [4000000, "),
  ],
)
def test_small_files_that_claim_much_take_no_memory(name, code, message, tmp_path, capsys):
  source = cases.copy("faults", tmp_path) / name
  tracemalloc.start()
  assert main(source, tmp_path / "out", "--max_bad_fraction=0.5") == code
  most = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  error = capsys.readouterr().err
  assert message in error and error.count("\n") == 1 and most < 2**29  # 1.5 GiB and 349 TiB are claimed


def test_names_that_climb_out_of_a_zip(tmp_path, capsys):
  source = cases.copy("faults", tmp_path) / "zip_slip.zip"
  before = set(tmp_path.rglob("*"))
  assert main(source, tmp_path / "out") == 0
  assert {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before} == {"out"}
  names = {read(tmp_path / "out")[i].name for i in range(len(read(tmp_path / "out")))}
  assert names == {"ok/1.png", "ok/2.png"}
  assert "left out 3 of its entries, with absolute or parent paths" in capsys.readouterr().err
