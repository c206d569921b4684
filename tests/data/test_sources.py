"""Every source gives the same examples; batches depend only on seed and position; each bad input is named in
one line.
"""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn.datasets

from swin_jax.data.feed import pipeline
from swin_jax.data.prepare import writing
from swin_jax.data.read import image_files, layouts, shards, sources
from swin_jax.data.read.example import Example
from swin_jax.terminal.errors import BadInput
from tests.support import images, seals
from tests.support.batches import WHOLE, assert_same, make_input, take
from tests.support.opened import open_source
from tests.support.paths import ROOT

pytestmark = pytest.mark.every_python


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  return images.make_folder(tmp_path_factory.mktemp("folder"), {"train": 23, "val": 9})


@pytest.fixture(scope="module", name="prepared")
def _prepared(folder, tmp_path_factory):
  out = tmp_path_factory.mktemp("prepared")
  writing.prepare(str(folder), str(out), num_shards=3)
  return out


@pytest.fixture(scope="module", name="tfds_set")
def _tfds_set(tmp_path_factory, folder):
  """Writes the folder as a TFDS set, later read without TensorFlow."""
  tfds = pytest.importorskip("tensorflow_datasets")

  class Insects(tfds.core.GeneratorBasedBuilder):
    """Test set."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
      label = tfds.features.ClassLabel(names=["ant", "bee", "cat"])
      features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
      )
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
      return {name: self._generate_examples(name) for name in ("train", "val")}

    def _generate_examples(self, split):
      for path in sorted((folder / split).glob("*/*")):
        yield path.name, {"image": path, "label": path.parent.name}

  path = tmp_path_factory.mktemp("tfds")
  Insects(data_dir=path).download_and_prepare(file_format="array_record")
  return path


@pytest.fixture(name="tfds_dir")
def _tfds_dir(tfds_set, monkeypatch):
  """Sets the folder in TFDS directly: TFDS reads TFDS_DATA_DIR only when it is imported, which has already
  happened.
  """
  import tensorflow_datasets as tfds

  monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tfds_set))
  return tfds_set


def join(parts):
  """Combines the hosts' parts of one batch into the batch."""
  return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


# The same examples from every source.


def test_folder(folder):
  source = open_source("folder", str(folder), "train")
  files = sorted((folder / "train").glob("*/*"))
  labels = {"ant": 0, "bee": 1, "cat": 2}
  assert [source[i] for i in range(len(source))] == [
    Example(path.read_bytes(), labels[path.parent.name], f"train/{path.parent.name}/{path.name}")
    for path in files
  ]
  assert (source.num_classes, source.class_names) == (3, ("ant", "bee", "cat"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_array_record_is_the_folder(folder, prepared, split):
  source, original = (
    open_source("array_record", str(prepared), split),
    open_source("folder", str(folder), split),
  )
  assert images.contents(source) == images.contents(original)
  assert source.class_names == original.class_names


def test_tfds_is_the_folder_without_tensorflow(folder, tfds_dir):
  source = open_source("tfds", "insects", "train")
  assert images.contents(source) == images.contents(open_source("folder", str(folder), "train"))
  assert source.class_names == ("ant", "bee", "cat")
  assert "tensorflow" not in sys.modules


def test_tfds_finds_its_folder_in_the_environment(tfds_set):
  code = "from tests.support.opened import open_source; print(len(open_source('tfds', 'insects', 'train')))"
  env = os.environ | {"TFDS_DATA_DIR": str(tfds_set), "PYTHONPATH": str(ROOT)}
  assert (
    subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    == "23\n"
  )


def test_npz(tmp_path):
  images.make_npz(tmp_path / "set_train_png.npz", 7)
  source = open_source("npz", str(tmp_path / "set_{split}_png.npz"), "train")
  assert [source[i] for i in range(len(source))] == [
    Example(images.encode(i), i % 3, f"set_train_png.npz/{i}") for i in range(7)
  ]


def test_real_npz():
  path = images.real_data("cifar10/cifar10_test_jpeg.npz")
  source = open_source("npz", str(path.parent / "cifar10_{split}_jpeg.npz"), "test")
  assert len(source) == 10_000 and source[9_999].image[:2] == b"\xff\xd8"
  assert source.class_names[source[0].label] == "cat"


def test_digits():
  splits = [open_source("digits", "", split) for split in ("train", "val")]
  names = [{source[i].name for i in range(len(source))} for source in splits]
  assert list(map(len, names)) == [1437, 360] and not names[0] & names[1]
  original = sklearn.datasets.load_digits()
  for source in splits:
    for example in map(source.__getitem__, range(len(source))):
      i = int(example.name.removeprefix("digits/"))
      np.testing.assert_array_equal(example.image[..., 0], np.round(original.images[i] * (255 / 16)))
      assert example.image.dtype == np.uint8 and example.label == original.target[i]


def test_every_source_survives_pickling(folder, prepared, tfds_dir, tmp_path):
  del tfds_dir
  images.make_npz(tmp_path / "train.npz", 100)
  paths = {
    "folder": folder,
    "array_record": prepared,
    "tfds": "insects",
    "npz": tmp_path / "{split}.npz",
    "digits": "",
  }
  for name, path in paths.items():
    source = open_source(name, str(path), "train")
    source[0]  # opens the readers
    pickled = pickle.dumps(source)
    copy = pickle.loads(pickled)
    assert [np.array_equal(copy[i].image, source[i].image) for i in range(len(source))] == [True] * len(
      source
    )
    assert name == "digits" or len(pickled) < 5_000


class Tree:
  """Files that exist nowhere, with names as long as those of ImageNet."""

  name, left_out = "nowhere", []

  def entries(self, folder):
    if not folder:
      return [(f"n{i:08}", True) for i in range(20)]
    return [(f"{folder[:-1]}_{i:08}.JPEG", False) for i in range(1_000)]


def test_a_listing_takes_fifty_bytes_a_file():
  layout = layouts.understand(Tree())
  source = image_files.ImageFiles(Tree(), layout.splits[""])
  assert len(source) == 20_000 and len(pickle.dumps(source)) < 50 * len(source)


# Folders.


def test_folder_details(tmp_path):
  for path in ("b/deep/er/x.PNG", "b/.hidden.png", "b/notes.txt", "a/y.Jpeg", ".cache/z.png"):
    (tmp_path / "train" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "train" / path).write_bytes(path.encode())
  source = open_source("folder", str(tmp_path), "train")
  assert list(source) == [
    Example(b"a/y.Jpeg", 0, "train/a/y.Jpeg"),
    Example(b"b/deep/er/x.PNG", 1, "train/b/deep/er/x.PNG"),
  ]


def test_a_class_missing_from_one_split_shifts_no_label(tmp_path):
  images.make_folder(tmp_path, {"train": 6})
  images.make_folder(tmp_path, {"val": 4}, ("bee", "cat"))
  source = open_source("folder", str(tmp_path), "val")
  assert source.num_classes == 3 and [source[i].label for i in range(4)] == [1, 1, 2, 2]


def test_without_class_folders_there_are_no_labels(tmp_path):
  source = open_source("folder", str(images.make_folder(tmp_path, {"train": 4}, ())), "train")
  assert source.num_classes == 0 and source.class_names == () and {source[i].label for i in range(4)} == {-1}


# Batches.


def test_same_seed_same_batches(prepared):
  source = open_source("array_record", str(prepared), "train")
  first = take(make_input(source).train_batches(0, WHOLE), 6)
  assert_same(first, take(make_input(source).train_batches(0, WHOLE), 6))
  assert not np.array_equal(
    first[0]["index"], next(make_input(source, seed=6).train_batches(0, WHOLE))["index"]
  )
  assert not np.array_equal(first[0]["image"], first[1]["image"])


def test_two_hosts_are_disjoint_and_together_complete(prepared):
  source = open_source("array_record", str(prepared), "train")
  whole = take(make_input(source).train_batches(0, WHOLE), 6)
  hosts = [take(make_input(source).train_batches(0, pipeline.Part(host, 2)), 6) for host in range(2)]
  assert_same(whole, [join(parts) for parts in zip(*hosts, strict=True)])
  epoch = np.concatenate([batch["index"] for batch in whole])[:23]
  assert sorted(epoch) == list(range(23))


@pytest.mark.parametrize("before,after", [(1, 2), (4, 1), (2, 4)])
def test_position_continues_on_another_number_of_hosts(prepared, before, after):
  source = open_source("array_record", str(prepared), "train")
  one = [
    join(parts)
    for parts in zip(
      *(take(make_input(source).train_batches(0, pipeline.Part(h, before)), 5) for h in range(before)),
      strict=True,
    )
  ]
  other = [
    join(parts)
    for parts in zip(
      *(take(make_input(source).train_batches(3, pipeline.Part(h, after)), 2) for h in range(after)),
      strict=True,
    )
  ]
  assert_same(one[3:], other)


def test_workers_give_the_batches_of_threads(prepared):
  source = open_source("array_record", str(prepared), "train")
  assert_same(
    take(make_input(source).train_batches(2, WHOLE), 4),
    take(make_input(source, workers=1).train_batches(2, WHOLE), 4),
  )


@pytest.mark.parametrize("batch", [2, 6, 8, 46])
@pytest.mark.parametrize("hosts", [1, 2])
def test_evaluation_covers_each_example_once(prepared, batch, hosts):
  source = open_source("array_record", str(prepared), "train")
  parts = [
    b
    for host in range(hosts)
    for b in make_input(source, batch=batch).eval_batches(pipeline.Part(host, hosts))
  ]
  indices = np.concatenate([b["index"][b["weight"] == 1] for b in parts])
  assert sorted(indices) == list(range(23))
  assert {len(b["index"]) for b in parts} == {batch // hosts}


# Bad records.


class Damaged:
  """Five examples; the `bad` ones raise an error or hold rubbish."""

  num_classes, class_names = 3, ("ant", "bee", "cat")

  def __init__(self, bad, name="image"):
    self._bad, self._name = bad, name

  def __len__(self):
    return 5

  def __getitem__(self, index):
    if isinstance(self._bad.get(index), Exception):
      raise self._bad[index]
    return Example(self._bad.get(index, images.encode(index)), index % 3, f"{self._name} {index}")


@pytest.mark.parametrize(
  "error",
  [
    FileNotFoundError("no such file"),
    RuntimeError("hash mismatch"),
    ValueError("no record"),
    b"rubbish",
    b"",
  ],
)
def test_a_bad_record_gives_way_to_the_next(error, capsys):
  data = make_input(Damaged({1: error, 2: error}, f"{error} as number"), batch=5)
  batches = take(data.train_batches(0, WHOLE), 3)
  for batch in batches:
    assert sorted(zip(batch["index"], batch["bad"], strict=True)) == [(0, 0), (3, 0), (3, 1), (3, 2), (4, 0)]
    assert all(batch["label"] == batch["index"] % 3)
  assert_same(batches, take(data.train_batches(0, WHOLE), 3))
  # messages of the previous test may still arrive
  messages = [line for line in capsys.readouterr().err.splitlines() if f"{error}" in line]
  # each is named once over all epochs
  assert sorted(message.partition(" cannot be read")[0][-1] for message in messages) == ["1", "2"]
  (evaluation,) = data.eval_batches(WHOLE)
  assert evaluation["index"][evaluation["weight"] == 1].tolist() == [0, 3, 4]
  padded = [b for b in make_input(Damaged({1: error, 2: error}), batch=4).eval_batches(WHOLE)]
  assert np.concatenate([b["bad"] for b in padded]).tolist() == [0, 2, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_records(workers):
  with pytest.raises(BadInput, match="none of 5 records in a row could be read; the last: .*: no disk"):
    next(
      make_input(Damaged({i: FileNotFoundError("no disk") for i in range(5)}), workers=workers).train_batches(
        0, WHOLE
      )
    )


def test_a_damaged_shard_loses_one_record(prepared, tmp_path):
  for file in prepared.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  path = tmp_path / "train-00001-of-00003.array_record"
  source = open_source("array_record", str(tmp_path), "train")
  content = bytearray(path.read_bytes())
  content[content.index(source[9].image) + 50] ^= 255
  path.write_bytes(content)
  source = open_source("array_record", str(tmp_path), "train")
  with pytest.raises(ValueError, match="record 9 of .*train.json"):
    source[9]
  assert [source[i].image for i in (8, 10)]
  assert sum(b["bad"].sum() for b in make_input(source).eval_batches(WHOLE)) == 1


# Every bad input gives one line that names what is wrong, where, and how to fix it.


def bad(name, path, split="train") -> str:
  with pytest.raises(BadInput) as error:
    open_source(name, str(path), split)
  assert "\n" not in str(error.value)
  return str(error.value)


def test_bad_names_and_paths(tmp_path, folder):
  assert "did you mean array_record?" in bad("arrayrecord", "")
  assert "There are array_record, folder, npz, tfds, digits" in bad("zzz", "")
  for name in ("array_record", "folder", "npz", "tfds"):
    assert f"data.source={name} needs --config.data.path: a" in bad(name, "")
  assert "digits reads no files" in bad("digits", "/data")
  assert "have train, val" in bad("digits", "", "test")
  (tmp_path / "photos").mkdir()
  for name in ("array_record", "folder"):
    assert f"did you mean {tmp_path / 'photos'}?" in bad(name, tmp_path / "potos")
    assert "has no 'qqq'" in bad(name, tmp_path / "qqq")
  assert "is a file, not a folder" in bad("folder", next(folder.glob("*/*/*")))


def test_bad_folders(tmp_path, folder, prepared):
  assert "it has train, val: set data.train_split and data.eval_split" in bad("folder", folder, "validation")
  assert "--config.data.source=array_record" in bad("folder", prepared)
  assert f"prepare {folder / 'train'} FOLDER --hold_out=0.1" in bad("folder", folder / "train")
  (tmp_path / "train" / "ant").mkdir(parents=True)
  assert "holds no image (.jpg" in bad("folder", tmp_path)
  (tmp_path / "train" / "ant" / "y.png").touch()
  (tmp_path / "train" / "x.png").touch()
  assert "also images of its own, such as x.png" in bad("folder", tmp_path)


def test_bad_npz(tmp_path):
  path, pattern = tmp_path / "set_train.npz", tmp_path / "set_{split}.npz"
  assert "no file matches" in bad("npz", pattern)
  assert "does not exist" in bad("npz", tmp_path / "none" / "{split}.npz")
  images.make_npz(path, 5)
  assert "write {split} where its name has the split" in bad("npz", path)
  assert "did you mean" in bad("npz", tmp_path / "set_trai.npz")
  assert "has no split 'val'; it has train" in bad("npz", pattern, "val")
  for changes, message in [
    (dict(offsets=None), "has no array offsets; it has jpeg, labels, class_names"),
    (dict(class_names=None), "both labels and class_names"),
    (dict(labels=np.arange(5)), "has 3 class names, but image 3 has label 3"),
    (dict(labels=-np.ones(5, int)), "image 0 has label -1"),
    (dict(labels=np.arange(4) % 3), "is inconsistent"),
    (dict(offsets=np.arange(6)), "is inconsistent"),
    (dict(offsets=np.array([0, 900, 2, 3, 4, 5], np.uint64), jpeg=np.zeros(5, np.uint8)), "is inconsistent"),
  ]:
    images.make_npz(path, 5, **changes)
    assert message in bad("npz", pattern)
  path.write_bytes(path.read_bytes()[:300])
  assert "cannot be read as an npz file" in bad("npz", pattern)


def test_bad_array_record(tmp_path, prepared, folder):
  assert "it has train, val" in bad("array_record", prepared, "test")
  assert "--config.data.source=folder, or run python -m swin_jax.data.prepare" in bad("array_record", folder)
  for file in prepared.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  (tmp_path / "train-00001-of-00003.array_record").unlink()
  message = "1 of 3 shards are missing or damaged: train-00001-of-00003.array_record; run prepare again"
  assert message in bad("array_record", tmp_path)
  cut = tmp_path / "train-00002-of-00003.array_record"
  cut.write_bytes(cut.read_bytes()[:-10])
  assert "2 of 3 shards" in bad("array_record", tmp_path)
  header = json.loads((prepared / "train.json").read_text())
  for text, message in [
    ("{", "is damaged"),
    ("[]", "is damaged"),
    (json.dumps(header | {"version": 99}), "format 99, this program reads 1"),
  ]:
    (tmp_path / "train.json").write_text(text)
    seals.reseal(tmp_path)
    assert message in bad("array_record", tmp_path)


def test_a_label_without_class_is_bad_input(tmp_path, prepared):
  for file in prepared.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  header = json.loads((prepared / "train.json").read_text())
  (tmp_path / "train.json").write_text(json.dumps(header | {"class_names": ["ant"]}))
  seals.reseal(tmp_path)
  source = open_source("array_record", str(tmp_path), "train")
  with pytest.raises(BadInput, match="has 1 class names, but train/(bee|cat)/.* has label"):
    for i in range(len(source)):
      source[i]


def test_a_foreign_record_is_a_bad_record():
  for record in (b"", b"\xff\x00", b"rubbish", shards.pack(Example(b"", 0, "x"))[:-1], b"\x81\xa1a\x01"):
    with pytest.raises(ValueError):
      shards.unpack(record)


def test_bad_tfds(tfds_dir):
  assert "did you mean mnist?" in bad("tfds", "mnits")
  assert "not a name like" in bad("tfds", "/data/tfds")
  assert "has no split 'test'; it has train, val" in bad("tfds", "insects", "test")
  assert "download_and_prepare(file_format='array_record')" in bad("tfds", "mnist")
  info = next(tfds_dir.glob("insects/*/dataset_info.json"))
  text = info.read_text()
  try:
    info.write_text(text.replace("array_record", "tfrecord"))
    assert "needs TensorFlow; convert it once" in bad("tfds", "insects")
  finally:
    info.write_text(text)
  shard = next(tfds_dir.glob("insects/*/*train*"))
  content = shard.read_bytes()
  try:
    shard.unlink()
    assert "1 files of insects are missing" in bad("tfds", "insects")
  finally:
    shard.write_bytes(content)


def test_a_tfds_shard_that_comes_back_is_opened_anew(tfds_dir):
  shard = next(tfds_dir.glob("insects/*/*train*"))
  source = open_source("tfds", "insects", "train")
  with images.away(shard), pytest.raises(OSError, match=f"symbolic links: '{shard}'"):
    source[0]
  assert source[0].name == "insects/train/0"


def test_a_folder_is_understood_aloud_and_once_for_all_splits(tmp_path, capsys):
  images.make_folder(tmp_path, {"training_set": 4, "dev": 2})
  train, val = sources.open_sources("folder", str(tmp_path), ("train", "val"))
  assert (len(train), len(val)) == (4, 2)
  assert capsys.readouterr().out.count("splits: training_set → train, dev → val") == 1
