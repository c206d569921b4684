"""The models of the papers: width, blocks and heads per stage, and interval of the extra norms, by name."""

SIZES = {
  "tiny": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24), extra_norm_every=0),
  "small": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24), extra_norm_every=0),
  "base": dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), extra_norm_every=0),
  "large": dict(embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), extra_norm_every=0),
  "huge": dict(embed_dim=352, depths=(2, 2, 18, 2), num_heads=(11, 22, 44, 88), extra_norm_every=6),
  # The published model with 1.06 B parameters; whether it has extra norms is unknown.
  "giant_1b": dict(embed_dim=448, depths=(2, 2, 18, 2), num_heads=(14, 28, 56, 112), extra_norm_every=0),
  "giant": dict(embed_dim=512, depths=(2, 2, 42, 4), num_heads=(16, 32, 64, 128), extra_norm_every=6),
}
