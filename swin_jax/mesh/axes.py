"""The logical names an array dimension may carry.

A sharding rule maps a name to a mesh axis (`sharding.py`); a dimension named None is never split. Names are
constants so that a typo is an AttributeError: linen maps a string it does not know to "replicated" without a
word.
"""

BATCH = "batch"  # images
EMBED = "embed"  # channels of the residual stream, C
HEADS = "heads"  # attention heads, or heads times head dimension where they lie in one dimension
MLP = "mlp"  # hidden units of an MLP
MERGED = "merged"  # channels that merging makes, 2C
LAYERS = "layers"  # the groups of blocks that a stage scans over
PIXELS = "pixels"  # pixels that one token is decoded to, times bands
FEATURES = "features"  # pooled channels that a classifier reads
CLASSES = "classes"  # classes of a classifier

ALL = frozenset({BATCH, EMBED, HEADS, MLP, MERGED, LAYERS, PIXELS, FEATURES, CLASSES})
