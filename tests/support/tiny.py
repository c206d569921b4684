"""The smallest complete run: two stages of one block, digits, a few images a step."""

from configs import quickstart


def config(kind="pretrain", **changes):
  """Returns a shrunken `configs/quickstart.py`: 16 channels, 16 images of 32 pixels a step, 89 steps an
  epoch.
  """
  c = quickstart.get_config(kind)
  c.model.update(embed_dim=16, depths=(1, 1), num_heads=(2, 4), unroll=False)
  c.data.update(batch_size=16, eval_batch_size=72, num_threads=1)
  c.optim.update(total_epochs=20 / 89, warmup_epochs=5 / 89, lr=0.03)
  c.checkpoint.every_epochs = 10 / 89
  c.log.update(every_steps=3, eval_every_epochs=1.0, num_pictures=2)
  c.init_from = ""
  for key, value in changes.items():
    group, _, name = key.rpartition("__")
    target = c
    for part in group.split("__") if group else []:
      target = target[part]
    target[name] = value
  return c
