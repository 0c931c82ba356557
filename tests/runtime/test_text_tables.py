"""Tables of text, by their very characters."""

from vrstc_jax.runtime.text_tables import text_table

COLUMNS, ROWS = ("", "PSNR dB", "frames"), [["copy", "9.50", 12], ["stcnet", "1e5", "7 ± 2"]]


def test_plain():
    assert text_table(COLUMNS, ROWS).splitlines() == ["        PSNR dB  frames",
                                                      "copy       9.50      12",
                                                      "stcnet      1e5   7 ± 2"]
    assert text_table(COLUMNS, []).split() == ["PSNR", "dB", "frames"]


def test_markdown():
    header, line, *rows = text_table(COLUMNS, ROWS, markdown=True).splitlines()
    assert set(line) == {"|", "-"} and len({len(row) for row in (header, line, *rows)}) == 1
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in (header, *rows)] == [
        list(COLUMNS), ["copy", "9.50", "12"], ["stcnet", "1e5", "7 ± 2"]]
