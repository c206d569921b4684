#!/bin/sh
# Prepares the three data sets of the study and pre-trains on each, in a few minutes each.
#   experiments/multispectral/run_on_two_cores.sh DATA OUT [python]
# DATA holds s2_l1c_13band.npz, landsat8_ny_10band.npz and modis_mod13q1_sinop.npz.
set -e
data=$1 out=$2 python=${3:-python}
mkdir -p "$out"
# 23 dates with two indices each give 46 bands.
$python -c "
import numpy, sys
bands = numpy.load(sys.argv[1])['bands']
numpy.save(sys.argv[2], bands.transpose(1, 2, 0, 3).reshape(*bands.shape[1:3], -1))" "$data/modis_mod13q1_sinop.npz" "$out/modis.npy"
$python -m swin_jax.data.prepare --source="$data/s2_l1c_13band.npz" --array=bands --tile=50 --hold_out=0.1 --out="$out/s2"
$python -m swin_jax.data.prepare --source="$data/landsat8_ny_10band.npz" --array=bands --nodata=0 --tile=40 --hold_out=0.1 \
  --out="$out/landsat8"
$python -m swin_jax.data.prepare --source="$out/modis.npy" --tile=48 --hold_out=0.1 --out="$out/modis"

pretrain() { # set, batch, epochs, bands that are shown, more flags
  set_=$1 batch=$2 epochs=$3 shown=$4; shift 4
  $python -m swin_jax.main --config=configs/own_rasters.py:pretrain --workdir="$out/runs/$set_" --config.data.path="$out/$set_" \
    --config.data.image_size=32,32 --config.data.batch_size=$batch --config.data.eval_batch_size=8 --config.data.num_threads=2 \
    --config.model.patch_size=2 --config.model.embed_dim=48 --config.model.depths=2,2 --config.model.num_heads=2,4 \
    --config.model.window_sizes=8,8 --config.model.dtype=float32 --config.mask.patch_size=4 \
    --config.augment.crop_scale=0.4,0.6 --config.optim.lr=0.02 --config.optim.total_epochs=$epochs --config.optim.warmup_epochs=100 \
    --config.checkpoint.every_epochs=500 --config.log.eval_every_epochs=250 --config.log.every_steps=50 \
    --config.log.picture_bands=$shown --config.log.num_pictures=4 "$@"
}
pretrain s2 18 1500 3,2,1
pretrain modis 12 1500 24,25,0
pretrain landsat8 34 150 3,2,1 --config.optim.warmup_epochs=15 --config.checkpoint.every_epochs=50 --config.log.eval_every_epochs=25
