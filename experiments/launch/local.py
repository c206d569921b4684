"""Starts several processes of one run on one machine: to simulate a pod, or to give each GPU its own process.

  python experiments/launch/local.py --processes=4 --cpu_devices=2 -- \
      --config=configs/quickstart.py:pretrain --workdir=runs/four
  python experiments/launch/local.py --processes=8 --gpus=8 -- \
      --config=configs/swinv2_base_w16_256.py --workdir=runs/b --config.data.path=DATA

The arguments after `--` go to `python -m swin_jax.main`. Each line is printed with the number of its process.
When one process fails, the others are killed, so none waits for it. SIGTERM and Ctrl-C are passed on; the
exit code is that of the first process that failed.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading


def environment(index, args):
  """Returns the environment of process `index`: its own share of the GPUs, or its number of CPU devices."""
  env = dict(os.environ)
  if args.cpu_devices:
    env |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(args.cpu_devices)}
  if args.gpus:
    each = args.gpus // args.processes
    env["CUDA_VISIBLE_DEVICES"] = ",".join(str(index * each + i) for i in range(each))
  return env


def echo(index, process):
  for line in process.stdout:
    print(f"[{index}] {line}", end="", flush=True)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument(
    "--cpu_devices", type=int, default=0, help="CPU devices of each process, to run without accelerators"
  )
  parser.add_argument("--gpus", type=int, default=0, help="GPUs of this machine, divided among the processes")
  parser.add_argument("flags", nargs="+", help="flags of swin_jax.main, after --")
  args = parser.parse_args()
  if args.processes < 1:
    parser.error("--processes must be at least 1")
  if args.gpus % args.processes:
    parser.error(f"{args.gpus} GPUs do not divide over {args.processes} processes")

  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    coordinator = f"localhost:{probe.getsockname()[1]}"
  command = [
    sys.executable,
    "-m",
    "swin_jax.main",
    *args.flags,
    f"--coordinator={coordinator}",
    f"--num_processes={args.processes}",
  ]
  processes = [
    subprocess.Popen(
      [*command, f"--process_id={i}"],
      env=environment(i, args),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
      start_new_session=True,
    )
    for i in range(args.processes)
  ]

  def pass_on(number, _):
    for process in processes:
      process.send_signal(number)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, pass_on)
  threads = [threading.Thread(target=echo, args=item) for item in enumerate(processes)]
  for thread in threads:
    thread.start()
  code, running = 0, list(processes)
  while running:
    for process in list(running):
      try:
        ended = process.wait(timeout=0.2)
      except subprocess.TimeoutExpired:
        continue
      running.remove(process)
      code = code or ended
      if ended not in (0, 75, 130) and running:
        print(f"process {processes.index(process)} ended with {ended}; ending the others", flush=True)
        for other in running:
          other.kill()
  for thread in threads:
    thread.join()
  sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
  main()
