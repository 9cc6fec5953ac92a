#!/usr/bin/env python3
"""Writes the golden values that the tests compare with, computed by PyTorch.

    python3 tests/golden/make_golden.py [FOLDER]

Needs torch and safetensors. The values in the tree were made with the versions that each file's metadata names. Every
number is computed in f64 from inputs that are drawn here and stored beside the results, so that a test needs nothing
but the file.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from golden_file import save


def adamw():
    """Ten steps over two groups, the second without decay and with its own betas; the tensor `late` has no gradient in
    the first three steps, so that its bias correction lags."""
    out = {}
    generator = torch.Generator().manual_seed(1)
    shapes = {"matrix": (5, 7), "odd": (33,), "late": (4, 3), "scalar": ()}
    parameters = {k: torch.randn(s, generator=generator, dtype=torch.float64) for k, s in shapes.items()}
    for k, p in parameters.items():
        out[f"{k}.start"] = p.clone()
        p.requires_grad_()
    optimizer = torch.optim.AdamW(
        [
            {"params": [parameters["matrix"], parameters["late"]]},
            {"params": [parameters["odd"], parameters["scalar"]], "weight_decay": 0.0, "betas": (0.8, 0.95)},
        ],
        lr=3e-3,
        betas=(0.9, 0.99),
        eps=1e-6,
        weight_decay=0.1,
    )
    for step in range(10):
        for k, p in parameters.items():
            if k == "late" and step < 3:
                continue
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64) * (1 + step)
            out[f"{k}.grad.{step}"] = p.grad.clone()
        optimizer.step()
        for k, p in parameters.items():
            out[f"{k}.after.{step}"] = p.detach().clone()
    for k, p in parameters.items():
        out[f"{k}.exp_avg"] = optimizer.state[p]["exp_avg"]
        out[f"{k}.exp_avg_sq"] = optimizer.state[p]["exp_avg_sq"]
    save("adamw", out)


def ten_steps(out, case, make, shapes, start, grads):
    """Ten steps of one optimizer over the tensors named in `shapes`; `make` takes the list of parameters."""
    parameters = {k: start[k].clone().requires_grad_() for k in shapes}
    optimizer = make(list(parameters.values()))
    for step in range(10):
        for k, p in parameters.items():
            p.grad = grads[k][step].clone()
        optimizer.step()
        for k, p in parameters.items():
            out[f"{case}.{k}.after.{step}"] = p.detach().clone()
    for k, p in parameters.items():
        for name, value in optimizer.state.get(p, {}).items():
            if name != "step" and value is not None:
                out[f"{case}.{k}.{name}"] = value


class Lion:
    """The paper's algorithm 2, in f64: torch has none."""

    def __init__(self, parameters, lr, betas, weight_decay):
        self.parameters, self.lr, self.betas, self.weight_decay = parameters, lr, betas, weight_decay
        self.state = {p: {"exp_avg": torch.zeros_like(p)} for p in parameters}

    @torch.no_grad()
    def step(self):
        for p in self.parameters:
            m, g = self.state[p]["exp_avg"], p.grad
            c = self.betas[0] * m + (1 - self.betas[0]) * g
            p -= self.lr * (torch.sign(c) + self.weight_decay * p)
            m.copy_(self.betas[1] * m + (1 - self.betas[1]) * g)


def optimizers():
    """Ten steps of every optimizer but AdamW over the same tensors and gradients."""
    out = {}
    generator = torch.Generator().manual_seed(4)
    shapes = {"vector": (11,), "wide": (5, 7), "tall": (9, 4), "square": (6, 6)}
    start = {k: torch.randn(s, generator=generator, dtype=torch.float64) for k, s in shapes.items()}
    grads = {k: [torch.randn(s, generator=generator, dtype=torch.float64) * (1 + i) for i in range(10)]
             for k, s in shapes.items()}
    for k in shapes:
        out[f"{k}.start"] = start[k]
        for i in range(10):
            out[f"{k}.grad.{i}"] = grads[k][i]
    optim = torch.optim
    cases = {
        "adam": lambda p: optim.Adam(p, lr=3e-3, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
        "adam_amsgrad": lambda p: optim.Adam(p, lr=3e-3, betas=(0.8, 0.7), amsgrad=True, maximize=True),
        "adamw_amsgrad": lambda p: optim.AdamW(p, lr=3e-3, betas=(0.8, 0.7), weight_decay=0.1, amsgrad=True),
        "sgd": lambda p: optim.SGD(p, lr=0.01, weight_decay=0.1),
        "sgd_momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, dampening=0.3, weight_decay=0.1, maximize=True),
        "sgd_nesterov": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        "lion": lambda p: Lion(p, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    }
    for case, make in cases.items():
        ten_steps(out, case, make, ["vector", "wide"], start, grads)
    # torch.optim.Muon as it is, in bf16; then the same code in f64, for which its conversion to bf16 is switched off.
    matrices = ["wide", "tall", "square"]
    ten_steps(out, "muon_bf16", lambda p: optim.Muon(p, lr=0.02), matrices, start, grads)
    conversion = torch.Tensor.bfloat16
    torch.Tensor.bfloat16 = lambda self: self.clone()
    ten_steps(out, "muon", lambda p: optim.Muon(p, lr=0.02), matrices, start, grads)
    rms = dict(lr=1e-3, weight_decay=0.2, momentum=0.9, nesterov=False, ns_steps=4, adjust_lr_fn="match_rms_adamw")
    ten_steps(out, "muon_rms", lambda p: optim.Muon(p, **rms), matrices, start, grads)
    torch.Tensor.bfloat16 = conversion
    save("optimizers", out)


def clipping():
    """Gradients before and after torch's global-norm clipping."""
    out = {}
    generator = torch.Generator().manual_seed(2)
    parameters = []
    for i, shape in enumerate([(17,), (3, 5, 2), (64, 9)]):
        p = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
        p.grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        out[f"{i}.grad"] = p.grad.clone()
        parameters.append(p)
    out["norm"] = nn.utils.clip_grad_norm_(parameters, 1.5)
    for i, p in enumerate(parameters):
        out[f"{i}.clipped"] = p.grad
    save("clipping", out)


class Block(nn.Module):
    def __init__(self, width, heads, bias, gelu):
        super().__init__()
        self.heads, self.gelu = heads, gelu
        self.ln_1 = nn.LayerNorm(width, bias=bias)
        self.attn = nn.Module()
        self.attn.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.attn.c_proj = nn.Linear(width, width, bias=bias)
        self.ln_2 = nn.LayerNorm(width, bias=bias)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(width, 4 * width, bias=bias)
        self.mlp.c_proj = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.attn.c_attn(self.ln_1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x)), approximate=self.gelu))


class Gpt(nn.Module):
    def __init__(self, vocab, block, layers, heads, width, bias, gelu):
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(vocab, width)
        self.transformer.wpe = nn.Embedding(block, width)
        self.transformer.h = nn.ModuleList(Block(width, heads, bias, gelu) for _ in range(layers))
        self.transformer.ln_f = nn.LayerNorm(width, bias=bias)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.transformer.wte.weight

    def forward(self, ids):
        x = self.transformer.wte(ids) + self.transformer.wpe(torch.arange(ids.shape[1]))
        for block in self.transformer.h:
            x = block(x)
        return self.lm_head(self.transformer.ln_f(x))


def gpt(name, bias, gelu):
    """Logits, loss and every gradient of a small GPT, then ten training steps: clip, AdamW, cosine schedule."""
    torch.manual_seed(3)
    model = Gpt(vocab=11, block=6, layers=2, heads=2, width=8, bias=bias, gelu=gelu).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, dtype=torch.float64) * 0.3 + (0.5 if p.dim() == 1 else 0.0))
    ids = torch.randint(0, 11, (3, 6))
    targets = torch.randint(0, 11, (3, 6))
    targets[1, 2] = -100
    out = {"ids": ids, "targets": targets}
    out.update({f"weight.{k}": v.clone() for k, v in model.named_parameters()})

    def loss_of(logits):
        return F.cross_entropy(logits.view(-1, 11), targets.view(-1), ignore_index=-100)

    logits = model(ids)
    loss = loss_of(logits)
    loss.backward()
    out["logits"], out["loss"] = logits, loss
    out.update({f"grad.{k}": v.grad.clone() for k, v in model.named_parameters()})

    decayed = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}] + ([{"params": plain, "weight_decay": 0.0}] if plain else [])
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99))
    losses, norms, rates = [], [], []
    for it in range(10):
        if it < 3:
            lr = 1e-2 * (it + 1) / 4
        else:
            lr = 1e-3 + 0.5 * (1 + math.cos(math.pi * (it - 3) / (8 - 3))) * 9e-3 if it <= 8 else 1e-3
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss = loss_of(model(ids))
        loss.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        losses.append(loss.detach())
        rates.append(torch.tensor(lr, dtype=torch.float64))
    out["losses"], out["norms"], out["rates"] = torch.stack(losses), torch.stack(norms), torch.stack(rates)
    save(name, out)


def attention():
    """F.scaled_dot_product_attention forward and backward, in the layout (batch, length, heads, depth): causal, with a
    mask that is learnt, with one of booleans, with fewer key heads; ALiBi and a window by the masks that define them."""
    out = {}
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def case(name, queries, keys, heads, key_heads, depth, value_depth, mask=None, **options):
        leaves = {
            "q": draw(2, queries, heads, depth),
            "k": draw(2, keys, key_heads, depth),
            "v": draw(2, keys, key_heads, value_depth),
        }
        if mask is not None and mask.dtype != torch.bool:
            leaves["mask"] = mask
        for leaf in leaves.values():
            leaf.requires_grad_()
        q, k, v = (leaves[n].transpose(1, 2) for n in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=heads != key_heads, **options)
        y = y.transpose(1, 2)
        direction = draw(*y.shape)
        y.backward(direction)
        out[f"{name}.out"], out[f"{name}.direction"] = y, direction
        for n, leaf in leaves.items():
            out[f"{name}.{n}"], out[f"{name}.d{n}"] = leaf, leaf.grad
        if mask is not None and mask.dtype == torch.bool:
            out[f"{name}.mask"] = mask

    case("plain", 5, 7, 2, 2, 8, 6)
    case("causal", 6, 6, 2, 2, 8, 8, is_causal=True)
    case("grouped", 6, 6, 4, 2, 8, 8, is_causal=True, scale=0.3)
    case("learnt", 5, 7, 4, 1, 8, 8, mask=draw(4, 5, 7).unsqueeze(0))
    visible = draw(2, 1, 5, 7) > -0.5
    visible[..., 0] = True
    case("visible", 5, 7, 2, 2, 8, 8, mask=visible)
    distance = torch.arange(6)[:, None] + 9 - 6 - torch.arange(9)[None, :]
    slopes = torch.tensor([0.5, 0.125], dtype=torch.float64)
    case("alibi", 6, 9, 2, 2, 8, 8, mask=(-slopes[:, None, None] * distance.abs()).unsqueeze(0))
    case("window", 6, 9, 2, 2, 8, 8, mask=(distance <= 3) & (distance >= -1))
    save("attention", out)


adamw()
optimizers()
clipping()
attention()
gpt("gpt_bias_tanh", bias=True, gelu="tanh")
gpt("gpt_plain_erf", bias=False, gelu="none")
