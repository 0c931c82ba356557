"""The errors that end a run with one line for the user: a wrong input, a diverged training, a preemption."""


class InputError(ValueError):
    """The user gave something that cannot be used.

    The message is one line: what is wrong, what was given, and what would work. The command line prints it without a
    traceback and exits with code 2.
    """


class TrainingDiverged(RuntimeError):
    """A loss stopped being finite. The message names the loss, the step, and the last good checkpoint."""


class Preempted(BaseException):
    """The run was asked to end so that another can have the machine; training has written a checkpoint.

    The command line exits with code 75 (EX_TEMPFAIL of sysexits.h: try again), by which launchers recognise it. Like
    `KeyboardInterrupt` it is no `Exception`, so that code that handles errors does not catch it.

    Attributes:
      together: all processes of the run raise this in the same step, so that they can wait for each other.
    """

    def __init__(self, message: str, *, together: bool = False):
        super().__init__(message)
        self.together = together
