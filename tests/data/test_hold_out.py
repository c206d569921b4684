"""--hold_out keeps the shares of classes, and --by keeps groups on one side."""

import collections
import json
import os
import zipfile

import numpy as np
import pytest

from swin_jax.data.prepare import group_table, hold_out, tiles
from swin_jax.data.read import facts, shards, trees
from swin_jax.data.read import strange as strange_lines
from swin_jax.terminal.errors import BadInput
from tests.support import images, label_sets, rasters
from tests.support.prepared import bad, files, main, read, run


def write(root, names, table=None):
  """Writes an image under each name and, if given, the table groups.csv of rows of cells."""
  for i, name in enumerate(names):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(i))
  if table:
    (root / "groups.csv").write_text("\n".join(map(",".join, table)) + "\n")
  return root


def names_in(out, split):
  examples = read(out, split)
  return [examples[i].name for i in range(len(examples))]


def classes_in(out, split):
  return collections.Counter(name.split("/")[0] for name in names_in(out, split))


def of_each(**counts):
  return [f"{name}/{i}.png" for name, count in counts.items() for i in range(count)]


@pytest.mark.parametrize(
  "counts, share, expected",
  [
    (dict(common=40, rare=2), 0.1, dict(common=4, rare=1)),  # the case that was reported
    (dict(a=30, b=20, c=10), 0.1, dict(a=3, b=2, c=1)),
    (dict(a=7, b=7, c=7), 1 / 3, dict(a=3, b=2, c=2)),  # largest remainders; of equal ones the first
    (dict(a=2, b=2, c=2, d=2, e=2), 0.9, dict.fromkeys("abcde", 1)),
    (dict(a=50, single=1), 0.5, dict(a=25)),
  ],
)
def test_every_class_keeps_its_share(counts, share, expected, tmp_path, capsys):
  run(write(tmp_path / "in", of_each(**counts)), tmp_path / "out", hold_out=share)
  assert classes_in(tmp_path / "out", "val") == expected
  assert classes_in(tmp_path / "out", "train") + classes_in(tmp_path / "out", "val") == counts
  named = "all their images are in training and none in val: single" in capsys.readouterr().err
  assert named == ("single" in counts)


def test_any_classes_of_two_are_in_both_parts():
  rng = np.random.default_rng(1)
  for _ in range(50):
    sizes = rng.integers(1, 9, rng.integers(1, 30))
    quotas = hold_out._quotas(sizes, share := rng.uniform(0.02, 0.9))
    assert (quotas[sizes == 1] == 0).all()
    assert ((quotas >= 1) & (quotas <= sizes - 1))[sizes > 1].all()
    assert (np.abs(quotas - share * sizes)[sizes > 1] <= 1).all()


def test_without_classes_the_order_is_that_of_older_sets(tmp_path):
  run(write(tmp_path / "in", [f"{i:02}.png" for i in range(20)]), tmp_path / "out", hold_out=0.25)
  order = [f"{i:02}.png" for i in np.random.default_rng(0).permutation(20)]
  assert names_in(tmp_path / "out", "val") == order[:5] and names_in(tmp_path / "out", "train") == order[5:]


def test_classes_of_one_image_are_divided_by_chance(tmp_path, capsys):
  run(write(tmp_path / "in", [f"scene{i}/x.png" for i in range(8)]), tmp_path / "out", hold_out=0.25)
  assert len(names_in(tmp_path / "out", "val")) == 2
  assert "splitting at random, because no class is known to have two images" in capsys.readouterr().err


def test_a_set_that_an_older_version_divided_goes_on(tmp_path, monkeypatch, capsys):
  source, out = write(tmp_path / "in", of_each(common=40, rare=2)), tmp_path / "out"
  with monkeypatch.context() as older:
    older.setattr(
      hold_out, "divide", lambda examples, order, share, by, tree: hold_out.by_chance(order, share)
    )
    run(source, out, hold_out=0.1)
  before = files(out)
  assert "by" not in json.loads(before["val.json"])["made_from"]
  os.remove(shards.shard_path(str(out), "train", 0, 1))
  run(source, out, hold_out=0.1)
  assert files(out) == before and "already has a random split and keeps it" in capsys.readouterr().out
  run(source, tmp_path / "new", hold_out=0.1)
  assert classes_in(tmp_path / "new", "val") == dict(common=4, rare=1)
  assert "by chance" not in capsys.readouterr().out


# Groups.

PATIENTS = [
  f"{kind}/p{patient:02}/{i}.png"
  for patient in range(20)
  for kind, count in (("benign", 3), ("malignant", patient % 3))
  for i in range(count)
]


def patients_in(out, split):
  return {name.split("/")[1] for name in names_in(out, split)}


@pytest.mark.parametrize("by", ["folder", "(p[0-9]+)/", "csv:patient", "csv:groups.csv:patient"])
def test_no_group_is_in_both_parts(by, tmp_path, capsys):
  table = [("label", "file", "patient"), *((n.split("/")[0], n, n.split("/")[1]) for n in PATIENTS)]
  run(write(tmp_path / "in", PATIENTS, table), tmp_path / "out", hold_out=0.2, by=by)
  parts = [patients_in(tmp_path / "out", split) for split in ("train", "val")]
  assert not parts[0] & parts[1] and len(parts[0] | parts[1]) == 20
  assert f"--by={by}: 20 groups, {len(parts[1])} with" in capsys.readouterr().out
  counts = [classes_in(tmp_path / "out", split) for split in ("train", "val")]
  for kind, count in (counts[0] + counts[1]).items():
    assert abs(counts[1][kind] / count - 0.2) < 0.06
  made_from = json.loads((tmp_path / "out" / "val.json").read_text())["made_from"]
  assert made_from["by"] == by
  assert "by" in bad(tmp_path / "in", tmp_path / "out", hold_out=0.2)


def test_groups_that_every_class_has_are_not_strange(tmp_path):
  names = [f"{kind}/site{site}/{i}.png" for kind in "ab" for site in range(4) for i in range(3)]
  source = write(tmp_path / "in", names)
  run(source, tmp_path / "out", hold_out=0.25, by="folder")
  assert not strange(tmp_path / "out")
  run(source, tmp_path / "pattern", hold_out=0.25, by="(site[0-9])")
  assert "each holds the same folders, site0" in strange(tmp_path / "pattern")[0]


def test_folders_of_images_with_maps(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "classes.txt").write_text("sky\nroad\n")
  for site in range(5):
    for i in range(4):
      for kind, content in (("images", images.encode(i)), ("labels", label_sets.png(np.zeros((8, 10))))):
        path = tmp_path / "in" / kind / f"site{site}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
  run(tmp_path / "in", tmp_path / "out", hold_out=0.2, by="folder")
  val = {name.split("/")[1] for name in names_in(tmp_path / "out", "val")}
  assert len(val) == 1 and len(names_in(tmp_path / "out", "val")) == 4


def test_rare_classes_are_in_both_parts_where_their_groups_allow(tmp_path, capsys):
  names = [f"common/g{g}/{i}.png" for g in range(30) for i in range(5)]
  names += [f"rare/g{g}/0.png" for g in (3, 4)] + [f"alone/g7/{i}.png" for i in range(6)]
  run(write(tmp_path / "in", names), tmp_path / "out", hold_out=0.1, by="folder")
  counts = [classes_in(tmp_path / "out", split) for split in ("train", "val")]
  assert counts[0]["rare"] == counts[1]["rare"] == 1 and 10 <= counts[1]["common"] <= 20
  assert counts[1]["alone"] == 0 and "1 of 3 classes cannot be divided" in capsys.readouterr().err


def test_tables_name_files_in_several_ways(tmp_path):
  paths = [f"set/{kind}/{kind}_{i}.jpg" for kind in "ab" for i in range(4)]
  expected = [str(i % 2) for _ in "ab" for i in range(4)]
  forms = {
    "path": lambda path: path,
    "part": lambda path: path.removeprefix("set/"),
    "name": lambda path: os.path.basename(path),
    "stem": lambda path: os.path.splitext(os.path.basename(path))[0],
    "dotted": lambda path: "./" + path.removeprefix("set/"),
    "windows": lambda path: "C:\\data\\" + os.path.basename(path),
    "relative": lambda path: path.replace("/", "\\"),
    "moved": lambda path: "/home/of/another/" + path,
  }
  for form, of in forms.items():
    for delimiter, ending in ((",", "csv"), (";", "csv"), ("\t", "tsv")):
      file = tmp_path / f"{form}.{ending}"
      rows = [["number", "group", "image"]]
      rows += [[str(i), group, of(path)] for i, (path, group) in enumerate(zip(paths, expected, strict=True))]
      rows += [["99", "another", "that_is_absent.jpg"]]
      file.write_text("\ufeff" + "\r\n".join(map(delimiter.join, rows)))
      assert group_table.read(trees.Disk(str(tmp_path)), paths, f"csv:{file}:group").values == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_encodings_of_tables(encoding, tmp_path):
  paths = [f"h\u00fc{i}.png" for i in range(4)]
  rows = ["name;gr\u00f6\u00dfe", *(f"{path};{i // 2}" for i, path in enumerate(paths))]
  (tmp_path / "t.csv").write_bytes("\n".join(rows).encode(encoding))
  read = lambda: group_table.read(trees.Disk(str(tmp_path)), paths, "csv:gr\u00f6\u00dfe").values
  if encoding != "latin-1":
    assert read() == ["0", "0", "1", "1"]
    return
  with pytest.raises(BadInput, match="is not text in UTF-8; save it as UTF-8"):
    read()


def test_a_table_in_a_zip(tmp_path):
  table = [("file", "patient"), *((name, name.split("/")[1]) for name in PATIENTS)]
  folder = write(tmp_path / "in", PATIENTS, table)
  with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
    for path in sorted(folder.rglob("*.*")):
      file.write(path, f"top/{path.relative_to(folder)}")
  run(tmp_path / "set.zip", tmp_path / "zipped", hold_out=0.2, by="csv:patient")
  run(folder, tmp_path / "plain", hold_out=0.2, by="csv:patient")
  of_zip = [name.removeprefix("top/") for name in names_in(tmp_path / "zipped", "val")]
  assert of_zip == names_in(tmp_path / "plain", "val")


def test_tiles_of_a_raster_stay_together(tmp_path):
  for i in range(6):
    rasters.write_tif(tmp_path / "in" / f"{i}.tif", np.full((40, 40, 2), i, np.float32))
  run(tmp_path / "in", tmp_path / "out", hold_out=1 / 3, by="(.+)", cut=tiles.Cut(10))
  files_in = [
    {name.split(" ")[0] for name in names_in(tmp_path / "out", split)} for split in ("train", "val")
  ]
  assert [len(each) for each in files_in] == [4, 2] and not files_in[0] & files_in[1]


@pytest.mark.parametrize(
  "by, message",
  [
    ("folder", "puts all 6 files into one group"),
    ("(x[0-9]+)", "does not match 6 of 6 paths, such as a/0.png"),
    ("[0-9]", "has 0 groups in parentheses, but needs one"),
    ("(", "is not a regular expression"),
    ("csv:patient", "names the images"),
    ("csv:person", "has no column 'person'; its columns are file, patient, place"),
    ("csv:place", "gives a/0.png both north and south; remove"),
    ("csv:other.csv:patient", "holds no table"),
    ("csv:", "is not csv:COLUMN"),
  ],
)
def test_groups_that_do_not_fit_are_refused(by, message, tmp_path):
  names = of_each(a=3, b=3)
  table = [("file", "patient", "place"), ("a/0.png", "p0", "north"), ("a/0.png", "p0", "south")]
  table = table if by == "csv:place" else [table[0], ("z.png", "p0", "north")]
  assert message in bad(write(tmp_path / "in", names, table), tmp_path / "out", hold_out=0.5, by=by)
  assert not (tmp_path / "out").exists()


def test_files_without_a_row_are_named(tmp_path):
  names = of_each(a=3, b=3)
  source = write(
    tmp_path / "in", names, [("file", "patient"), *((name, "p" + name[-5]) for name in names[1:])]
  )
  message = bad(source, tmp_path / "out", hold_out=0.5, by="csv:patient")
  assert (
    "1 of 6 files have no row, or no value in their row" in message
    and "such as a/0.png; complete the table" in message
  )


def test_names_that_two_files_have_choose_no_row(tmp_path):
  table = [("file", "patient"), *((f"{i}.png", f"p{i}") for i in range(3))]
  source = write(tmp_path / "in", of_each(a=3, b=3), table)
  message = bad(source, tmp_path / "out", hold_out=0.5, by="csv:patient")
  assert "no column of" in message and "a name that no other image has" in message


def test_flags(tmp_path, capsys):
  images.make_npz(tmp_path / "set.npz", 6)
  source = f"--source={write(tmp_path / 'in', PATIENTS)}"
  assert main(source, f"--out={tmp_path / 'out'}", "--by=folder") == 2
  assert "--by=folder chooses what --hold_out sets apart; give both" in capsys.readouterr().err
  words = (f"--source={tmp_path / 'set.npz'}", f"--out={tmp_path / 'out'}", "--hold_out=0.5")
  assert main(*words, "--by=folder") == 2
  assert "one file holds all these images" in capsys.readouterr().err
  assert main(source, f"--out={tmp_path / 'out'}", "--by=folder", "--hold_out=0.2") == 0


def test_a_hidden_table_is_not_a_second_one(tmp_path):
  """As macOS writes it next to each file."""
  paths = [f"{i}.png" for i in range(4)]
  write(tmp_path, paths, [("file", "group"), *((path, str(i // 2)) for i, path in enumerate(paths))])
  (tmp_path / "._groups.csv").write_bytes(b"\0\5\x16\7")
  assert group_table.read(trees.Disk(str(tmp_path)), paths, "csv:group").values == ["0", "0", "1", "1"]


def strange(out):
  return strange_lines.find(facts.read(str(out)))


@pytest.mark.parametrize(
  "names, share, by, line",
  [
    (
      [f"{kind}/site{site}/{i}.png" for kind in "ab" for site in range(2) for i in range(5)],
      0.2,
      "folder",
      "--hold_out=0.2 asks for 4 of 20 images, but val has 10 (50.0 %): groups stay whole (the largest of 2",
    ),
    (
      [
        f"{x}/{site}/{i}.png"
        for x in "ab"
        for site, count in (("big", 27), ("small", 1))
        for i in range(count)
      ],
      0.2,
      "folder",
      "asks for 11 of 56 images, but val has 2 (3.6 %): groups stay whole (the largest of 2 has 54 images)",
    ),
    (
      [f"{kind}/{i}.png" for kind in "abcdefgh" for i in range(2)],
      0.1,
      "",
      "asks for 2 of 16 images, but val has 8 (50.0 %): every class of two or more images is in both parts",
    ),
    (
      [f"{kind}/{kind}{i}/{j}.png" for kind in "ab" for i in range(10) for j in range(3)],
      0.2,
      "folder",
      None,
    ),
    (of_each(a=5, b=5), 0.1, "", None),  # 2 of 10, one of each class, is only one more
  ],
)
def test_a_share_that_is_far_from_the_one_asked_for_is_strange(names, share, by, line, tmp_path, capsys):
  source = write(tmp_path / "in", names)
  run(source, tmp_path / "out", hold_out=share, by=by)
  found = [each for each in strange(tmp_path / "out") if each.startswith("--hold_out")]
  assert [line in each for each in found] == ([True] if line else [])
  assert ("STRANGE: --hold_out" in capsys.readouterr().out) == bool(line)
  flags = [f"--hold_out={share}", "--strict", *([f"--by={by}"] if by else [])]
  assert main(str(source), str(tmp_path / "strict"), *flags) == (2 if line else 0)


@pytest.mark.parametrize(
  "by, folders, group",
  [
    ("csv:patient", [f"p{i}" for i in range(5)], "{}"),
    ("csv:patient", [f"p{i}{eye}" for i in range(5) for eye in "lr"], "{:.2}"),
    ("(p[0-9])", [f"p{i}" for i in range(5)], ""),
  ],
)
def test_folders_that_are_the_groups_are_no_classes(by, folders, group, tmp_path):
  """One folder for each patient, or several for one; and the mend that the message gives."""
  names = [f"{folder}/{i}.png" for folder in folders for i in range(3)]
  rows = [(name, group.format(name.split("/")[0])) for name in names]
  source = write(tmp_path / "in", names, [("file", "patient"), *rows] if group else None)
  message = bad(source, tmp_path / "out", hold_out=0.2, by=by)
  assert "lies in one of the 5 groups" in message and "give --classes=none" in message
  assert not (tmp_path / "out").exists()
  assert main(str(source), str(tmp_path / "out"), "--classes=none", "--hold_out=0.2", f"--by={by}") == 0
  assert not shards.read_header(str(tmp_path / "out"), "val")["class_names"]
  assert len({name[:2] for name in names_in(tmp_path / "out", "val")}) == 1


def test_groups_of_folders_without_folders_below_them(tmp_path):
  source = write(tmp_path / "in", of_each(p1=3, p2=3, p3=3))
  message = bad(source, tmp_path / "out", hold_out=0.3, by="folder")
  assert "because no folders divide those of the classes" in message and "--classes=none" in message
  assert main(str(source), str(tmp_path / "out"), "--classes=none", "--hold_out=0.3", "--by=folder") == 0


@pytest.mark.parametrize("by", ["csv:patient", "csv:groups.csv:patient", "csv:{source}/groups.csv:patient"])
@pytest.mark.parametrize("others", [[], ["more.csv"]])
def test_the_table_of_the_groups_counts_as_read(by, others, tmp_path):
  names = of_each(a=6, b=6)
  source = write(tmp_path / "in", names, [("file", "patient"), *((name, "p" + name[2]) for name in names)])
  for name in others:
    (source / name).write_text("x,y\n1,2\n")
  if others and by == "csv:patient":
    assert "holds 2 tables" in bad(source, tmp_path / "out", hold_out=1 / 3, by=by)
    return
  run(source, tmp_path / "out", hold_out=1 / 3, by=by.format(source=source))
  assert facts.read(str(tmp_path / "out")).origin.unread == ({".csv": 1} if others else {})
