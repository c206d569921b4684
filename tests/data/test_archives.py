"""Entries of archives: what they expand to is limited, whatever the archive states."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from swin_jax.data.read import archives, array_files, rasters
from tests.support import images, prepared


def archive(entries: dict[str, bytes], method=zipfile.ZIP_DEFLATED) -> bytes:
  out = io.BytesIO()
  with zipfile.ZipFile(out, "w", method) as file:
    for name, content in entries.items():
      file.writestr(name, content)
  return out.getvalue()


def read(content: bytes, name: str, **options) -> bytes:
  with zipfile.ZipFile(io.BytesIO(content)) as file:
    return archives.read(file, name, **options)


@pytest.fixture(name="small")
def _small(monkeypatch):
  """Lets the limit be a hundred times the size of an entry."""
  monkeypatch.setattr(archives, "_LEAST", 1000)


def test_entries_expand_to_a_hundred_times_their_size_or_the_least(small, monkeypatch):
  noise = np.random.default_rng(0).bytes(5000)
  content = archive({"noise": noise, "zeros": bytes(2**20), "few": bytes(1000)})
  assert read(content, "noise") == noise and read(content, "few") == bytes(1000)
  assert read(content, "zeros", most=10) == bytes(10)
  with pytest.raises(ValueError, match=r"from 1,0\d\d to 1,048,576 bytes, more than 10\d,\d00; .*unpack"):
    read(content, "zeros")
  monkeypatch.setattr(archives, "_LEAST", 2**20)
  assert read(content, "zeros") == bytes(2**20)


def test_a_stated_size_is_not_believed(small):
  content = bytearray(archive({"zeros": bytes(2**20)}))
  place = content.rindex(b"PK\x01\x02")
  # the directory states a huge compressed size, so that a hundred times it is allowed
  content[place + 20 : place + 24] = struct.pack("<I", 2**31)
  with pytest.raises(ValueError, match="expands"):
    read(bytes(content), "zeros")
  # ... or a small size
  content = bytearray(archive({"zeros": bytes(2**20)}))
  place = content.rindex(b"PK\x01\x02")
  content[place + 24 : place + 28] = struct.pack("<I", 100)
  with pytest.raises(ValueError):
    assert len(read(bytes(content), "zeros")) <= 100


def test_memory_is_not_taken_for_what_is_refused(tmp_path):
  content = archive({"x.npy": bytes(300 * 2**20)})
  tracemalloc.start()
  with pytest.raises(ValueError, match="expands"):
    read(content, "x.npy")
  assert tracemalloc.get_traced_memory()[1] < 2**24
  tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_without_a_limit_are_refused(method):
  with pytest.raises(ValueError, match="another method than deflate"):
    read(archive({"x": bytes(1000)}, method), "x")


def test_damage_is_a_value_error():
  content = bytearray(archive({"x": np.random.default_rng(0).bytes(500)}))
  encrypted = bytearray(content)
  for place in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
    encrypted[place] |= 1
  content[40:60] = bytes(20)
  for damaged in (content, encrypted):
    with pytest.raises(ValueError, match="cannot be read from the archive") as error:
      read(bytes(damaged), "x")
    assert "\n" not in str(error.value)


def npy(header: str, data: bytes = b"") -> bytes:
  text = header.encode("latin1") + b"\n"
  return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def claim(shape: str, dtype: str = "<f8") -> str:
  return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
  "header, message",
  [
    (claim("(6928203, 6928203, 1)"), r"claims an array \[6928203, 6928203, 1\] of 38\d(,\d+){4} bytes"),
    (claim("(4, -1, 1)"), "claims"),
    (claim("(4, 4, 1)", "|O"), "it holds object"),
    (claim("(4, 4, 100000000)", "|V0"), "not numbers or text"),
    ("{'descr': __import__('os'), 'fortran_order': False, 'shape': ()}", "header"),
    ("(" * 300, "header"),
    ("rubbish", "header"),
  ],
)
def test_headers_that_claim_too_much_or_nonsense(header, message, tmp_path):
  content = npy(header, bytes(64))
  (tmp_path / "x.npy").write_bytes(content)
  (tmp_path / "x.npz").write_bytes(archive({"a.npy": content}))
  for name in ("x.npy", "x.npz"):
    for file in (str(tmp_path / name), (tmp_path / name).read_bytes()):
      for look in (rasters.shape, rasters.read):
        with pytest.raises(ValueError, match=f"cannot be read as an array: .*{message}") as error:
          look(file, name)
        assert "\n" not in str(error.value)


def test_prepare_names_claims_and_goes_on(tmp_path, capsys):
  good = {f"{i}.npy": npy(claim("(4, 4, 1)"), bytes(128)) for i in range(3)}
  (tmp_path / "x.zip").write_bytes(
    archive(good | {"bad.npy": npy(claim("(6928203, 6928203, 1)"), bytes(64))})
  )
  words = f"--source={tmp_path / 'x.zip'}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.5"
  assert prepared.main(*words) == 0
  out, error = capsys.readouterr()
  assert (
    "bad.npy: cannot be read as an array: its header claims" in error and "1 unreadable and left out" in out
  )


def test_a_bomb_among_images_is_named(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(archives, "_LEAST", 2**20)
  (tmp_path / "x.zip").write_bytes(
    archive({f"a/{i}.png": images.encode(i) for i in range(3)} | {"a/big.png": bytes(2**24)})
  )
  words = f"--source={tmp_path / 'x.zip'}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.5"
  assert prepared.main(*words) == 0
  assert "a/big.png: expands from" in capsys.readouterr().err


def test_a_record_expands_no_further_than_training_reads(monkeypatch):
  record = array_files.pack(np.zeros((100, 100, 4), np.float32))
  assert array_files.unpack(record).shape == (100, 100, 4)
  monkeypatch.setattr(array_files, "_LARGEST", 10_000)
  with pytest.raises(ValueError, match="holds a damaged array: it is cut short, or larger than 10,000 bytes"):
    array_files.unpack(record)
