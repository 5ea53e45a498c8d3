"""Captions for sound that has none, as in Noise2Music (Huang et al. 2023).

  sentences ──MuLan──> [S, D] ──┐
  tracks ──10 s windows, mean──> K nearest of each ──> N of them, rare ones first

A sentence that is near to much would be on everything: of a track's nearest, one
is drawn with a probability that is inverse to how many tracks it is near to.
What is written is the corpus again, with the sentences behind the captions that
tracks have.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import hashlib
import os
from typing import Any

import numpy as np

from musiclm_jax import contracts
from musiclm_jax import errors
from musiclm_jax import files as files_lib
from musiclm_jax import progress as progress_lib
from musiclm_jax import records
from musiclm_jax import text as text_lib
from musiclm_jax.data import tables

_TEXTS_AT_ONCE = 256
_SIMILARITIES_AT_ONCE = 1 << 24  # floats: 64 MB


@dataclasses.dataclass(frozen=True)
class Plan:
  """How sentences are chosen.

  Attributes:
    nearest: K, sentences that a track's are drawn from.
    draws: N, sentences that a track gets; all different.
    seed: any int; with a track's id it decides what is drawn.
  """

  nearest: int = 10  # paper (Noise2Music)
  draws: int = 3  # paper (Noise2Music)
  seed: int = 0

  def __post_init__(self):
    if not 1 <= self.draws <= self.nearest:
      raise errors.UserError(
          f'--draws is {self.draws} and --nearest {self.nearest}; expected '
          f'1 <= draws <= nearest.')
    if self.seed < 0:
      raise errors.UserError(f'--seed is {self.seed}; expected 0 or more.')


def read_sentences(path: str | os.PathLike) -> list[str]:
  """The lines of a text file, each once, blank ones left out.

  Raises:
    UserError: no such file, not UTF-8, or nothing in it.
  """
  path = files_lib.expand(path)
  errors.check_input(path, 'sentences')
  lines = tables.decoded(path, path.read_bytes()).split('\n')
  found = list(dict.fromkeys(
      line.strip() for line in lines if not text_lib.is_blank(line)))
  if not found:
    raise errors.UserError(f'sentences {path} is empty; expected one a line.')
  return found


def label(corpus: str | os.PathLike, sentences: Sequence[str],
          joint: contracts.JointEmbedder, out_dir: str | os.PathLike,
          plan: Plan = Plan(), progress: bool = True, **manifest: Any
          ) -> dict[str, Any]:
  """Writes a corpus again, with sentences that fit.

  Args:
    corpus: with tracks at the rate that `joint` takes.
    sentences: to choose from.
    joint: embeds both.
    out_dir: where; must not exist.
    plan: how.
    progress: False: print nothing.
    **manifest: what else the manifest says about it.

  Returns:
    dict(tracks, sentences, used: different ones, most: tracks that have the
    most frequent one); the manifest holds it too, under `pseudo_captions`.

  Raises:
    UserError: no corpus, fewer sentences than `plan` draws from, out_dir exists.
  """
  source, out_dir = records.Corpus(files_lib.expand(corpus)), (
      files_lib.expand(out_dir))
  if len(sentences) < plan.nearest:
    raise errors.UserError(
        f'{len(sentences)} sentences; expected at least the {plan.nearest} of '
        f'--nearest; give more, or a smaller --nearest.')
  kept = {k: v for k, v in source.manifest.items() if k not in (
      'format', 'name', 'sample_rate_hz', 'splits')}
  with records.Writer(out_dir, source.name, source.sample_rate_hz,
                      **kept) as writer, progress_lib.Progress() as shown:
    show = shown.show if progress else lambda *unused: None
    near = nearest(_embedded(source, joint, show),
                   embed_texts(joint, sentences, show), plan.nearest)
    drawn = draw(near, [track.id for _, track in _tracks(source)], plan)
    for done, ((split, track), chosen) in enumerate(
        zip(_tracks(source), drawn), 1):
      texts = [sentences[i] for i in chosen]
      meta = dict(
          track.meta, pseudo_captions=texts,
          captions=list(dict.fromkeys([*track.captions, *texts])))
      meta.pop('checksum', None)  # the writer's affair
      writer.add(split.directory.name, track.id, split.read(track), **meta)
      show('writes', done, len(drawn), ' tracks')
    counts = np.bincount(drawn.ravel())
    summary = dict(tracks=len(drawn), sentences=len(sentences),
                   used=int(np.count_nonzero(counts)), most=int(counts.max()))
    writer.note(pseudo_captions=dict(
        summary, **dataclasses.asdict(plan), **manifest, sentences_sha256=(
            hashlib.sha256('\n'.join(sentences).encode()).hexdigest())))
  return summary


def embed_texts(joint: contracts.JointEmbedder, texts: Sequence[str],
                show: Any = lambda *unused: None) -> np.ndarray:
  """[len(texts), D] float32."""
  parts = []
  for start in range(0, len(texts), _TEXTS_AT_ONCE):
    part = texts[start:start + _TEXTS_AT_ONCE]
    parts.append(np.asarray(joint.embed_text(part), np.float32))
    show('sentences', start + len(part), len(texts), '')
  return np.concatenate(parts)


def embed_track(joint: contracts.JointEmbedder, audio: np.ndarray, rate: int
                ) -> np.ndarray:
  """[D] float32 at unit length: the mean of windows that do not overlap.

  Args:
    joint: whose windows are `spec.window_seconds` long.
    audio: [N] float32, N > 0. What is left behind the last whole window is not
      heard, unless it is all there is.
    rate: of the audio, in Hz.
  """
  size = joint.spec.window_seconds * rate
  count = max(1, len(audio) // size)
  windows = np.pad(audio[:count * size], (0, max(0, size - len(audio))))
  made = np.asarray(joint.embed_audio_windows(windows.reshape(count, size)))
  mean = made.reshape(count, -1).mean(0, dtype=np.float32)
  return mean / max(float(np.linalg.norm(mean)), 1e-9)


def nearest(tracks: Iterable[np.ndarray], sentences: np.ndarray, count: int
            ) -> np.ndarray:
  """The sentences most similar to each track, the first is nearest.

  Args:
    tracks: [D] each.
    sentences: [S, D].
    count: K, at most S.

  Returns:
    [tracks, K] int64 indices; equals in the order of the list.
  """
  found, waiting = [], []
  most = max(1, _SIMILARITIES_AT_ONCE // len(sentences))
  for track in tracks:
    waiting.append(track)
    if len(waiting) == most:
      found.append(_nearest(np.stack(waiting), sentences, count))
      waiting = []
  if waiting:
    found.append(_nearest(np.stack(waiting), sentences, count))
  return np.concatenate([np.zeros((0, count), np.int64), *found])


def _nearest(tracks, sentences, count):
  similar = tracks @ sentences.T
  some = np.sort(np.argpartition(-similar, count - 1, axis=1)[:, :count], axis=1)
  order = np.argsort(-np.take_along_axis(similar, some, 1), axis=1, kind='stable')
  return np.take_along_axis(some, order, 1)


def draw(near: np.ndarray, ids: Sequence[str], plan: Plan) -> np.ndarray:
  """[tracks, N] out of [tracks, K], the nearest of them first.

  The probability is inverse to the number of tracks that a sentence is near to
  (Noise2Music); the draws of a track depend on its id, not on its place.

  Args:
    near: of `nearest`.
    ids: of the tracks.
    plan: draws and seed.
  """
  frequency = np.bincount(near.ravel())
  drawn = np.zeros((len(near), plan.draws), np.int64)
  for row, (choices, name) in enumerate(zip(near, ids)):
    digest = hashlib.sha256(f'{plan.seed}/{name}'.encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], 'big'))
    weights = 1.0 / frequency[choices]
    places = rng.choice(len(choices), plan.draws, replace=False,
                        p=weights / weights.sum())
    drawn[row] = choices[np.sort(places)]
  return drawn


def _tracks(corpus) -> Iterator[tuple[records.Split, records.Track]]:
  for name in corpus.splits:
    split = corpus.split(name)
    for track in split:
      yield split, track


def _embedded(corpus, joint, show):
  total = sum(len(corpus.split(name)) for name in corpus.splits)
  for done, (split, track) in enumerate(_tracks(corpus), 1):
    yield embed_track(joint, split.read(track), corpus.sample_rate_hz)
    show('listens', done, total, ' tracks')
