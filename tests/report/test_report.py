"""The report, read back as a browser would: what it shows, that it is whole, and that text stays text."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from unittest.mock import Mock
from urllib.request import urlopen

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from refusals import refused

from vrstc_jax.evaluation.quality import ScoreTable
from vrstc_jax.report import AttentionPicture, Curve, Report, Strip, Table, charts, images, write_json, write_report

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what is shown."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.open, self.tags, self.text = [], [], ""
        self.feed(self.html)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + "\n"

    def pictures(self, label):
        """The images whose label begins so, decoded: RGB(A) or grey."""
        found = [each["src"] for tag, each in self.tags if tag == "img" and each["alt"].startswith(label)]
        return [np.asarray(Image.open(BytesIO(urlopen(source).read()), formats=["PNG"])) for source in found]


@pytest.fixture
def write(tmp_path):
    def write(**given):
        needed = {"title": "T", "summary": "S", "figures": {}, "command": "c", "config": {}}
        write_report(tmp_path / "report.html", Report(**(needed | given)))
        return Page(tmp_path / "report.html")
    return write


def crops(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


STRIP = Strip("s", {"input": crops((8, 4))}, ["1"])


@pytest.fixture
def scores():
    table = ScoreTable()
    for method, psnr in [("copy", 14.0), ("stcnet", 18.0)]:
        for distance in (1, 2):
            table.add(method, distance=distance, l1=1 / psnr, psnr=psnr - distance, ssim=psnr / 20)
    return table.as_dict()


def test_an_empty_report_has_only_its_header_and_origin(write):
    page = write(command="vrstc demo", config={"size": "small"})
    assert page.text.count("vrstc demo") == 1
    assert '"size": "small"' in page.text
    assert [tag for tag, _ in page.tags].count("section") == 1
    for absent in ("Warnings", "Scores", "Training", "Completions", "attention"):
        assert absent not in page.text


def test_it_is_self_contained_and_without_script(write, scores):
    page = write(strips=[STRIP], judge=scores, curves=[Curve("L_r", [1, 2], [3, 4])])
    assert "script" not in {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#")), (tag, attributes)
    assert not re.search(r"@import|url\((?!#)", page.html)
    names = re.findall(r"https?://[^\s\"]*", page.html)  # SVG's namespaces, which nothing loads
    assert set(names) == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_all_text_is_escaped(write, scores):
    given = [f'<script>alert("{i}")</script>&' for i in range(17)]
    text = iter(given)
    picture, = crops((8, 4))
    page = write(
        title=next(text), summary=next(text), figures={next(text): next(text)}, command=next(text),
        warnings=[next(text)], strips=[Strip(next(text), {next(text): [picture]}, [next(text)])],
        attention=[AttentionPicture(next(text), picture, (.5, .5), (.1, .1), [picture], [np.ones((2, 2))],
                                    (next(text),))],
        curves=[Curve(next(text), [1], [2], next(text))], judge={next(text): scores},
        tables=[Table(next(text), [next(text)], [[next(text)]])], config={"<script>": "</pre><script>"})
    assert not [text for text in given if text not in page.text]
    assert given[12] in [attributes.get("aria-label") for _, attributes in page.tags]  # the chart of this panel
    assert '"<script>": "</pre><script>"' in page.text
    assert "<script" not in page.html


def test_strips_hold_the_very_pixels_and_outline_what_is_hidden(write):
    sizes = [(20, 9), (31, 12), (18, 8)]
    inputs, done, masks = crops(*sizes), crops(*sizes, seed=1), [np.zeros(size, bool) for size in sizes]
    for mask in masks[1:]:
        mask[2:5, 1:4] = True
    page = write(strips=[Strip("walk", {"input": inputs, "mask": masks, "completion": [*done[:2], None]},
                               ["000007", "000008", "000009"])])
    black_and_white = [mask * np.uint8(255) for mask in masks]
    for label, given in (("input", inputs), ("mask", black_and_white), ("completion", done[:2])):
        for shown, expected in zip(page.pictures(label), given, strict=True):
            np.testing.assert_array_equal(shown, expected)
    assert "000008" in page.text
    outlines = [attributes["d"] for tag, attributes in page.tags if tag == "path"]
    assert len(outlines) == 4  # two frames, each drawn dark and then light
    # The square of rows 2 to 4 and columns 1 to 3: its four sides, along the pixels' edges.
    assert set(re.findall(r"M[^M]+", outlines[0])) == {"M1 2H4", "M1 5H4", "M1 2V5", "M4 2V5"}


def test_large_pictures_are_made_smaller_in_proportion(write):
    flat = np.full((800, 300, 3), (10, 200, 30), np.uint8)
    shown, = write(strips=[Strip("s", {"input": [jnp.asarray(flat)]}, ["1"])]).pictures("input")
    np.testing.assert_array_equal(shown, flat[:320, :120])


def test_a_strip_wants_one_name_for_each_frame():
    with pytest.raises(ValueError, match="row 'input'.*2 frame names. Got 1"):
        Strip("s", {"input": crops((8, 4))}, ["1", "2"])


def test_attention_shows_patch_peak_and_share(write):
    frame, before, after = crops((64, 32), (80, 40), (60, 30))
    weights = np.full((16, 8), 0.5 / 127)
    weights[4, 6] = 0.5
    page = write(attention=[AttentionPicture("a", frame, (.5, .25), (3 / 16, 3 / 8), [before, after],
                                             [weights, np.zeros((16, 8))], ("previous, 3", "next, 9"))])
    np.testing.assert_array_equal(page.pictures("previous, 3")[0], before)
    boxes = [attributes["d"] for tag, attributes in page.tags if tag == "path"][::2]
    # Patch of 3/16 × 3/8 around (0.5, 0.25) of 64×32; the same around cell (4, 6)'s centre in 80×40.
    assert boxes[0] == "M2.00 26.00H14.00V38.00H2.00Z"
    assert boxes[1] == "M25.00 15.00H40.00V30.00H25.00Z"
    assert "50.0%, 64×" in page.text  # half of the weight at one of 128 positions
    assert "no weight" in page.text
    heat = [picture for picture in page.pictures("") if picture.shape[2:] == (4,)]  # those with transparency
    assert [h.shape for h in heat] == [(16, 8, 4)] * 2
    brightest = heat[0][..., :3].sum(axis=-1, dtype=int)
    assert np.unravel_index(brightest.argmax(), brightest.shape) == (4, 6)
    assert heat[0][4, 6, 3] == heat[0][..., 3].max() > heat[0][0, 0, 3]


def test_one_weight_map_for_each_neighbour(write):
    frame, = crops((8, 4))
    with pytest.raises(ValueError):
        write(attention=[AttentionPicture("a", frame, (.5, .5), (.1, .1), [frame, frame], [np.ones((2, 2))])])


@pytest.mark.parametrize("names, shown", [
    ({}, ["previous"]), ({}, ["previous", "next", "neighbour 3"]), ({"names": ()}, ["neighbour 1", "neighbour 2"])])
def test_neighbours_without_a_name_are_numbered(write, names, shown):
    frame, *neighbours = crops(*[(8, 4)] * (len(shown) + 1))
    page = write(attention=[AttentionPicture("a", frame, (.5, .5), (.1, .1), neighbours,
                                             [np.ones((2, 2))] * len(shown), **names)])
    assert [each["alt"] for tag, each in page.tags if tag == "img" and each["alt"]] == ["patch", *shown]
    assert re.findall(r"<small>([a-z][^<]*)</small>", page.html) == ["patch", *shown]
    np.testing.assert_array_equal(page.pictures(shown[-1])[0], neighbours[-1])


def test_judge_tables_put_the_best_in_bold(write, scores):
    page = write(judge={"true masks": scores, "located masks": {"overall": {}, "by_distance": {}}})
    assert "true masks" in page.text and "located masks" not in page.text
    bold = re.findall(r"<b>([^<]+)</b>", page.html)
    assert bold == [f"{1 / 18:.4f}", "16.50", "0.9000", "17.00", "16.00"]
    assert re.findall(r"<td>([\d.]+)</td>", page.html)[:3] == [f"{1 / 14:.4f}", "12.50", "0.7000"]


def test_judge_without_a_name_or_distances(write, scores):
    page = write(judge={"overall": scores["overall"]})
    assert "18" not in page.text and "16.50" in page.text
    assert not [1 for tag, _ in page.tags if tag == "h3"]


def test_a_method_missing_at_a_distance_leaves_a_gap(write):
    table = ScoreTable()
    table.add("copy", distance=None, l1=.1, psnr=11.0, ssim=.1)
    table.add("stcnet", distance=3, l1=.1, psnr=12.0, ssim=.1)
    page = write(judge=table.as_dict())
    assert page.html.count("<td>–</td>") == 2 and "none" in page.text


def lines_of(chart):
    """The points of each line in a chart, in the drawing's units; matplotlib draws them within the axes' clip."""
    paths = re.findall(r'<path d="([^"]*)" clip-path="[^"]*" style="[^"]*stroke: (#[0-9a-f]{6})', chart.svg)
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", path), float) for path, colour in paths if colour != charts._RULE]


def ticks_of(chart, anchor):
    """(x, y, number as written) of each tick of the steps' axis ('middle') or of the values' ('end')."""
    return re.findall(rf'text-anchor: {anchor};[^>]*" x="(\S+)" y="(\S+)"[^>]*>([^<]+)<', chart.svg)


def numbers_of(chart, anchor):
    return [number for _, _, number in ticks_of(chart, anchor)]


def test_charts_draw_the_finite_points_of_each_curve():
    chart = charts.chart("p", [Curve("a", [0, 100, 300], [1.0, np.nan, 4.0]), Curve("b", [0, 200], [1.0, 2.5])])
    one, other = lines_of(chart)
    # (200, 2.5) lies at 2/3 of the steps and 1/2 of the values of the other line.
    np.testing.assert_allclose(other, [one[0], one[0] + (one[1] - one[0]) * [2 / 3, 1 / 2]], atol=0.01)
    assert one[1, 0] > one[0, 0] and one[1, 1] < one[0, 1]  # SVG's y runs downwards
    assert chart.caption == "p" and ">a</text>" in chart.svg and ">b</text>" in chart.svg


@pytest.mark.parametrize("values", [(1.0, 4.0, 2.5), (0.01, 1.0, 0.1)], ids=["linear", "logarithmic"])
def test_points_are_where_the_ticks_say(values):
    steps, scale = [0, 10_000, 5000], np.log10 if values[0] < 1 else np.asarray
    chart = charts.chart("p", [Curve("a", steps, values)])
    across, up = ([(float(position[axis]), float(position[2].replace(",", ""))) for position in ticks_of(chart, anchor)]
                  for axis, anchor in ((0, "middle"), (1, "end")))
    assert numbers_of(chart, "middle") == ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]
    (line,) = lines_of(chart)
    np.testing.assert_allclose(line[:, 0], np.interp(steps, *zip(*[(step, x) for x, step in across])), atol=0.01)
    below = np.interp(scale(values), *zip(*[(scale(value), y) for y, value in up])) - line[:, 1]
    np.testing.assert_allclose(below, below[0], atol=0.01)  # text is written a bit below its tick
    assert 0 < below[0] < 4


def test_charts_turn_logarithmic_when_values_span_much():
    chart = charts.chart("p", [Curve("a", [0, 1, 2], [1.0, 0.1, 0.01])])
    assert chart.caption == "p, log scale"
    (line,) = lines_of(chart)
    assert line[1, 1] - line[0, 1] == pytest.approx(line[2, 1] - line[1, 1], abs=0.2)
    assert numbers_of(chart, "end") == ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1"]
    assert charts.chart("p", [Curve("a", [0, 1], [1.0, -100.0])]).caption == "p"


def test_charts_of_little():
    assert charts.chart("p", [Curve("a", [], []), Curve("b", [1], [np.inf])]) is None
    for curve in (Curve("a", [5], [0.0]), Curve("a", [5, 6], [2.0, 2.0]), Curve("a", [5, 5], [1.0, 2.0])):
        chart = charts.chart("p", [curve])
        assert "nan" not in chart.svg
        # A lone point is a dot, in the chart and in the legend.
        assert chart.svg.count("<use") - len(numbers_of(chart, "middle")) == (2 if len(curve.steps) == 1 else 0)


def test_marks_put_a_dot_on_every_point():
    curve = Curve("a", [1, 2, 5], [1, 2, 3])
    dots = [charts.chart("p", [curve], marks=marks).svg.count("<use") for marks in (False, True)]
    assert dots[1] - dots[0] == 3 + 1  # and one in the legend


def test_long_curves_are_averaged():
    steps = np.arange(10_000)
    noise, wave = (lines_of(charts.chart("p", [Curve("a", steps, values)]))[0]
                   for values in (steps % 2, steps // 50 % 2))
    assert len({y for _, y in noise}) == 1  # noise that averages out
    assert len(np.unique(wave, axis=0)) == 200


def test_a_name_in_a_chart_is_no_formula():
    names = ["$\\frac{$", "_hidden", "a<b>&"]
    svg = charts.chart("p", [Curve(name, [1, 2], [1, 2]) for name in names]).svg
    assert re.findall(r">([^<>]+)</text>", svg)[-3:] == ["$\\frac{$", "_hidden", "a&lt;b&gt;&amp;"]


def test_ids_are_unique_in_a_page_or_name_the_same_thing(write):
    page = write(curves=[Curve("a", [1, 2], [1, 2], "one"), Curve("b", [3, 4], [5, 6], "two")])
    found = re.findall(r'<(?:path|clipPath) id="(\w+)"([^/]*/)', page.html)
    assert len(dict(found)) == len(set(found)) and not re.search(r'id="\w+_\d+"', page.html)
    assert set(re.findall(r"#(m\w+|p\w{10})\b", page.html)) <= set(dict(found))


def test_without_curves_matplotlib_is_not_loaded(tmp_path):
    code = ("import sys; from vrstc_jax.report import Curve, Report, write_report\n"
            "for curves in ((), [Curve('a', [1], [2])]):\n"
            f"    write_report({str(tmp_path / 'r.html')!r}, Report('T', 'S', {{}}, 'c', {{}}, curves=curves))\n"
            "    print('matplotlib' in sys.modules)\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_panels_group_curves(write):
    page = write(curves=[Curve("a", [1, 2], [1, 2], "one"), Curve("b", [1, 2], [1, 2], "two"),
                         Curve("c", [1, 2], [1, 2], "one")])
    labels = [(each["role"], each["aria-label"]) for tag, each in page.tags if tag == "svg"]
    assert labels == [("img", "one"), ("img", "two")]
    assert page.text.index("one") < page.text.index("\nc\n") < page.text.index("two")


def test_warnings_are_counted_at_the_top(write):
    page = write(warnings=["track 7: one frame only"])
    assert "1 warning\n" in page.text and "track 7: one frame only" in page.text
    assert ("section", {"id": "warnings"}) in page.tags
    assert "2 warnings" in write(warnings=["a", "b"]).text


def test_the_same_input_gives_the_same_file(write, scores):
    given = {"judge": scores, "strips": [STRIP], "curves": [Curve("a", [1, 2], [3, 4])]}
    assert write(**given).html == write(**given).html


def test_the_outline_of_a_mask_encloses_it():
    """Filling the drawn edges, rows by parity, gives the mask back."""
    mask = np.random.default_rng(5).random((13, 7)) < 0.5
    filled = np.zeros_like(mask)
    for column, start, stop in re.findall(r"M(\d+) (\d+)V(\d+)", images._outline(mask)):
        filled[int(start):int(stop), int(column):] ^= True
    np.testing.assert_array_equal(filled, mask)
    assert images._outline(np.zeros((4, 4), bool)) == ""


def test_json_is_plain(tmp_path):
    path = tmp_path / "missing/too/metrics.json"
    write_json(path, {"psnr": np.float32(1.5), "n": np.int64(3), "bad": [float("nan"), np.inf, 1],
                      "ok": np.True_, "map": {1: np.arange(2), None: None}, "path": tmp_path, "name": "x̂1"})
    text = path.read_text(encoding="utf-8")
    assert json.loads(text) == {"psnr": 1.5, "n": 3, "bad": [None, None, 1], "ok": True,
                                "map": {"1": [0, 1], "none": None}, "path": str(tmp_path), "name": "x̂1"}
    assert "x̂1" in text and "NaN" not in text


def test_files_are_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_json(path, {"a": 1})

    monkeypatch.setattr(os, "replace", Mock(side_effect=OSError(28, "No space left on device")))
    with refused("metrics.json: cannot be written (No space"):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["metrics.json"]


@pytest.mark.parametrize("where", ["file/report.html", "file/below/report.html"])
def test_a_path_that_cannot_be_written_is_named(tmp_path, where):
    (tmp_path / "file").write_text("")
    with refused(where):
        write_report(tmp_path / where, Report("T", "S", {}, "c", {}))
