#!/usr/bin/env python3
"""Writes schedules.safetensors: the rates of PyTorch's learning-rate schedulers over 40 steps, in f64.

    python3 tests/golden/make_schedules.py [FOLDER]

Needs torch and safetensors, as make_golden.py does.
"""

import pathlib
import sys

import safetensors
import torch
from safetensors.torch import save_file
from torch.optim import lr_scheduler as S

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
STEPS = 40
LR = 0.3


def optimizer(lr=LR):
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates(make, metrics=None, lr=LR):
    """The rate of every step; with metrics, one is observed after each step."""
    o = optimizer(lr)
    schedule = make(o)
    out = []
    for step in range(STEPS):
        out.append(o.param_groups[0]["lr"])
        o.step()
        if metrics is None:
            if step + 1 < STEPS:
                schedule.step()
        else:
            schedule.step(metrics[step].item())
    return torch.tensor(out, dtype=torch.float64)


def sequential(o):
    parts = [S.ConstantLR(o, factor=1.0, total_iters=1), S.CosineAnnealingLR(o, T_max=10), S.StepLR(o, 4, gamma=0.5)]
    return S.SequentialLR(o, parts, milestones=[5, 15])


def chained(o):
    return S.ChainedScheduler([S.LinearLR(o, 1.0, 0.2, total_iters=25), S.StepLR(o, 7, gamma=0.5)])


generator = torch.Generator().manual_seed(5)
metrics = torch.linspace(3, 2, STEPS, dtype=torch.float64) + 0.4 * torch.rand(STEPS, generator=generator).double()
metrics[25:] = 2.5
metrics[30] = float("nan")

out = {
    "linear": rates(lambda o: S.LinearLR(o, 1.0, 0.1, total_iters=30)),
    "cosine": rates(lambda o: S.CosineAnnealingLR(o, T_max=STEPS - 1, eta_min=0.03)),
    "polynomial": rates(lambda o: S.PolynomialLR(o, total_iters=30, power=2.5)),
    "step": rates(lambda o: S.StepLR(o, step_size=9, gamma=0.4)),
    "one_cycle": rates(lambda o: S.OneCycleLR(o, LR, total_steps=STEPS, pct_start=0.3)),
    "one_cycle_lines": rates(lambda o: S.OneCycleLR(o, LR, total_steps=STEPS, pct_start=0.25, anneal_strategy="linear")),
    "sequential": rates(sequential),
    "chained": rates(chained),
    "metrics": metrics,
    "plateau": rates(lambda o: S.ReduceLROnPlateau(o, factor=0.5, patience=2, cooldown=1, min_lr=0.05), metrics),
    "plateau_strict": rates(
        lambda o: S.ReduceLROnPlateau(o, factor=0.1, patience=0, threshold=0.1, min_lr=1e-3, eps=1e-2), metrics
    ),
}
metadata = {"format": "pt", "torch": torch.__version__, "safetensors": safetensors.__version__}
save_file(out, FOLDER / "schedules.safetensors", metadata=metadata)
