#!/usr/bin/env python3
"""Writes golden values of activations, gated units, rotary embedding and ALiBi, computed by PyTorch in f64.

    python3 tests/golden/make_activations.py [FOLDER]

Needs torch and safetensors, whose versions each file names. What PyTorch lacks is written out here from its definition:
the frequencies of scaled rotary embedding from the formulas of transformers' modeling_rope_utils and the papers it
names, the slopes of ALiBi from the paper (arXiv 2108.12409).
"""

import math
import pathlib
import sys

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
F64 = torch.float64


def save(name, tensors):
    metadata = {"format": "pt", "torch": torch.__version__, "safetensors": safetensors.__version__}
    tensors = {k: v.detach().clone().contiguous() for k, v in tensors.items()}
    save_file(tensors, FOLDER / f"{name}.safetensors", metadata=metadata)


def with_gradient(out, name, function, inputs, dy):
    leaves = [t.clone().requires_grad_() for t in inputs]
    y = function(*leaves)
    y.backward(dy)
    out[f"{name}.y"] = y
    for i, leaf in enumerate(leaves):
        out[f"{name}.dx{i}"] = leaf.grad


def activations():
    generator = torch.Generator().manual_seed(11)
    x = torch.cat([torch.randn(60, generator=generator, dtype=F64) * 3, torch.tensor([-9.0, 9.0, -30.0, 30.0], dtype=F64)])
    dy = torch.randn(64, generator=generator, dtype=F64)
    out = {"x": x, "dy": dy}
    for name, function in {
        "relu": F.relu,
        "gelu_erf": F.gelu,
        "gelu_tanh": lambda t: F.gelu(t, approximate="tanh"),
        "silu": F.silu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softplus": lambda t: F.softplus(t, threshold=100),
        "quick_gelu": lambda t: t * torch.sigmoid(1.702 * t),
        "squared_relu": lambda t: F.relu(t) ** 2,
        "mish": F.mish,
        "leaky_relu": lambda t: F.leaky_relu(t, 0.07),
        "elu": lambda t: F.elu(t, 1.3),
    }.items():
        with_gradient(out, name, function, [x], dy)

    # x W^T + b, whose first half is the gate: Llama's gate_proj over up_proj.
    shape = {"input": (3, 5), "weight": (14, 5), "bias": (14,)}
    parts = [torch.randn(s, generator=generator, dtype=F64) for s in shape.values()]
    out.update({f"glu.{k}": v for k, v in zip(shape, parts)})
    out["glu.dy"] = torch.randn(3, 7, generator=generator, dtype=F64)
    for name, act in {
        "swiglu": F.silu,
        "geglu_erf": F.gelu,
        "geglu_tanh": lambda t: F.gelu(t, approximate="tanh"),
        "reglu": F.relu,
    }.items():

        def unit(x, w, b, act=act):
            gate, value = F.linear(x, w, b).chunk(2, dim=-1)
            return act(gate) * value

        with_gradient(out, f"glu.{name}", unit, parts, out["glu.dy"])
    save("activations", out)


DIM, BASE, TRAINED, FACTOR = 16, 10000.0, 64, 4.0


def frequencies(base=BASE):
    return base ** -(torch.arange(0, DIM, 2, dtype=F64) / DIM)


def dynamic_ntk(length):
    return frequencies(BASE * (FACTOR * max(length, TRAINED) / TRAINED - (FACTOR - 1)) ** (DIM / (DIM - 2)))


def yarn(beta_fast=32, beta_slow=1):
    def dim_of(turns):
        return DIM * math.log(TRAINED / (turns * 2 * math.pi)) / (2 * math.log(BASE))

    low, high = max(math.floor(dim_of(beta_fast)), 0), min(math.ceil(dim_of(beta_slow)), DIM - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(DIM // 2, dtype=F64) - low) / (high - low)).clamp(0, 1)
    extrapolated = 1 - ramp
    return frequencies() / FACTOR * (1 - extrapolated) + frequencies() * extrapolated, 0.1 * math.log(FACTOR) + 1


def llama3(low_factor=1.0, high_factor=4.0):
    inv = frequencies()
    wavelen = 2 * math.pi / inv
    result = torch.where(wavelen > TRAINED / low_factor, inv / FACTOR, inv)
    smooth = (TRAINED / wavelen - low_factor) / (high_factor - low_factor)
    smoothed = (1 - smooth) * inv / FACTOR + smooth * inv
    medium = ~(wavelen < TRAINED / high_factor) & ~(wavelen > TRAINED / low_factor)
    return torch.where(medium, smoothed, result)


def rotate_half(x, cos, sin):
    """As in modeling_llama: cos and sin hold every angle twice."""
    cos, sin = (torch.cat([t, t], -1)[:, None] for t in (cos, sin))
    a, b = x[..., : DIM // 2], x[..., DIM // 2 :]
    return x * cos + torch.cat([-b, a], -1) * sin


def rotate_interleaved(x, cos, sin):
    """As complex numbers: pairs of neighbours times exp(i angle)."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], DIM // 2, 2).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)[:, None]).flatten(-2)


def rope():
    generator = torch.Generator().manual_seed(12)
    length, first, depth = 4, 70, 20  # beyond the trained length; four columns are not turned
    x = torch.randn(1, length, 2, depth, generator=generator, dtype=F64)
    dy = torch.randn(x.shape, generator=generator, dtype=F64)
    out = {"x": x, "dy": dy}
    yarn_frequencies, yarn_factor = yarn()
    for name, inv, factor in [
        ("none", frequencies(), 1.0),
        ("linear", frequencies() / FACTOR, 1.0),
        ("dynamic_ntk", dynamic_ntk(first + length), 1.0),
        ("yarn", yarn_frequencies, yarn_factor),
        ("llama3", llama3(), 1.0),
    ]:
        out[f"{name}.frequencies"] = inv
        angles = torch.arange(first, first + length, dtype=F64)[:, None] * inv
        cos, sin = angles.cos() * factor, angles.sin() * factor
        for layout, rotate in [("half", rotate_half), ("interleaved", rotate_interleaved)]:

            def turned(t, rotate=rotate, cos=cos, sin=sin):
                return torch.cat([rotate(t[..., :DIM], cos, sin), t[..., DIM:]], -1)

            with_gradient(out, f"{name}.{layout}", turned, [x], dy)
    save("rope", out)


def slopes(heads):
    if heads & (heads - 1) == 0:
        start = 2 ** (-8 / heads)
        return [start ** (i + 1) for i in range(heads)]
    power = 2 ** math.floor(math.log2(heads))
    return slopes(power) + slopes(2 * power)[0::2][: heads - power]


def alibi():
    out = {str(h): torch.tensor(slopes(h), dtype=F64) for h in (1, 2, 3, 8, 12, 20, 25, 32)}
    place = torch.arange(5)[:, None] + 2
    out["bias"] = -out["3"][:, None, None] * (place - torch.arange(7)).abs()
    save("alibi", out)


activations()
rope()
alibi()
