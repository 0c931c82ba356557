"""Files of boxes: what is read, what is left out, and what is refused in one line."""


import numpy as np
import pytest
from footage import HEIGHT, WIDTH, write_boxes
from refusals import refused

from vrstc_jax.data.inputs.boxes import clip_box, read_boxes


class TestBoxes:
    def test_mot_text(self, tmp_path):
        path = write_boxes(tmp_path / "b.txt", "# frame, id, ...", "", "2,7,1.5,2,3,4,0.9,-1,-1,-1",
                           "1 7 1 2 3 4", "1,3,1,2,3,4,-1", "5, 3, -1, -2, 3, 4, 0", "1.0,5,1,2,3,4,")
        boxes = read_boxes(path)
        assert list(zip(boxes.tracks, boxes.frames, boxes.lines)) == [(3, 1, 5), (5, 1, 7), (7, 1, 4), (7, 2, 3)]
        assert boxes.rectangles[-1].tolist() == [1.5, 2, 3, 4]
        assert boxes.ignored == {(3, 5)}

    @pytest.mark.parametrize("line, value", [
        ("1,2,x,4,5,6", "'x'"), ("1,2,,4,5,6", "''"), ("1,2,nan,4,5,6", "'nan'"), ("1,2,3,4,inf,6", "'inf'"),
        ("1,2,3,4,5", "5 fields"), ("1.5,2,3,4,5,6", "1.5"), ("1,2.5,3,4,5,6", "2.5"), ("0,2,3,4,5,6", "frame 0"),
        ("1,-1,3,4,5,6", "id -1"), ("1,2,3,4,0,6", "0 wide"), ("1,2,3,4,5,-6", "-6 high"), ("1,1,9,9,9,9", "line 1"),
        ("1e300,1,2,3,4,5", "1e+300"), ("\x00\x01\x02", "fields"),
        ("1,²,3,4,5,6", "'²'"), ("1,1²3,3,4,5,6", "'1²3'"), ("٣,2,3,4,5,6", "'٣'"), ("1,1_0,3,4,5,6", "'1_0'"),
        ("1,2,3,４,5,6", "'４'"), ("1,0x10,3,4,5,6", "'0x10'"), ("1,1e999,3,4,5,6", "'1e999'"),
        (f"1,{'9' * 5000},3,4,5,6", "'999"), ("1,1e-99999999999999999999,3,4,x,6", "'x'"),
        ("1,-1,3,4,5,6", "without a track"), ("1,18446744073709551615.0,3,4,5,6", "1.84467e+19")])
    def test_lines_that_are_no_boxes(self, tmp_path, line, value):
        path = write_boxes(tmp_path / "b.txt", "1,1,2,3,4,5", line)
        with refused(f"{path}:2: ", value):
            read_boxes(path)

    def test_ids_up_to_two_to_the_64(self, tmp_path):
        ids = [0, 2**53 + 1, 2**63, 2**64 - 1]
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", *(f"1,{number},2,3,40,50" for number in ids)))
        assert boxes.tracks.tolist() == ids
        with refused("b.txt:1: id 18446744073709551616", "2^64"):
            read_boxes(write_boxes(tmp_path / "b.txt", f"1,{2**64},2,3,40,50"))

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_encodings_and_line_ends(self, tmp_path, encoding, end):
        mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
        text = end.join(["# rows", "1,7,2,3,40,50", "", "2,7,2,3,40,50"])
        (tmp_path / "b.txt").write_bytes(mark + text.encode(encoding))
        boxes = read_boxes(tmp_path / "b.txt")
        assert list(zip(boxes.tracks, boxes.frames, boxes.lines)) == [(7, 1, 2), (7, 2, 4)]

    def test_frames_that_count_from_another_number(self, tmp_path):
        path = write_boxes(tmp_path / "b.txt", "0,7,2,3,40,50", "1,7,2,3,40,50")
        with refused("b.txt:1: frame 0", "--first-frame 0"):
            read_boxes(path)
        assert read_boxes(path, first_frame=0).frames.tolist() == [1, 2]
        with refused("b.txt:1: frame 0", "from 100"):
            read_boxes(path, first_frame=100)

    def test_rows_that_motchallenge_leaves_out_are_counted(self, tmp_path):
        rows = ["1,7,2,3,40,50,1,1,0.9", "2,7,2,3,40,50,0,1,0.5", "2,7,2,3,40,50,1,1,1", "1,9,2,3,40,50,1,3,1",
                "2,9,2,3,40,50,1,3,0.25", "1,8,2,3,40,50,0,8,-1", "3,7,2,3,40,50,1,-1,-1"]
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", *rows))
        assert list(zip(boxes.tracks, boxes.frames)) == [(7, 1), (7, 2), (7, 3)]
        assert boxes.ignored == {(7, 2), (9, 1), (9, 2), (8, 1)} and boxes.other_classes == 2
        warning, = boxes.warnings
        assert "4 of 7 rows are left out: 2 with confidence 0 and 2 of" in warning and "2 of 3 car" in warning
        with refused("holds no box but 2 that are left out (2 of MOTChallenge"):
            read_boxes(write_boxes(tmp_path / "b.txt", *rows[3:5]))

    @pytest.mark.parametrize("row", ["0.9,3,1", "1,0,1", "1,3.5,1", "1,3,4", "1,3,1,7", "1,3,0.5,-1,-1", "1,x",
                                     "1,-1,-1,-1"])
    def test_other_files_have_no_classes(self, tmp_path, row):
        """One row shows that the fields after the confidence are something else."""
        boxes = read_boxes(write_boxes(tmp_path / "b.txt", "1,7,2,3,40,50,1,2,0.9", f"2,7,2,3,40,50,{row}"))
        assert len(boxes) == (1 if row == "1,-1,-1,-1" else 2)

    def test_fractions_of_the_picture_are_refused(self, tmp_path):
        rows = ["1,7,-0.01,0.2,0.3,0.9", "2,7,0.5,0.1,0.51,0.8"]
        with refused("b.txt: all 2 boxes lie within 0 to 1", "-0.01", "multiply"):
            read_boxes(write_boxes(tmp_path / "b.txt", *rows))
        assert len(read_boxes(write_boxes(tmp_path / "b.txt", *rows, "3,7,1,2,30,40"))) == 3

    def test_no_boxes(self, tmp_path):
        for line in ("", "# nothing", "1,1,2,3,4,5,0"):
            with refused("b.txt: holds no box"):
                read_boxes(write_boxes(tmp_path / "b.txt", line))
        for missing in (tmp_path / "none.txt", tmp_path):
            with refused(missing):
                read_boxes(missing)

    def test_clipping_covers_what_the_box_touches(self):
        rng = np.random.default_rng(0)
        for left, top, width, height in rng.uniform(-30, 90, (200, 4)) + [0, 0, 30.5, 30.5]:
            touched = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)
                       if left < x + 1 and x < left + width and top < y + 1 and y < top + height]
            box = clip_box((left, top, width, height), (HEIGHT, WIDTH))
            if touched:
                (y0, x0), (y1, x1) = np.min(touched, 0), np.max(touched, 0)
            assert box == ((x0, y0, x1 - x0 + 1, y1 - y0 + 1) if touched else None)
