#!/usr/bin/env python3
"""Times single ops on the CPU in PyTorch: those of bench/ops_bench.cpp, at the same sizes and thread counts.

    python3 bench/peers/torch_ops.py [--threads 1,2] [--filter '64K|16M'] [--runs 25]

Prints microseconds: the median of 25 runs (--runs) after warm-up, each run as many calls as take 20 ms.
"""

import argparse
import re
import statistics
import time

import torch
import torch.nn.functional as F

ROWS, WIDTH, HEADS, VOCAB = 2048, 384, 6, 8192


def cases():
    x, y, wide = torch.randn(ROWS, WIDTH), torch.randn(ROWS, WIDTH), torch.randn(ROWS, 4 * WIDTH)
    gain, shift = torch.randn(WIDTH), torch.randn(WIDTH)
    q, k, v = (torch.randn(8, 256, HEADS, 64) for _ in range(3))
    logits, targets = torch.randn(ROWS, VOCAB), torch.randint(0, VOCAB, (ROWS,))
    table = torch.randn(VOCAB, WIDTH)

    def attention(q, k, v):
        parts = (t.transpose(1, 2) for t in (q, k, v))
        return F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)

    return [
        ("add", [x, y], lambda a, b: a + b),
        ("add_broadcast", [x, gain], lambda a, b: a + b),
        ("mul", [x, y], lambda a, b: a * b),
        ("gelu", [wide], lambda a: F.gelu(a, approximate="tanh")),
        ("gelu_erf", [wide], F.gelu),
        ("sum_rows", [x], lambda a: a.sum(1)),
        ("softmax", [wide], lambda a: torch.softmax(a, -1)),
        ("layer_norm", [x, gain, shift], lambda a, w, b: F.layer_norm(a, (WIDTH,), w, b)),
        ("cross_entropy", [logits, targets], F.cross_entropy),
        ("attention", [q, k, v], attention),
        ("embedding", [targets, table], F.embedding),
        ("transpose_copy", [x], lambda a: a.transpose(0, 1).contiguous()),
    ]


def rotate_half(x, cos, sin):
    """As in transformers' modeling_llama."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-b, a), dim=-1) * sin


def rotate_interleaved(x, cos, sin):
    """As in Meta's Llama: pairs as complex numbers."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


def elementwise_cases(size, n):
    heads, depth = 16, 64
    x, branch, packed = torch.randn(n // 1024, 1024), torch.randn(n // 1024, 1024), torch.randn(n // 1024, 2048)
    gain, shift = torch.randn(1024), torch.randn(1024)
    q = torch.randn(1, n // (heads * depth), heads, depth)
    angles = torch.rand(n // (heads * depth), depth // 2)[:, None] * 6.28
    cos, sin = angles.cos(), angles.sin()
    cos2, sin2 = torch.cat([cos, cos], -1), torch.cat([sin, sin], -1)

    def gated(act):
        def unit(t):
            gate, value = t.chunk(2, dim=-1)
            return act(gate) * value

        return unit

    return [
        (f"swiglu_{size}", [packed], gated(F.silu)),
        (f"geglu_{size}", [packed], gated(F.gelu)),
        (f"geglu_tanh_{size}", [packed], gated(lambda t: F.gelu(t, approximate="tanh"))),
        (f"reglu_{size}", [packed], gated(F.relu)),
        (f"mish_{size}", [x], F.mish),
        (f"quick_gelu_{size}", [x], lambda t: t * torch.sigmoid(1.702 * t)),
        (f"squared_relu_{size}", [x], lambda t: F.relu(t).square()),
        (f"gelu_erf_{size}", [x], F.gelu),
        (f"rope_half_{size}", [q], lambda t: rotate_half(t, cos2, sin2)),
        (f"rope_interleaved_{size}", [q], lambda t: rotate_interleaved(t, cos, sin)),
        (f"dropout_{size}", [x], lambda t: F.dropout(t, 0.1)),
        (f"rms_norm_{size}", [x, gain], lambda t, w: F.rms_norm(t, (1024,), w, 1e-6)),
        (f"layer_norm_{size}", [x, gain, shift], lambda t, w, b: F.layer_norm(t, (1024,), w, b)),
        (f"add_rms_norm_{size}", [x, branch, gain], lambda t, u, w: F.rms_norm(t + u, (1024,), w, 1e-6)),
        (f"add_layer_norm_{size}", [x, branch, gain, shift], lambda t, u, w, b: F.layer_norm(t + u, (1024,), w, b)),
    ]


def microseconds(work, runs):
    work()
    start = time.perf_counter()
    work()
    calls = max(1, int(0.02 / max(time.perf_counter() - start, 1e-7)))
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times) * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--filter", default="", help="a regular expression that names are searched for")
    parser.add_argument("--runs", type=int, default=25)
    args = parser.parse_args()
    print(f"# torch {torch.__version__}")
    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        for name, inputs, op in cases() + elementwise_cases("64K", 1 << 16) + elementwise_cases("16M", 1 << 24):
            if not re.search(args.filter, name):
                continue

            def forward():
                with torch.no_grad():
                    op(*inputs)

            leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in inputs]
            wanted = [t for t in leaves if t.requires_grad]
            gradient = torch.randn_like(op(*leaves))

            def both():
                torch.autograd.grad(op(*leaves), wanted, gradient)

            print(f"{name}/forward/threads:{threads}  {microseconds(forward, args.runs):10.1f} us", flush=True)
            print(f"{name}/both/threads:{threads}     {microseconds(both, args.runs):10.1f} us", flush=True)
        if re.search(args.filter, "adamw"):
            params = [torch.randn(1 << 18, requires_grad=True) for _ in range(32)]
            for p in params:
                p.grad = torch.randn_like(p)
            optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)
            print(f"adamw/step/threads:{threads}  {microseconds(optimizer.step, args.runs):10.1f} us", flush=True)


if __name__ == "__main__":
    main()
