"""MuLan cycle consistency: is the music what the caption says, to a joint model?

  caption ──> text tower ──┐
  clip ────> audio tower ──┴─> cosine, the mean over clips       MusicLM, 4.2

The figure says little alone: music that was made to please a joint embedding
pleases it more than recordings do. So its note has the recordings' own mean, and
that of captions in another order. By default the bundle's MuLan listens, which
our models are conditioned on; a CLAP of a local folder (`joint=clap=DIR`) knows
nothing of them.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import measures
from musiclm_jax.metrics import pairing

HELP = 'mean cosine of caption and music in a joint embedding'
WANTS = ('captions',)

OWN, CLAP = 'mulan', 'clap'
_DEFAULT_RATE_HZ = 24_000


@dataclasses.dataclass(frozen=True)
class _Joint:
  """A joint embedder, and what tables call it."""

  name: str
  embedder: Any  # contracts.JointEmbedder
  rate_hz: int  # of what it is given; it resamples to its own
  about: str
  hash: str


def begin(context: measures.Context) -> measures.Measure:
  """Loads the joint embedders, and embeds the recordings.

  Raises:
    Unavailable: neither a bundle with a joint embedding nor a folder.
    UserError: a name or folder that is none.
  """
  names = tuple(context.listeners.get('joint', ()))
  if not names:
    if context.bundle is None or not context.bundle.has('mulan'):
      raise measures.Unavailable(
          'no joint embedding: give a --bundle that has one, or the folder of a '
          'CLAP as the listener joint=clap=DIR.')
    names = (OWN,)
  joints = [_load(name, context.bundle) for name in names]
  real = {}
  for joint in joints:
    spec = joint.embedder.spec
    context.provenance[f'mcc_{joint.name}'] = dict(
        about=joint.about, hash=joint.hash, rate_hz=spec.sample_rate_hz,
        window_seconds=spec.window_seconds,
        hop_seconds=spec.window_stride_seconds)
    if context.reference is not None:
      context.say(f'mcc: recordings, by {joint.name}')
      real[joint.name] = _agreement(joint, context.reference, {}, context.seed)
  captions = {} if context.reference is None else {
      clip.id: clip.caption for clip in context.reference.clips}

  def measure(clips: clip_sets.ClipSet) -> list[measures.Figure]:
    if clips is context.reference:  # heard already
      return [_figure(joint, real[joint.name], real[joint.name])
              for joint in joints]
    return [_figure(joint, _agreement(joint, clips, captions, context.seed),
                    real.get(joint.name)) for joint in joints]
  return measure


def _load(text, bundle):
  """The `_Joint` of 'mulan' or 'clap=DIR'."""
  name, _, folder = text.partition('=')
  if name == OWN and not folder:
    if bundle is None or not bundle.has('mulan'):
      raise errors.UserError(
          'the listener joint=mulan is that of a bundle; give --bundle.')
    return _Joint(OWN, bundle.tokenizer('joint'),
                  bundle.tokens.audio.sample_rate_hz,
                  f'the MuLan of {bundle.identity}, which conditions its stages',
                  bundle.component_hash('mulan'))
  if name != CLAP or not folder:
    raise errors.UserError(
        f'the joint listener is {text!r}; expected {OWN}, or {CLAP}=DIR with a '
        f'CLAP that is stored there.')
  if not pathlib.Path(folder).is_dir():
    raise errors.UserError(
        f'joint={text}: there is no folder {folder}; download the checkpoint '
        f'there first, nothing is fetched here.')
  from musiclm_jax.tokenizers.adapters import hub  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import joint  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import options  # pylint: disable=g-import-not-at-top
  embedder = joint.JointEmbedder(
      options.JointOptions(folder), _DEFAULT_RATE_HZ)
  return _Joint(CLAP, embedder, _DEFAULT_RATE_HZ,
                f'CLAP of {folder}', hub.fingerprint(folder))


def _agreement(joint, clips, captions, seed):
  """The `pairing.Agreement` of clips with captions; None of fewer than two."""
  audio, texts, tracks = [], [], []
  for clip in clips.clips:
    text = clip.caption or captions.get(clip.id, '')
    if not text:
      continue
    try:
      sound = clips.read(clip.id, joint.rate_hz)
    except clip_sets.Refused:
      continue
    audio.append(np.asarray(joint.embedder.embed_audio(sound[None]))[0])
    texts.append(text)
    tracks.append(clip.track)
  if len(texts) < 2:
    return None
  # Many clips have one caption: it is embedded once.
  known = sorted(set(texts))
  vectors = dict(zip(known, np.asarray(joint.embedder.embed_text(known))))
  table = np.stack(audio) @ np.stack([vectors[text] for text in texts]).T
  return pairing.of_table(table, tracks, seed)


def _figure(joint, found, real):
  name = f'mcc_{joint.name}'
  if found is None:
    return measures.Figure(name, None, better='higher',
                           note='fewer than two clips with captions')
  parts = [] if real is None else [
      f'recordings {real.value:.3f} with their captions, {real.shuffled:.3f} '
      f'with others']
  parts += [f'these clips with others {found.shuffled:.3f}',
            f'p {found.p_value:.4f}', joint.about]
  return measures.Figure(name, found.value, found.low, found.high, found.count,
                         'higher', '; '.join(parts))
