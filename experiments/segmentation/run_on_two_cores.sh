#!/usr/bin/env bash
# Runs everything from the two data sets to test scores and pictures: experiments/segmentation/run_on_two_cores.sh CAMVID PICTURES OUT
#   CAMVID: a folder or zip with {train,val,test}/{images,labels} and classes.json. PICTURES: e.g. tiny_imagenet_{split}.npz. OUT: a folder.
set -euo pipefail
camvid=$1 pictures=$2 out=$3
export JAX_PLATFORMS=cpu
run() { python -m swin_jax.main --config="configs/upernet_camvid.py:$1" --workdir="$out/$1" "${@:2}"; }

python -m swin_jax.data.prepare --source="$camvid" --out="$out/camvid"
python -m swin_jax.data.prepare --source="$pictures" --out="$out/pictures"
split=$(basename "$(ls "$out"/pictures/train*.json | head -1)" .json)
run pretrain --config.data.path="$out/pictures" --config.data.train_split="$split"
run scratch --config.data.path="$out/camvid"
run finetune --config.data.path="$out/camvid" --config.init_from="$out/pretrain"
for kind in scratch finetune; do
  run $kind --mode=eval --config.data.path="$out/camvid" --config.data.eval_split=test
done
