"""The logical names of array dimensions.

A sharding rule maps a name to a mesh axis (`sharding.py`); a dimension named None is never split. Names are
constants so that a typo is an AttributeError: linen silently treats an unknown string as "replicated".
"""

BATCH = "batch"  # images
EMBED = "embed"  # channels of the residual stream, C
HEADS = "heads"  # attention heads, or heads times head dimension if both share one dimension
MLP = "mlp"  # hidden units of an MLP
MERGED = "merged"  # output channels of merging, 2C
LAYERS = "layers"  # groups of blocks that a stage scans over
PIXELS = "pixels"  # pixels decoded from one token, times bands
FEATURES = "features"  # pooled channels that a classifier reads
CLASSES = "classes"  # classes of a classifier

ALL = frozenset({BATCH, EMBED, HEADS, MLP, MERGED, LAYERS, PIXELS, FEATURES, CLASSES})
