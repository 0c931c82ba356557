"""STCnet's training step on the device, its parts alone, and the PyTorch twin's step."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax

from tools import training_forms as forms
from tools.accelerator_report.plan import Size
from tools.attention_forms import LeftOut
from tools.example_steps import example_step
from tools.machine import describe
from tools.step_parts import parts_of
from vrstc_jax import config as configs
from vrstc_jax.config import Compute, SizeName

GUIDED = (False, True)


def measure(size: Size, compute: Compute, *, name: SizeName | None = None) -> Iterator[dict[str, Any]]:
    """{'size', 'compute', 'batch', 'cases'}: a case without the guider and one with it.

    float32 is at JAX's default precision. Each step is waited for, and its metrics are read.
    """
    name = name or size.config
    config = _config(name, compute, size.quick)
    start, guider, batch = _example(config)
    count = config.stcnet_training.batch
    result = {"size": name, "compute": compute, "batch": count, "cases": []}
    for guided in GUIDED:
        began = time.perf_counter()
        form, work = forms.our_step(config, start, guider if guided else None, batch, jax.devices()[:1])
        metrics = form.step()
        compiling = time.perf_counter() - began
        forms.take_turns([form], size.steps)
        times = forms.seconds_of(form)
        result["cases"].append({"guider": guided, **times, "examples_per_second": count / times["seconds"], **work,
                                "first_step_seconds": compiling, "metrics": metrics})
        yield result


def measure_as_published(size: Size) -> Iterator[dict[str, Any]]:
    """As `measure`, in bfloat16, of the network with what the paper prints."""
    return measure(size, "bfloat16", name=size.as_published)


def measure_parts(size: Size) -> Iterator[dict[str, Any]]:
    """{compute: the seconds and operations of the step's convolutions, deconvolutions and attention, alone}."""
    result = {}
    for compute in ("bfloat16", "float32"):
        result[compute] = parts_of(_config(size.config, compute, size.quick), jax.devices()[:1])
        yield result


def measure_twin(size: Size, compute: Compute) -> Iterator[dict[str, Any]]:
    """{'compute', 'cases'}: eager and through torch.compile, without and with the guider, the same work as ours.

    float32 may use TF32, as ours does at JAX's default precision; bfloat16 is autocast.

    Raises:
      LeftOut: there is no PyTorch, or not on JAX's device.
    """
    _, why = describe(with_torch=True)
    if why:
        raise LeftOut(f"PyTorch: {why}")
    config = _config(size.config, compute, size.quick)
    start, guider, batch = _example(config)
    result = {"compute": compute, "cases": []}
    for name in (forms.EAGER, forms.COMPILED):
        for guided in GUIDED:
            if name == forms.COMPILED and size.quick:
                case = {"left_out": "not at this size"}
            else:
                case = _twin_case(name, config, start, guider if guided else None, batch, size.steps)
            result["cases"].append({"form": name, "guider": guided, **case})
            yield result


def _twin_case(name: str, config: configs.Config, start: Any, guider: dict | None, batch: dict,
               steps: int) -> dict[str, Any]:
    """{'metrics' of the first step, 'seconds', 'fastest', 'slowest'}, or {'left_out'}."""
    try:
        form = forms.torch_step(name, config, start, guider, batch)
        metrics = form.step()
        forms.take_turns([form], steps)
    except Exception as error:  # torch.compile fails in many ways, for example without a C compiler
        if name == forms.EAGER:
            raise
        why = (str(error).splitlines() or [type(error).__name__])[0]
        return {"left_out": f"does not compile here: {why[:80]}"}
    return {"metrics": metrics, **forms.seconds_of(form)}


def _config(name: SizeName, compute: Compute, quick: bool) -> configs.Config:
    config = forms.without_locating(dataclasses.replace(configs.get(name), compute=compute))
    if quick:
        config = dataclasses.replace(config, stcnet=dataclasses.replace(config.stcnet, transport=False))
    return config


def _example(config: configs.Config) -> tuple[Any, dict, dict]:
    """(initial state, guider, batch), the same in every process."""
    # The initial state's many random draws take an accelerator's compiler longer than the CPU's.
    with jax.default_device(jax.devices("cpu")[0]):
        _, (start, guider), batch = example_step(config.stcnet_task, config.stcnet_training.batch, jax.devices()[:1])
    return start, guider, batch
