"""The ablation's table by hand, that its rows are the paper's, and a few of its rows at smoke size."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from refusals import refused

from experiments import ablation, ablation_faults, ablation_rows, ablation_seed, ablation_table
from experiments.ablation_table import Row, Spread, ceiling_of, format_claims, format_table, rows_over_seeds, write_plot
from experiments.settings import changed
from vrstc_jax import config as configs
from vrstc_jax.data.images import read_image
from vrstc_jax.inference.plan import Plan
from vrstc_jax.models.model_file import load_model
from vrstc_jax.recipes import five_steps
from vrstc_jax.runtime.errors import InputError


def figures(rank1, mean_ap, framed_by=None, tau=None):
    return {"rank1": rank1, "map": mean_ap, "framed_by": framed_by, "tau": tau}


# Two seeds. Of NL's gap, 0.5 to 0.9 and 0.6 to 0.8, Spa wins back 0.3/0.4 and −0.05/0.2.
SEEDS = [{"NL": figures(0.4, 0.5), "NL, nothing hidden": figures(0.9, 0.9), "Spa": figures(0.7, 0.8, "NL"),
          "baseline, discarding 5% of bands": figures(0.2, 0.3, "baseline", 0.75)},
         {"NL": figures(0.6, 0.6), "NL, nothing hidden": figures(0.8, 0.8), "Spa": figures(0.5, 0.55, "NL"),
          "baseline, discarding 5% of bands": figures(0.4, 0.3, "baseline", 0.85)}]
PAPER = {"NL": (86.1, 79.9), "Spa": (87.0, 81.0)}


class TestTable:
    def test_rows_over_seeds(self):
        rows = {row.name: row for row in rows_over_seeds(SEEDS, PAPER)}
        assert list(rows) == list(SEEDS[0])
        spa = rows["Spa"]
        assert (spa.rank1.mean, spa.mean_ap.mean) == (pytest.approx(0.6), pytest.approx(0.675))
        # Of two values the sample's standard deviation is their difference over √2.
        assert spa.rank1.deviation == pytest.approx(0.2 / 2 ** 0.5)
        assert spa.mean_ap.deviation == pytest.approx(0.25 / 2 ** 0.5)
        # 0.3 − 0.05 is won back of 0.4 + 0.2; a seed with a narrow gap counts for as much as it has.
        assert spa.share.mean == pytest.approx(0.25 / 0.6)
        assert spa.share.deviation == pytest.approx(1 / 2 ** 0.5)
        assert spa.tau is None and rows["baseline, discarding 5% of bands"].tau.mean == pytest.approx(0.8)
        assert (spa.framed_by, spa.paper, spa.seeds) == ("NL", (87.0, 81.0), 2)
        assert rows["NL"].share is None and rows["NL, nothing hidden"].paper is None
        assert rows["baseline, discarding 5% of bands"].share is None  # its framing rows are not there

    def test_a_seed_without_a_gap_or_a_row(self):
        spa = rows_over_seeds(SEEDS[:1], PAPER)[2]
        assert spa.mean_ap == Spread(0.8, 0.0) and spa.share == Spread(pytest.approx(0.75), 0.0)
        flat = SEEDS[0] | {"NL, nothing hidden": figures(0.4, 0.5)}
        share = rows_over_seeds([SEEDS[0], flat], PAPER)[2].share
        assert share == Spread(pytest.approx((0.3 + 0.3) / (0.4 + 0.0)), 0.0)  # the mean counts it
        assert rows_over_seeds([flat], PAPER)[2].share is None
        row = rows_over_seeds([SEEDS[0], {"NL": figures(0.6, 0.6)}], PAPER)[2]
        assert row.seeds == 1 and row.mean_ap == Spread(0.8, 0.0)

    def test_as_markdown(self):
        assert format_table(rows_over_seeds(SEEDS, PAPER)[:3]).splitlines() == [
            "2 seeds; mean ± standard deviation",
            "",
            "|                    |   rank-1, % |      mAP, % |   of the gap, % |   τ |   paper, MARS: rank-1 (mAP) |",
            "|--------------------|-------------|-------------|-----------------|-----|-----------------------------|",
            "| NL                 | 50.0 ± 14.1 |  55.0 ± 7.1 |                 |     |                 86.1 (79.9) |",
            "| NL, nothing hidden |  85.0 ± 7.1 |  85.0 ± 7.1 |                 |     |                             |",
            "| Spa                | 60.0 ± 14.1 | 67.5 ± 17.7 |         42 ± 71 |     |                 87.0 (81.0) |"]
        whole = format_table(rows_over_seeds(SEEDS, PAPER))
        assert "| 0.800 |" in whole and "84.9 at 0.89" in whole
        assert format_table(rows_over_seeds(SEEDS[:1], PAPER)).startswith("1 seed; ")


class TestClaims:
    def test_each_is_told_whether_it_holds_or_not(self):
        pooled = {"maximum": figures(0.5, 0.6), "maximum, nothing hidden": figures(0.9, 0.99)}
        best = {"NL, discarding 5% of bands": figures(0.5, 0.9, "NL", 0.8),
                "baseline, discarding 5% of bands": figures(0.5, 0.75, "baseline", 0.8),
                "baseline, discarding 10% of bands": figures(0.5, 0.7, "baseline", 0.9)}
        results = [SEEDS[0] | pooled | best | {"+ ID guider (STCnet)": figures(0.7, 0.8, "NL"),
                                               "baseline on STCnet's data": figures(0.7, 0.7, "baseline")}]
        assert format_claims(results).splitlines() == [
            "- STCnet (80.0) and NL on the data as they are (NL, 50.0; 1 seed): 30.0 points ahead",
            "- STCnet (80.0) and discarding at the best τ with the baseline, as the paper does (baseline, discarding "
            "5% of bands, 75.0; 1 seed): 5.0 points ahead",
            "- STCnet (80.0) and discarding at the best τ with NL (NL, discarding 5% of bands, 90.0; 1 seed): "
            "10.0 points NOT ahead, behind",
            "- The baseline on STCnet's data (70.0) and discarding at the best τ with the baseline (baseline, "
            "discarding 5% of bands, 75.0; 1 seed): 5.0 points NOT ahead, behind",
            "- STCnet (80.0) and the best other pooling or pair scorer (maximum, 60.0; 1 seed): 20.0 points ahead",
            "- STCnet wins back 75.0% of NL's gap, at least half"]
        weak = [SEEDS[0] | {"+ ID guider (STCnet)": figures(0.7, 0.5, "NL")}]
        assert "(NL, 50.0; 1 seed): level" in format_claims(weak)
        assert "0.0% of NL's gap, LESS than half" in format_claims(weak)

    def test_rows_are_compared_over_the_seeds_that_have_both(self):
        one, other = ({"+ ID guider (STCnet)": figures(0, mean_ap, "NL")} for mean_ap in (0.6, 0.4))
        assert format_claims([one | {"maximum": figures(0, 0.55)}, other]) == (
            "- STCnet (60.0) and the best other pooling or pair scorer (maximum, 55.0; 1 seed): 5.0 points ahead")
        # Rows of fewer seeds are not compared with those of more.
        attention = {"temporal attention": figures(0, 0.3)}
        assert format_claims([one | attention | {"maximum": figures(0, 0.7)}, other | attention]) == (
            "- STCnet (50.0) and the best other pooling or pair scorer (temporal attention, 30.0; 2 seeds): "
            "20.0 points ahead (by seed +30.0, +10.0)")
        # A ceiling is no rival, and without STCnet there is nothing to compare.
        assert format_claims([one | {"maximum, nothing hidden": figures(0, 0.9)}]) == format_claims(SEEDS) == ""

    def test_the_tau_of_the_other_seeds(self):
        """5% is best over all (70, 66.7) and on the first two seeds; 10% on the last two and on the outer two."""
        five, ten = (0.8, 0.7, 0.6), (0.5, 0.75, 0.75)
        results = [{"+ ID guider (STCnet)": figures(0, 0.7, "NL"),
                    "NL, discarding 5% of bands": figures(0, a, "NL", 0.8),
                    "NL, discarding 10% of bands": figures(0, b, "NL", 0.9)} for a, b in zip(five, ten)]
        # Seed 0: 0.65 to 0.75, so 10%, 0.5. Seed 1: 0.7 to 0.625, so 5%, 0.7. Seed 2: 0.75 to 0.625, so 5%, 0.6.
        assert format_claims(results) == (
            "- STCnet (70.0) and discarding at the best τ with NL (NL, discarding 5% of bands, 70.0; 3 seeds): level "
            "(by seed -10.0, +0.0, +10.0); with the τ that is best on the other seeds (60.0): 10.0 points ahead")


class TestSeedsOfSeveralMachines:
    def written(self, folder, seeds, **of):
        folder.mkdir()
        path = folder / "results.json"
        path.write_text(json.dumps({"of": {"amount": 1} | of, "seeds": seeds}))
        return path

    def shown(self, tmp_path, *paths):
        return ablation_table.main(ablation_table.Arguments(paths, tmp_path / "both"))

    def test_one_table(self, tmp_path):
        later, earlier = self.written(tmp_path / "a", {"1": SEEDS[1]}), self.written(tmp_path / "b", {"0": SEEDS[0]})
        assert self.shown(tmp_path, later, earlier) == rows_over_seeds(SEEDS, ablation_table.PAPER)
        assert sorted(os.listdir(tmp_path / "both")) == ["plot.png", "results.json", "table.json", "table.md"]
        assert ablation_table.read_results(tmp_path / "both/results.json")["seeds"] == {"0": SEEDS[0], "1": SEEDS[1]}

    def test_rows_that_each_has_alone(self, tmp_path):
        one, other = ({name: seed[name] for name in names} for seed, names in zip(SEEDS, (
            ("NL", "Spa"), ("NL, nothing hidden", "NL", "baseline, discarding 5% of bands"))))
        paths = self.written(tmp_path / "a", {"0": one}), self.written(tmp_path / "b", {"1": other})
        rows = self.shown(tmp_path, *paths)
        assert {row.name: row.seeds for row in rows} == dict.fromkeys(SEEDS[0], 1) | {"NL": 2}
        assert "| Spa (1 of the seeds)" in (tmp_path / "both/table.md").read_text()

    def test_settings_that_came_later_were_by_default_as_before(self, tmp_path):
        now = configs.to_dict(configs.get("small"))
        before = {name: value for name, value in now.items() if name != "compute"}
        paths = [self.written(tmp_path / name, {str(k): SEEDS[k]}, config=config)
                 for k, (name, config) in enumerate({"a": now, "b": before}.items())]
        assert len(self.shown(tmp_path, *paths)) == len(SEEDS[0])

    def test_inputs_are_not_replaced(self, tmp_path):
        one, other = self.written(tmp_path / "both", {"0": SEEDS[0]}), self.written(tmp_path / "b", {"1": SEEDS[1]})
        with pytest.raises(InputError, match="would be replaced"):
            self.shown(tmp_path, other, one)
        assert ablation_table.read_results(one)["seeds"] == {"0": SEEDS[0]}

    def test_what_does_not_go_together(self, tmp_path):
        one, again = (self.written(tmp_path / name, {"0": SEEDS[0]}) for name in "ab")
        other = self.written(tmp_path / "c", {"1": SEEDS[1]}, amount=2)
        no_results = tmp_path / "table.json"
        no_results.write_text('{"seeds": 1, "rows": []}')
        for second, said in ((again, "seed 0 is in another file"), (other, r"settings \('amount'\)"),
                             (no_results, "is not a results.json"), (tmp_path / "none", "no such file"),
                             (self.written(tmp_path / "d", {}), "is not a results.json"),
                             (self.written(tmp_path / "e", {"1": {"NL": {"map": None}}}), "is not a results.json")):
            with pytest.raises(InputError, match=said):
                self.shown(tmp_path, one, second)
        with pytest.raises(InputError, match="one results.json or more"):
            self.shown(tmp_path)
        assert not (tmp_path / "both").exists()


class TestPlot:
    def test_bars(self, tmp_path):
        def row(name, mean_ap, framed_by=None):
            return Row(name, Spread(0, 0), Spread(mean_ap, 0), None, framed_by, None, 1)

        rows = [row("baseline", 0.5), row("NL, nothing hidden", 1.0), row("Spa", 0.75, "NL")]
        write_plot(tmp_path / "plot.png", rows)
        assert os.listdir(tmp_path) == ["plot.png"]
        picture = read_image(tmp_path / "plot.png")
        # The legend's patches have the colours too, each as many pixels, some hundreds of some tens of thousands.
        colours = (0x4a, 0x7f, 0xb5), (0x8a, 0x8a, 0x8a), (0xc9, 0x67, 0x3a)
        areas = [(picture == colour).all(2).sum() for colour in colours]
        assert areas[1] / areas[2] == pytest.approx(1.0 / 0.75, rel=0.05)
        assert areas[0] / areas[2] == pytest.approx(0.5 / 0.75, rel=0.05)


class TestRows:
    """Table 1 of the paper: what each row has, of the temporal generator and of the losses."""

    @pytest.mark.parametrize("name, form, local, whole, guider", [
        ("Spa", "none", False, False, False),
        ("Spa+AE", "autoencoder", False, False, False),
        ("Spa+TAE", "concatenation", False, False, False),
        ("Spa+Tem, plain attention", "attention", False, False, False),
        ("Spa+Tem", "attention", False, False, False),
        ("+ local D", "attention", True, False, False),
        ("+ global D", "attention", True, True, False),
        ("+ ID guider (STCnet)", "attention", True, True, True),
    ])
    def test_each_adds_what_it_says(self, name, form, local, whole, guider):
        config = changed(configs.get("small"), ablation_rows.COMPLETIONS[name])
        losses, usual = config.losses, configs.get("small").losses
        assert (losses.adversarial > 0 and losses.local_discriminator) == local
        assert (losses.adversarial > 0 and losses.global_discriminator) == whole
        assert losses.adversarial == (usual.adversarial if local or whole else 0)
        assert losses.identity == (usual.identity if guider else 0)
        assert losses.reconstruction == usual.reconstruction
        # And nothing else, but for the row that has none of what the size adds to attention.
        bare = name.endswith("plain attention")
        assert dataclasses.replace(config, losses=usual) == changed(configs.get("small"), {"stcnet": {
            "temporal_form": form, "transport": not bare, "learned_scale": not bare}})

    def test_the_paper_has_figures_for_its_own_rows(self):
        assert list(ablation_table.PAPER) == ["baseline", "NL", *(name for name in ablation_rows.COMPLETIONS
                                                            if name != "Spa+Tem, plain attention")]

    def test_all_rows(self, tmp_path):
        """Each architecture has its two framing rows, and the others name theirs."""
        seed = SimpleNamespace(tau=lambda quantile: quantile, row=lambda name, make: {"map": 1},
                               result_of=lambda name: tmp_path / ablation_seed.folder_of(name))
        rows = ablation.seed_rows(seed, ablation_rows.rows_of())
        assert len({ablation_seed.folder_of(name) for name in rows}) == len(rows)
        framed = ["baseline", "NL", *ablation_rows.POOLINGS, ablation_rows.PAIRS]
        assert all(name in rows and ceiling_of(name) in rows for name in framed)
        assert {rows[name]["framed_by"] for name in ablation_rows.COMPLETIONS} == {"NL"}
        discarding = {name: (row["framed_by"], row["tau"]) for name, row in rows.items() if "discarding" in name}
        assert discarding == {f"{network}, discarding {share}% of bands": (network, share / 100)
                              for network in ("baseline", "NL") for share in (5, 10, 15, 20, 30)}
        assert len(rows) == 2 * len(framed) + len(ablation_rows.COMPLETIONS) + 4 + len(discarding)
        assert rows[ablation_table.BASELINE_COMPLETED]["framed_by"] == "baseline"
        assert all(row["tau"] is None for name, row in rows.items() if name not in discarding)
        # Rows with a result are there though others are asked for.
        seed.result_of("maximum").touch()
        assert list(ablation.seed_rows(seed, ablation_rows.rows_of(), {"Spa"})) == ["Spa", "maximum"]

    def test_amounts(self, tmp_path):
        given = ablation.Arguments(tmp_path, size="smoke", people=9, stcnet_steps=2, occlusion="light")
        amount = ablation.amount_of(given)
        assert (amount.protocol.train_people, amount.protocol.test_people) == (9, 4)
        assert amount.protocol.occlusion == "light"
        assert (amount.reid_steps, amount.final_steps, amount.stcnet_steps) == (4, 4, 2)


ROWS = ("baseline", "NL", "NL, nothing hidden", "Spa", "+ ID guider (STCnet)", "baseline on STCnet's data",
        "STCnet, true masks", "STCnet, true bands", "truth where located",
        "baseline, discarding 10% of bands", "maximum", "ASTPN, pairs")


def command(work, *more):
    """The ablation in a separate process, on two devices: a pair's clips are on one."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "experiments.ablation", "--size", "smoke", "--seeds", "1",
         "--workdir", str(work), *more], cwd=root, capture_output=True, text=True, env=os.environ | {
            "JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_seeds_that_stand_stay_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "Seed", lambda work, config, protocol, start: config.seed)
    monkeypatch.setattr(ablation, "seed_rows", lambda seed, *_: SEEDS[seed])
    monkeypatch.setattr(jax.config, "update", lambda *setting: None)
    for first_seed, seeds in ((1, 1), (0, 1)):
        rows = ablation.main(ablation.Arguments(tmp_path, size="smoke", seeds=seeds, first_seed=first_seed))
    wanted = [row.as_dict() for row in rows_over_seeds(SEEDS, ablation_table.PAPER)]
    assert rows == json.loads(json.dumps(wanted))
    assert rows[0]["share"] is None and rows[2]["share"]["mean"] == pytest.approx(0.25 / 0.6)
    assert json.loads((tmp_path / "table.json").read_text()) == {"seeds": 2, "rows": rows}


def test_the_documented_table_is_of_the_documented_results():
    docs = Path(__file__).resolve().parents[2] / "docs"
    seeds = ablation_table.read_results(docs / "ablation.json")["seeds"]
    results = [seeds[seed] for seed in sorted(seeds)]
    page = (docs / "ablation.md").read_text()
    assert format_table(rows_over_seeds(results, ablation_table.PAPER)).strip() in page
    assert format_claims(results) in page


class TestFaults:
    def test_parts_by_hand(self):
        painted, truth = np.array([1, 0.5, np.nan, 0.2, 0.4]), np.array([1, 0.25, np.nan, 0.8, 0.6])
        there, found = np.array([5, 2, 0, 1, 9]), np.array([4, 2, 0, 1, 1])

        def part(queries, painted, truth):
            return ablation_faults.Part(queries, {"painted": pytest.approx(painted), "truth": pytest.approx(truth)})

        assert ablation_faults.parts_of({"painted": painted, "truth": truth}, there, found) == {
            "all": part(4, 2.1 / 4, 2.65 / 4), "enough": part(2, 0.75, 0.625), "lost": part(1, 0.4, 0.6),
            "few": part(1, 0.2, 0.8)}
        assert list(ablation_faults.parts_of({"painted": painted[:2]}, there[:2], found[:2])) == ["all", "enough"]

    def test_differences_against_the_normal_range(self):
        # Of many queries the mean is normal: 1.96 σ/√n to both sides. 10,000 draws give its ends within 3 % of σ/√n;
        # 15 % is what they were given. Two seeds' means have 1/√2 of that.
        random = np.random.default_rng(3)
        ours, theirs = random.uniform(0, 1, (2, 400)), random.uniform(0, 1, (2, 400))
        ours[1, 7] = theirs[1, 7] = np.nan
        found = ablation_faults.difference(list(ours), list(theirs))
        means, errors = zip(*((np.nanmean(d), np.nanstd(d) / np.isfinite(d).sum() ** 0.5) for d in ours - theirs))
        error = np.hypot(*errors) / 2
        assert found.mean == pytest.approx(np.mean(means))
        assert found.low == pytest.approx(found.mean - 1.96 * error, abs=0.15 * error)
        assert found.high == pytest.approx(found.mean + 1.96 * error, abs=0.15 * error)
        assert found == ablation_faults.difference(list(ours), list(theirs))

    def test_queries_are_drawn_alike_for_both(self):
        # Far apart from query to query, and always by 0.1: nothing is left to chance.
        theirs = [np.linspace(0, 0.9, 20)]
        found = ablation_faults.difference([theirs[0] + 0.1], theirs)
        assert (found.mean, found.low, found.high) == (pytest.approx(0.1),) * 3

    def test_the_best_row_to_discard_by(self):
        def rows(five, ten):
            return {"NL": figures(0, 0.9), "Spa": figures(0, 0.9, "NL"),
                    "NL, discarding 5% of bands": figures(0, five, "NL", 0.3),
                    "NL, discarding 10% of bands": figures(0, ten, "NL", 0.4)}

        seeds = [rows(0.7, 0.6), rows(0.5, 0.8)]
        assert ablation_faults.best_discarding(seeds, "NL") == "NL, discarding 10% of bands"
        assert ablation_faults.best_discarding(seeds[:1], "NL") == "NL, discarding 5% of bands"
        assert ablation_faults.best_discarding(seeds, "baseline") is None

    def test_few_frames_are_some_of_more(self, tmp_path, monkeypatch):
        asked = []

        def evaluate(network, sets, *, keep):
            asked.append(keep)
            return SimpleNamespace(ranking=SimpleNamespace(mean_ap=len(asked) / 10))

        monkeypatch.setattr(five_steps, "read_splits", lambda path: {})
        monkeypatch.setattr(five_steps, "tracklets_to_rank", lambda sets: (["abcdef", "ab"], ["abcde"]))
        monkeypatch.setattr(five_steps, "evaluate", evaluate)
        monkeypatch.setattr(ablation_faults, "load_reid", lambda path: None)
        assert ablation_faults.from_few_frames(tmp_path) == {1: 0.1, 2: 0.2, 4: 0.3, 6: 0.4}
        assert [[kept.sum() for kept in keep] for keep in asked] == [[1, 1, 1], [2, 2, 2], [4, 2, 4], [6, 2, 5]]
        assert all((more | fewer == more).all() for one, two in zip(asked, asked[1:]) for fewer, more in zip(one, two))

    def test_frames_that_are_and_are_taken_for_unoccluded(self):
        masks = np.zeros((4, 3, 2), bool)
        masks[1, 0, 0] = True
        scores = np.array([[1, 1, 1], [1, 1, 1], [1, 0.4, 1], [0.5, 0.5, 0.5]])
        assert ablation_faults.unoccluded_frames(masks, scores, 0.5) == (3, 2)

    def test_without_the_rows(self, tmp_path):
        with pytest.raises(InputError, match="no such file; experiments.ablation leaves one"):
            ablation_faults.main(ablation_faults.Arguments(tmp_path))
        (tmp_path / "results.json").write_text(json.dumps({"of": {}, "seeds": {"0": SEEDS[0]}}))
        with pytest.raises(InputError, match="no seed has both rows"):
            ablation_faults.main(ablation_faults.Arguments(tmp_path))


def test_scores_without_a_fault():
    masks = np.zeros((3, 12, 4), bool)
    masks[1, :, :3] = True  # three quarters of each band
    masks[2, -1] = True
    scores = ablation_seed.true_scores(masks)
    assert scores.dtype == np.float32 and (scores[0] == 1).all() and np.allclose(scores[1], -0.5)
    np.testing.assert_allclose(scores[2], [1, 1, 0.5])  # a quarter of the lowest band


def masks_of(scores, tau, frames):
    plan = Plan.from_scores(scores, tau)
    return np.stack([plan.mask(i, frame) for i, frame in enumerate(frames)])


@pytest.mark.slow
def test_some_rows_of_one_seed(tmp_path):
    said = command(tmp_path, "--rows", *ROWS[:4])
    first = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in first["rows"]] == list(ROWS[:4]) and first["seeds"] == 1
    assert first["rows"][3]["share"] is not None or (
        first["rows"][1]["mean_ap"]["mean"] >= first["rows"][2]["mean_ap"]["mean"])
    assert (tmp_path / "table.md").read_text().strip() in said and "87.0 (81.0)" in said

    stood = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    said = command(tmp_path, "--rows", *ROWS)  # more rows go on from those
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["name"] for row in table["rows"]] == list(ROWS)
    assert table["rows"][:4] == first["rows"]
    assert all(path.stat().st_mtime_ns == time for path, time in stood.items())
    assert all(f"seed0: {name}\n" not in said for name in ROWS[:4]) and f"seed0: {ROWS[4]}\n" in said

    work = tmp_path / "seed0"
    assert load_model(work / "rows/Spa/model.safetensors").config.stcnet.temporal_form == "none"
    found = five_steps.read_located(work)
    raw, truth, filled, by_masks, by_bands = (five_steps.read_splits(work / folder) for folder in (
        "data", "truth", "rows/truth_where_located/completed", "rows/STCnet__true_masks/completed",
        "rows/STCnet__true_bands/completed"))
    for split, scores in found.scores.items():
        for k, of_tracklet in enumerate(scores):
            before, true, mended, masked, banded = (np.stack(sets[split].tracklets[k].frames[:])
                                                  for sets in (raw, truth, filled, by_masks, by_bands))
            masks = masks_of(of_tracklet, found.tau, before)
            masks &= ~masks.all((1, 2))[:, None, None]
            np.testing.assert_array_equal(mended, np.where(masks[..., None], true, before))
            hidden = np.stack(raw[split].tracklets[k].masks[:])
            np.testing.assert_array_equal(masked[~hidden], before[~hidden])
            masks = masks_of(ablation_seed.true_scores(hidden), found.tau, before)
            np.testing.assert_array_equal(banded[~masks], before[~masks])
            assert ((banded != before).any((1, 2, 3)) == (masks.any((1, 2)) & ~masks.all((1, 2)))).all()

    parts, apart = ablation_faults.main(ablation_faults.Arguments(tmp_path))
    parts = parts["seed0"]
    # The same networks on the same frames as in their rows.
    mine = {"STCnet": ablation_table.STCNET, "b. completed": ablation_table.BASELINE_COMPLETED,
            "b. discards": "baseline, discarding 10% of bands"}
    rows = {name: json.loads((work / "rows" / ablation_seed.folder_of(row) / "result.json").read_text())["map"]
            for name, row in mine.items()}
    assert {name: parts["all"].mean_ap[name] for name in mine} == pytest.approx(rows)
    assert set(parts["all"].mean_ap) == {*mine, "truth"}  # nothing discarded with NL
    assert set(apart) == {("STCnet", "truth"), ("STCnet", "b. discards"), ("b. completed", "b. discards")}
    assert apart["STCnet", "b. discards"].mean == pytest.approx(rows["STCnet"] - rows["b. discards"])
    assert parts["all"].queries == sum(part.queries for name, part in parts.items() if name != "all")


class TestArguments:
    def test_rows_bring_those_whose_networks_they_use(self):
        stcnet = ablation_table.STCNET
        rows = ablation_rows.rows_of((0.1, 0.45))
        for row, needed in (("STCnet, true masks", stcnet), ("STCnet, true bands", stcnet),
                            (ablation_table.BASELINE_COMPLETED, stcnet), ("NL, discarding 10% of bands", "NL"),
                            ("baseline, discarding 45% of bands", "baseline")):
            assert ablation_rows.with_needed((row,), rows) == {row, needed}
        assert ablation_rows.with_needed(("Spa", ablation_rows.TRUTH), rows) == {"Spa", ablation_rows.TRUTH}
        assert not ablation_rows.with_needed((), rows)

    @pytest.mark.parametrize("change, said", [({"rows": ("typo",)}, "typo"), ({"seeds": 0}, "--seeds"),
                                              ({"first_seed": -1}, "--first-seed"),
                                              ({"tau_quantile": 1.0}, "--tau-quantile"),
                                              ({"discard": (0.2, 1.2)}, "--discard"),
                                              ({"discard": (0.2, 0.2)}, "each share once"),
                                              ({"rows": ("NL, discarding 40% of bands",)}, "no row"),
                                              ({"stcnet_steps": -1}, "--stcnet-steps")])
    def test_bad_input_is_one_line_before_anything_is_done(self, tmp_path, change, said):
        with refused(said):
            ablation.main(ablation.Arguments(workdir=tmp_path / "w", size="smoke", **change))
        assert not (tmp_path / "w").exists()
