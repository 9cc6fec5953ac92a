#!/usr/bin/env python3
"""Times optimizer steps on the CPU in PyTorch: those of bench/host_optimizer_bench.cpp, at the same sizes and threads.

    python3 bench/peers/torch_host_optimizers.py [--threads 1,2] [--only adamw,muon]

Prints milliseconds: the median and the best of some steps after a first one.
"""

import argparse
import statistics
import time

import torch


def with_gradients(shapes):
    params = [(torch.randn(s) * 0.02).requires_grad_() for s in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


def measure(name, optimizer, runs):
    optimizer.step()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        optimizer.step()
        times.append((time.perf_counter() - start) * 1e3)
    print(f"{name:34} threads {torch.get_num_threads()}: {statistics.median(times):9.1f} ms, best {min(times):9.1f}",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default="adamw,muon")
    args = parser.parse_args()
    print(f"# torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}", flush=True)
    for threads in map(int, args.threads.split(",")):
        torch.set_num_threads(threads)
        if "adamw" in args.only:
            params = with_gradients([(124_475_904 // 150,)] * 150)
            measure("AdamW 124 M, fused", torch.optim.AdamW(params, lr=1e-5, fused=True), 15)
            del params
    if "muon" in args.only:
        shapes = [(2304, 768), (768, 768), (3072, 768), (768, 3072)] * 12
        measure("Muon, 48 matrices of GPT-2", torch.optim.Muon(with_gradients(shapes), lr=1e-4), 3)


if __name__ == "__main__":
    main()
