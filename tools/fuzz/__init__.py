"""Tries the commands with bad inputs of every kind, made from a seed, and counts how each try ends.

    python -m tools.fuzz --seed 0 --count 10000 --output out-fuzz

Each try is one call of a command, or of a public function, in this process, in an empty folder. A `Kind` of `kinds/`
makes its input from (seed, kind, number) alone; about one in ten is a good input. `judging` decides how it ended:

    error         refused: exit code 2, and lines of the package alone
    accepted      exit code 0
    warned        accepted, with a warning on the terminal
    traceback     any other end
    hang          more than 20 seconds
    memory        the process grew by more than 500 MB
    leftover      files that a try of this end must not leave, or inputs that it changed
    wrong pixel   accepted, and a visible pixel changed, a frame is missing or added, or a value read is another

Expected: nothing but the first three. The same command continues where it stopped. `--only KIND:NUMBER` runs a single
try again and keeps its folder.
"""
