"""Tables of text, for the terminal and for Markdown files."""

from collections.abc import Iterable, Sequence


def text_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, markdown: bool = False) -> str:
    """Lays out a table: the first column to the left, the others to the right.

    Args:
      columns: the header, one name for each cell of a row.
      rows: cells; each is shown as `str` gives it, so numbers are formatted by the caller.
      markdown: whether to draw the lines of a Markdown table.
    """
    from tabulate import tabulate

    # tabulate widens every column that has a header, so without lines the header goes in as a row.
    cells, headers = (list(rows), columns) if markdown else ([columns, *rows], ())
    return tabulate(cells, headers, "github" if markdown else "plain", stralign="right", colalign=["left"],
                    disable_numparse=True)
