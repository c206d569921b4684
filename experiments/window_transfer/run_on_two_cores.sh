#!/usr/bin/env bash
# Trains Swin V2 and V1 with one window and evaluates them with others, on CIFAR-10, reduced to an hour on two CPU cores.
# Usage, in the repository's root with its environment active: experiments/window_transfer/run_on_two_cores.sh CIFAR10 OUT
#   CIFAR10: anything `prepare` reads, with splits train and test; OUT: folder for data and runs.
set -euo pipefail
source=$1 out=$2
small="--config.data.path=$out/data --config.data.batch_size=128 --config.data.num_threads=2 --config.model.dtype=float32
  --config.model.patch_size=4 --config.model.embed_dim=32 --config.model.depths=(2,4) --config.model.num_heads=(2,4)
  --config.model.window_sizes=(4,4) --config.model.drop_path_rate=0 --config.optim.lr=4e-3 --config.optim.warmup_epochs=2
  --config.optim.total_epochs=30 --config.log.every_steps=195"
# The model is small, so there is no mixing. Crops start at a fifth of the image, so that the larger objects of larger
# images are nothing new.
plain="--config.augment.crop_padding=0 --config.augment.crop_scale=(0.2,1.0) --config.augment.rand_augment_operations=0
  --config.classification.mixup_alpha=0 --config.classification.cutmix_alpha=0 --config.classification.erase_probability=0"

python -m swin_jax.data.prepare --source="$source" --out="$out/data"
for version in 2 1; do
  python -m swin_jax.main --config=configs/cifar10.py:scratch --workdir="$out/v$version" $small $plain --config.model.version=$version
done
python -m experiments.window_transfer.evaluate "$out"
