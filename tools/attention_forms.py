"""The ways to temporal attention that `benchmark_attention` times, made ready to be called.

The least that there is to do, the matrix products alone; the package's op, whole and in blocks of rows;
equations (1) to (3) taken literally in JAX; and PyTorch's unfold and fold, eager and compiled.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vrstc_jax.attention import temporal_attention

PATCH, SCALE = 3, 10.0
PARTS = FORWARD, BOTH = "forward", "forward and backward"
BOUND, WHOLE, BLOCKED, LITERAL = "products alone", "ours, whole", "ours, blocked", "literal, JAX"
EAGER, COMPILED = "PyTorch, eager", "PyTorch, compiled"
FORMS = (BOUND, WHOLE, BLOCKED, LITERAL, EAGER, COMPILED)


class Case(NamedTuple):
    """A batch of current maps, and as many frames of the same size for each to attend to."""

    batch: int
    height: int
    width: int
    channels: int
    frames: int

    def __str__(self):
        return (f"{self.batch} × {self.height}×{self.width}, {self.channels} channels, "
                f"{self.frames} frame{'s' * (self.frames > 1)}")

    @property
    def block_size(self):
        """Rows at a time: as many as take 4 MiB, as the op chooses, but at least four blocks."""
        row = 4 * self.width * self.frames * self.height * self.width
        return max(1, min(self.height // 4, (4 << 20) // row))


# The other ways, for one example: current [H, W, C], adjacent [T, H', W', C].


def products_alone(current, adjacent):
    """The two matrix products that no form can do without; its pullback takes four more."""
    f, r = (x.reshape(-1, x.shape[-1]) for x in (current, adjacent))
    pairs = _product("pc,qc->pq", f, r).astype(r.dtype)
    return _product("pq,qc->pc", pairs, r).reshape(current.shape).astype(current.dtype)


def literal(current, adjacent):
    """Equations (1) to (3) with patches cut out, compared, weighted and laid back."""
    height, width, channels = current.shape
    half, offsets = PATCH // 2, [(y, x) for y in range(PATCH) for x in range(PATCH)]

    def patches(maps):  # [T, H, W, C] to [T · H · W, k · k · C]
        rows, columns = maps.shape[1:3]
        padded = jnp.pad(maps, ((0, 0), (half, half), (half, half), (0, 0)))
        cut = [padded[:, y:y + rows, x:x + columns] for y, x in offsets]
        return jnp.stack(cut, 3).reshape(-1, len(offsets) * channels)

    def unit(vectors):
        norm = jnp.linalg.norm(vectors.astype(jnp.float32), axis=1, keepdims=True)
        return vectors / norm.astype(vectors.dtype)

    def laid_back(patches):  # [H, W, k · k, …] to [H, W, …]
        shape = height + 2 * half, width + 2 * half, *patches.shape[3:]
        total = jnp.zeros(shape, patches.dtype)
        for i, (y, x) in enumerate(offsets):
            total = total.at[y:y + height, x:x + width].add(patches[:, :, i])
        return total[half:half + height, half:half + width]

    f, r = patches(current[None]), patches(adjacent)
    weights = jax.nn.softmax(SCALE * _product("pc,qc->pq", unit(f), unit(r)), axis=1)
    rebuilt = _product("pq,qc->pc", weights.astype(r.dtype), r).reshape(height, width, len(offsets), channels)
    cover = laid_back(jnp.ones((height, width, len(offsets), 1)))
    return (laid_back(rebuilt) / cover).astype(current.dtype)


def _product(equation, left, right):
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)


def torch_attention(current, adjacent):
    """The same in PyTorch, as it is usually written: current [B, C, H, W], adjacent [B, T, C, H', W']."""
    import torch.nn.functional as F

    def patches(maps):  # [B, T, C, H, W] to [B, C · k · k, T · H · W]
        cut = F.unfold(maps.flatten(0, 1), PATCH, padding=PATCH // 2)
        return cut.unflatten(0, maps.shape[:2]).transpose(1, 2).flatten(2)

    def laid_back(patches):
        return F.fold(patches, current.shape[2:], PATCH, padding=PATCH // 2)

    f, r = patches(current[:, None]), patches(adjacent)
    similarity = F.normalize(f, dim=1).transpose(1, 2) @ F.normalize(r, dim=1)
    weights = (SCALE * similarity).softmax(2)
    cover = laid_back(current.new_ones(1, PATCH * PATCH, f.shape[2]))
    return laid_back(r @ weights.transpose(1, 2)) / cover


# Getting a form ready.


@dataclass(eq=False)
class Program:
    """One form's forward pass, or forward and backward, on its inputs. `call` starts it; after `wait` on what
    it returned it is done."""

    form: str
    part: str
    call: Callable[[], tuple]
    wait: Callable[[tuple], Any]
    values: Callable[[tuple], list[np.ndarray]]  # as float64 [B, (T,) H, W, C]
    temporary: int | None = None  # bytes
    samples: list[float] = field(default_factory=list)  # seconds of one call


class LeftOut(Exception):
    """A form is not timed; the message says why."""


def features(case, dtype):
    """Standard normal (current, adjacent, gradient of the result) as NumPy arrays, rounded to `dtype`."""
    random = np.random.default_rng(0)
    here, there = (case.batch, case.height, case.width, case.channels), (case.frames,)
    shapes = here, here[:1] + there + here[1:], here
    return [np.asarray(jnp.asarray(random.standard_normal(s, np.float32), dtype)) for s in shapes]


class JaxForms:
    """Programs of JAX functions of one example."""

    def __init__(self, case, arrays, limit):
        self.inputs, self.limit = [jnp.asarray(x) for x in arrays], limit
        ours = partial(temporal_attention, patch_size=PATCH, softmax_scale=SCALE)
        self.functions = {WHOLE: partial(ours, block_size=case.height), LITERAL: literal,
                          BLOCKED: partial(ours, block_size=case.block_size), BOUND: products_alone}

    def program(self, form, part):
        """Compiles; raises LeftOut where the program would need more than the limit."""
        function = jax.vmap(self.functions[form])

        def forward(f, r, _):
            return function(f, r),

        def both(f, r, gradient):
            out, pullback = jax.vjp(function, f, r)
            return out, *pullback(gradient)

        compiled = jax.jit(forward if part == FORWARD else both).lower(*self.inputs).compile()
        temporary = compiled.memory_analysis().temp_size_in_bytes
        if form != BOUND:
            _check_memory(temporary, self.limit)
        # On CPU calls that were only started may run beside each other.
        on_cpu = jax.default_backend() == "cpu"
        finished = jax.block_until_ready if on_cpu else lambda out: out
        return Program(form, part, lambda: finished(compiled(*self.inputs)), jax.block_until_ready,
                       lambda out: [np.asarray(x, np.float64) for x in out], temporary)


class TorchForms:
    """Programs of `torch_attention`, on the device that JAX uses."""

    def __init__(self, case, arrays, limit):
        import torch

        self.torch, self.case, self.limit = torch, case, limit
        self.device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self.inputs = []
        for array in arrays:
            x = torch.tensor(np.moveaxis(array.astype(np.float32), -1, -3), device=self.device)
            self.inputs.append(x.to(getattr(torch, str(array.dtype))).requires_grad_(len(self.inputs) < 2))

    def program(self, form, part):
        """Raises LeftOut where it would need more memory than the limit, or does not compile."""
        torch, (f, r, gradient) = self.torch, self.inputs
        _check_memory(self._estimated_memory(part), self.limit)
        function = torch_attention
        if form == COMPILED:
            torch.compiler.reset()
            function = torch.compile(torch_attention, dynamic=False)

        def forward():
            with torch.no_grad():
                return function(f, r),

        def both():
            out = function(f, r)
            return out, *torch.autograd.grad(out, (f, r), gradient)

        call = forward if part == FORWARD else both
        try:
            self._wait(call())
        except Exception as error:  # torch.compile fails in many ways, for want of a compiler among others
            if form != COMPILED:
                raise
            raise LeftOut(f"does not compile here: {str(error).splitlines()[0][:80]}") from None
        return Program(form, part, call, self._wait, self._values, self._peak(call))

    def _wait(self, _):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def _values(self, out):
        return [np.moveaxis(x.detach().to("cpu", self.torch.float64).numpy(), -3, -1) for x in out]

    def _estimated_memory(self, part):
        """Bytes that the eager form takes, within a tenth: both maps' patches, plain and normalised, logits
        and weights; twice that with a backward pass."""
        case = self.case
        here = case.height * case.width
        there = case.frames * here
        numbers = 2 * PATCH ** 2 * case.channels * (here + there) + 2 * here * there
        return (1 if part == FORWARD else 2) * case.batch * numbers * self.inputs[0].element_size()

    def _peak(self, call):
        """Bytes of the largest sum of what was allocated at a time, less the results."""
        torch = self.torch
        if self.device == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            results = call()
            self._wait(results)
            peak = torch.cuda.max_memory_allocated() - before
        else:
            from torch.profiler import ProfilerActivity, profile

            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
                results = call()
            events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
            sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
            peak = int(np.cumsum([0, *sizes]).max())
        return peak - sum(x.nbytes for x in results)


def _check_memory(needed, limit):
    if needed > limit:
        raise LeftOut(f"needs {needed / 1e6:.0f} MB")
