"""The paper's ablation (Table 1) row for row on made-up walkers, over several seeds, beside what it argues against.

    python -m experiments.ablation --workdir out-ablation

Rows, each a network trained and ranked by itself; of a seed, all share the data, step 1 and the located masks:

    as it is        the re-ID network with each pooling, and NL (non-local blocks), on the occluded data
    nothing hidden  the same networks on the same walkers with nothing in the way: the ceiling
    discarding      frames with a hidden band thrown away before comparing, for several τ (baseline and NL);
                    training keeps them, while completion's networks learn from completed frames
    completion      NL on completed data: Spa, Spa+AE, Spa+TAE, Spa+Tem, + local D, + global D, + ID guider
    like for like   the baseline on STCnet's completed data, beside the baseline discarding
    who is at fault NL on data completed with the true masks, pixel by pixel; with the bands that a head without fault
                    would call hidden at the same τ; and with the truth where something was located

What hides people is found by the default model's re-ID network, which learned it from other made-up walkers with
their masks, and not by the paper's cosine alone; every network of a row begins with its backbone (`--fresh`: step 1
from nothing).

Rows from Spa+Tem on have what `small` adds to attention (pixels carried over, a learned scale, a last stage);
`Spa+Tem, plain attention` is Spa+Tem without it. All completions but Spa have the rest of what `small` adds to the
paper (`config.py`), the choice of the most alike neighbours (`neighbour_reach`) among it.

What counts is the share of the gap between a network's two framing rows that a row wins back. The table is
printed and written to WORKDIR/table.md and table.json, with mean and standard deviation over seeds and the
paper's MARS figures beside them, and drawn in plot.png. Below it stands whether STCnet is ahead of what it is
compared with. Rows that stand are not done again, so the same command goes on where it stopped, and seeds that stand
in WORKDIR/results.json are in the table, asked for or not. Seeds may be done on several machines, by `--first-seed`,
each with a WORKDIR of its own:

    python -m experiments.ablation_table A/results.json B/results.json --output DIR

makes one table of them, and `experiments.ablation_faults` says where painting falls short of the truth.

Size `small` takes some 50 minutes a seed on two CPU cores (AMD EPYC); what it found stands in docs/ablation.md: over
three seeds mAP 72.4 for NL as it is, 80.8 for STCnet and 86.0 with nothing hidden. `--size large` has four times the
people and 5 to 17 times the steps, `--people`, `--stcnet-steps` and the like change one thing, `--size smoke` shows
that it runs.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import tyro

from experiments.ablation_table import BASELINE_COMPLETED, STCNET, ceiling_of, read_results, show_table
from experiments.vrstc import beginning
from vrstc_jax import config as configs
from vrstc_jax.data.batches import reid_batches
from vrstc_jax.data.tracklet_set import is_complete, write_set
from vrstc_jax.data.tracklets import LazySequence
from vrstc_jax.data.walkers import WalkerProtocol, unoccluded, walker_splits
from vrstc_jax.evaluation import retrieval
from vrstc_jax.inference.locate import choose_tau
from vrstc_jax.inference.pair_distances import pair_distances
from vrstc_jax.inference.plan import Plan, visible_frames
from vrstc_jax.models.model_file import ReidModel, load_model, load_reid
from vrstc_jax.ops.regions import hidden_share
from vrstc_jax.recipes import five_steps
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import as_path, require_writable_directory
from vrstc_jax.training import loop, pair_scorer

# Changes to the config that make each completion of Table 1.
_PLAIN = {"adversarial": 0.0, "identity": 0.0}
COMPLETIONS = {
    "Spa": {"stcnet": {"temporal_form": "none"}, "losses": _PLAIN},
    "Spa+AE": {"stcnet": {"temporal_form": "autoencoder"}, "losses": _PLAIN},
    "Spa+TAE": {"stcnet": {"temporal_form": "concatenation"}, "losses": _PLAIN},
    "Spa+Tem, plain attention": {"stcnet": {"learned_scale": False, "transport": False}, "losses": _PLAIN},
    "Spa+Tem": {"losses": _PLAIN},
    "+ local D": {"losses": {"identity": 0.0, "global_discriminator": False}},
    "+ global D": {"losses": {"identity": 0.0}},
    STCNET: {},
}
POOLINGS = {"maximum": "maximum", "temporal attention": "temporal_attention",
            "diverse attention": "diverse_attention", "ASTPN, one sequence": "astpn_one_sequence"}
PAIRS = "ASTPN, pairs"
TRUE_MASKS, TRUE_BANDS, TRUTH = "STCnet, true masks", "STCnet, true bands", "truth where located"
_FEATURES = "features.npz"  # of a row, until it is ranked
QUANTILES = (0.05, 0.1, 0.15, 0.2, 0.3)


@dataclass(frozen=True)
class Amount:
    """How much a seed does, with the networks of a size of `config`."""

    networks: str
    protocol: WalkerProtocol
    reid_steps: int
    final_steps: int
    stcnet_steps: int


AMOUNTS = {
    "small": Amount("small", WalkerProtocol(), 300, 200, 600),
    "large": Amount("small", WalkerProtocol(train_people=480, test_people=320, distractors=160), 5000, 1000, 4000),
    "smoke": Amount("smoke", WalkerProtocol(train_people=6, test_people=4, distractors=2, frames=8, height=32,
                                            width=16), 4, 4, 4),
}


@dataclass(frozen=True)
class Arguments:
    """What to run."""

    workdir: Path
    """For everything that is made on the way, and the table; gs:// will do."""
    size: Literal["small", "large", "smoke"] = "small"
    """How much is done: `large` has more people and longer training than `small`, with the same networks."""
    seeds: int = 3
    """How many,"""
    first_seed: int = 0
    """and the first of them."""
    rows: tuple[str, ...] = ()
    """Names of rows to do; all if left out."""
    people: int | None = None
    """Training people; the size's own number if left out."""
    reid_steps: int | None = None
    """Training steps of step 1, likewise."""
    final_steps: int | None = None
    """Training steps of each row's re-ID network, likewise."""
    stcnet_steps: int | None = None
    """Training steps of each row's STCnet, likewise."""
    tau_quantile: float = 0.2
    """The share of the training bands to call hidden. For ranking it is worse to miss something than to paint what
    was seen; the default model's τ calls some 0.12 of them hidden."""
    discard: tuple[float, ...] = QUANTILES
    """Shares of the training bands, likewise: by the τ of each a row discards."""
    fresh: bool = False
    """Step 1 from nothing, and not from the default model's network."""
    occlusion: str = "usual"
    """Of the walkers: none, light, usual, heavy or persistent."""


def main(arguments: Arguments) -> list[dict]:
    """Does the rows of all seeds and returns the table's rows."""
    _check(arguments)
    arguments = dataclasses.replace(arguments, workdir=as_path(arguments.workdir))
    amount = _amount(arguments)
    config = configs.get(amount.networks)
    start_jax_for_training(_halved(config).batches)
    config, start, begins_with = beginning(config, fresh=arguments.fresh)
    config = dataclasses.replace(config, tau=None, tau_quantile=arguments.tau_quantile)

    of = {"amount": dataclasses.asdict(amount), "config": configs.to_dict(config), "begins_with": begins_with,
          "completions": COMPLETIONS, "poolings": POOLINGS}
    path = arguments.workdir / "results.json"

    def take():
        require_writable_directory(arguments.workdir)
        five_steps.claim(arguments.workdir, of)
        if path.exists():
            read_results(path)

    distributed.run_on_first(take)
    # Rows of other seeds, and some of the same, run the same programs.
    jax.config.update("jax_compilation_cache_dir", os.fspath(arguments.workdir.resolve() / "compiled"))
    rows = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        found = _Seed(arguments, amount, config, seed, start).rows()

        def write(seed=seed, found=found):
            standing = read_results(path)["seeds"] if path.exists() else {}
            write_json(path, {"of": of, "seeds": standing | {str(seed): found}})
            return [row.as_dict() for row in show_table(read_results(path)["seeds"], arguments.workdir)]

        rows = distributed.run_on_first(write)
    return rows


def row_names(quantiles: Sequence[float] = QUANTILES) -> list[str]:
    """All rows, in the order in which they are done; quantiles: to discard by."""
    framed = ["baseline", "NL"]
    rivals = [*POOLINGS, PAIRS]
    return [*(name for base in framed for name in (base, ceiling_of(base))), *COMPLETIONS,
            BASELINE_COMPLETED, TRUE_MASKS, TRUE_BANDS, TRUTH,
            *(discarding(base, quantile) for base in framed for quantile in quantiles),
            *(name for base in rivals for name in (base, ceiling_of(base)))]


def discarding(network: str, quantile: float) -> str:
    """The row of a network that throws frames away."""
    return f"{network}, discarding {100 * quantile:g}% of bands"


def true_scores(masks: Iterable[np.ndarray]) -> np.ndarray:
    """What a locating head without fault would score, float32 [T, 3]: 1 for a free band, 0 for half of one, −1."""
    return np.array([1 - 2 * hidden_share(mask) for mask in masks], np.float32)


def frames_kept(located: five_steps.Located, tau: float) -> list[np.ndarray]:
    """Of each of the queries and then of the gallery the frames whose bands all score τ or more, bool [T]."""
    return [visible_frames(scores, tau) for split in ("query", "gallery") for scores in located.scores[split]]


def _check(arguments):
    for name in ("seeds", "people", "reid_steps", "final_steps", "stcnet_steps"):
        value = getattr(arguments, name)
        if value is not None and value <= 0:
            raise InputError(f"--{name.replace('_', '-')} must be more than 0. Got {value}.")
    if not 0 < arguments.tau_quantile < 1:
        raise InputError(f"--tau-quantile must lie between 0 and 1. Got {arguments.tau_quantile}.")
    if arguments.first_seed < 0:
        raise InputError(f"--first-seed must be 0 or more. Got {arguments.first_seed}.")
    if not all(0 < quantile < 1 for quantile in arguments.discard):
        raise InputError("--discard takes shares between 0 and 1. Got " +
                         f"{' '.join(f'{quantile:g}' for quantile in arguments.discard)}.")
    names = row_names(arguments.discard)
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--discard asks for two rows called '{twice[0]}'; give each share once.")
    unknown = [name for name in arguments.rows if name not in names]
    if unknown:
        raise InputError(f"There is no row '{unknown[0]}'; the rows are {'; '.join(names)}.")


def _with_needed(rows, quantiles=QUANTILES):
    """The rows, and those whose networks they use."""
    needed = set(rows)
    if needed & {TRUE_MASKS, TRUE_BANDS, BASELINE_COMPLETED}:
        needed.add(STCNET)
    for network in ("baseline", "NL"):
        if any(discarding(network, quantile) in needed for quantile in quantiles):
            needed.add(network)
    return needed


def _halved(config):
    """With half the batch: both clips of a pair must lie on one device."""
    training = config.final_training
    return dataclasses.replace(config, final_training=dataclasses.replace(training, batch=training.batch // 2))


def _amount(arguments):
    amount = AMOUNTS[arguments.size]
    protocol = dataclasses.replace(amount.protocol, occlusion=arguments.occlusion,
                                   train_people=arguments.people or amount.protocol.train_people)
    given = {name: getattr(arguments, name) for name in ("reid_steps", "final_steps", "stcnet_steps")}
    return dataclasses.replace(amount, protocol=protocol, **{k: v for k, v in given.items() if v})


class _Seed:
    """All rows of one seed. A row's result stands in WORK/seed<i>/rows/<row>/result.json."""

    def __init__(self, arguments: Arguments, amount: Amount, config: configs.Config, seed: int, start=None):
        self.start = start
        self.work = arguments.workdir / f"seed{seed}"
        self.only = _with_needed(arguments.rows, arguments.discard)
        self.quantiles = arguments.discard
        steps = {"reid_training": amount.reid_steps, "final_training": amount.final_steps,
                 "stcnet_training": amount.stcnet_steps}
        self.config = dataclasses.replace(config, seed=seed, **{
            part: dataclasses.replace(getattr(config, part), steps=number) for part, number in steps.items()})
        self.protocol = dataclasses.replace(amount.protocol, seed=seed)

    def rows(self) -> dict[str, dict]:
        """{row: {'rank1', 'map', …, 'framed_by' (the network whose gap it wins back of), 'tau' (discarded by)}}."""
        self._prepare()
        found: dict[str, dict] = {}

        def row(name, make, framed_by=None, tau=None):
            # What stands is shown, asked for or not: a table of few rows must not take the place of a whole one.
            if self.only and name not in self.only and not distributed.run_on_first(self._result(name).exists):
                return
            found[name] = self._row(name, make) | {"framed_by": framed_by, "tau": tau}

        def framing(name, make):
            row(name, lambda work: make(work, self.raw))
            row(ceiling_of(name), lambda work: make(work, self.truth))

        framing("baseline", lambda work, sets: self._network(work, sets, {"non_local": ()}))
        framing("NL", self._network)
        for name, changes in COMPLETIONS.items():
            row(name, lambda work, changes=changes: self._completed(work, changes), "NL")
        row(BASELINE_COMPLETED, lambda work: self._network(work, five_steps.read_splits(
            self.work / "rows" / folder_of(STCNET) / "completed"), {"non_local": ()}), "baseline")
        row(TRUE_MASKS, lambda work: self._network(work, self._by_true_masks(work)), "NL")
        row(TRUE_BANDS, lambda work: self._network(work, self._by_true_bands(work)), "NL")
        row(TRUTH, lambda work: self._network(work, self._truth_where_located(work)), "NL")
        for network in ("baseline", "NL"):
            for quantile in self.quantiles:
                row(discarding(network, quantile),
                    lambda work, name=network, tau=self._tau(quantile): five_steps.evaluate(
                        load_reid(self.work / "rows" / folder_of(name) / "final.safetensors"), self.raw,
                        keep=frames_kept(self.found, tau), path=work / _FEATURES), network, tau=self._tau(quantile))
        for name, pooling in POOLINGS.items():
            changes = {"non_local": (), "pooling": pooling}
            framing(name, lambda work, sets, changes=changes: self._network(work, sets, changes))
        framing(PAIRS, self._pairs)
        return found

    def _prepare(self):
        """The data, step 1 and step 2, which all rows share."""
        for name, change in (("data", lambda t: t), ("truth", unoccluded)):
            _written_once(self.work / name, lambda: {split: [change(t) for t in tracklets] for split, tracklets
                                                     in walker_splits(self.protocol).items()})
        self.raw, self.truth = (five_steps.read_splits(self.work / name) for name in ("data", "truth"))
        self.first = five_steps.kept_reid(self.work / "reid.safetensors", lambda: five_steps.first_network(
            self.raw["train"], self.config.first_reid, self.work / "reid", start_from=self.start and self.start()))
        if not distributed.run_on_first((self.work / "locating.json").exists):
            five_steps.locate(self.raw, self.config, self.first, self.work)
        self.found = five_steps.read_located(self.work)

    def _row(self, name, make) -> dict:
        result = self._result(name)
        if not distributed.run_on_first(result.exists):
            distributed.print_on_first(f"{self.work.name}: {name}")
            distributed.run_on_first(lambda: require_writable_directory(result.parent))
            figures = make(result.parent).figures()

            def write():
                (result.parent / _FEATURES).unlink(missing_ok=True)
                write_json(result, figures)

            distributed.run_on_first(write)
        return json.loads(result.read_text())

    def _result(self, name):
        return self.work / "rows" / folder_of(name) / "result.json"

    def _network(self, work, sets, changes: Mapping | None = None):
        """A final network, trained on one set and ranked on it."""
        config = dataclasses.replace(self.config, final=dataclasses.replace(self.config.final, **(changes or {})))
        model = five_steps.final_network(sets["train"], config, self.first, work / "final",
                                         name=f"{self.work.name}, {work.name}")
        return five_steps.evaluate(model, sets, path=work / _FEATURES)

    def _completed(self, work, changes):
        config = dataclasses.replace(self.config, **{
            part: dataclasses.replace(getattr(self.config, part), **fields) for part, fields in changes.items()})
        model = five_steps.kept_model(work / "model.safetensors", lambda: five_steps.generators(
            self.raw["train"], config, self.first, self.found, work / "stcnet"))
        if not distributed.run_on_first(lambda: is_complete(work / "completed")):
            five_steps.complete_sets(self.raw, model, self.found, work)
        return self._network(work, five_steps.read_splits(work / "completed"))

    def _by_true_masks(self, work):
        """STCnet's own generators, told what is hidden: what is lost beside it, completion loses."""
        model = load_model(self.work / "rows" / folder_of(STCNET) / "model.safetensors")
        if not distributed.run_on_first(lambda: is_complete(work / "completed")):
            five_steps.complete_sets(self.raw, model, self.found, work,
                                     options=five_steps.Options(hidden="given"))
        return five_steps.read_splits(work / "completed")

    def _by_true_bands(self, work):
        """Likewise, by the scores of a head without fault: beside this, locating loses; beside the masks, bands do."""
        model = load_model(self.work / "rows" / folder_of(STCNET) / "model.safetensors")
        if not distributed.run_on_first(lambda: is_complete(work / "completed")):
            scores = {split: [true_scores(tracklet.masks) for tracklet in data.tracklets]
                      for split, data in self.raw.items()}
            five_steps.complete_sets(self.raw, model, five_steps.Located(scores, self.found.tau), work)
        return five_steps.read_splits(work / "completed")

    def _truth_where_located(self, work):
        """The truth in place of completion: what is lost beside it, locating loses."""
        _written_once(work / "completed", lambda: {
            split: [_filled(tracklet, true, Plan.from_scores(scores, self.found.tau)) for tracklet, true, scores
                    in zip(self.raw[split].tracklets, self.truth[split].tracklets, self.found.scores[split])]
            for split in self.raw})
        return five_steps.read_splits(work / "completed")

    def _tau(self, quantile):
        return choose_tau(self.found.scores["train"], quantile)

    def _pairs(self, work, sets):
        final = self.config.final_reid
        task = dataclasses.replace(final, network=dataclasses.replace(final.network, non_local=()),
                                   training=dataclasses.replace(final.training, clips_per_identity=2))

        def trained():
            train = sets["train"]
            identities, seen = five_steps.all_frames(train)
            devices = distributed.batch_devices(task.training.batch // 2)  # no device has half a pair
            run = loop.TrainingRun(f"{self.work.name}, {work.name}", steps=task.training.steps,
                                   directory=work / "final", devices=devices, task=task)
            start = pair_scorer.initial_state(task, len(identities),
                                              start_from=five_steps.backbone_of(self.first.variables))
            state = loop.train(run, start, pair_scorer.pmap_step(task, len(identities), devices),
                               lambda start: reid_batches(train, seen, task, start=start))
            return ReidModel(task.network, jax.device_get(state.result), identities, network="PairScorer")

        model = five_steps.kept_reid(work / "final.safetensors", trained)
        query, gallery = five_steps.tracklets_to_rank(sets)
        return retrieval.judge_distances(pair_distances(model, query, gallery), query, gallery)


def _written_once(path, sets):
    distributed.run_on_first(lambda: None if is_complete(path) else write_set(path, sets()))


def _filled(tracklet, true, plan):
    """The tracklet with the truth where something was located."""
    def frame(index):
        seen = tracklet.frames[index]
        mask = plan.mask(index, seen)
        # What is hidden entirely is left, as completion leaves it.
        return seen if mask.all() else np.where(mask[..., None], true.frames[index], seen)

    return dataclasses.replace(tracklet, frames=LazySequence(len(tracklet), frame), masks=None)


def folder_of(name: str) -> str:
    """What a row's directory is called."""
    return "".join(c if c.isalnum() else "_" for c in name)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
