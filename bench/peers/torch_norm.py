#!/usr/bin/env python3
"""Times normalisation in PyTorch on a GPU, in bf16, and compares with bench_cuda_norm.

    bench_cuda_norm --json ours.json
    python3 bench/peers/torch_norm.py --ours ours.json [--compile] [--json theirs.json]

Same shapes, protocol and counting of bytes as bench/cuda_norm_bench.cpp: eager at all of them, and with --compile also
torch.compile at 16384 x 768 and 16384 x 8192. The table gives microseconds, the fraction of the copy's rate (ours by
our copy, theirs by theirs), and how many times as fast ours is as the best of theirs; lines end in a mark where a bar
is missed: 90 % of a copy forward and 85 % backward for tensors of 64 MB and more, no slower than eager for small ones.
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F

RESULTS = {}


def measure(work, iterations, warm_up=8, runs=10):
    for i in range(warm_up):
        work(i)
    torch.cuda.synchronize()
    times, count = [], 0
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(iterations):
            work(count)
            count += 1
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) / iterations)
    return statistics.median(times)


# Every function takes (x, branch, weight, bias) and gives the tensors that the layer gives.
def rms_norm(x, branch, weight, bias):
    return (F.rms_norm(x, x.shape[-1:], weight, 1e-6),)


def layer_norm(x, branch, weight, bias):
    return (F.layer_norm(x, x.shape[-1:], weight, bias, 1e-6),)


def add_rms_norm(x, branch, weight, bias):
    total = x + branch
    return total, F.rms_norm(total, x.shape[-1:], weight, 1e-6)


def add_layer_norm(x, branch, weight, bias):
    total = x + branch
    return total, F.layer_norm(total, x.shape[-1:], weight, bias, 1e-6)


def add_layer_norm_dropout(x, branch, weight, bias):
    return add_layer_norm(x, F.dropout(branch, 0.1), weight, bias)


def rms_norm_silu(x, branch, weight, bias):
    return (F.silu(F.rms_norm(x, x.shape[-1:], weight, 1e-6)),)


OPS = [rms_norm, layer_norm, add_rms_norm, add_layer_norm, add_layer_norm_dropout, rms_norm_silu]


def leaves_of(op, x, branch, weight, bias):
    adds, centred = op.__name__.startswith("add"), "layer" in op.__name__
    return [x] + [branch] * adds + [weight] + [bias] * centred


def tensors_moved(op, direction):
    adds, drops = op.__name__.startswith("add"), op.__name__.endswith("dropout")
    if direction == "forward":
        return 4 if adds else 2
    return 5 if drops else 4 if adds else 3


def inputs(rows, columns):
    make = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16).requires_grad_()
    return make(rows, columns), make(rows, columns), make(columns), make(columns)


def large(op, rows, columns, copy, variant, function):
    tensor = 2 * rows * columns
    sets = [inputs(rows, columns) for _ in range(max(1, min(8, int(200e6 / tensor))))]
    for direction in ("forward", "backward"):
        moved = tensors_moved(op, direction) * tensor
        iterations = max(4, min(100, int(3e-3 / (moved / copy))))
        if direction == "forward":
            with torch.no_grad():
                seconds = measure(lambda i: function(*sets[i % len(sets)]), iterations)
        else:
            outputs = [function(*s) for s in sets]
            gradients = [[torch.randn_like(o) for o in out] for out in outputs]

            def backward(i):
                i %= len(sets)
                torch.autograd.grad(outputs[i], leaves_of(op, *sets[i]), gradients[i], retain_graph=True)

            seconds = measure(backward, iterations)
            del outputs, gradients
        key = f"{op.__name__} {direction} {rows}x{columns}"
        RESULTS.setdefault(key, {})[variant] = {"us": seconds * 1e6, "of_copy": moved / seconds / copy}


def small(op, rows, columns):
    x, branch, weight, bias = inputs(rows, columns)
    dy = torch.randn_like(x)
    with torch.no_grad():
        seconds = measure(lambda i: op(x, branch, weight, bias), 200, 20)
    RESULTS.setdefault(f"{op.__name__} forward {rows}x{columns}", {})["eager"] = {"us": seconds * 1e6}

    def both(i):
        for t in (x, branch, weight, bias):
            t.grad = None
        op(x, branch, weight, bias)[-1].backward(dy)

    RESULTS.setdefault(f"{op.__name__} both {rows}x{columns}", {})["eager"] = {"us": measure(both, 200, 20) * 1e6}


def missed(key, of_copy, ratio):
    _, direction, shape = key.split(" ")
    rows, columns = map(int, shape.split("x"))
    if rows * columns * 2 < 4e6:
        return " SLOWER THAN EAGER" if ratio < 1 else ""
    if rows * columns * 2 < 64e6 or of_copy == 0:
        return ""
    return " BELOW THE BAR" if of_copy < (0.90 if direction == "forward" else 0.85) else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", help="what bench_cuda_norm --json wrote")
    parser.add_argument("--only", default="", help="ops, separated by commas")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    parser.add_argument("--json")
    options = parser.parse_args()
    a = torch.randn(16384, 8192, device="cuda", dtype=torch.bfloat16)
    b = torch.empty_like(a)
    copy = 4 * a.numel() / measure(lambda i: b.copy_(a), 20)
    del a, b
    print(f"copy: {copy / 1e9:.0f} GB/s")
    for op in OPS:
        if options.only and op.__name__ not in options.only.split(","):
            continue
        shapes = [((1 << 25) // c, c) for c in (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 5120, 8192, 12288, 16384)]
        for rows, columns in shapes + [(16384, 768), (16384, 8192)]:
            large(op, rows, columns, copy, "eager", op)
        if options.compile:
            for rows, columns in ((16384, 768), (16384, 8192)):
                torch._dynamo.reset()
                large(op, rows, columns, copy, "compiled", torch.compile(op))
        for rows, columns in ((64, 768), (1024, 768), (256, 4096)):
            small(op, rows, columns)
    ours = {}
    if options.ours:
        with open(options.ours, encoding="utf-8") as file:
            ours = {row["workload"]: row for row in json.load(file)["results"]}
    for key, theirs in RESULTS.items():
        line = f"{key:44}"
        for variant, row in theirs.items():
            line += f"  {variant} {row['us']:8.1f} us" + (f" {row['of_copy']:5.1%}" if "of_copy" in row else "")
        if key in ours:
            own = ours[key]["ms"] * 1e3
            ratio = min(row["us"] for row in theirs.values()) / own
            of_copy = ours[key].get("of_copy", 0)
            line += f"  ours {own:8.1f} us {of_copy:5.1%}  {ratio:5.2f}x" + missed(key, of_copy, ratio)
        print(line)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(RESULTS, file, indent=1)


if __name__ == "__main__":
    main()
