#!/usr/bin/env python3
"""Writes the golden values of the attention layers and of the Llama model, computed by PyTorch.

    python3 tests/golden/make_layers.py [FOLDER]

As make_golden.py. Where PyTorch has the layer (nn.MultiheadAttention), it computes the values; what it lacks is written
here from its functions (scaled_dot_product_attention, rms_norm, ...) by the formulas of the papers. Each case holds its
inputs, its weights under the names of the C++ layer, the output, a gradient of it, and every gradient that follows.
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from golden_file import save

B, E, H, D = 2, 8, 4, 6  # batch, embed_dim, heads, head_dim


class Draw:
    """Random f64 tensors from a seed."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, scale=1.0, shift=0.0):
        return torch.randn(shape, generator=self.generator, dtype=torch.float64) * scale + shift

    def linears(self, sizes, bias=True):
        """{name: (out, in)} -> weights and biases."""
        weights = {}
        for name, (rows, columns) in sizes.items():
            weights[f"{name}.weight"] = self(rows, columns, scale=0.5)
            if bias:
                weights[f"{name}.bias"] = self(rows, scale=0.5)
        return weights


def record(out, name, draw, weights, inputs, function, constants=None):
    for t in list(weights.values()) + list(inputs.values()):
        t.requires_grad_()
    y = function(weights, inputs)
    dy = draw(*y.shape)
    y.backward(dy)
    out[f"{name}/out"], out[f"{name}/dout"] = y, dy
    for kind, tensors in (("weight", weights), ("input", inputs)):
        for k, t in tensors.items():
            out[f"{name}/{kind}.{k}"], out[f"{name}/{kind}_grad.{k}"] = t, t.grad
    for k, t in (constants or {}).items():
        out[f"{name}/{k}"] = t


def project(w, name, x, heads=None):
    y = F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))
    return y if heads is None else y.view(*y.shape[:2], heads, -1)


def rope(x, positions, base=10000.0):
    """Rotate-half; x (B, T, H, R), positions (B, T)."""
    half = x.shape[-1] // 2
    frequencies = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = positions[..., None].double() * frequencies
    # The library keeps cosines and sines in f32.
    cos = torch.cos(angles).float().double()[:, :, None, :]
    sin = torch.sin(angles).float().double()[:, :, None, :]
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def count(tokens, first=0):
    return torch.arange(first, first + tokens).expand(B, tokens)


def attend(q, k, v, **options):
    """(B, T, H, D) in and out, heads joined."""
    options.setdefault("enable_gqa", q.shape[2] != k.shape[2])
    y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), **options)
    return y.transpose(1, 2).flatten(2)


def causal_window(queries, keys, left):
    i, j = torch.arange(queries)[:, None] + keys - queries, torch.arange(keys)[None, :]
    return (j <= i) & (j >= i - left)


def torch_layer(weights, prefix_of_input, **options):
    """nn.MultiheadAttention with our weights in it, as a function of them."""
    layer = nn.MultiheadAttention(E, H, batch_first=True, dtype=torch.float64, **options)

    def function(w, query, key, value, mask):
        own = {"out_proj.weight": w["o_proj.weight"], "out_proj.bias": w["o_proj.bias"]}
        if prefix_of_input is None:
            own["in_proj_bias"] = torch.cat([w[f"{p}_proj.bias"] for p in "qkv"])
            for p in "qkv":
                own[f"{p}_proj_weight"] = w[f"{p}_proj.weight"]
            if layer.in_proj_weight is not None:
                own["in_proj_weight"] = torch.cat([own.pop(f"{p}_proj_weight") for p in "qkv"])
        else:
            own["in_proj_weight"] = w[f"{prefix_of_input}.weight"]
            own["in_proj_bias"] = w[f"{prefix_of_input}.bias"]
        hidden = ~mask if mask is not None else None  # there, True hides
        return torch.func.functional_call(
            layer, own, (query, key, value), {"attn_mask": hidden, "need_weights": False}
        )[0]

    return function


def attention_layers():
    out = {}

    # Cross-attention with inputs of three widths and a mask per head.
    draw = Draw(1)
    weights = draw.linears({"q_proj": (E, E), "k_proj": (E, 6), "v_proj": (E, 5), "o_proj": (E, E)})
    inputs = {"query": draw(B, 3, E), "key": draw(B, 5, 6), "value": draw(B, 5, 5)}
    mask = draw(B, H, 3, 5) > -0.7
    mask[..., 0] = True
    layer = torch_layer(weights, None, kdim=6, vdim=5)
    record(out, "mha_cross", draw, weights, inputs,
           lambda w, x: layer(w, x["query"], x["key"], x["value"], mask.flatten(0, 1)), {"mask": mask})

    # add_zero_attn, causal.
    draw = Draw(2)
    weights = draw.linears({f"{p}_proj": (E, E) for p in "qkvo"})
    zero_layer = torch_layer(weights, None, add_zero_attn=True)
    triangle = causal_window(5, 5, 5)
    record(out, "mha_zero", draw, weights, {"x": draw(B, 5, E)},
           lambda w, x: zero_layer(w, x["x"], x["x"], x["x"], triangle))

    # The packed layer, sequence first.
    draw = Draw(3)
    weights = draw.linears({"qkv_proj": (3 * E, E), "o_proj": (E, E)})
    packed = torch_layer(weights, "qkv_proj")
    record(out, "self_packed", draw, weights, {"x": draw(5, B, E)},
           lambda w, x: packed(w, *[x["x"].transpose(0, 1)] * 3, triangle).transpose(0, 1))

    # Grouped heads, RMS norm of queries and keys, rotary positions that do not start at 0, a window.
    draw = Draw(4)
    weights = draw.linears({"q_proj": (H * D, E), "k_proj": (2 * D, E), "v_proj": (2 * D, E), "o_proj": (E, H * D)})
    weights["q_norm.weight"], weights["k_norm.weight"] = draw(D, shift=1), draw(D, shift=1)
    positions = torch.stack([torch.arange(5) + 3, torch.arange(5) * 2])

    def gqa(w, x):
        q, k = (F.rms_norm(project(w, f"{p}_proj", x["x"], n), (D,), w[f"{p}_norm.weight"], 1e-6)
                for p, n in (("q", H), ("k", 2)))
        v = project(w, "v_proj", x["x"], 2)
        y = attend(rope(q, positions), rope(k, positions), v, attn_mask=causal_window(5, 5, 2))
        return project(w, "o_proj", y)

    record(out, "gqa", draw, weights, {"x": draw(B, 5, E)}, gqa, {"position_ids": positions})

    # One head of keys, layer norm of queries and keys, ALiBi, no bias in projections.
    draw = Draw(5)
    weights = draw.linears({"q_proj": (E, E), "k_proj": (2, E), "v_proj": (2, E), "o_proj": (E, E)}, bias=False)
    for p in "qk":
        weights[f"{p}_norm.weight"], weights[f"{p}_norm.bias"] = draw(2, shift=1), draw(2)
    slopes = 2.0 ** (-8.0 / H * torch.arange(1, H + 1, dtype=torch.float64))
    distance = (torch.arange(5)[:, None] - torch.arange(5)[None, :]).abs()
    bias = (-slopes[:, None, None] * distance).masked_fill(~triangle, -math.inf)

    def mqa(w, x):
        q, k = (F.layer_norm(project(w, f"{p}_proj", x["x"], n), (2,), w[f"{p}_norm.weight"], w[f"{p}_norm.bias"], 1e-6)
                for p, n in (("q", H), ("k", 1)))
        return project(w, "o_proj", attend(q, k, project(w, "v_proj", x["x"], 1), attn_mask=bias))

    record(out, "mqa", draw, weights, {"x": draw(B, 5, E)}, mqa)

    # Trinix's latent attention.
    draw = Draw(6)
    weights = draw.linears({"q_down_proj": (5, E), "q_up_proj": (E, 5), "kv_down_proj": (3, E), "k_up_proj": (E, 3),
                            "v_up_proj": (E, 3), "o_proj": (E, E)})

    def mla(w, x):
        latent = project(w, "kv_down_proj", x["x"])
        q = project(w, "q_up_proj", project(w, "q_down_proj", x["x"]), H)
        k, v = project(w, "k_up_proj", latent, H), project(w, "v_up_proj", latent, H)
        return project(w, "o_proj", attend(rope(q, count(5)), rope(k, count(5)), v, is_causal=True))

    record(out, "mla", draw, weights, {"x": draw(B, 5, E)}, mla)

    # DeepSeek's (arXiv 2405.04434, equations 37 to 47): nope, rope, value and latent sizes all differ.
    draw = Draw(7)
    nope, turned, value, latent_dim, query_latent = 3, 4, 5, 7, 6
    weights = {}
    weights.update(draw.linears({"q_a_proj": (query_latent, E)}))
    weights["q_a_layernorm.weight"] = draw(query_latent, shift=1)
    weights.update(draw.linears({"q_b_proj": (H * (nope + turned), query_latent)}, bias=False))
    weights.update(draw.linears({"kv_a_proj_with_mqa": (latent_dim + turned, E)}))
    weights["kv_a_layernorm.weight"] = draw(latent_dim, shift=1)
    weights.update(draw.linears({"kv_b_proj": (H * (nope + value), latent_dim)}, bias=False))
    weights.update(draw.linears({"o_proj": (E, H * value)}))

    def decoupled(w, x):
        def norm(name, t):
            return F.rms_norm(t, t.shape[-1:], w[f"{name}.weight"], 1e-6)

        q = project(w, "q_b_proj", norm("q_a_layernorm", project(w, "q_a_proj", x["x"])), H)
        c, k_rope = project(w, "kv_a_proj_with_mqa", x["x"]).split([latent_dim, turned], -1)
        kv = project(w, "kv_b_proj", norm("kv_a_layernorm", c), H)
        k_rope = rope(k_rope[:, :, None, :], count(5)).expand(-1, -1, H, -1)
        q = torch.cat([q[..., :nope], rope(q[..., nope:], count(5))], -1)
        k = torch.cat([kv[..., :nope], k_rope], -1)
        return project(w, "o_proj", attend(q, k, kv[..., nope:], is_causal=True))

    record(out, "mla_decoupled", draw, weights, {"x": draw(B, 5, E)}, decoupled)
    save("attention_layers", out)


def llama():
    """Logits, loss and every gradient of a small Llama: two blocks, grouped heads, untied head."""
    draw = Draw(8)
    width, heads, kv_heads, hidden, vocab, tokens = 12, 4, 2, 10, 11, 6
    depth = width // heads + 1  # a head_dim of its own
    w = {"model.embed_tokens.weight": draw(vocab, width, scale=0.5)}
    for i in range(2):
        block = draw.linears({"self_attn.q_proj": (heads * depth, width), "self_attn.k_proj": (kv_heads * depth, width),
                              "self_attn.v_proj": (kv_heads * depth, width), "self_attn.o_proj": (width, heads * depth),
                              "mlp.gate_proj": (hidden, width), "mlp.up_proj": (hidden, width),
                              "mlp.down_proj": (width, hidden)}, bias=False)
        block["input_layernorm.weight"] = draw(width, shift=1)
        block["post_attention_layernorm.weight"] = draw(width, shift=1)
        w.update({f"model.layers.{i}.{k}": t for k, t in block.items()})
    w["model.norm.weight"] = draw(width, shift=1)
    w["lm_head.weight"] = draw(vocab, width, scale=0.5)
    ids = torch.randint(0, vocab, (B, tokens), generator=draw.generator)
    targets = torch.randint(0, vocab, (B, tokens), generator=draw.generator)
    for t in w.values():
        t.requires_grad_()

    def norm(name, t):
        return F.rms_norm(t, (width,), w[f"{name}.weight"], 1e-5)

    x = F.embedding(ids, w["model.embed_tokens.weight"])
    for i in range(2):
        p = f"model.layers.{i}"
        y = norm(f"{p}.input_layernorm", x)
        q, k, v = (project(w, f"{p}.self_attn.{n}_proj", y, h) for n, h in (("q", heads), ("k", kv_heads), ("v", kv_heads)))
        y = attend(rope(q, count(tokens), 500.0), rope(k, count(tokens), 500.0), v, is_causal=True)
        x = x + project(w, f"{p}.self_attn.o_proj", y)
        y = norm(f"{p}.post_attention_layernorm", x)
        y = F.silu(project(w, f"{p}.mlp.gate_proj", y)) * project(w, f"{p}.mlp.up_proj", y)
        x = x + project(w, f"{p}.mlp.down_proj", y)
    logits = project(w, "lm_head", norm("model.norm", x))
    loss = F.cross_entropy(logits.view(-1, vocab), targets.view(-1))
    loss.backward()
    out = {"ids": ids, "targets": targets, "logits": logits, "loss": loss}
    out.update({f"weight.{k}": t for k, t in w.items()})
    out.update({f"grad.{k}": t.grad for k, t in w.items()})
    save("llama", out)


attention_layers()
llama()
