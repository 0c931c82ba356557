"""Measures one accelerator with this package, and writes a report to send back.

    python -m tools.accelerator_report --output out-accelerator

It takes at most 8 minutes (`--minutes`), uses one device, and needs no more than jax, flax, optax, numpy and, where it
is installed, PyTorch. Run it in the top folder of a checkout. It prints and writes `report.md` and `report.json`:

  device, versions and measured peaks of matrix products and of memory;
  parity with the CPU of the op, of each network and of a training step;
  the op's table (`tools.benchmark_attention`), beside PyTorch and beside its matrix products;
  STCnet's training step with and without the guider, its parts, and PyTorch's step (`tools.benchmark_training`);
  locating and completing in crops a second, where OpenCV and safetensors are installed.

Each part runs in a process with a share of the time, and writes what it has as soon as it has it. A part that fails or
takes too long costs only itself, and the report says why it is missing. The same command on the same folder measures
the missing parts. On a CPU it runs at smoke size, which tries everything out.
"""
