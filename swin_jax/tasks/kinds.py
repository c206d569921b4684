"""The tasks there are, and what each is trained on."""

# Task → what every pixel must have, as `data.example.Source` calls it; "" for nothing.
TARGETS = {"classification": "", "masked_pixels": "", "segmentation": "labels", "pixel_regression": "values"}
