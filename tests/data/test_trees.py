"""Names in archives and folders: they cannot leave the archive, nor act on a terminal."""

import gzip
import io
import os
import pathlib
import socket
import tarfile
import zipfile

import pytest

from swin_jax.data.read import class_files, plain_files, trees
from swin_jax.terminal.errors import BadInput
from tests.support import images, prepared

ESCAPE = "\x1b]0;owned\x07\x1b[31m"


def write_zip(path, *names):
  with zipfile.ZipFile(path, "w") as file:
    for i, name in enumerate(names):
      file.writestr(zipfile.ZipInfo(name), images.encode(i))
  return str(path)


def listed(tree):
  return trees.list_all(tree).files


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_leave_the_archive_are_left_out(tmp_path):
  left_out = [
    "../../evil.png",
    "/abs/evil.png",
    "a/../../b.png",
    "a/..",
    "//host/x.png",
    "a/x.png",  # twice
    "a/x.png/y.png",
    "a",
    "/".join(["deep"] * 100) + "/x.png",
    "a/" + "n" * 2000 + ".png",
  ]
  names = ["a/x.png", "./b//y.png", "c/", "a/.hidden.png", "__MACOSX/z.png", *left_out]
  tree = trees.open_tree(write_zip(tmp_path / "x.zip", *names))
  assert listed(tree) == ["a/x.png", "b/y.png"]
  assert tree.left_out == left_out
  assert tree.read("b/y.png") == images.encode(1)
  with pytest.raises(KeyError):
    tree.read("../../evil.png")


def test_prepare_names_what_it_leaves_out(tmp_path, capsys):
  source = write_zip(tmp_path / "x.zip", "../../evil.png", "/abs/evil.png", "ok/1.png", "ok/2.png")
  assert prepared.main(f"--source={source}", f"--out={tmp_path / 'a' / 'out'}") == 0
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  assert "left out 2 of its entries, with absolute or parent" in error and "such as '../../evil.png'" in error
  assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
    ["a", "out", "facts.json", "manifest.json", "train-00000-of-00001.array_record", "train.json", "x.zip"]
  )
  assert len(prepared.read(tmp_path / "a" / "out")) == 2


def test_control_characters_reach_neither_names_nor_the_terminal(tmp_path, capfd):
  source = write_zip(tmp_path / "x.zip", f"{ESCAPE}ant/1.png", f"bee/{ESCAPE}2.png", "bee/\n3.png")
  assert prepared.main(f"--source={source}", f"--out={tmp_path / 'zip'}") == 0
  folder = tmp_path / "set"
  for name in (f"{ESCAPE}ant", "bee"):
    (folder / name).mkdir(parents=True)
    (folder / name / "1.png").write_bytes(images.encode(0))
  (folder / "bee" / f"{ESCAPE}bad\n.png").write_bytes(b"no image")
  (folder / "bee" / "\udc80.png").write_bytes(b"no image")
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'folder'}", "--max_bad_fraction=0.9") == 0
  out, error = capfd.readouterr()
  assert "bad\\n.png" in error and "\\x1b" in error and not {"\x1b", "\x07"} & set(out + error)
  set_ = prepared.read(tmp_path / "zip")
  assert set_.class_names == ("]0;owned[31mant", "bee")
  assert sorted(set_[i].name for i in range(3)) == [
    "]0;owned[31mant/1.png",
    "bee/3.png",
    "bee/]0;owned[31m2.png",
  ]
  assert prepared.read(tmp_path / "folder").class_names == ("\\x1b]0;owned\\x07\\x1b[31mant", "bee")


def test_only_plain_files_are_read(tmp_path):
  os.mkfifo(tmp_path / "x.png")
  os.mkfifo(tmp_path / "classes.txt")
  (tmp_path / "link.png").symlink_to("/dev/zero")
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(str(tmp_path / "socket.png"))
  tree = trees.open_tree(str(tmp_path))
  for name in ("x.png", "link.png", "socket.png"):
    with pytest.raises(ValueError, match="is not a plain file"):
      tree.read(name)
  with pytest.raises(BadInput, match="classes.txt cannot be read: is not a plain file"):
    class_files.read(tree, "")
  with pytest.raises(BadInput, match="cannot be opened as a zip file: is not a plain file"):
    trees.open_tree(str(tmp_path / "x.png"))


def test_a_file_that_no_image_can_fill_is_not_read(tmp_path):
  with open(tmp_path / "x.png", "wb") as file:
    file.truncate(10**12)  # takes no room on the disk
  with pytest.raises(ValueError, match="has 1,000,000,000,000 bytes, more than"):
    plain_files.read(str(tmp_path / "x.png"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_backslashes_in_zips_are_folders(tmp_path):
  names = [f"{name}\\{i}.png" for name in ("cat", "dog") for i in range(3)]
  left_out = ["..\\..\\evil.png", "\\abs\\evil.png", "C:\\abs\\evil.png", "cat/1.png"]
  tree = trees.open_tree(write_zip(tmp_path / "x.zip", *names, *left_out))
  assert listed(tree) == [name.replace("\\", "/") for name in names] and tree.left_out == left_out
  assert tree.read("dog/2.png") == images.encode(5)
  assert prepared.main(tmp_path / "x.zip", tmp_path / "out") == 0
  assert prepared.read(tmp_path / "out").class_names == ("cat", "dog")


def write_tar(path, members):
  """Writes {name: content, or a TarInfo}."""
  with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as file:
    for name, content in members.items():
      member = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
      member.name = name
      data = content if isinstance(content, bytes) else b""
      member.size = len(data)
      file.addfile(member, io.BytesIO(data))
  return str(path)


def special(kind, target=""):
  member = tarfile.TarInfo()
  member.type, member.linkname = kind, target
  return member


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "X.TAR"])
def test_tar_files(tmp_path, name):
  members = {f"./set/{kind}/{i}.png": images.encode(i) for kind in ("ant", "bee") for i in range(3)}
  left_out = {
    "set/link.png": special(tarfile.SYMTYPE, "/etc/passwd"),
    "set/hard.png": special(tarfile.LNKTYPE, "set/ant/0.png"),
    "set/pipe.png": special(tarfile.FIFOTYPE),
    "/etc/evil.png": b"x",
    "../evil.png": b"x",
  }
  tree = trees.open_tree(write_tar(tmp_path / name, members | left_out | {"set/.hidden": b"x"}))
  assert listed(tree) == [path.removeprefix("./") for path in members] and tree.left_out == list(left_out)
  assert tree.read("set/bee/2.png") == images.encode(2)
  assert prepared.main(tmp_path / name, tmp_path / "out") == 0
  assert prepared.read(tmp_path / "out").class_names == ("ant", "bee")


def test_damaged_tar_files_are_one_line(tmp_path, capsys):
  whole = pathlib.Path(write_tar(tmp_path / "x.tar.gz", {"a.png": images.encode(0, (90, 90))})).read_bytes()
  plain = pathlib.Path(write_tar(tmp_path / "x.tar", {"a.png": images.encode(0, (90, 90))})).read_bytes()
  bomb = gzip.compress(bytes(2**29))
  for name, content, message in (
    ("cut.tar.gz", whole[:-100], "cannot be opened as a tar file"),
    ("wrong.tar.gz", whole[:20] + bytes(50) + whole[70:], "cannot be opened as a tar file"),
    ("rubbish.tar", b"rubbish" * 300, "cannot be opened as a tar file"),
    ("empty.tar", b"", "cannot be opened as a tar file"),
    ("bomb.tgz", bomb, "expands to more than 268,435,456 bytes; if you trust it, unpack it"),
    ("cut.tar", plain[:2000], "cannot be opened as a tar file: unexpected end of data"),
  ):
    (tmp_path / name).write_bytes(content)
    assert prepared.main(tmp_path / name, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not list(tmp_path.glob("out/*.array_record"))


def test_junk_of_other_systems_is_counted(tmp_path):
  for name in ("a/x.png", ".git/x", "@eaDir/y.png", "a/@eaDir/z.png", "Thumbs.db", "#recycle/a.png", "a/.b"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(images.encode(0))
  listing = trees.list_all(trees.open_tree(str(tmp_path)))
  assert listing.files == ["a/x.png"] and listing.folders == ["a/"]
  assert listing.junk == {".*": 2, "@eaDir": 2, "Thumbs.db": 1, "#recycle": 1}
