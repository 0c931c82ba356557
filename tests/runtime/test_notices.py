"""Warnings on the terminal: a line each, of many that are alike the first few and a count."""

from vrstc_jax.runtime.notices import print_notice, print_warnings


def lines(capsys):
    out, err = capsys.readouterr()
    assert not out
    return err.splitlines()


def test_a_line_each_and_none_twice(capsys):
    print_warnings(["b.txt: 3 of 9 rows are left out.", "v.mp4: breaks off", "b.txt: 3 of 9 rows are left out."])
    print_notice("read as\nthree")
    assert lines(capsys) == ["vrstc: warning: b.txt: 3 of 9 rows are left out.", "vrstc: warning: v.mp4: breaks off",
                             "vrstc: read as\\nthree"]


def test_many_alike_are_counted(capsys):
    outside = [f"Tracklet {k}: The box lies outside the picture in frame{'s' * (k % 2)} {k}{', 3' * (k % 2)}; left out "
               "there." for k in range(1500)]
    spatial = [f"Tracklet t/{k}: None of its frames is free of occlusion." for k in range(4)]
    mixed = [f"{name}/{k}: the names of its {k} pictures begin in 2 ways ({name}_…, b_…)."
             for k in range(9) for name in "xy"]
    print_warnings([*outside[:2], spatial[0], *outside[2:], *spatial[1:], *mixed])
    found = lines(capsys)
    assert found == [f"vrstc: warning: {warning}" for warning in outside[:3]] + [
        "vrstc: warning: … and 1,497 more warnings like the last."] + [
        f"vrstc: warning: {warning}" for warning in [*spatial, *mixed[:3]]] + [
        "vrstc: warning: … and 15 more warnings like the last."]


def test_names_cannot_write_to_the_terminal(capsys):
    print_warnings(["Tracklet a\x1b[2J\nvrstc: done: It has one frame."])
    assert lines(capsys) == ["vrstc: warning: Tracklet a\\x1b[2J\\nvrstc: done: It has one frame."]
