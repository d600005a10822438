"""The BitNet b1.58 network of the bundled model, as it is trained.

The forward pass is the engine's to rounding: ternary weights with one absmean scale per tensor,
int8 activations with one absmax scale per token. Both are integers of at most 8 bits, so a bf16
product with float sums holds them exactly. Gradients pass straight through both roundings.
"""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab_size: int = 2048
    context: int = 512
    width: int = 256
    layers: int = 5
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 768
    eps: float = 1e-5
    rope_base: float = 10000.0

    as_dict = asdict

    @property
    def head_dim(self):
        return self.width // self.heads


def absmean(weight):
    """The scale of a tensor and its trits. The scale is kept to float16, as the file stores it."""
    g = weight.float().abs().mean().half().float().clamp_min(1e-5)
    return g, (weight.float() / g).round().clamp(-1, 1)


class TernaryProduct(torch.autograd.Function):
    """y = (q . T) * g * s for int8 codes q with scale s per token and trits T with scale g per row."""

    @staticmethod
    def forward(ctx, x, codes, scale, trits, g):
        ctx.save_for_backward(codes, scale, trits, g)
        return F.linear(codes, trits).float() * (scale * g)

    @staticmethod
    def backward(ctx, grad):
        codes, scale, trits, g = ctx.saved_tensors
        grad_x = torch.mm((grad * g).bfloat16(), trits).float()
        grad_w = torch.mm((grad * scale).bfloat16().t(), codes).float()
        return grad_x, None, None, grad_w, None


def int8_codes(x):
    a = x.abs().amax(-1, keepdim=True).clamp_min(1e-5)
    return (x * (127 / a)).round().clamp(-128, 127).bfloat16(), a / 127


class Identity16(torch.autograd.Function):
    """Trits of the master weights in bf16; the gradient of the trits is that of the weights."""

    @staticmethod
    def forward(ctx, weights, trits):
        return trits

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def bit_linear(x, *weights):
    """One ternary product for several weights that read the same input (q, k, v or gate, up)."""
    parts = [absmean(w.detach()) for w in weights]
    trits = torch.cat([t for _, t in parts]).bfloat16()
    g = torch.cat([s.expand(len(t)) for s, t in parts])
    master = torch.cat(weights) if len(weights) > 1 else weights[0]
    codes, scale = int8_codes(x.detach())
    return TernaryProduct.apply(x, codes, scale, Identity16.apply(master, trits), g)


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


def rope_tables(config):
    half = config.head_dim // 2
    frequency = config.rope_base ** (-torch.arange(half).float() / half)
    angle = torch.outer(torch.arange(config.context).float(), frequency)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Half-split (NEOX) rotary embedding of x[batch, token, head, head_dim]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, kv = config.width, config.kv_heads * config.head_dim
        self.config = config
        self.attn_norm = Norm(width, config.eps)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv, bias=False)
        self.attn_v = nn.Linear(width, kv, bias=False)
        self.attn_sub_norm = Norm(width, config.eps)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = Norm(width, config.eps)
        self.ffn_gate = nn.Linear(width, config.ffn, bias=False)
        self.ffn_up = nn.Linear(width, config.ffn, bias=False)
        self.ffn_sub_norm = Norm(config.ffn, config.eps)
        self.ffn_down = nn.Linear(config.ffn, width, bias=False)

    def attention(self, x, cos, sin, batch):
        c = self.config
        qkv = bit_linear(self.attn_norm(x), self.attn_q.weight, self.attn_k.weight, self.attn_v.weight)
        qkv = qkv.view(batch, -1, c.heads + 2 * c.kv_heads, c.head_dim)
        q, k, v = qkv.split([c.heads, c.kv_heads, c.kv_heads], 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        y = y.transpose(1, 2).reshape(-1, c.width)
        return bit_linear(self.attn_sub_norm(y), self.attn_output.weight)

    def feed_forward(self, x):
        gate, up = bit_linear(self.ffn_norm(x), self.ffn_gate.weight, self.ffn_up.weight).chunk(2, -1)
        return bit_linear(self.ffn_sub_norm(gate.relu().square() * up), self.ffn_down.weight)

    def forward(self, x, cos, sin, batch):
        x = x + self.attention(x, cos, sin, batch)
        return x + self.feed_forward(x)


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocab_size, config.width)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = Norm(config.width, config.eps)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos[:, None], persistent=False)
        self.register_buffer("sin", sin[:, None], persistent=False)
        self.initialise()

    def initialise(self):
        nn.init.normal_(self.token_embd.weight, std=0.04)
        for name, p in self.named_parameters():
            if p.ndim == 2 and "token_embd" not in name:
                nn.init.normal_(p, std=0.6 * p.shape[1] ** -0.5)

    def forward(self, ids):
        """Logits [batch * token, vocab] of ids [batch, token]."""
        batch, length = ids.shape
        x = self.token_embd(ids.reshape(-1))
        cos, sin = self.cos[:length], self.sin[:length]
        for block in self.blk:
            x = block(x, cos, sin, batch)
        return F.linear(self.output_norm(x).bfloat16(), self.token_embd.weight.bfloat16())
