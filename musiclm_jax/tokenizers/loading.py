"""The frozen tokenizers of a bundle, or of other people, as one."""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
import threading
from typing import Any

import numpy as np

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax import specs
from musiclm_jax.tokenizers import stretches
from musiclm_jax.tokenizers.adapters import registry

_LOADING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Tokenizers:
  """The frozen tokenizers by their roles, their spec, hashes of their weights.

  Attributes:
    codec: of the role 'codec'.
    semantic: of the role 'semantic'.
    joint: of the role 'joint'.
    tokens: the grids of all.
    hashes: {component of a bundle: hash}, as a token cache keeps them.
    melody: of the role 'melody', or None.
  """

  codec: contracts.Codec
  semantic: contracts.Tokenizer
  joint: contracts.JointEmbedder
  tokens: specs.TokenSpec
  hashes: dict
  melody: contracts.MelodyEmbedder | None = None

  @classmethod
  def load(cls, bundle_dir: str | pathlib.Path | None,
           adapted: dict[str, Any] | None = None) -> 'Tokenizers':
    """Those of a bundle, but for foreign ones.

    Args:
      bundle_dir: the bundle; None where every needed role is taken.
      adapted: {component: what takes its place}, as `adapters.registry.adapt`
        returns it.

    Raises:
      UserError: one is missing, or they do not share a grid.
    """
    found = {part.part: part for part in (adapted or {}).values()}
    made = {role: part.tokenizer for role, part in found.items()}
    hashes = {role: part.hash for role, part in found.items()}
    tokens = specs.TokenSpec()
    needed = [role for role, component in bundle_lib.TOKENIZERS.items()
              if component not in bundle_lib.OPTIONAL]
    own = [role for role in needed if role not in found]
    if own or bundle_dir:  # it may have a melody embedder besides
      bundle = bundle_lib.Bundle(bundle_dir)
      bundle.require(*map(bundle_lib.component_for, own))
      tokens = bundle.tokens
      for role in own + [r for r in bundle_lib.TOKENIZERS if r not in needed]:
        component = bundle_lib.component_for(role)
        if bundle.has(component):
          made[role] = bundle.tokenizer(role)
          hashes[role] = bundle.component_hash(component)
    try:
      tokens = dataclasses.replace(
          tokens, **{role: part.tokenizer.spec for role, part in found.items()})
    except ValueError as error:
      raise errors.UserError(
          f'these tokenizers do not share a grid: {error} --semantic takes '
          f':rate=25 for a lower rate.') from error
    return cls(**made, tokens=tokens, hashes={
        component: hashes[role]
        for role, component in bundle_lib.TOKENIZERS.items() if role in hashes})

  def codebooks(self) -> dict[str, np.ndarray]:
    """{stream: [Q, K, D] float32} of the tokenizers that tell theirs."""
    centroids = self.semantic.centroids
    found = dict(
        mulan=self.joint.codebooks, acoustic=self.codec.codebooks,
        melody=None if self.melody is None else self.melody.codebooks,
        semantic=None if centroids is None else centroids[None])
    return {name: np.asarray(vectors, np.float32)
            for name, vectors in found.items() if vectors is not None}

  def encode(self, audio: np.ndarray, seconds: list[int]
             ) -> list[tuple[np.ndarray, ...]]:
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
    if self.codec.causal:
      acoustic = np.asarray(self.codec.encode(audio))
    else:
      acoustic = self._by_length(self.codec.encode, audio, seconds)
    rate, count = self.tokens.audio.sample_rate_hz, len(seconds)
    longest = max(seconds) * rate
    mulan = np.asarray(
        self.joint.embed_audio_windows(audio[:count, :longest]), np.float32)
    ids = np.asarray(self.semantic.encode(
        audio[:count], np.asarray(seconds) * rate))
    return [(acoustic[row][:length * codec.frame_rate_hz],
             ids[row][:length * semantic.frame_rate_hz],
             mulan[row, :joint.num_windows(length)],
             *self._melody_codes(audio[row], length))
            for row, length in enumerate(seconds)]

  def encode_long(
      self, read: stretches.Read, seconds: int,
      reached: Callable[[float], None] = lambda seconds: None
  ) -> tuple[np.ndarray, ...]:
    """The code streams of one track, in memory that its length does not change.

    Args:
      read: `read(start, count)` gives samples [count] float32 from `start`.
      seconds: of the track.
      reached: is told at every stretch how many seconds are done, as a mean over
        the streams, which are made one after the other.

    Returns:
      As `encode` of that track.
    """
    rate, count = self.tokens.audio.sample_rate_hz, 3 + (self.melody is not None)

    def reading(stream):
      def part(start, samples):
        # What lies before it has been encoded, and so have the other streams.
        reached((stream * seconds + start / rate) / count)
        return read(start, samples)
      return part

    found = (stretches.acoustic(self.codec, reading(0), seconds * rate),
             stretches.semantic(self.semantic, reading(1), seconds, self.tokens),
             stretches.mulan(self.joint, reading(2), seconds, self.tokens))
    if self.melody is None:
      return found
    return *found, stretches.melody(
        self.melody, reading(3), seconds, self.tokens)

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


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Which tokenizers, so that another process can load the same.

  Attributes:
    bundle_dir: as of `Tokenizers.load`.
    adapters: (kind, options) of models in place of the bundle's.
    corpus_dir: of the corpus that their fits are of.
    corpus_hash: what identifies it.
    cache_dir: where the fits are.
  """

  bundle_dir: str | None
  adapters: tuple[tuple[str, Any], ...] = ()
  corpus_dir: str = ''
  corpus_hash: str = ''
  cache_dir: str = ''

  def load(self) -> Tokenizers:
    """The tokenizers; those that were loaded last in this process are kept."""
    with _LOADING:  # workers have threads
      return _load(self)


@functools.lru_cache(maxsize=1)
def _load(recipe):
  if not recipe.adapters:
    return Tokenizers.load(recipe.bundle_dir)
  # The fits are there, and whoever made them has refused what does not fit.
  return Tokenizers.load(recipe.bundle_dir, registry.adapt(
      dict(recipe.adapters), records.Corpus(recipe.corpus_dir),
      recipe.corpus_hash, recipe.cache_dir, replace=True))
