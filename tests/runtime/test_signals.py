"""SIGINT and SIGTERM end a command with one line and their exit code, wherever they arrive."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tools import signal_tally
from vrstc_jax.runtime import signals
from vrstc_jax.runtime.distributed import preemption_notice
from vrstc_jax.runtime.errors import InputError, Preempted
from vrstc_jax.runtime.lifecycle import run_as_command

ROOT = Path(__file__).resolve().parents[2]
ENDS = {signal.SIGINT: (130, "vrstc: interrupted; the same command goes on from here\n"),
        signal.SIGTERM: (75, "vrstc: preempted; the same command goes on from here\n")}
BOTH = pytest.mark.parametrize("number", list(ENDS), ids=lambda number: number.name)

# Each sends the signal where an exception of its handler is dropped, and goes on for up to 20 seconds.
PLACES = {
    "callback of the garbage collector": """
        def on_collection(phase, info):
            if not sent:
                send()
        gc.callbacks.append(on_collection)
        gc.collect()
    """,
    "finaliser": """
        class Held:
            def __del__(self):
                send()
        Held()
    """,
    "callback of a weak reference": """
        class Held:
            pass
        held = Held()
        reference = weakref.ref(held, lambda _: send())
        del held
    """,
    "broad except": """
        try:
            send()
            time.sleep(1)
        except BaseException:
            pass
    """,
    "error of a library": """
        try:
            send()
            time.sleep(1)
        except BaseException as error:
            raise RuntimeError("INTERNAL: callback failed") from error
    """,
    "error of a library that says nothing": """
        try:
            send()
            time.sleep(1)
        except BaseException:
            pass
        raise RuntimeError("INTERNAL: callback failed")
    """,
    "last instruction": """
        try:
            send()
            time.sleep(1)
        except BaseException:
            return
    """,
    "import": """
        pathlib.Path("cut_off.py").write_text("import __main__; __main__.send(); whole = 1")
        sys.path.insert(0, "")
        try:
            import cut_off
        finally:
            assert sys.modules["cut_off"].whole
    """,
    "collection during a jitted function": """
        import jax, jax.numpy as jnp
        def on_collection(phase, info):
            if not sent:
                send()
        gc.callbacks.append(on_collection)
        gc.set_threshold(10)
        for _ in range(20):
            jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3)).block_until_ready()
    """,
}
PROGRAM = """
import gc, os, pathlib, signal, sys, time, weakref
from vrstc_jax.runtime.lifecycle import run_as_command
sent = []
def send():
    sent.append(1)
    os.kill(os.getpid(), {number})
    time.sleep(0.001)
def work():
{place}
    end = time.monotonic() + 20
    while time.monotonic() < end:
        time.sleep(0.001)
run_as_command(work)
"""


def ends(program, number, cwd, **environment):
    """Runs a program, which must end by a signal with its line alone."""
    done = subprocess.run(program, cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | {
        "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert (done.returncode, done.stderr) == ENDS[number]
    return done


@pytest.mark.parametrize("place, number", [
    *((place, signal.SIGINT) for place in PLACES),
    *((place, signal.SIGTERM) for place in ("callback of the garbage collector", "broad except", "import"))])
def test_dropped_by_the_code_it_arrives_in(vrstc, tmp_path, place, number):
    (tmp_path / "program.py").write_text(
        PROGRAM.format(place=textwrap.indent(textwrap.dedent(PLACES[place]), "    "), number=int(number)))
    pid = vrstc.start([tmp_path / "program.py"], log=tmp_path / "log", folder=tmp_path)
    end = time.monotonic() + 120
    while (code := vrstc.code(pid)) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert (code, (tmp_path / "log").read_text()) == ENDS[number]


@BOTH
@pytest.mark.parametrize("module, library", [
    ("vrstc_jax", "etils"), ("vrstc_jax", "jax"), ("vrstc_jax", "tyro"), ("experiments.vrstc", "numpy"),
    ("experiments.vrstc", "tyro"), ("tools.kill_tally", "tyro")])
def test_while_libraries_are_imported(tmp_path, module, library, number):
    """Also where whoever imports the library would drop the exception."""
    package = tmp_path / library
    package.mkdir()
    (package / "__init__.py").write_text(
        f"import os, time\ntry:\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(1)\n"
        "except BaseException:\n    pass\n")
    ends([sys.executable, "-m", module, "--help"], number, ROOT, PYTHONPATH=f"{tmp_path}:{ROOT}")


def test_of_the_console_script(tmp_path):
    """The file that pip writes is called vrstc."""
    (tmp_path / "tyro.py").write_text("import os, time\nos.kill(os.getpid(), 15)\ntime.sleep(1)\n")
    (tmp_path / "vrstc").write_text("import sys\nfrom vrstc_jax.cli import main\nsys.exit(main())\n")
    ends([sys.executable, tmp_path / "vrstc", "walkers", "out"], signal.SIGTERM, tmp_path)


@BOTH
def test_while_the_interpreter_ends(tmp_path, number):
    """What is left then has no handlers of Python any more, and takes seconds where libraries end their threads."""
    program = tmp_path / "vrstc"
    program.write_text(textwrap.dedent(f"""
        import atexit, ctypes, sys
        sys.path.insert(0, {str(ROOT)!r})
        from vrstc_jax.runtime import signals
        signals.prepare()
        from vrstc_jax.runtime.lifecycle import run_as_command
        library = ctypes.CDLL(None)
        # The signal is raised as a destructor in C++ is called.
        library.__cxa_atexit(ctypes.cast(getattr(library, "raise"), ctypes.c_void_p), ctypes.c_void_p({int(number)}),
                             None)
        atexit.register(print, "ended", flush=True)
        run_as_command(lambda: print("done"))
        """))
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\nended\n", "")


@pytest.mark.parametrize("work, code, said", [
    ("1 / 0", 1, "ZeroDivisionError"), ("sys.exit(3)", 3, ""), ("sys.exit()", 0, ""), ("sys.exit('words')", 1, "words"),
    ("main(['complete', 'nowhere', '--output', 'o'])", 2, "vrstc: nowhere: "),
    ("(refused(), 1 / 0)", 1, "ZeroDivision")])
def test_the_exit_code_is_the_work_s(tmp_path, work, code, said):
    program = tmp_path / "vrstc"
    program.write_text(textwrap.dedent(f"""
        import contextlib, sys
        sys.path.insert(0, {str(ROOT)!r})
        from vrstc_jax.runtime import signals
        signals.prepare()
        from vrstc_jax.cli import main
        from vrstc_jax.runtime.lifecycle import run_as_command

        def refused():
            with contextlib.suppress(SystemExit):
                main(["complete", "nowhere", "--output", "o"])
        run_as_command(lambda: {work})
        """))
    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert ended.returncode == code and said in ended.stderr, ended.stderr


def test_other_programs_keep_their_handlers(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import signal\nbefore = [signal.getsignal(n) for n in (2, 15)]\nimport vrstc_jax\n"
        "assert before == [signal.getsignal(n) for n in (2, 15)]\n")
    subprocess.run([sys.executable, tmp_path / "mine.py"], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_cleaning_up_is_not_cut_short():
    """What undoes work may take longer than the timer."""
    done = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        finally:
            try:
                raise ValueError("of the cleaning up")
            except ValueError:
                end = time.monotonic() + 3 * signals._AGAIN
                while time.monotonic() < end:
                    time.sleep(0.01)
            done.append("cleaned")

    assert code_of(work) == 75 and done == ["cleaned"]


def test_the_timer_does_not_fire_into_the_settling(monkeypatch):
    """It may be due at the very moment at which the command begins to end."""
    disarm = signal.setitimer

    def due(which, seconds):
        if seconds == 0:
            signals._raise_again(signal.SIGALRM, sys._getframe(1))
        return disarm(which, seconds)

    def work():
        monkeypatch.setattr(signal, "setitimer", due)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    assert code_of(work) == 75


def test_a_second_sigint_ends_the_cleaning_up():
    done = []

    def work():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
            done.append("cleaned")

    assert code_of(work) == 130 and not done


def test_an_error_that_is_no_signals():
    def refused():
        raise InputError("no such file")

    assert code_of(refused) == 2
    with pytest.raises(ZeroDivisionError):
        run_as_command(lambda: 1 / 0)


def test_ignored_sigint_stays_ignored():
    """As a shell starts background jobs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run_as_command(lambda: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_afterwards_are_those_before():
    def state():
        return [signal.getsignal(number) for number in (*ENDS, signal.SIGALRM)], sys.unraisablehook

    before = state()
    assert code_of(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 75
    assert state() == before and signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signals.received() is None


def test_held():
    """An error that was caught, to be raised later, is not raised in between."""
    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Preempted as error:
            failure = error
        with signals.held():
            end = time.monotonic() + 2 * signals._AGAIN
            while time.monotonic() < end:
                time.sleep(0.01)
        raise failure

    assert code_of(work) == 75


def code_of(work):
    with pytest.raises(SystemExit) as ended:
        run_as_command(work)
    return ended.value.code


def test_sigterm_after_the_last_step_of_a_training():
    """No step asks any more whether to stop; what would follow the training does not begin."""
    def work():
        with preemption_notice() as must_stop:
            assert not must_stop()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        raise AssertionError("the next step of the job has begun")

    assert code_of(work) == 75


@pytest.mark.slow
def test_of_a_command_that_completes(tmp_path):
    """The same command goes on from there, to the same result (`tools.signal_tally` for many moments)."""
    job, _ = signal_tally.jobs(tmp_path)
    whole = job.start(tmp_path / "whole")
    assert whole.wait(300) == 0
    assert signal_tally.send_once(job, tmp_path / "disturbed", signal.SIGTERM, 3.0)
    assert job.start(tmp_path / "disturbed").wait(300) == 0
    expected = job.result(tmp_path / "whole")
    assert len(expected) > 60 and job.result(tmp_path / "disturbed") == expected


@pytest.mark.slow
def test_at_many_moments(tmp_path):
    assert signal_tally.main(signal_tally.Arguments(times=20, seed=0, workdir=tmp_path))
