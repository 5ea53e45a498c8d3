"""MusicLM as data: its streams, and what each of its stages looks at.

  mulan     what a text or a piece of audio is about     one for a crop
  melody    which melody it is sung to                   one for 4 s, every 3 s
  semantic  w2v-BERT's tokens: the long-term structure   25 a second
  coarse    the codec's first levels: how it sounds      50 a second
  fine      the codec's other levels: how well           50 a second

The values that a bundle may change are in its TokenSpec (specs.py), from which
the streams follow. Standard library only: `musiclm_jax/__init__.py` registers
`SYSTEM`, so that a StageSpec finds it by the name of a stage.

>>> for stream in streams(specs.TokenSpec()):
...   print(stream.name, stream.kind, stream.num_frames(10), 'x',
...         stream.num_codebooks, 'of', stream.source)
mulan crop 1 x 12 of mulan
melody windows 3 x 24 of melody
semantic frames 250 x 1 of semantic
coarse frames 500 x 4 of acoustic
fine frames 500 x 8 of acoustic
"""

from musiclm_jax import specs

# How each stage's sequence is built: what conditions it, what it predicts and
# how long a training crop is (paper: 30, 10 and 3 s).
STAGE_CROP_SECONDS = {'semantic': 30, 'coarse': 10, 'fine': 3}
STAGE_CONDITIONS = {
    'semantic': ('mulan',),
    'coarse': ('mulan', 'semantic'),
    'fine': ('coarse',),
}


def streams(tokens: specs.TokenSpec) -> tuple[specs.StreamSpec, ...]:
  """The five streams over the grids of a TokenSpec."""
  codec, semantic = tokens.codec, tokens.semantic
  joint, melody = tokens.joint, tokens.melody

  def levels(name, first, count):
    return specs.StreamSpec(
        name, 'acoustic', count, codec.codebook_size,
        rate_hz=codec.frame_rate_hz, first_level=first,
        source_codebooks=codec.num_codebooks)

  return (
      specs.StreamSpec(
          'mulan', 'mulan', joint.num_codebooks, joint.codebook_size,
          kind=specs.CROP, window_seconds=joint.window_seconds,
          window_stride_seconds=joint.window_stride_seconds),
      specs.StreamSpec(
          'melody', 'melody', melody.num_codebooks, melody.codebook_size,
          kind=specs.WINDOWS, window_seconds=melody.window_seconds,
          window_stride_seconds=melody.window_stride_seconds),
      specs.StreamSpec('semantic', 'semantic', 1, semantic.codebook_size,
                       rate_hz=semantic.frame_rate_hz),
      levels('coarse', 0, codec.coarse_codebooks),
      levels('fine', codec.coarse_codebooks, codec.fine_codebooks),
  )


SYSTEM = specs.SystemSpec('musiclm', streams, tuple(
    specs.StageDefaults(name, STAGE_CONDITIONS[name], seconds)
    for name, seconds in STAGE_CROP_SECONDS.items()))
