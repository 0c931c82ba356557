"""SIGINT and SIGTERM of a command: none is lost, and each ends the command with one line.

Python runs a signal's handler between two instructions of the main thread, and an exception that the handler raises
goes to the code that runs there. Callbacks of the garbage collector (JAX has one), finalisers and broad `except`
clauses drop it. Therefore a timer raises it again until some code handles it.

It needs the standard library alone, because it must act before anything large is imported.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from vrstc_jax.runtime.errors import Preempted

CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}
"""The exit code of a command that a signal ended."""
MESSAGES = {signal.SIGINT: "interrupted; the same command goes on from here",
            signal.SIGTERM: "preempted; the same command goes on from here"}

_AGAIN = 0.25  # seconds until a signal that no code handles raises again
_SOON = 0.01  # the same, where it is known that it was dropped or had to wait
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PACKAGES = ("vrstc_jax", "experiments", "tools")

_received: int | None = None  # the signal that is to end the command
_holding = 0  # depth of `held`
_outermost: FrameType | None = None  # the frame that entered `raised`
_code: int | None = None  # with which the command is about to end


def prepare() -> None:
    """In a process of one of this package's commands, SIGINT and SIGTERM end it at once, with a line, from here on.

    That is until `raised`: while a command imports its libraries there is nothing to undo. Elsewhere it does nothing.
    """
    if not _is_own_program() or threading.current_thread() is not threading.main_thread():
        return
    if "--multiprocessing-fork" in sys.orig_argv:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a worker ends with its parent, which prints the line
    else:
        _install(_end_at_once)
        atexit.register(_leave)  # registered first, it is called last


def done(code: object) -> None:
    """The command has only to end, with this code; its caller returns, or exits with the same.

    Args:
      code: as of SystemExit: None is 0; of another one than a number Python itself knows what to do.
    """
    global _code
    _code = 0 if code is None else code if isinstance(code, int) else None


def _leave() -> None:
    """Ends the process where nothing but the interpreter's own end is left.

    During that, and while libraries in C++ take down their threads, handlers in Python are gone, and a signal would end
    the process without a line and with another code.
    """
    if _code is None:
        return
    with suppress(OSError, ValueError):  # a stream that cannot be written is the interpreter's to report
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_code)


@contextmanager
def raised() -> Iterator[None]:
    """Inside the block SIGINT raises KeyboardInterrupt and SIGTERM Preempted in the main thread, until one is handled.

    An import is finished first: one that is cut off leaves modules that other code cannot use. In other threads than
    the main one this does nothing.
    """
    global _outermost
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = {number: signal.getsignal(number) for number in CODES}, sys.unraisablehook

    def on_unraisable(dropped: Any) -> None:
        if _received is not None and isinstance(dropped.exc_value, (KeyboardInterrupt, Preempted)):
            _arm(_SOON)
        else:
            hook(dropped)

    try:
        _outermost, sys.unraisablehook = sys._getframe(2), on_unraisable  # beyond contextlib's
        _install(_raise)
        yield
    finally:
        settle()
        _outermost, sys.unraisablehook = None, hook
        for number, handler in before.items():
            if handler is not None:  # None is a handler in C, which Python cannot set
                signal.signal(number, handler)


def raise_on_sigterm() -> None:
    """Makes SIGTERM raise Preempted (again), after a library has taken the signal; in the main thread alone."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def received() -> KeyboardInterrupt | Preempted | None:
    """The error of a signal that arrived inside `raised` and is not settled."""
    return None if _received is None else _error(_received)


def settle() -> None:
    """The command has begun to end: nothing raises again, and another signal ends the process at once."""
    global _received
    if threading.current_thread() is threading.main_thread():
        if _received is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            _received = None
        _install(_end_at_once)


@contextmanager
def held() -> Iterator[None]:
    """Inside the block no error is raised again: it was caught, and is raised after the block."""
    global _holding
    _holding += 1
    try:
        yield
    finally:
        _holding -= 1


def _install(handler: Any) -> None:
    for number in CODES:
        # A shell starts background jobs with SIGINT ignored, and they are to go on ignoring it.
        if number != signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _is_own_program() -> bool:
    """Whether the process is `vrstc` or another command of ours, or a worker that one of them started."""
    program = sys.argv[0] if getattr(sys, "argv", None) else ""
    if program == "-m":  # as long as Python looks for the module
        words = [word for word in sys.orig_argv if word == "-m" or not word.startswith("-")]
        name = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
        return name.split(".")[0] in _PACKAGES
    folders = tuple(os.path.join(_ROOT, package) + os.sep for package in _PACKAGES)
    return os.path.basename(program) in ("vrstc", "vrstc.exe") or os.path.abspath(program).startswith(folders)


def _end_at_once(number: int, _: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"vrstc: {MESSAGES[signal.Signals(number)]}\n".encode())
    os._exit(CODES[signal.Signals(number)])


def _raise(number: int, frame: FrameType | None) -> None:
    global _received
    _received = number if _received is None else _received
    importing = _is_importing(frame)
    _arm(_SOON if importing else _AGAIN)
    # A second SIGINT is a user who does not want to wait for what the first one started.
    if not importing and (number == signal.SIGINT or not _is_handled()):
        raise _error(number)


def _raise_again(_: int, frame: FrameType | None) -> None:
    if _received is None or (frame is not None and frame.f_code is settle.__code__):
        return  # or about to be settled: the command already ends
    importing = _is_importing(frame)
    _arm(_SOON if importing else _AGAIN)
    if not importing and not _is_handled():
        raise _error(_received)


def _arm(seconds: float) -> None:
    signal.signal(signal.SIGALRM, _raise_again)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _error(number: int) -> KeyboardInterrupt | Preempted:
    return KeyboardInterrupt() if number == signal.SIGINT else Preempted(MESSAGES[signal.SIGTERM])


def _is_handled() -> bool:
    """Whether an `except`, a `finally` or a context manager's exit is running because of a signal's error."""
    error, seen = sys.exception(), set()
    while error is not None and id(error) not in seen:
        if isinstance(error, (KeyboardInterrupt, Preempted)):
            return True
        seen.add(id(error))
        error = error.__context__
    return _holding > 0


def _is_importing(frame: FrameType | None) -> bool:
    """Whether an import that began inside `raised` is running."""
    while frame is not None and frame is not _outermost:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
