#!/usr/bin/env python3
"""Times on a GPU, in PyTorch, what bench/cuda_activation_bench.cpp times here: the same sizes, bytes and protocol.

    python3 bench/peers/torch_activations.py [--only swiglu,rope_half,...] [--compile] [--json FILE]

Eager takes some ten seconds; --compile adds torch.compile's code for the large sizes, at some seconds per case and
direction for the compiler.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

DEVICE = "cuda"
LENGTH, HEADS, DEPTH = 2048, 32, 128
RESULTS = []


def measure(work, iterations, warm_up=5, runs=20):
    """Median and best seconds of one call of work(i)."""
    for i in range(warm_up):
        work(i)
    torch.cuda.synchronize()
    times = []
    count = 0
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(iterations):
            work(count)
            count += 1
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / iterations)
    return statistics.median(times), min(times)


def report(workload, variant, seconds, **more):
    row = {"workload": workload, "variant": "torch " + variant, "ms": seconds[0] * 1e3, "best_ms": seconds[1] * 1e3, **more}
    RESULTS.append(row)
    print(json.dumps(row), flush=True)


def gated(act):
    def unit(t):
        gate, value = t.chunk(2, dim=-1)
        return act(gate) * value

    return unit


def rotate_half(x, cos, sin):
    """As in transformers' modeling_llama."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def rotate_interleaved(x, cos, sin):
    """As in Meta's Llama: pairs as complex numbers, in f32."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2).to(x.dtype)


def cases():
    """(name, elements of input per element of output, function, values moved forward, backward, of heads)"""
    angles = torch.arange(LENGTH, device=DEVICE)[:, None] * 10000.0 ** -(torch.arange(0, DEPTH, 2, device=DEVICE) / DEPTH)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    cos2, sin2 = (torch.cat([t, t], -1).bfloat16() for t in (cos, sin))
    return [
        ("swiglu", 2, gated(F.silu), 3, 5, False),
        ("geglu_erf", 2, gated(F.gelu), 3, 5, False),
        ("geglu_tanh", 2, gated(lambda t: F.gelu(t, approximate="tanh")), 3, 5, False),
        ("reglu", 2, gated(F.relu), 3, 5, False),
        ("mish", 1, F.mish, 2, 3, False),
        ("quick_gelu", 1, lambda t: t * torch.sigmoid(1.702 * t), 2, 3, False),
        ("squared_relu", 1, lambda t: F.relu(t).square(), 2, 3, False),
        ("gelu_erf", 1, F.gelu, 2, 3, False),
        ("gelu_tanh", 1, lambda t: F.gelu(t, approximate="tanh"), 2, 3, False),
        ("silu", 1, F.silu, 2, 3, False),
        ("rope_half", 1, lambda t: rotate_half(t, cos2[: t.shape[1]], sin2[: t.shape[1]]), 2, 2, True),
        ("rope_interleaved", 1, lambda t: rotate_interleaved(t, cos[: t.shape[1]], sin[: t.shape[1]]), 2, 2, True),
        ("dropout", 1, lambda t: F.dropout(t, 0.1), 2, 2, False),
    ]


def shape_of(inputs, of_heads, values):
    if not of_heads:
        return values // 4096, 4096 * inputs
    tokens = values // (HEADS * DEPTH)
    length = min(tokens, LENGTH)
    return tokens // length, length, HEADS, DEPTH


def run(case, large, variant, op, copy_rate):
    name, inputs, _, forward_values, backward_values, of_heads = case
    values = 1 << (26 if large else 20)
    iterations = 10 if large else 200
    shape = shape_of(inputs, of_heads, values)
    xs = [torch.randn(shape, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(2)]

    def add(direction, seconds, per_value):
        rate = 2e-9 * per_value * values / seconds[0]
        size = "large" if large else "small"
        report(f"{name} {size} {direction}", variant, seconds, gb_per_second=rate, of_copy=rate / copy_rate)

    with torch.no_grad():
        add("forward", measure(lambda i: op(xs[i % 2]), iterations), forward_values)
    ys = [op(x) for x in xs]
    dy = torch.randn_like(ys[0])
    backward = measure(lambda i: torch.autograd.grad(ys[i % 2], xs[i % 2], dy, retain_graph=True), iterations)
    add("backward", backward, backward_values)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--json")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    only = set(filter(None, args.only.split(",")))
    print(f"# torch {torch.__version__} on {torch.cuda.get_device_name()}")
    source = [torch.randn(1 << 28, device=DEVICE, dtype=torch.bfloat16) for _ in range(2)]
    target = [torch.empty_like(t) for t in source]
    copy = measure(lambda i: target[i % 2].copy_(source[i % 2]), 5)
    copy_rate = 4e-9 * (1 << 28) / copy[0]
    report("copy", "copy_", copy, gb_per_second=copy_rate)
    del source, target
    for case in cases():
        if only and case[0] not in only:
            continue
        for large in (True, False):
            run(case, large, "eager", case[2], copy_rate)
        if args.compile:
            torch._dynamo.reset()
            run(case, True, "compiled", torch.compile(case[2], fullgraph=True), copy_rate)
    if args.json:
        with open(args.json, "w") as out:
            json.dump({"card": torch.cuda.get_device_name(), "results": RESULTS}, out, indent=1)


if __name__ == "__main__":
    main()
