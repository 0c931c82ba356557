"""What a user is told when something they gave cannot be used."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was wrong, what was got, and what would do. The command line prints it
    as it is and exits with code 2; a traceback would say nothing more.
    """


class TrainingDiverged(RuntimeError):
    """A loss stopped being finite. The message names the loss, the step, and the last good checkpoint."""
