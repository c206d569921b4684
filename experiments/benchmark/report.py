"""Presents the results of the GPU half: a Markdown table, and the roofline as a picture."""

import html
import math
from typing import Any

from experiments.benchmark import gpu

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 560, 70, 230, 30, 50
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")


def table(result: dict[str, Any]) -> str:
  """Lists the best batch per case, contestant and kind of work; then the ratios and the failures."""
  entries = result["measurements"]
  lines = [
    "| | forward, images/s | batch | MFU | of the floor | GiB | train step, images/s | batch | MFU | of the"
    " floor | GiB |"
  ]
  lines.append("|" + "---|" * 11)
  for case, compared in result["cases"].items():
    mine = [entry for entry in entries if entry["case"] == case]
    for name in dict.fromkeys(entry["contestant"] for entry in mine):
      lines.append(f"| {case}: {name} | " + " | ".join(_cells(mine, name, kind) for kind in gpu.KINDS) + " |")
    for kind in gpu.KINDS:
      if compared[f"{kind}_ratio"]:
        lines.append(
          f"| **{case}: ours / the best peer, {kind}: {compared[f'{kind}_ratio']:.2f}** |" + " |" * 10
        )
  notes = [
    f"* {e['case']}, {e['kind']}, {e['contestant']}, batch {e['batch']}: {gpu.describe(e)}"
    for e in entries
    if "failed" in e
  ]
  notes += [
    f"* {case}, {name}: left out, {why}"
    for case, compared in result["cases"].items()
    for name, why in compared["left_out"].items()
  ]
  notes += [f"* {name}: not installed, left out" for name in result["left_out"]]
  notes += ["* cut short: not everything that was asked for has been measured"] if result["cut_short"] else []
  return "\n".join([*lines, "", *notes])


def _cells(entries, name, kind):
  candidates = [
    entry
    for entry in entries
    if (entry["contestant"], entry["kind"]) == (name, kind) and "failed" not in entry
  ]
  if not candidates:
    return " | ".join(["–"] * 5)
  entry = max(candidates, key=lambda entry: entry["images_per_second"])
  shares = [f"{entry[key]:.1%}" if key in entry else "–" for key in ("mfu", "floor_share")]
  return " | ".join(
    [f"{entry['images_per_second']:.0f}", str(entry["batch"]), *shares, f"{entry['peak_bytes'] / 2**30:.1f}"]
  )


def roofline(result: dict[str, Any], peak_flops: float, memory_speed: float) -> str:
  """Draws an SVG: FLOP/s over FLOPs per byte, the chip's roof, and the best entries of each case, ours filled
  and the best peer's hollow.

  Args:
    result: the result of `gpu.compare`.
    peak_flops: of the chip, in FLOP/s.
    memory_speed: of the chip, in bytes per second.
  """
  points = []
  for i, case in enumerate(result["cases"]):
    for kind in gpu.KINDS:
      for ours in (True, False):
        entry = gpu.best(result["measurements"], case, kind, ours)
        if entry and "mfu" in entry:
          points.append((COLOURS[i % len(COLOURS)], kind, ours, entry))
  low = min([peak_flops / 64, *(entry["flops_per_second"] / 2 for *_, entry in points)])
  x_range, y_range = (10.0, 2000.0), (low, peak_flops * 2)

  def at(x, y):
    across, up = (
      math.log(value / start) / math.log(end / start) for value, (start, end) in ((x, x_range), (y, y_range))
    )
    return (
      f"{LEFT + across * (WIDTH - LEFT - RIGHT):.1f}",
      f"{HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM):.1f}",
    )

  def text(x, y, words, more=""):
    return f'<text x="{x}" y="{y}" {more}>{html.escape(words)}</text>'

  start = max(x_range[0], low / memory_speed)
  roof = [
    at(start, start * memory_speed),
    at(peak_flops / memory_speed, peak_flops),
    at(x_range[1], peak_flops),
  ]
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif"'
    ' font-size="12">',
    f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    f'<polyline points="{" ".join(",".join(point) for point in roof)}" fill="none" stroke="black"'
    ' stroke-width="2"/>',
    text((WIDTH - RIGHT + LEFT) // 2, HEIGHT - 12, "FLOPs a byte, attention fused", 'text-anchor="middle"'),
    text(8, 18, f"TFLOP/s; the roof: {peak_flops / 1e12:.0f} TFLOP/s and {memory_speed / 1e12:.2f} TB/s"),
  ]
  for x in (10, 20, 50, 100, 200, 500, 1000, 2000):
    parts.append(text(at(x, low)[0], HEIGHT - BOTTOM + 16, str(x), 'text-anchor="middle"'))
  for exponent in range(math.ceil(math.log2(low / 1e12)), math.floor(math.log2(y_range[1] / 1e12)) + 1):
    parts.append(
      text(LEFT - 6, at(x_range[0], 2.0**exponent * 1e12)[1], f"{2.0**exponent:g}", 'text-anchor="end"')
    )
  for i, (colour, kind, ours, entry) in enumerate(points):
    x, y = at(min(max(entry["intensity"], x_range[0]), x_range[1]), entry["flops_per_second"])
    fill, row = colour if ours else "white", TOP + 18 * i
    for cx, cy in ((x, y), (WIDTH - RIGHT + 18, row)):
      shape = (
        f'cx="{cx}" cy="{cy}" r="5"'
        if kind == "forward"
        else f'x="{float(cx) - 5}" y="{float(cy) - 5}" width="10" height="10"'
      )
      parts.append(
        f'<{"circle" if kind == "forward" else "rect"} {shape} fill="{fill}" stroke="{colour}"'
        ' stroke-width="2"/>'
      )
    parts.append(text(WIDTH - RIGHT + 30, row + 4, f"{entry['case']} {kind}, {entry['contestant']}"))
  return "\n".join([*parts, "</svg>"]) + "\n"
