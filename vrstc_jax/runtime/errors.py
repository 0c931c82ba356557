"""What a user is told when something they gave cannot be used, or a run has to end before it is done."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was wrong, what was got, and what would do. The command line prints it
    as it is and exits with code 2; a traceback would say nothing more.
    """


class TrainingDiverged(RuntimeError):
    """A loss stopped being finite. The message names the loss, the step, and the last good checkpoint."""


class Preempted(BaseException):
    """The run was told to make room, and can be gone on with: a checkpoint was written, where there is one to write.

    The command line exits with code 75 (EX_TEMPFAIL of sysexits.h: try again), by which launchers know it. Not an
    `Exception`, as `KeyboardInterrupt` is not: what deals with errors has nothing to do with it.

    Attributes:
      together: all processes of the run come to this, at the same place, so that they can wait for each other.
    """

    def __init__(self, message: str, *, together: bool = False):
        super().__init__(message)
        self.together = together
