"""Temperature per pixel from reflective bands: a data set for `prepare`, and baselines that ignore
neighbours.

  python experiments/multispectral/temperature.py DATA/landsat8_ny_10band.npz SET

writes GeoTIFFs of the eight reflective bands of 19 scenes to SET/{train,val}/images, and of the brightness
temperature of band 10, in kelvin, to SET/{train,val}/values. Every fourth scene is held out. It prints the
errors on these scenes of two baselines: always predicting the mean, and ridge regression on the pixel's own
eight bands, their squares and products.
"""

import os
import sys

import numpy as np
import rasterio
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

# Landsat 8, band 10: radiance per digital number, radiance offset, constants of the Planck curve (USGS,
# Landsat 8 Data Users Handbook).
_GAIN, _OFFSET, _K1, _K2 = 3.342e-4, 0.1, 774.8853, 1321.0789


def main(data: str, out: str):
  with np.load(data) as arrays:
    bands, names = arrays["bands"], list(arrays["band_names"])
  thermal = names.index("B10")
  reflective = [i for i, name in enumerate(names) if name not in ("B10", "B11")]
  pixels = {"train": [], "val": []}
  for i, scene in enumerate(bands):
    split = "val" if i % 4 == 3 else "train"
    radiance = _GAIN * scene[..., thermal].astype(np.float64) + _OFFSET
    kelvin = np.where(scene[..., thermal] > 0, _K2 / np.log(_K1 / radiance + 1), 0).astype(np.float32)
    write(f"{out}/{split}/images/{i:02}.tif", scene[..., reflective])
    write(f"{out}/{split}/values/{i:02}.tif", kelvin[..., None])
    known = (scene > 0).all(-1)
    pixels[split].append((scene[known][:, reflective], kelvin[known]))
  (x, y), (x_val, y_val) = (
    tuple(map(np.concatenate, zip(*pixels[split], strict=True))) for split in ("train", "val")
  )
  fitted = make_pipeline(StandardScaler(), PolynomialFeatures(2), StandardScaler(), Ridge(1.0)).fit(x, y)
  print(
    f"{len(y):,} pixels to train, mean {y.mean():.1f} K, deviation {y.std():.1f} K; {len(y_val):,} held back"
  )
  for name, guess in (
    ("always the mean", np.full_like(y_val, y.mean())),
    ("ridge regression of the pixel itself", fitted.predict(x_val)),
  ):
    error = guess - y_val
    print(
      f"{name}: mean absolute error {np.abs(error).mean():.2f} K, relative squared error"
      f" {(error**2).sum() / ((y_val - y.mean()) ** 2).sum():.3f}"
    )


def write(path: str, array: np.ndarray):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  height, width, count = array.shape
  with rasterio.open(
    path, "w", driver="GTiff", height=height, width=width, count=count, dtype=array.dtype, nodata=0
  ) as file:
    file.write(np.moveaxis(array, -1, 0))


if __name__ == "__main__":
  main(*sys.argv[1:])
