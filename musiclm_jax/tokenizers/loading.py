"""The frozen tokenizers of a bundle, or of other people, as one."""

import dataclasses
from typing import Any

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import specs


@dataclasses.dataclass(frozen=True)
class Tokenizers:
  """The frozen tokenizers, their spec and hashes of their weights.

  `melody` is None where the bundle has none.
  """

  codec: Any
  semantic: Any
  joint: Any
  tokens: specs.TokenSpec
  hashes: dict
  melody: Any = None

  @classmethod
  def load(cls, bundle_dir, adapted=None):
    """Those of a bundle, but for what `adapters.registry.adapt` returned."""
    names, adapted = ('codec', 'w2vbert', 'mulan'), adapted or {}
    own = [name for name in names if name not in adapted]
    parts = {name: part.tokenizer for name, part in adapted.items()}
    hashes = {name: part.hash for name, part in adapted.items()}
    tokens, melody = specs.TokenSpec(), None
    if own or bundle_dir:  # it may have a melody embedder besides
      bundle = bundle_lib.Bundle(bundle_dir)
      bundle.require(*own)
      tokens = bundle.tokens
      parts.update({name: bundle.get(name) for name in own})
      hashes.update(
          {name: bundle.component_hash(name) for name in own})
      if bundle.has('melody'):
        melody, names = bundle.get('melody'), (*names, 'melody')
        hashes['melody'] = bundle.component_hash('melody')
    try:
      tokens = dataclasses.replace(
          tokens, **{p.part: p.tokenizer.spec for p in adapted.values()})
    except ValueError as error:
      raise errors.UserError(
          f'these tokenizers do not share a grid: {error} --semantic takes '
          f':rate=25 for a lower rate.') from error
    return cls(*(parts[name] for name in names[:3]), tokens=tokens,
               hashes={name: hashes[name] for name in names}, melody=melody)

  def codebooks(self):
    """{stream: [Q, K, D] float32} of the tokenizers that tell theirs."""
    found = dict(mulan=self.joint.codebooks,
                 acoustic=getattr(self.codec, 'codebooks', None),
                 melody=getattr(self.melody, 'codebooks', None))
    centroids = getattr(self.semantic, 'centroids', None)
    if centroids is not None:
      found['semantic'] = centroids[None]
    return {name: np.asarray(vectors, np.float32)
            for name, vectors in found.items() if vectors is not None}

  def encode(self, audio, seconds):
    """The code streams of tracks that were padded to one length.

    Args:
      audio: [B, N] float32; rows beyond len(seconds) are padding too.
      seconds: the tracks' own lengths.

    Returns:
      For each track (acoustic [T, Q], semantic [T'], mulan [W, D]) and, with a
      melody embedder, melody [W', Q'].
    """
    codec, semantic, joint = (
        self.tokens.codec, self.tokens.semantic, self.tokens.joint)
    if getattr(self.codec, 'causal', True):
      acoustic = np.asarray(self.codec.encode(audio))
    else:
      acoustic = self._by_length(self.codec.encode, audio, seconds)
    longest = max(seconds) * self.tokens.audio.sample_rate_hz
    mulan = np.asarray(
        self.joint.embed_audio_windows(audio[:len(seconds), :longest]),
        np.float32)
    ids = self._semantic_ids(audio, seconds)
    return [(acoustic[row][:length * codec.frame_rate_hz],
             ids[row][:length * semantic.frame_rate_hz],
             mulan[row, :joint.num_windows(length)],
             *self._melody_codes(audio[row], length))
            for row, length in enumerate(seconds)]

  def _semantic_ids(self, audio, seconds):
    """[B, T'] or a list of [T'] of rows whose padding says nothing."""
    if not getattr(self.semantic, 'takes_lengths', False):
      return self._by_length(self.semantic.encode, audio, seconds)
    rate = self.tokens.audio.sample_rate_hz
    count = len(seconds)
    return np.asarray(self.semantic.encode(
        audio[:count], np.asarray(seconds) * rate))

  def _melody_codes(self, audio, seconds):
    """() without a melody embedder; else ([W, Q] codes, a row a second,)."""
    if self.melody is None:
      return ()
    audio = audio[None, :seconds * self.tokens.audio.sample_rate_hz]
    codes = np.asarray(self.melody.encode(audio, stride_seconds=1))
    return (codes.reshape(-1, self.tokens.melody.num_codebooks),)

  def _by_length(self, encode, audio, seconds):
    """`encode` of each row without its padding."""
    ids = [None] * len(seconds)
    for length in sorted(set(seconds)):
      rows = [row for row, other in enumerate(seconds) if other == length]
      samples = length * self.tokens.audio.sample_rate_hz
      found = np.asarray(encode(audio[rows, :samples]))
      for row, line in zip(rows, found):
        ids[row] = line
    return ids
