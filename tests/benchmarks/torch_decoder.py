"""Peers of the benchmark of decoding: PyTorch, and transformers' MusicGen.

PyTorch's decoder has the shape of ours, a preallocated cache and fused
attention, but no relative bias: less work than ours. MusicGen's has sinusoidal
positions and a plain MLP, here half as wide again, so that parameters are as
many; its cross attention is left out, as there is nothing to look at.
"""

import os

try:
  import torch
  from torch.nn import functional
  torch.set_num_threads(len(os.sched_getaffinity(0)))
except ImportError:
  torch = None

_POSITIONS = 512  # of the cache
_CODES = 1024


def steps(config, rows, count):
  """{name: call that draws `count` tokens for each row}; empty without PyTorch.

  Args:
    config: a stages.decoder.DecoderConfig.
    rows: sequences side by side.
    count: tokens of a call.
  """
  if torch is None:
    print('PyTorch is not installed (the `bench` extra): only our half.')
    return {}
  calls = {}
  for name, dtype in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
    calls[f'torch_{name}'] = _steps(_decoder(config, rows, dtype), rows, count)
  try:
    calls['musicgen_fp32'] = _musicgen(config, rows, count)
  except ImportError:
    print('transformers is not installed: no MusicGen.')
  return calls


def _steps(decoder, rows, count):
  """A call that goes on with (ids, position) -> logits, drawing at random."""
  state = [torch.zeros(rows, dtype=torch.long), 0]

  @torch.inference_mode()
  def call():
    for _ in range(count):
      logits = decoder(*state).float()
      noise = -torch.log(-torch.log(torch.rand_like(logits)))
      state[0], state[1] = (logits + noise).argmax(-1), state[1] + 1

  return call


def _decoder(config, rows, dtype):
  """(ids [B], position) -> logits [B, K]."""
  nn, dim, joined = torch.nn, config.embed_dim, config.joined_kv
  heads, size = config.num_heads, config.head_dim
  linear = lambda i, o: nn.Linear(i, o, bias=False)

  class Block(nn.Module):

    def __init__(self):
      super().__init__()
      self.norms = nn.ModuleList([nn.RMSNorm(dim), nn.RMSNorm(dim)])
      self.qkv, self.out = linear(dim, 3 * joined), linear(joined, dim)
      self.wi, self.down = (linear(dim, 2 * config.mlp_dim),
                            linear(config.mlp_dim, dim))
      shape = (rows, heads, _POSITIONS, size)
      self.keys, self.values = (torch.zeros(shape, dtype=dtype)
                                for _ in range(2))

    def forward(self, x, position):
      qkv = self.qkv(self.norms[0](x)).view(rows, 3, heads, 1, size)
      self.keys[:, :, position] = qkv[:, 1, :, 0]
      self.values[:, :, position] = qkv[:, 2, :, 0]
      seen = slice(0, position + 1)
      y = functional.scaled_dot_product_attention(
          qkv[:, 0], self.keys[:, :, seen], self.values[:, :, seen])
      x = x + self.out(y.reshape(rows, joined))
      gate, up = self.wi(self.norms[1](x)).chunk(2, -1)
      return x + self.down(functional.gelu(gate, approximate='tanh') * up)

  class Decoder(nn.Module):

    def __init__(self):
      super().__init__()
      self.embedding = nn.Embedding(_CODES, dim)
      self.blocks = nn.ModuleList(Block() for _ in range(config.num_layers))
      self.norm, self.head = nn.RMSNorm(dim), linear(dim, _CODES)

    def forward(self, ids, position):
      x = self.embedding(ids)
      for block in self.blocks:
        x = block(x, position)
      return self.head(self.norm(x))

  return Decoder().to(dtype).eval()


def _musicgen(config, rows, count):
  """The same of transformers' decoder with its own cache."""
  import transformers  # pylint: disable=g-import-not-at-top
  made = transformers.MusicgenForCausalLM(transformers.MusicgenDecoderConfig(
      vocab_size=_CODES, num_codebooks=1, hidden_size=config.embed_dim,
      num_hidden_layers=config.num_layers,
      num_attention_heads=config.num_heads, ffn_dim=3 * config.mlp_dim // 2,
      max_position_embeddings=2 * _POSITIONS, pad_token_id=0,
      bos_token_id=0)).eval()
  for layer in made.model.decoder.layers:
    layer.encoder_attn = layer.encoder_attn_layer_norm = None
  cache = [None]

  def decoder(ids, unused_position):
    out = made(input_ids=ids[:, None], past_key_values=cache[0], use_cache=True)
    cache[0] = out.past_key_values
    return out.logits.view(rows, -1)

  return _steps(decoder, rows, count)
