"""The forms of temporal attention that `benchmark_attention` times, as compiled programs.

The matrix products alone, a lower bound; the package's op, whole and in blocks of rows; equations (1) to (3) taken
literally in JAX; and PyTorch's unfold and fold, eager and compiled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tools.rates import temporary_bytes
from vrstc_jax.attention import temporal_attention

PATCH, SCALE = 3, 10.0
PARTS = FORWARD, BOTH = "forward", "forward and backward"
BOUND, WHOLE, BLOCKED, LITERAL = "products alone", "ours, whole", "ours, blocked", "literal, JAX"
EAGER, COMPILED = "PyTorch, eager", "PyTorch, compiled"
FORMS = (BOUND, WHOLE, BLOCKED, LITERAL, EAGER, COMPILED)


class Case(NamedTuple):
    """A batch of current maps, and a number of frames of the same size for each to attend to."""

    batch: int
    height: int
    width: int
    channels: int
    frames: int

    def __str__(self) -> str:
        return (f"{self.batch} × {self.height}×{self.width}, {self.channels} channels, "
                f"{self.frames} frame{'s' * (self.frames > 1)}")

    @property
    def block_size(self) -> int:
        """Rows of a block: as many as take 4 MiB, as the op chooses, but at least four blocks."""
        row = 4 * self.width * self.frames * self.height * self.width
        return max(1, min(self.height // 4, (4 << 20) // row))


# The other forms, for one example: current [H, W, C], adjacent [T, H', W', C].


def products_alone(current: jax.Array, adjacent: jax.Array) -> jax.Array:
    """The two matrix products that every form needs; the pullback takes four more. Result [H, W, C]."""
    f, r = (x.reshape(-1, x.shape[-1]) for x in (current, adjacent))
    pairs = _product("pc,qc->pq", f, r).astype(r.dtype)
    return _product("pq,qc->pc", pairs, r).reshape(current.shape).astype(current.dtype)


def literal(current: jax.Array, adjacent: jax.Array) -> jax.Array:
    """Equations (1) to (3): patches are cut out, compared, weighted, and added up again. Result [H, W, C]."""
    height, width, channels = current.shape
    half, offsets = PATCH // 2, [(y, x) for y in range(PATCH) for x in range(PATCH)]

    def patches(maps: jax.Array) -> jax.Array:  # [T, H, W, C] to [T · H · W, k · k · C]
        rows, columns = maps.shape[1:3]
        padded = jnp.pad(maps, ((0, 0), (half, half), (half, half), (0, 0)))
        cut = [padded[:, y:y + rows, x:x + columns] for y, x in offsets]
        return jnp.stack(cut, 3).reshape(-1, len(offsets) * channels)

    def unit(vectors: jax.Array) -> jax.Array:
        norm = jnp.linalg.norm(vectors.astype(jnp.float32), axis=1, keepdims=True)
        return vectors / norm.astype(vectors.dtype)

    def added_up(patches: jax.Array) -> jax.Array:  # [H, W, k · k, …] to [H, W, …]
        shape = height + 2 * half, width + 2 * half, *patches.shape[3:]
        total = jnp.zeros(shape, patches.dtype)
        for i, (y, x) in enumerate(offsets):
            total = total.at[y:y + height, x:x + width].add(patches[:, :, i])
        return total[half:half + height, half:half + width]

    f, r = patches(current[None]), patches(adjacent)
    weights = jax.nn.softmax(SCALE * _product("pc,qc->pq", unit(f), unit(r)), axis=1)
    rebuilt = _product("pq,qc->pc", weights.astype(r.dtype), r).reshape(height, width, len(offsets), channels)
    cover = added_up(jnp.ones((height, width, len(offsets), 1)))  # patches at the border overlap less often
    return (added_up(rebuilt) / cover).astype(current.dtype)


def _product(equation: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(equation, left, right, preferred_element_type=jnp.float32)


def torch_attention(current: Any, adjacent: Any) -> Any:
    """The same in PyTorch, as it is usually written: current [B, C, H, W], adjacent [B, T, C, H', W']."""
    import torch.nn.functional as F

    def patches(maps: Any) -> Any:  # [B, T, C, H, W] to [B, C · k · k, T · H · W]
        cut = F.unfold(maps.flatten(0, 1), PATCH, padding=PATCH // 2)
        return cut.unflatten(0, maps.shape[:2]).transpose(1, 2).flatten(2)

    def added_up(patches: Any) -> Any:
        return F.fold(patches, current.shape[2:], PATCH, padding=PATCH // 2)

    f, r = patches(current[:, None]), patches(adjacent)
    similarity = F.normalize(f, dim=1).transpose(1, 2) @ F.normalize(r, dim=1)
    weights = (SCALE * similarity).softmax(2)
    cover = added_up(current.new_ones(1, PATCH * PATCH, f.shape[2]))
    return added_up(r @ weights.transpose(1, 2)) / cover


# Forms as programs.


@dataclass(eq=False)
class Program:
    """One form's forward pass, or forward and backward, on its inputs.

    Attributes:
      call: starts it and returns its results, which are ready after `wait` on them.
      values: results to float64 [B, (T,) H, W, C].
      temporary: bytes beside inputs and results; None if the device has no analysis of them.
      samples: seconds of one call, one for each round.
    """

    form: str
    part: str
    call: Callable[[], tuple]
    wait: Callable[[tuple], Any]
    values: Callable[[tuple], list[np.ndarray]]
    temporary: int | None = None
    samples: list[float] = field(default_factory=list)


class LeftOut(Exception):
    """A form is not timed; the message says why."""


def features(case: Case, dtype: str) -> list[np.ndarray]:
    """Standard normal [current, adjacent, gradient of the result], rounded to `dtype`; always the same."""
    random = np.random.default_rng(0)
    here = case.batch, case.height, case.width, case.channels
    shapes = here, (case.batch, case.frames, *here[1:]), here
    return [np.asarray(jnp.asarray(random.standard_normal(s, np.float32), dtype)) for s in shapes]


class JaxForms:
    """Programs of JAX functions of one example.

    Args:
      arrays: as `features` gives them.
      limit: bytes that a program may need.
    """

    def __init__(self, case: Case, arrays: Sequence[np.ndarray], limit: float):
        self.inputs, self.limit = [jnp.asarray(x) for x in arrays], limit
        ours = partial(temporal_attention, patch_size=PATCH, softmax_scale=SCALE)
        self.functions = {WHOLE: partial(ours, block_size=case.height), LITERAL: literal,
                          BLOCKED: partial(ours, block_size=case.block_size), BOUND: products_alone}

    def program(self, form: str, part: str) -> Program:
        """The compiled form; raises LeftOut if it is known to need more memory than the limit."""
        function = jax.vmap(self.functions[form])

        def forward(f: jax.Array, r: jax.Array, _: jax.Array) -> tuple:
            return function(f, r),

        def both(f: jax.Array, r: jax.Array, gradient: jax.Array) -> tuple:
            out, pullback = jax.vjp(function, f, r)
            return out, *pullback(gradient)

        compiled = jax.jit(forward if part == FORWARD else both).lower(*self.inputs).compile()
        temporary = temporary_bytes(compiled)
        if form != BOUND:
            _check_memory(temporary or 0, self.limit)
        # On CPU, JAX would run several calls at once: wait for each. On a GPU they queue.
        on_cpu = jax.default_backend() == "cpu"
        finished = jax.block_until_ready if on_cpu else lambda out: out
        return Program(form, part, lambda: finished(compiled(*self.inputs)), jax.block_until_ready,
                       lambda out: [np.asarray(x, np.float64) for x in out], temporary)


class TorchForms:
    """Programs of `torch_attention`, on the device that JAX uses; arguments as of `JaxForms`."""

    def __init__(self, case: Case, arrays: Sequence[np.ndarray], limit: float):
        import torch

        self.torch, self.case, self.limit = torch, case, limit
        self.device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self.inputs = []
        for array in arrays:
            x = torch.tensor(np.moveaxis(array.astype(np.float32), -1, -3), device=self.device)
            self.inputs.append(x.to(getattr(torch, str(array.dtype))).requires_grad_(len(self.inputs) < 2))

    def program(self, form: str, part: str) -> Program:
        """The form; raises LeftOut if it needs more memory than the limit, or does not compile."""
        torch, (f, r, gradient) = self.torch, self.inputs
        _check_memory(self._estimated_memory(part), self.limit)
        function = torch_attention
        if form == COMPILED:
            torch.compiler.reset()
            function = torch.compile(torch_attention, dynamic=False)

        def forward() -> tuple:
            with torch.no_grad():
                return function(f, r),

        def both() -> tuple:
            out = function(f, r)
            return out, *torch.autograd.grad(out, (f, r), gradient)

        call = forward if part == FORWARD else both
        try:
            self._wait(call())  # compiles
        except Exception as error:  # torch.compile fails in many ways, for example without a C compiler
            if form != COMPILED:
                raise
            raise LeftOut(f"does not compile here: {str(error).splitlines()[0][:80]}") from None
        return Program(form, part, call, self._wait, self._values, self.peak(call))

    def _wait(self, _: tuple) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def _values(self, out: tuple) -> list[np.ndarray]:
        return [np.moveaxis(x.detach().to("cpu", self.torch.float64).numpy(), -3, -1) for x in out]

    def _estimated_memory(self, part: str) -> int:
        """Bytes of the eager form, within a tenth: both maps' patches, plain and normalised, logits and weights;
        twice that with a backward pass."""
        case = self.case
        here = case.height * case.width
        adjacent = case.frames * here
        numbers = 2 * PATCH ** 2 * case.channels * (here + adjacent) + 2 * here * adjacent
        return (1 if part == FORWARD else 2) * case.batch * numbers * self.inputs[0].element_size()

    def peak(self, call: Callable[[], tuple]) -> int:
        """Bytes of the largest sum of what is allocated at one time during a call, less the results."""
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
            profiler: Any = profiled.profiler
            events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
            sizes = [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())]
            peak = int(np.cumsum([0, *sizes]).max())
        return peak - sum(x.nbytes for x in results)


def _check_memory(needed: float, limit: float) -> None:
    if needed > limit:
        raise LeftOut(f"needs {needed / 1e6:.0f} MB")
