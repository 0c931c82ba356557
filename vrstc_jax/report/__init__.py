"""The report: one HTML file that holds all it shows, and `metrics.json` beside it.

All input is plain data: pictures uint8 [H, W, 3] (RGB), masks bool [H, W], numbers, text. The page needs no
network and no script. Pictures are PNG inside it, at their own resolution unless they are taller than 320
pixels; charts are SVG. The page follows the reader's light or dark setting. Equal input gives equal files,
byte for byte.
"""

from vrstc_jax.report.charts import Curve
from vrstc_jax.report.images import AttentionPicture, Strip
from vrstc_jax.report.page import Report, Table, write_report
from vrstc_jax.report.writing import write_json

__all__ = ["AttentionPicture", "Curve", "Report", "Strip", "Table", "write_json", "write_report"]
