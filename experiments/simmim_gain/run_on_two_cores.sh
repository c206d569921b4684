#!/usr/bin/env bash
# Compares pre-training and fine-tuning with training from scratch on CIFAR-10, reduced to an hour on two CPU cores.
# Usage, in the repository's root with its environment active: experiments/simmim_gain/run_on_two_cores.sh CIFAR10 OUT
#   CIFAR10: anything `prepare` reads, with splits train and test; OUT: folder for data and runs.
set -euo pipefail
source=$1 out=$2
small="--config.data.path=$out/data --config.data.batch_size=128 --config.data.num_threads=2 --config.model.dtype=float32
  --config.model.patch_size=4 --config.model.embed_dim=32 --config.model.depths=(2,4) --config.model.num_heads=(2,4)
  --config.model.window_sizes=(4,4) --config.optim.lr=4e-3 --config.optim.warmup_epochs=2 --config.log.every_steps=195"
# The model is small and trains for few epochs, so it uses only crops and flips, no mixing.
plain="--config.optim.total_epochs=10 --config.augment.rand_augment_operations=0 --config.classification.mixup_alpha=0
  --config.classification.cutmix_alpha=0 --config.classification.erase_probability=0"

python -m swin_jax.data.prepare --source="$source" --out="$out/data"
python -m swin_jax.main --config=configs/cifar10.py:pretrain --workdir="$out/pretrain" $small --config.optim.total_epochs=20
python -m swin_jax.main --config=configs/cifar10.py:finetune --workdir="$out/finetune" $small $plain --config.init_from="$out/pretrain"
python -m swin_jax.main --config=configs/cifar10.py:scratch --workdir="$out/scratch" $small $plain
