"""What class files say in addition to names: the values of the classes, and their colours."""

import numpy as np
import pytest

from swin_jax.data.read import class_files, labels
from tests.support import prepared
from tests.support.label_sets import jpeg, png, rgb, write

BANDS = np.repeat([[0, 1, 2]], 12, 0).repeat(6, 1).astype(np.uint8)  # 72 pixels of each value
PAINTED = np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0)], np.uint8)[BANDS]


def a_set(encoded: bytes, **texts) -> dict:
  """Returns {path: content} of a set of four images with this map, and files of classes."""
  contents = {name.replace("__", "."): text for name, text in texts.items()}
  for i in range(4):
    contents |= {f"train/images/{i}.jpg": jpeg(12, 18, i), f"train/labels/{i}.png": encoded}
  return contents


def prepare(tmp_path, capsys, contents, *flags, code=0) -> str:
  """Prepares a set and returns all that the command prints, in one line."""
  source = write(tmp_path / "in", contents)
  assert prepared.main(source, tmp_path / "out", *flags) == code
  printed = capsys.readouterr()
  return " ".join((printed.out + printed.err).split())


@pytest.mark.parametrize("between", [" ", "\t", ": ", ",", ", "])
@pytest.mark.parametrize(
  "numbers, of_value",
  [((2, 0, 1), {2: 0, 0: 1, 1: 2}), ((1, 2, 3), {1: 0, 2: 1, 3: 2}), ((0, 1, 2), {0: 0, 1: 1, 2: 2})],
)
def test_numbers_that_begin_all_lines_are_the_values(numbers, of_value, between):
  names = ("road", "bare soil", "car")
  text = "".join(f"{number}{between}{name}\n" for number, name in zip(numbers, names, strict=True))
  classes = class_files.parse("classes.txt", text, "x")
  assert classes.names == names and classes.of_value == of_value | {labels.NONE: labels.NONE}
  assert classes.are_numbered is (numbers == (0, 1, 2)) and "is the value of the class" in classes.notes[0]


def test_numbers_before_names_with_colours():
  classes = class_files.parse("classes.txt", "5 sky 1,2,3\n7 road 4,5,6\n", "x")
  assert classes.names == ("sky", "road") and classes.colours == ((1, 2, 3), (4, 5, 6))
  assert classes.of_value == {5: 0, 7: 1, labels.NONE: labels.NONE}


@pytest.mark.parametrize("text", ["1 a\n1 b\n", "1 a\nb\n", "1\n2\n", "001.a\n002.b\n", "2nd\n3rd\n"])
def test_other_numbers_are_parts_of_names(text):
  classes = class_files.parse("classes.txt", text, "x")
  assert classes.names == tuple(text.split("\n")[:-1]) and classes.are_numbered and not classes.notes


@pytest.mark.parametrize("names", [("sky", "road"), ("2 wheels", "4 wheels"), ("1 a", "b"), ()])
def test_written_names_are_read_again(names):
  text = class_files.text_of(names)
  assert text == "".join(f"{name}\n" for name in names) or names[0] == "2 wheels"
  assert not names or class_files.parse("classes.txt", text, "x").names == names
  assert not names or class_files.parse("classes.txt", text, "x").are_numbered


def test_values_in_a_class_file_reach_the_table(tmp_path, capsys):
  pixels = np.where(BANDS == 2, 0, BANDS).astype(np.uint8)  # 0 is two thirds
  said = prepare(tmp_path, capsys, a_set(png(pixels), classes__txt="2 road\n0 bg\n1 car\n"))
  assert "classes.txt: the number that begins each line is the value of the class in maps" in said
  assert "maps: 0 is bg, 1 is car, 2 is road" in said and "bg 576 66.7 %" in said
  assert "STRANGE: class road: no pixel in train" in said


def test_a_value_without_a_class_beside_values_from_1(tmp_path, capsys):
  contents = a_set(png(BANDS), classes__txt="1: car\n2: road\n3: tree\n")
  said = prepare(tmp_path, capsys, contents, code=2)
  assert "has label 0 in 72 pixels; there are only 3 classes (1–3)" in said and "--no_class='0'" in said


@pytest.mark.parametrize(
  "name, text",
  [
    ("class_dict.csv", "name;r;g;b\nbg;0;0;0\nx;0;128;0\n"),
    ("classes.txt", "bg 0,0,0\nx 0,128,0\n"),
    ("labelmap.txt", "bg:0,0,0::\nx:0,128,0::\n"),
  ],
)
def test_an_unknown_colour_names_the_file_of_the_table(name, text, tmp_path, capsys):
  said = prepare(tmp_path, capsys, a_set(rgb(PAINTED)) | {name: text}, code=2)
  assert f"if a class, add it with this colour to {name}" in said


def test_an_unknown_colour_beside_colours_of_a_flag(tmp_path, capsys):
  said = prepare(
    tmp_path, capsys, a_set(rgb(PAINTED), classes__txt="bg\nx\n"), "--colours=0,0,0;0,128,0", code=2
  )
  assert "if a class, add its name to classes.txt and this colour to --colours" in said


@pytest.mark.parametrize("green, is_said", [("0,128,0", False), ("0,129,0", True)])
def test_two_tables_of_colours_that_differ_are_noted(green, is_said, tmp_path, capsys):
  lines = "bg 0,0,0\nx 0,128,0\ny 128,0,0\n"
  table = f"name,r,g,b\nbg,0,0,0\nX,{green}\ny,128,0,0\n"
  said = prepare(tmp_path, capsys, a_set(rgb(PAINTED), classes__txt=lines, class_dict__csv=table))
  note = "colours of the classes: those in classes.txt; those in class_dict.csv differ and are not used"
  assert (note in said) is is_said


@pytest.mark.parametrize("head", ["Klasse;R;G;B", "categoría;Red;Green;Blue", "NAME;r;g;b"])
def test_names_of_classes_have_a_column_of_any_name(head):
  classes = class_files.parse("legend.csv", f"{head}\nBaum;0;128;0\nHaus;128;0;0\n", "x")
  assert classes.names == ("Baum", "Haus") and classes.colours == ((0, 128, 0), (128, 0, 0))


def test_a_file_of_colours_is_searched_in_the_source_too(tmp_path, capsys):
  table = "Klasse,R,G,B\nbg,0,0,0\nx,0,128,0\ny,128,0,0\n"
  contents = a_set(rgb(PAINTED)) | {"legend.csv": table}
  said = prepare(tmp_path, capsys, contents, "--colours=legend.csv")
  assert "is complete: train 4 images, 3 classes" in said
  said = prepare(tmp_path, capsys, contents, "--colours=absent.csv", code=2)
  assert f"there is no file absent.csv or {tmp_path / 'in' / 'absent.csv'}" in said


@pytest.mark.parametrize("is_coloured", [False, True])
def test_maps_without_a_class_file(is_coloured, tmp_path, capsys):
  contents = a_set(rgb(PAINTED) if is_coloured else png(BANDS), legend__csv="a;b\n", README__txt="hello\n")
  contents |= {"train/labels/Klassen.txt": "a\nb\n", "train/images/other.json": "{}"}
  said, root = prepare(tmp_path, capsys, contents, code=2), tmp_path / "in"
  assert f"{root / 'train/labels'} holds label maps, such as train/labels/0.png, and no file names" in said
  assert (f"write {root / 'classes.txt'}, with one class per line; prepare" in said) is not is_coloured
  colours = "one class and its colour per line, like 'sky 128,128,128', as the maps are coloured; prepare"
  assert (colours in said) is is_coloured
  assert "prepare does not read legend.csv, train/labels/Klassen.txt for that; for maps of numbers" in said


def test_black_and_white_maps_of_three_classes(tmp_path, capsys):
  contents = a_set(png((BANDS > 0) * 255), classes__txt="bg\nobject\nother\n")
  said = prepare(tmp_path, capsys, contents)
  assert (
    "STRANGE: maps: the 4 looked at hold only 0, which is class bg, and 255, which means no class" in said
  )
  assert "if 255 is class object, name only these two classes, or give --label_values=0,255,2" in said
  (tmp_path / "out").rename(tmp_path / "before")
  said = prepare(tmp_path, capsys, contents, "--label_values=0,255,2")
  assert "object 576 66.7 %" in said and "which means no class" not in said
