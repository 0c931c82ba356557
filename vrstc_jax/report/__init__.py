"""The report: one HTML file that holds all it shows, and `metrics.json` beside it.

Everything comes in as plain data: pictures uint8 [H, W, 3] (RGB), masks bool [H, W], numbers, text. The
page needs no network and no script; pictures are PNG inside it, at their own resolution unless they are
taller than 320 pixels, charts are SVG, and both follow the reader's light or dark setting. The same input
gives the same file, byte for byte.
"""

from vrstc_jax.report.charts import Curve
from vrstc_jax.report.images import AttentionPicture, Strip
from vrstc_jax.report.page import Table, write_report
from vrstc_jax.report.writing import write_json

__all__ = ["AttentionPicture", "Curve", "Strip", "Table", "write_json", "write_report"]
