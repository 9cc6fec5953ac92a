#!/usr/bin/env python3
"""Times on a GPU, in PyTorch, what bench/gpu_bench.cpp times here. bench/gpu runs both in turn.

    python3 bench/peers/torch_gpu.py [--only gpt2,char,...] [--json FILE] [--quick] [--max-autotune]

The protocol is the same on both sides: random inputs (never zeros), warm-up, then the median of at least 20 runs. A run
is as many iterations as take some milliseconds, between two synchronisations, over buffers that together exceed the L2
cache. PyTorch gets its best forms: autocast to bf16 over f32 parameters, fused AdamW, SDPA, set_to_none.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

torch.backends.cuda.matmul.allow_tf32 = True
DEVICE = "cuda"
RESULTS = []


def measure(work, iterations=1, warm_up=5, runs=20):
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
    median, best = seconds
    row = {"workload": workload, "variant": "torch " + variant, "ms": median * 1e3, "best_ms": best * 1e3, **more}
    RESULTS.append(row)
    print(json.dumps(row), flush=True)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads, self.dropout = c["heads"], c["dropout"]
        width, bias = c["width"], c["bias"]
        self.gelu = c["gelu"]
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Linear(width, width, bias=bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.mlp_proj = nn.Linear(4 * width, width, bias=bias)
        self.drop = nn.Dropout(c["dropout"])

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (p.view(b, t, self.heads, c // self.heads).transpose(1, 2) for p in self.c_attn(self.ln_1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        x = x + self.drop(self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c)))
        return x + self.drop(self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate=self.gelu)))


class Gpt(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte = nn.Embedding(c["vocab"], c["width"])
        self.wpe = nn.Embedding(c["block"], c["width"])
        self.drop = nn.Dropout(c["dropout"])
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.ln_f = nn.LayerNorm(c["width"], bias=c["bias"])
        self.head = nn.Linear(c["width"], c["vocab"], bias=False)
        self.head.weight = self.wte.weight
        for p in self.parameters():
            if p.dim() >= 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.drop(self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device)))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


GPT2 = dict(vocab=50304, block=1024, layers=12, heads=12, width=768, dropout=0.0, bias=True, gelu="tanh", batch=32)
CHAR = dict(vocab=65, block=256, layers=6, heads=6, width=384, dropout=0.2, bias=False, gelu="none", batch=64)


def training_step(workload, c, variant, compile_mode=None, backend=None, runs=20, iterations=2, warm_up=8):
    torch.manual_seed(1)
    torch._dynamo.reset()
    model = Gpt(c).to(DEVICE)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.99), fused=True)
    run = model if compile_mode is None else torch.compile(model, mode=compile_mode)
    batches = [
        [torch.randint(0, c["vocab"], (c["batch"], c["block"]), device=DEVICE) for _ in range(2)] for _ in range(4)
    ]

    def step(i):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16), sdpa_kernel(backend) if backend else contextlib.nullcontext():
            loss = run(*batches[i % len(batches)])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    torch.cuda.reset_peak_memory_stats()
    seconds = measure(step, iterations, warm_up, runs)
    tokens = c["batch"] * c["block"]
    report(workload, variant, seconds, tokens_per_second=tokens / seconds[0],
           peak_gib=torch.cuda.max_memory_allocated() / 2**30)
    del model, optimizer, run, batches
    torch.cuda.empty_cache()


def gpt2(args):
    cudnn = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    training_step("gpt2", GPT2, "eager")
    training_step("gpt2", GPT2, "compiled, cuDNN attention", "default", cudnn)
    if not args.quick:
        training_step("gpt2", GPT2, "compiled", "default")
        training_step("gpt2", GPT2, "compiled, CUDA graphs, cuDNN attention", "reduce-overhead", cudnn)
    if args.max_autotune:
        training_step("gpt2", GPT2, "compiled max-autotune, cuDNN attention", "max-autotune", cudnn)


def char(args):
    training_step("char", CHAR, "eager", iterations=5)
    training_step("char", CHAR, "compiled", "default", iterations=5)
    training_step("char", CHAR, "compiled, CUDA graphs", "reduce-overhead", iterations=5)
    if args.max_autotune:
        training_step("char", CHAR, "compiled max-autotune", "max-autotune", iterations=5)


def attention(args):
    b, h, s, d = 32, 12, 1024, 64
    sets = [[torch.randn(b, h, s, d, device=DEVICE, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]
            for _ in range(2)]
    dy = torch.randn(b, h, s, d, device=DEVICE, dtype=torch.bfloat16)
    flops = 4 * b * h * s * s * d / 2
    for backend, name in [(SDPBackend.CUDNN_ATTENTION, "cuDNN"), (SDPBackend.FLASH_ATTENTION, "flash"),
                          (SDPBackend.EFFICIENT_ATTENTION, "efficient"), (SDPBackend.MATH, "math")]:
        if args.quick and name in ("math", "efficient"):
            continue

        def forward(i):
            with torch.no_grad():
                F.scaled_dot_product_attention(*sets[i % 2], is_causal=True)

        def both(i):
            y = F.scaled_dot_product_attention(*sets[i % 2], is_causal=True)
            torch.autograd.grad(y, sets[i % 2], dy)

        try:
            with sdpa_kernel(backend):
                forward_s = measure(forward, 5)
                both_s = measure(both, 5)
        except RuntimeError as error:
            print(f"# SDPA {name} cannot: {str(error).splitlines()[0]}", flush=True)
            continue
        report("attention_forward", f"SDPA {name}", forward_s, tflops=1e-12 * flops / forward_s[0])
        report("attention", f"SDPA {name}", both_s, tflops=1e-12 * 3.5 * flops / both_s[0])


# As bench/cuda_attention_decode_bench.cpp: (name, batch, queries, keys, heads, key heads, depth).
DECODE_SIZES = [
    ("B16_Q1_S8192_H32_8_D128", 16, 1, 8192, 32, 8, 128), ("B16_Q4_S8192_H32_8_D128", 16, 4, 8192, 32, 8, 128),
    ("B16_Q16_S8192_H32_8_D128", 16, 16, 8192, 32, 8, 128), ("B1_Q1_S8192_H32_8_D128", 1, 1, 8192, 32, 8, 128),
    ("B1_Q1_S131072_H32_8_D128", 1, 1, 131072, 32, 8, 128), ("B16_Q1_S8192_H32_1_D128", 16, 1, 8192, 32, 1, 128),
    ("B16_Q1_S2048_H32_32_D128", 16, 1, 2048, 32, 32, 128), ("B64_Q1_S1024_H12_12_D64", 64, 1, 1024, 12, 12, 64),
    ("B1_Q1_S1024_H12_12_D64", 1, 1, 1024, 12, 12, 64), ("B1_Q1_S128_H12_12_D64", 1, 1, 128, 12, 12, 64),
    ("B16_Q1_S4096_H16_4_D256", 16, 1, 4096, 16, 4, 256),
]


def attention_decode(args):
    """Full attention of the last queries; keys and values lie by head, as PyTorch prefers. And what the card reads."""
    big = torch.ones(2**29, device=DEVICE, dtype=torch.bfloat16)
    seconds = measure(lambda i: torch.sum(big.view(torch.int32), dtype=torch.int32), 5)
    report("read", "sum", seconds, gb_per_second=1e-9 * 2 * 2**29 / seconds[0])
    del big
    for size, b, sq, s, h, hkv, d in DECODE_SIZES:
        size_bytes = 4 * b * s * hkv * d
        count = max(2, (200 << 20) // size_bytes)  # none is still in L2 from the last call
        q = torch.randn(b, h, sq, d, device=DEVICE, dtype=torch.bfloat16)
        sets = [[torch.randn(b, hkv, s, d, device=DEVICE, dtype=torch.bfloat16) for _ in range(2)] for _ in range(count)]
        for backend, name in [(SDPBackend.CUDNN_ATTENTION, "cuDNN"), (SDPBackend.FLASH_ATTENTION, "flash"),
                              (SDPBackend.EFFICIENT_ATTENTION, "efficient"), (None, "automatic")]:
            def forward(i):
                return F.scaled_dot_product_attention(q, *sets[i % count], enable_gqa=h != hkv)

            try:
                with torch.no_grad():
                    if backend is None:
                        seconds = measure(forward, 20, runs=10)
                    else:
                        with sdpa_kernel(backend):
                            seconds = measure(forward, 20, runs=10)
            except RuntimeError as error:
                print(f"# {size} SDPA {name} cannot: {str(error).splitlines()[0]}", flush=True)
                continue
            report(size, f"SDPA {name}", seconds, gb_per_second=1e-9 * size_bytes / seconds[0])
        del sets
        torch.cuda.empty_cache()


# As bench/cuda_attention_bench.cpp: (name, batch, length, heads, key heads, depth, what is asked for).
ATTENTION_VARIANTS = ["window512", "alibi", "dropout", "mask"]
ATTENTION_SIZES = [
    ("B1_S4096_H32_D128", 1, 4096, 32, 32, 128, ["full", "causal"] + ATTENTION_VARIANTS),
    ("B4_S8192_H16_D128", 4, 8192, 16, 16, 128, ["causal"]),
    ("B2_S2048_H12_D64", 2, 2048, 12, 12, 64, ["full", "causal"]),
    ("B32_S1024_H12_D64", 32, 1024, 12, 12, 64, ["causal"] + ATTENTION_VARIANTS),
    ("B64_S256_H6_D64", 64, 256, 6, 6, 64, ["causal"]),
    ("B8_S2048_H16_D96", 8, 2048, 16, 16, 96, ["causal"]),
    ("B1_S4096_H32_8_D128", 1, 4096, 32, 8, 128, ["causal"]),
]
WINDOW = 512


def attention_options(args):
    """SDPA has neither windows nor slopes: both are given as a mask, which is what its users do."""
    for size, b, s, h, hkv, d, options in ATTENTION_SIZES:
        q, dy = (torch.randn(b, h, s, d, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
        k, v = (torch.randn(b, hkv, s, d, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
        inputs = [t.requires_grad_() for t in (q, k, v)]
        away = torch.arange(s, device=DEVICE)[:, None] - torch.arange(s, device=DEVICE)[None, :]
        beyond = torch.zeros(s, s, device=DEVICE).masked_fill_(away < 0, float("-inf"))
        masks = {
            "window512": lambda: beyond.masked_fill(away > WINDOW, float("-inf")).bfloat16(),
            "alibi": lambda: (beyond - 0.1 * away).bfloat16().expand(1, h, s, s),
            "mask": lambda: torch.randn(1, 1, s, s, device=DEVICE, dtype=torch.bfloat16),
        }
        for option in options:
            more = dict(is_causal=option in ("causal", "dropout"), dropout_p=0.1 if option == "dropout" else 0.0,
                        enable_gqa=h != hkv)
            if option in masks:
                more["attn_mask"] = masks[option]()
            share = {"full": 1, "mask": 1, "window512": WINDOW / s * (1 - WINDOW / s / 2)}.get(option, 0.5)
            flops = 4 * b * h * s * s * d * share
            backends = [(SDPBackend.CUDNN_ATTENTION, "cuDNN"), (SDPBackend.FLASH_ATTENTION, "flash")]
            if option in masks:  # the last resort where the others refuse
                backends.append((SDPBackend.EFFICIENT_ATTENTION, "efficient"))
            # Some milliseconds of calls between two synchronisations, by about what comes out.
            calls = lambda operations: min(max(int(4e-3 / (operations / 4e14)), 2), 100)
            for backend, name in backends:
                try:
                    with sdpa_kernel(backend):
                        with torch.no_grad():
                            forward_s = measure(lambda i: F.scaled_dot_product_attention(q, k, v, **more),
                                                calls(flops), warm_up=10, runs=25)
                        y = F.scaled_dot_product_attention(q, k, v, **more)
                        backward_s = measure(lambda i: torch.autograd.grad(y, inputs, dy, retain_graph=True),
                                             calls(2.5 * flops), warm_up=10, runs=25)
                except RuntimeError as error:
                    print(f"# {size}/{option} SDPA {name} cannot: {str(error).splitlines()[0]}", flush=True)
                    continue
                report(f"{size}/{option}/forward", f"SDPA {name}", forward_s, tflops=1e-12 * flops / forward_s[0])
                report(f"{size}/{option}/backward", f"SDPA {name}", backward_s,
                       tflops=1e-12 * 2.5 * flops / backward_s[0])
                del y
        torch.cuda.empty_cache()


def cross_entropy(args):
    rows, vocab = 16384, 50304
    logits = torch.randn(rows, vocab, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.randint(0, vocab, (rows,), device=DEVICE)
    touched = 2 * 2 * rows * vocab
    compiled = torch.compile(lambda x, t: F.cross_entropy(x.float(), t))
    for name, loss in [("eager", lambda x, t: F.cross_entropy(x, t)), ("compiled", compiled)]:
        seconds = measure(lambda i: torch.autograd.grad(loss(logits, targets), logits), 3)
        report("cross_entropy", name, seconds, gb_per_second=1e-9 * touched / seconds[0])


def adamw(args):
    total = 124_475_904
    for tensors in (150, 10_000):
        size = total // tensors
        params = [torch.randn(size, device=DEVICE).requires_grad_() for _ in range(tensors)]
        for p in params:
            p.grad = torch.randn_like(p)
        optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)
        seconds = measure(lambda i: optimizer.step(), 3, warm_up=3)
        report(f"adamw_{tensors}", "fused, all f32", seconds, gb_per_second=1e-9 * 28 * size * tensors / seconds[0])
        del params, optimizer
        torch.cuda.empty_cache()


def optimizers(args):
    """bench/optimizer_workloads.h in PyTorch: fused where there is such a kernel."""

    def with_gradients(shapes, dtype=torch.float32):
        params = [torch.randn(s, device=DEVICE, dtype=dtype).requires_grad_() for s in shapes]
        for p in params:
            p.grad = torch.randn_like(p)
        return params

    sizes = {"10m": (10_000_000, 50, {}), "124m": (124_475_904, 10, {}), "1b": (1_000_000_000, 2, dict(runs=10))}
    for name, (total, iterations, more) in sizes.items():
        params = with_gradients([(total // 150,)] * 150)
        for kind in (torch.optim.AdamW, torch.optim.Adam):
            optimizer = kind(params, lr=1e-5, fused=True)
            seconds = measure(lambda i: optimizer.step(), iterations, **more)
            report(f"{kind.__name__.lower()}_{name}", "fused, f32", seconds,
                   gb_per_second=1e-9 * 28 * (total // 150 * 150) / seconds[0])
            del optimizer
            torch.cuda.empty_cache()
        del params
    for tensors in (16, 10_000):
        size = 124_475_904 // tensors
        params = with_gradients([(size,)] * tensors)
        optimizer = torch.optim.AdamW(params, lr=1e-5, fused=True)
        seconds = measure(lambda i: optimizer.step(), 3, warm_up=3, runs=10)
        report(f"adamw_124m_in_{tensors}", "fused, f32", seconds, gb_per_second=1e-9 * 28 * size * tensors / seconds[0])
        del params, optimizer
        torch.cuda.empty_cache()
    shapes = [(2304, 768), (768, 768), (3072, 768), (768, 3072)] * 12
    for dtype in (torch.float32, torch.bfloat16):
        optimizer = torch.optim.Muon(with_gradients(shapes, dtype), lr=1e-4)
        seconds = measure(lambda i: optimizer.step(), 2, warm_up=3, runs=10)
        report("muon_gpt2", f"torch.optim.Muon, {str(dtype)[6:]}", seconds)
    del optimizer
    torch.cuda.empty_cache()
    params = with_gradients([(124_475_904 // 150,)] * 150, torch.bfloat16)
    seconds = measure(lambda i: torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True), 10)
    report("clip_norm_124m", "clip_grad_norm_, foreach, bf16", seconds)


def eager_add(args):
    a = torch.randn(16, device=DEVICE, requires_grad=True)
    b = torch.randn(16, device=DEVICE, requires_grad=True)
    adds = 1000
    times = []
    for run in range(30):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(adds):
            a + b
        times.append((time.perf_counter() - start) / adds)
    report("eager_add", "eager, from Python", (statistics.median(times[5:]), min(times[5:])))


def ceilings(args):
    source = [torch.randn(2**28, device=DEVICE, dtype=torch.bfloat16) for _ in range(2)]
    target = [torch.empty_like(s) for s in source]
    seconds = measure(lambda i: target[i % 2].copy_(source[i % 2]), 5)
    report("copy", "copy_", seconds, gb_per_second=1e-9 * 2 * 2 * 2**28 / seconds[0])
    n = 4096
    a, b = ([torch.randn(n, n, device=DEVICE, dtype=torch.bfloat16) for _ in range(3)] for _ in range(2))
    c = torch.empty(n, n, device=DEVICE, dtype=torch.bfloat16)
    seconds = measure(lambda i: torch.mm(a[i % 3], b[i % 3], out=c), 10)
    report("matmul", "mm", seconds, tflops=1e-12 * 2 * n**3 / seconds[0])


WORKLOADS = dict(ceilings=ceilings, gpt2=gpt2, char=char, attention=attention, cross_entropy=cross_entropy, adamw=adamw,
                 optimizers=optimizers, eager_add=eager_add)
# Timed when asked for: their counterparts here are programs of their own.
MORE_WORKLOADS = dict(attention_options=attention_options, attention_decode=attention_decode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(WORKLOADS), help="some of " + ", ".join([*WORKLOADS, *MORE_WORKLOADS]))
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--quick", action="store_true", help="leave out the slower variants")
    parser.add_argument("--max-autotune", action="store_true", help="the training steps with mode max-autotune too, minutes long")
    args = parser.parse_args()
    print(f"# torch {torch.__version__} on {torch.cuda.get_device_name()}", flush=True)
    for name in args.only.split(","):
        {**WORKLOADS, **MORE_WORKLOADS}[name](args)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump({"torch": torch.__version__, "card": torch.cuda.get_device_name(), "results": RESULTS}, out, indent=1)


if __name__ == "__main__":
    main()
