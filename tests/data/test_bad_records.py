"""How many damaged records a run tolerates: a share of what it has read, not of the whole set."""

import numpy as np
import pytest

from swin_jax.data.feed.pipeline import BadRecords
from swin_jax.terminal.errors import BadInput

pytestmark = pytest.mark.every_python


def read(records, good, bad=0):
  """Counts a batch of `good` good records, in place of which `bad` damaged ones were skipped."""
  records.add({"bad": np.eye(1, good, dtype=np.int32)[0] * bad})


def test_a_large_set_that_is_damaged_throughout_is_named_early():
  """1 % of a million would be 10,000; 1 % of the first 1000 is 10."""
  records = BadRecords(range(1_000_000), 0.01)
  read(records, 100, bad=10)
  with pytest.raises(BadInput, match="11 of 211 records could not be read.*max_bad_fraction = 0.01"):
    read(records, 100, bad=1)


def test_later_it_is_a_share_of_what_was_read():
  records = BadRecords(range(1_000_000), 0.01)
  read(records, 5000, bad=10)
  read(records, 100, bad=41)
  assert (records.count, records.delivered) == (51, 5100)
  with pytest.raises(BadInput, match="52 of 5153"):
    read(records, 1, bad=1)


def test_of_a_small_set_the_share_is_of_the_set():
  """Half of eight is four, even in the first batch."""
  records = BadRecords(range(8), 0.5)
  read(records, 4, bad=4)
  with pytest.raises(BadInput, match="5 of"):
    read(records, 2, bad=1)


def test_none_is_borne_where_the_share_is_zero():
  records = BadRecords(range(1000), 0.0)
  read(records, 64)
  with pytest.raises(BadInput, match="1 of 129"):
    read(records, 64, bad=1)
