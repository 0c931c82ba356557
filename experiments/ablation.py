"""The rows of the paper's ablation (Table 1) on made-up walkers, over several seeds, and the rivals of completion.

    python -m experiments.ablation --workdir out-ablation

Size `small` takes about 50 minutes a seed on two CPU cores (AMD EPYC). Expected over three seeds (docs/ablation.md):
mAP 72.4 for NL on the occluded data, 80.8 for STCnet and 86.0 with nothing hidden. `--size large` has four times the
people and 5 to 17 times the steps. `--people`, `--stcnet-steps` and the like change one number. `--size smoke` tries it
out.

Each row is a network that is trained and ranked separately; the rows of a seed share the data, step 1 and the located
masks:

    as it is        the re-ID network with each pooling, and NL (non-local blocks), on the occluded data
    nothing hidden  the same networks on the same walkers without occluders: the upper bound
    discarding      frames with a hidden band are left out of the comparison, for several τ (baseline and NL);
                    training uses all frames, while the networks of completion train on completed frames
    completion      NL on completed data: Spa, Spa+AE, Spa+TAE, Spa+Tem, + local D, + global D, + ID guider
    like for like   the baseline on STCnet's completed data, beside the baseline discarding
    error sources   NL on data completed with the true masks, pixel by pixel; with the bands that a head without errors
                    would call hidden at the same τ; and with the truth in the located bands

Hidden bands are located by the default model's re-ID network, which learned them from the masks of other walkers, and
not by the paper's cosine alone; every row's network begins with that network's backbone (`--fresh`: step 1 begins with
random weights).

Rows from Spa+Tem on have what `small` adds to attention (pixels carried over, a learned scale, a last stage);
`Spa+Tem, plain attention` is Spa+Tem without it. All completions but Spa have the other additions of `small`
(`config.py`), such as the choice of the most similar neighbours (`neighbour_reach`).

A row is judged by its share of the gap between the two framing rows of its network. The table is printed and written
to WORKDIR/table.md and table.json, with mean and standard deviation over seeds and the paper's MARS figures, and drawn
in plot.png; below it follow STCnet's differences to its rivals. Rows with a result are not made again, so the same
command resumes, and the table has every seed of WORKDIR/results.json. Several machines can share the seeds with
`--first-seed` and a WORKDIR each:

    python -m experiments.ablation_table A/results.json B/results.json --output DIR

makes one table of them, and `experiments.ablation_faults` says where painting falls short of the truth.
"""

import dataclasses
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from experiments.ablation_rows import COMPLETIONS, POOLINGS, QUANTILES, RowRecipe, rows_of, with_needed
from experiments.ablation_seed import Seed
from experiments.ablation_table import read_results, show_table
from experiments.settings import FEW_WALKERS, given, require_known, with_steps
from experiments.starting_weights import beginning
from vrstc_jax import config as configs
from vrstc_jax.data.walkers import WalkerProtocol
from vrstc_jax.recipes import five_steps
from vrstc_jax.report import write_json
from vrstc_jax.runtime import distributed
from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command, start_jax_for_training
from vrstc_jax.runtime.storage import as_path
from vrstc_jax.runtime.workdir import Workdir


@dataclass(frozen=True)
class Amount:
    """A seed's people and training steps, and the size in `config` of its networks."""

    networks: Literal["small", "smoke"]
    protocol: WalkerProtocol
    reid_steps: int
    final_steps: int
    stcnet_steps: int


AMOUNTS = {
    "small": Amount("small", WalkerProtocol(), 300, 200, 600),
    "large": Amount("small", WalkerProtocol(train_people=480, test_people=320, distractors=160), 5000, 1000, 4000),
    "smoke": Amount("smoke", FEW_WALKERS, 4, 4, 4)}


@dataclass(frozen=True)
class Arguments:
    """The seeds and rows, and how much each trains."""

    workdir: Path
    """Directory of all intermediate results and the table, gs:// too."""
    size: Literal["small", "large", "smoke"] = "small"
    """Amount of work: `large` has more people and longer trainings than `small`, with the same networks."""
    seeds: int = 3
    """Number of seeds."""
    first_seed: int = 0
    """The first seed."""
    rows: tuple[str, ...] = ()
    """Rows to make, by their names in docs/ablation.md; default: all."""
    people: int | None = None
    """Training people; default: the size's."""
    reid_steps: int | None = None
    """Training steps of step 1; default: the size's."""
    final_steps: int | None = None
    """Training steps of each row's re-ID network; default: the size's."""
    stcnet_steps: int | None = None
    """Training steps of each row's STCnet; default: the size's."""
    tau_quantile: float = 0.2
    """Share of the training bands to treat as hidden. For ranking, a missed occluder costs more than a repainted
    visible band; the default model's τ calls about 0.12 of them hidden."""
    discard: tuple[float, ...] = QUANTILES
    """Shares of the training bands, one for each τ by which rows discard frames."""
    fresh: bool = False
    """Train step 1 from random weights, not from the default model's network."""
    occlusion: str = "usual"
    """Occlusion of the walkers: none, light, usual, heavy or persistent."""


def main(arguments: Arguments) -> list[dict[str, Any]]:
    """Makes the rows of all seeds and returns the table's rows."""
    _check(arguments)
    work, amount = as_path(arguments.workdir), amount_of(arguments)
    config = configs.get(amount.networks)
    # Both clips of a pair must be on one device, so devices divide half of the last batch.
    start_jax_for_training((*config.batches[:2], config.final_training.batch // 2))
    config, start, begins_with = beginning(config, fresh=arguments.fresh)
    # The quantile chooses τ in place of the default model's τ, which calls fewer bands hidden.
    config = dataclasses.replace(config, tau=None, tau_quantile=arguments.tau_quantile)
    settings = {"amount": dataclasses.asdict(amount), "config": configs.to_dict(config), "begins_with": begins_with,
                "completions": COMPLETIONS, "poolings": POOLINGS}
    path = work / "results.json"

    def take() -> None:
        Workdir(work).claim(settings, complete=five_steps.complete_record)
        if path.exists():
            read_results(path)

    distributed.run_on_first(take)
    # Seeds, and some rows of one seed, run the same programs: compile each once.
    jax.config.update("jax_compilation_cache_dir", os.fspath(work.resolve() / "compiled"))
    recipes = rows_of(arguments.discard)
    config = with_steps(config, reid_training=amount.reid_steps, final_training=amount.final_steps,
                        stcnet_training=amount.stcnet_steps)
    table = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        shared = Seed(work / f"seed{seed}", dataclasses.replace(config, seed=seed),
                      dataclasses.replace(amount.protocol, seed=seed), start)
        rows = seed_rows(shared, recipes, with_needed(arguments.rows, recipes))

        def write(seed: int = seed, rows: dict[str, Any] = rows) -> list[dict[str, Any]]:
            # Seeds of earlier commands stay in the table.
            before = read_results(path)["seeds"] if path.exists() else {}
            write_json(path, {"of": settings, "seeds": before | {str(seed): rows}})
            return [row.as_dict() for row in show_table(read_results(path)["seeds"], work)]

        table = distributed.run_on_first(write)
    return table


def seed_rows(seed: Seed, recipes: Sequence[RowRecipe], only: Collection[str] = ()) -> dict[str, dict[str, Any]]:
    """{row: {'rank1', 'map', …, 'framed_by', 'tau' (discarded by)}} of one seed.

    Args:
      only: names of the rows to make; empty: all. Other rows are included if their result exists, so that a run for
        few rows does not replace a complete table.
    """
    found = {}
    for recipe in recipes:
        if not only or recipe.name in only or distributed.run_on_first(seed.result_of(recipe.name).exists):
            tau = None if recipe.quantile is None else seed.tau(recipe.quantile)
            found[recipe.name] = seed.row(recipe.name, recipe.make) | {"framed_by": recipe.framed_by, "tau": tau}
    return found


def amount_of(arguments: Arguments) -> Amount:
    """The size's amount with what the arguments change."""
    amount = AMOUNTS[arguments.size]
    protocol = dataclasses.replace(amount.protocol, occlusion=arguments.occlusion,
                                   train_people=arguments.people or amount.protocol.train_people)
    return dataclasses.replace(amount, protocol=protocol,
                               **given(arguments, "reid_steps", "final_steps", "stcnet_steps"))


def _check(arguments: Arguments) -> None:
    require_flags(arguments)
    require_range(arguments, "seeds", "people", "reid_steps", "final_steps", "stcnet_steps")
    require_range(arguments, "tau_quantile", "discard", below=1)
    require_range(arguments, "first_seed", least=0)
    names = [row.name for row in rows_of(arguments.discard)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--discard asks for two rows called '{twice[0]}'; give each share once.")
    require_known("row", arguments.rows, names)


if __name__ == "__main__":
    run_as_command(lambda: main(tyro.cli(Arguments, description=__doc__)))
