"""The state of any network's training: what it holds, how it begins, and the form in which checkpoints keep it."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vrstc_jax.config import Training
from vrstc_jax.training.devices import jit_without_optimisation
from vrstc_jax.training.optimiser import adam


class TrainState(struct.PyTreeNode):
    """The networks and the optimiser.

    Attributes:
      step: int32 scalar, the number of updates done.
      params: parameters; where two networks train at once, {network: its parameters}.
      batch_stats: batch norm's running statistics, {} without batch norm.
      adam: Adam's state for those of `params` that learn (`Training.only`).
      mean: running mean of `current`, or None (`Training.average`).
      main: which of several networks the training is for; None: there is one.
    """

    step: Any
    params: dict
    batch_stats: dict
    adam: Any
    mean: dict | None = None
    main: str | None = struct.field(pytree_node=False, default=None)

    @property
    def current(self) -> dict:
        """What is trained, after the last update: a single network's variables, or the main one's parameters."""
        if self.main is None:
            return {"params": self.params, "batch_stats": self.batch_stats}
        return self.params[self.main]

    @property
    def result(self) -> dict:
        """What to use: the running mean of `current` where there is one, else `current`."""
        return self.current if self.mean is None else self.mean

    def saved(self) -> dict:
        """The tree that a checkpoint holds, the same since the first version.

        It has an Adam state for each network; here one serves all, since Adam treats each number alone.
        """
        if self.main is None:
            tree = {"step": self.step, "params": self.params, "batch_stats": self.batch_stats, "adam": self.adam}
            return tree if self.mean is None else tree | {"mean": self.mean}
        adams = {f"{name}_adam": _part(self.adam, name) for name in self.params}
        return {"step": self.step, **self.params, **adams, "mean": self.mean}

    def restored(self, tree: Mapping[str, Any]) -> "TrainState":
        """A state like this one with the values of a tree that `saved` gave."""
        if self.main is None:
            return self.replace(**tree)  # the tree's keys are the fields
        return self.replace(step=tree["step"], params={name: tree[name] for name in self.params}, mean=tree["mean"],
                            adam=_joined({name: tree[f"{name}_adam"] for name in self.params}))


def initial_state(init: Callable[[jax.Array], Mapping], training: Training, *, seed: int,
                  adopt: Callable[[dict], dict] = lambda fresh: fresh, main: str | None = None) -> TrainState:
    """The state before the first step, on the host, because donating fresh device arrays fails on a pod's first call.

    Args:
      init: from a random key to variables {'params', 'batch_stats'}, or {'params'} alone.
      seed: of that key.
      adopt: from those variables to the ones that training begins with.
      main: as of `TrainState`.

    Raises:
      ValueError: `Training.only` names a part that the network does not have.
    """
    @jit_without_optimisation
    def make(key):
        variables = init(key)
        return variables, adam(training).init(learning_part(variables["params"], training)), jnp.zeros((), jnp.int32)

    variables, adam_state, step = jax.tree.map(np.asarray, make(jax.random.key(seed)))
    variables = adopt(variables)
    state = TrainState(step=step, params=variables["params"], batch_stats=variables.get("batch_stats", {}),
                       adam=adam_state, main=main)
    # The mean begins at the initial values, which `running_mean` soon forgets.
    return state.replace(mean=state.current) if training.average else state


def learning_part(params: dict, training: Training) -> dict:
    """The parameters that learn.

    Raises:
      ValueError: `Training.only` names a part that the network does not have.
    """
    for name in training.only:
        if name not in params:
            raise ValueError(f"Training.only: the network has no part '{name}'; it has {', '.join(sorted(params))}.")
    return {name: part for name, part in params.items() if not training.only or name in training.only}


def _part(adam_state: Any, network: str) -> Any:
    """One network's share of an Adam state; moments are dictionaries like the parameters, counts are not."""
    return jax.tree.map(lambda x: x[network] if _is_dict(x) else x, adam_state, is_leaf=_is_dict)


def _joined(adam_states: Mapping[str, Any]) -> Any:
    """The inverse of `_part`, from every network's share."""
    def join(*parts):
        return dict(zip(adam_states, parts)) if _is_dict(parts[0]) else parts[0]

    return jax.tree.map(join, *adam_states.values(), is_leaf=_is_dict)


def _is_dict(x: Any) -> bool:
    return isinstance(x, dict)
