"""The tool that times: its smoke size runs, its forms compute the same, and its figures are sound."""

import json

import jax
import numpy as np
import pytest
from comparing import difference

from tools import attention_forms as forms
from tools import benchmark_attention as benchmark
from tools.attention_results import draw, table

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the smoke size writes, without PyTorch."""
    folder = tmp_path_factory.mktemp("out") / "attention"
    benchmark.main(["--sizes", "smoke", "--repeats", "2", "--no-torch", "--output", str(folder)])
    return folder


@pytest.mark.slow
def test_smoke_size_writes_figures_and_a_plot(written):
    result = json.loads((written / "benchmark.json").read_text(encoding="utf-8"))
    assert result["device"]["jax"] == jax.__version__ and result["device"]["cores"] >= 1
    assert [case["frames"] for case in result["cases"]] == [1, 2]
    for case in result["cases"]:
        rows = {(row["form"], row["part"]): row for row in case["rows"]}
        assert set(rows) == {(form, part) for form in forms.FORMS for part in forms.PARTS}
        for (form, _), row in rows.items():
            if form.startswith("PyTorch"):
                assert row["left_out"] == "not asked for"
                continue
            assert row["rounds"] == 2 and 0 < row["fastest"] <= row["milliseconds"] <= row["slowest"]
            assert row["temporary_bytes"] > 0
        for ratio in case["ratios"]:
            a, b = (rows[ratio[name], ratio["part"]]["milliseconds"] for name in ("form", "to"))
            assert ratio["times"] == pytest.approx(a / b)
    assert (written / "benchmark.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert {path.name for path in written.iterdir()} == {"benchmark.json", "benchmark.png"}


@pytest.fixture
def case():
    return forms.Case(batch=2, height=5, width=4, channels=3, frames=2)


def test_the_literal_form_in_jax_is_that_of_pytorch(twin, case):
    # The benchmark compares the forms with each other; here one is compared with float64 from outside.
    current, adjacent, _ = forms.features(case, "float32")
    for out, *maps in zip(jax.jit(jax.vmap(forms.literal))(current, adjacent), current, adjacent):
        f, r = (twin.torch.tensor(np.moveaxis(x, -1, -3), dtype=twin.torch.float64) for x in maps)
        wanted = twin.temporal_attention(f, r, forms.PATCH, forms.SCALE)
        assert difference(out, np.moveaxis(wanted.numpy(), 0, -1)) <= 2e-6  # a few units of float32


@pytest.mark.slow
def test_pytorch_is_fed_the_same_and_its_memory_is_counted(torch, case):
    arrays = forms.features(case, "float32")
    in_jax, in_torch = forms.JaxForms(case, arrays, 1e9), forms.TorchForms(case, arrays, 1e9)
    for part in forms.PARTS:
        theirs, ours = in_torch.program(forms.EAGER, part), in_jax.program(forms.WHOLE, part)
        for got, wanted in zip(theirs.values(theirs.call()), ours.values(ours.call()), strict=True):
            assert difference(got, wanted) <= 1e-5
        # At one time at least, patches of both maps are in memory, plain and normalised.
        positions = case.batch * case.height * case.width * (1 + case.frames)
        assert theirs.temporary >= 2 * 4 * forms.PATCH ** 2 * case.channels * positions


def test_peak_memory_of_pytorch_on_cpu_is_what_lives_together(torch, case):
    counting = forms.TorchForms(case, forms.features(case, "float32"), 1e9)
    x = torch.ones(1000)

    def call():
        a = x + 1
        b = a * 2
        c = a + b  # three together
        del a, b
        return c + 1,  # c and the result

    assert counting.peak(call) == 3 * 4000 - 4000


def test_the_bound_is_the_two_products(case):
    current, adjacent, _ = forms.features(case, "float32")
    f, r = (x.astype(np.float64).reshape(case.batch, -1, case.channels) for x in (current, adjacent))
    wanted = (f @ r.transpose(0, 2, 1)) @ r
    got = jax.jit(jax.vmap(forms.products_alone))(current, adjacent)
    assert difference(np.reshape(got, wanted.shape), wanted) <= 2e-6


def test_memory_that_the_device_does_not_tell_is_unknown(case, monkeypatch):
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", lambda self: None)
    program = forms.JaxForms(case, forms.features(case, "float32"), limit=1).program(forms.WHOLE, forms.FORWARD)
    assert program.temporary is None
    rows = [{"form": form, "part": part, "left_out": None, "milliseconds": 2.0, "temporary_bytes": None}
            for form in forms.FORMS for part in forms.PARTS]
    assert table(rows).splitlines()[2].count("unknown") == 2
    assert draw([{"case": str(case), "rows": rows}], "title").startswith(b"\x89PNG")


@pytest.mark.slow
def test_what_is_too_large_is_left_out_and_shown(capsys, monkeypatch):
    monkeypatch.setitem(benchmark.CASES, "smoke", benchmark.CASES["smoke"][:1])
    benchmark.main(["--sizes", "smoke", "--repeats", "1", "--no-torch", "--memory-limit", "1e-7",
                    "--longest-call", "1e-9"])
    lines = {line.split("|")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "|" in line}
    assert "needs 0 MB" in lines[forms.WHOLE] and "needs 0 MB" in lines[forms.BLOCKED]
    assert "takes about 0 s" in lines[forms.LITERAL]
    assert "1.00" in lines[forms.BOUND]


@pytest.mark.slow
def test_forms_that_differ_are_not_timed(monkeypatch):
    monkeypatch.setattr(forms, "literal", lambda f, r: 1.001 * forms.products_alone(f, r))
    with pytest.raises(SystemExit, match="'literal, JAX' differs from 'ours, whole'"):
        benchmark.main(["--sizes", "smoke", "--repeats", "1", "--no-torch"])


def test_bad_options_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for given in (["--repeats", "0"], ["--output", str(tmp_path / "file")]):
        with pytest.raises(SystemExit) as exit:
            benchmark.main(given)
        assert exit.value.code == 2 and capsys.readouterr().err.count("\n") == 1
