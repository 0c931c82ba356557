"""STCnet's training step in this package and in PyTorch, doing the same work from the same weights and batch."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from tools.example_steps import IDENTITIES
from tools.rates import analysis, temporary_bytes
from vrstc_jax import config as configs
from vrstc_jax.training.devices import Device, replicated
from vrstc_jax.training.stcnet_step import training_step

OURS, EAGER, COMPILED = "ours", "PyTorch, eager", "PyTorch, compiled"
FURTHEST = {"float32": 1e-3, "bfloat16": 3e-2}
"""The largest difference of two losses, over the larger of 1 and the magnitude, at which the work is the same."""


@dataclass
class Form:
    """One implementation of the step; `step` runs it to its end and returns its metrics."""

    name: str
    step: Callable[[], dict[str, float]]
    samples: list[float] = dataclasses.field(default_factory=list)


def without_locating(config: configs.Config) -> configs.Config:
    """The config, its guider without the head that locates, which the step does not use."""
    return dataclasses.replace(config, reid=dataclasses.replace(config.reid, locating_loss=0.0, locating_width=0))


def our_step(config: configs.Config, start: Any, guider: dict | None, batch: dict,
             devices: Sequence[Device]) -> tuple[Form, dict[str, float]]:
    """(the package's step, {'operations', 'bytes', 'temporary_bytes'} of it on all devices, as XLA counts them).

    Args:
      start: the initial state.
      guider: the guider's variables; None: no guider.
    """
    step: Any = training_step(config.stcnet_task, IDENTITIES, devices)
    shared = {k: v.reshape(len(devices), -1, *v.shape[1:]) for k, v in batch.items()}
    state, variables = replicated((start, guider), devices)  # as the step returns it, so that it compiles once
    lowered = step.lower(state, variables, shared)
    compiled = lowered.compile()

    def take() -> dict[str, float]:
        nonlocal state
        state, metrics = compiled(state, variables, shared)
        jax.block_until_ready(state)
        return {name: float(value) for name, value in metrics.items()}

    # Count operations before XLA's passes, which hide some in library calls; bytes after them, fused.
    each = {"operations": analysis(lowered)["flops"], "bytes": analysis(compiled).get("bytes accessed", 0.0),
            "temporary_bytes": temporary_bytes(compiled)}
    return Form(OURS, take), {name: len(devices) * value for name, value in each.items()}


def torch_step(name: str, config: configs.Config, start: Any, guider: dict | None, batch: dict) -> Form:
    """The twin's step from the same weights on the same batch, on the device that JAX uses."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
    import torch
    import torch_twin  # pyright: ignore[reportMissingImports]
    import torch_weights  # pyright: ignore[reportMissingImports]

    on = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    size = config.stcnet.height, config.stcnet.width
    twins = torch_twin.Generators(config.stcnet), torch_twin.DiscriminatorPair(config.discriminators, size)
    generators, discriminators = (torch_weights.load(module, start.params[network])
                                  for module, network in zip(twins, ("generators", "discriminators")))
    frozen = None
    if guider is not None:
        frozen = torch_weights.load(torch_twin.ReidNet(config.reid, IDENTITIES).eval(), *guider.values())
        frozen.requires_grad_(False)
    modules = [module.float().to(on) for module in (generators, discriminators, frozen) if module is not None]
    if name == COMPILED:
        torch.compiler.reset()
        for module in modules:
            module.compile(dynamic=False)
    adams = [torch.optim.Adam(module.parameters(), config.stcnet_training.learning_rate)
             for module in (generators, discriminators)]

    def take() -> dict[str, float]:
        with torch.autocast(on, torch.bfloat16, enabled=config.compute == "bfloat16"):
            metrics = torch_twin.stcnet_backward(config, generators, discriminators, frozen, batch, torch.float32, on)
        for adam in adams:
            adam.step()
        if on == "cuda":
            torch.cuda.synchronize()
        return metrics

    return Form(name, take)


def take_turns(forms: Sequence[Form], steps: int) -> None:
    """Fills in every form's samples, seconds of a step, in rounds in which each form has its turn."""
    for _ in range(steps):
        for form in forms:
            time.sleep(0.005)  # lets the busily waiting threads of the form before go to sleep
            began = time.perf_counter()
            form.step()
            form.samples.append(time.perf_counter() - began)


def seconds_of(form: Form) -> dict[str, float]:
    """{'seconds', 'fastest', 'slowest'} of a step; the first is the median."""
    return {"seconds": statistics.median(form.samples), "fastest": min(form.samples), "slowest": max(form.samples)}


def require_same(got: dict[str, float], wanted: dict[str, float], furthest: float, name: str) -> float:
    """The largest difference of two steps' metrics, over the larger of 1 and the magnitude; exits if it is more than
    `furthest`, or NaN."""
    apart = {key: abs(got[key] - wanted[key]) / max(1.0, abs(wanted[key])) for key in wanted}
    worst = max(apart, key=apart.__getitem__)
    if not apart[worst] <= furthest:
        raise SystemExit(f"{worst} of '{name}' is {got[worst]:.6g}, ours {wanted[worst]:.6g}: the steps "
                         "do different work, so they are not timed.")
    return apart[worst]
