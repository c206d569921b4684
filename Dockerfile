# swin_jax in a container, for CPUs or, with EXTRA=cuda12, cuda13 or tpu, for accelerators:
#
#   docker build -t swin_jax .
#   docker build -t swin_jax:cuda12 --build-arg EXTRA=cuda12 .
#   docker run --rm -v "$PWD:/work" swin_jax train --config=quickstart:pretrain --workdir=runs/quickstart
#   docker run --rm --gpus all -v "$PWD:/work" swin_jax:cuda12 train …
#
# The CUDA libraries come with jax's wheels; the host needs NVIDIA's driver and container toolkit only.
FROM python:3.12-slim

ARG EXTRA=""

COPY . /src
RUN pip install --no-cache-dir "/src[rasters,tfds${EXTRA:+,$EXTRA}]" && rm -rf /src

# Compiled programs are kept in the mounted folder, so that the next run starts faster.
ENV JAX_COMPILATION_CACHE_DIR=/work/.cache/compiled
WORKDIR /work
ENTRYPOINT ["swin_jax"]
CMD ["--help"]
