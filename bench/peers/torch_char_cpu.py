#!/usr/bin/env python3
"""Trains nanoGPT's CPU recipe in PyTorch and prints the loss over the full validation set.

    python3 bench/peers/torch_char_cpu.py TEXT [--seed 1] [--threads 2] [--lr 3e-3] [--gelu erf|tanh]

The recipe is that of `trinix train --preset char-cpu` (nanoGPT's README with a higher learning rate), the evaluation that
of --eval-iters 0: adjacent windows of 64 characters, every character but the first a target once.
"""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import torch_training_step as peer

ITERS, BATCH, BLOCK, LAYERS, WARMUP, MIN_LR = 2000, 12, 64, 4, 100, 1e-4


def learning_rate(it, top):
    if it < WARMUP:
        return top * (it + 1) / (WARMUP + 1)
    return MIN_LR + 0.5 * (1 + math.cos(math.pi * (it - WARMUP) / (ITERS - WARMUP))) * (top - MIN_LR)


def full_loss(model, data):
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(data) - 1, BLOCK):
            x = data[start : start + BLOCK]
            y = data[start + 1 : start + 1 + BLOCK]
            x = x[: len(y)]
            total += model(x[None], y[None]).item() * len(y)
            count += len(y)
    model.train()
    return total / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lr", type=float, default=3e-3, help="nanoGPT's own recipe has 1e-3")
    parser.add_argument("--gelu", choices=["erf", "tanh"], default="erf")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.gelu == "erf":
        tanh_gelu = F.gelu
        peer.F.gelu = lambda x, approximate="none": tanh_gelu(x)
    text = open(args.text, encoding="utf-8").read()
    place = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([place[c] for c in text])
    cut = int(0.9 * len(ids))
    train, validation = ids[:cut], ids[cut:]
    model = peer.Gpt(vocab=len(place), block=BLOCK, layers=LAYERS, heads=4, width=128, dropout=0.0)
    for name, p in model.named_parameters():
        if name.endswith("proj.weight"):
            nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS))
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=args.lr,
        betas=(0.9, 0.99),
        fused=True,
    )
    for it in range(ITERS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(it, args.lr)
        at = torch.randint(len(train) - BLOCK, (BATCH,))
        x = torch.stack([train[i : i + BLOCK] for i in at])
        y = torch.stack([train[i + 1 : i + 1 + BLOCK] for i in at])
        optimizer.zero_grad(set_to_none=True)
        model(x, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(f"torch {torch.__version__} char-cpu seed {args.seed} gelu {args.gelu}: "
          f"full validation loss {full_loss(model, validation):.4f} after {ITERS} iterations")


if __name__ == "__main__":
    main()
