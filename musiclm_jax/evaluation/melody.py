"""Does the melody embedder find a tune again, whoever plays it?

  held-out tunes ──> one version of each ──┐
  distractors ─────> one version of each ──┴─> the pool, windows every 1.5 s
  another version of a held-out tune ────────> the query, windows every 3 s
                                               score: mean over its windows of
                                               the best cosine in a recording

Queries are sorted by what differs: another instrument, another key (both by
arrangements), or hummed. Distractors are tunes of other clusters, of the
training split where the held-out ones do not suffice: the embedder knows those,
which makes them no easier to tell from a tune that it has never heard.

The baseline knows nothing but chroma: subsequence dynamic time warping of the
query's middle, at the best of the 12 transpositions.

  musiclm evaluate melody --bundle DIR --corpus DIR [--clips 24]

--corpus has tunes in several versions, as folk_gm has.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.metrics import retrieval
from musiclm_jax.tokenizers.melody import pairs

EVALUATION = {
    'help': 'is a tune found again in other versions?',
    'clips': 24,
    'clips_help': 'queries that chroma-DTW is tried on',
    'corpus_help': 'required: tunes in several versions',
}

MIN_POOL = 500
CLIP_SECONDS = 10  # what the stages are conditioned on
_POOL_STRIDE_SECONDS = 1.5
_MAX_SECONDS = 60  # of a recording that are heard
_CHROMA_RATE_HZ = 5
_BASELINE_POOL = 100
KINDS = dict(instrument='another instrument', key='another key',
             hummed='hummed')


@dataclasses.dataclass(frozen=True)
class Query:
  """A recording, and the place of its tune in the pool."""

  track: records.Track
  item: int
  kinds: tuple  # of KINDS


@dataclasses.dataclass(frozen=True)
class Task:
  """What is asked for and what it is sought in.

  Attributes:
    split: the records.Split of the queries.
    queries: Querys.
    pool: [(records.Split, records.Track)], one for each tune.
    distractors: {split: how many of the pool it gave}, queried ones left out.
  """

  split: records.Split
  queries: list
  pool: list
  distractors: dict


def build(corpus: records.Corpus, min_pool: int = MIN_POOL) -> Task:
  """Queries and pool of a corpus.

  Args:
    corpus: a records.Corpus whose tracks state `tune` and `melody`.
    min_pool: tunes in the pool; other splits fill it up as far as they go.

  Returns:
    A `Task`.

  Raises:
    UserError: no held-out tune is there in two versions.
  """
  name = next((n for n in ('test', 'validation') if n in corpus.splits and
               pairs.versions(corpus.split(n))), None)
  if name is None:
    raise errors.UserError(
        f'{corpus.name} has no tune in two versions in a test or validation '
        f'split; `musiclm data folk_gm` makes such a corpus.')
  split = corpus.split(name)
  queries, pool, clusters = [], [], set()
  for tracks in pairs.versions(split).values():
    reference = next((t for t in tracks if not _hummed(t)), tracks[0])
    for track in tracks:
      if track is not reference:
        queries.append(Query(track, len(pool), _kinds(track, reference)))
    pool.append((split, reference))
    clusters.add(_cluster(reference))
  distractors = {}
  order = [name] + [n for n in ('test', 'validation', 'train')
                    if n in corpus.splits and n != name]
  for other in order:
    for split_, track in _one_of_each(corpus.split(other)):
      if len(pool) >= max(min_pool, len(clusters)):
        break
      if _cluster(track) not in clusters:
        clusters.add(_cluster(track))
        pool.append((split_, track))
        distractors[other] = distractors.get(other, 0) + 1
  return Task(split, queries, pool, distractors)


def _one_of_each(split):
  """(split, track): one recording a tune, no hummed one if another is there."""
  tunes = {}
  for track in split:
    tune = track.meta.get('tune', track.id)
    if tune not in tunes or (_hummed(tunes[tune]) and not _hummed(track)):
      tunes[tune] = track
  return [(split, track) for track in tunes.values()]


def _hummed(track):
  return track.meta.get('arrangement') == 'hummed'


def _cluster(track):
  return track.meta.get('cluster', track.meta.get('tune', track.id))


def _kinds(track, reference):
  """What the query differs in; () if in nothing that is asked."""
  if _hummed(track) or _hummed(reference):
    return ('hummed',)
  differs = lambda name: track.meta.get(name) != reference.meta.get(name)
  return tuple(kind for kind, name in (('instrument', 'instrument'),
                                       ('key', 'key')) if differs(name))


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, baseline_queries: int = 24,
    seed: int = 0, say: report.Say | None = None,
    show: report.Show | None = None,
    min_pool: int = MIN_POOL) -> report.Evaluation:
  """Retrieval figures of a bundle's melody embedder.

  Args:
    bundle: a bundle.Bundle with 'melody'.
    corpus: a corpus's directory.
    baseline_queries: queries that chroma-DTW is tried on, at most; it seeks
      them among a part of the pool, and the embedder is judged there as well.
    seed: draws those.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.
    min_pool: tunes in the pool, if the corpus has them.

  Returns:
    A `report.Evaluation`.
  """
  bundle.require('melody')
  say, show = say or (lambda line: None), show or (lambda section: None)
  melody = bundle.tokenizer('melody')
  task = build(records.load(corpus), min_pool)
  say(f'{len(task.queries)} queries of {task.split.directory.name} among '
      f'{len(task.pool)} tunes')
  items = [melody.embed_windows(_read(*item)[None], _POOL_STRIDE_SECONDS)[0]
           for item in _counted(task.pool, say, 'pool')]
  queries = [melody.embed_windows(_read(task.split, q.track)[None])[0]
             for q in _counted(task.queries, say, 'queries')]
  own = np.array([q.item for q in task.queries])
  whole = np.array([[_score(q, item) for item in items] for q in queries])
  clip = np.array([[_score(_middle(q, melody.spec), item) for item in items]
                   for q in queries])
  result = report.Evaluation({}, [])

  add = functools.partial(result.add, show)
  add(*_retrieval(task, whole, clip, own, min_pool))
  if baseline_queries:
    add(*_baseline(task, clip, own, baseline_queries, seed, say))
  return result


def _read(split, track):
  """[N] the recording, its first minute if it is longer."""
  return split.read(track, 0, min(
      track.num_samples, _MAX_SECONDS * split.sample_rate_hz))


def _counted(things, say, what):
  """`things`, with a line every hundred."""
  for number, thing in enumerate(things):
    if number and not number % 100:
      say(f'{what}: {number} of {len(things)}')
    yield thing


def _score(query, item):
  """Mean over the query's windows of the best cosine in the item."""
  return float((query @ item.T).max(-1).mean())


def _middle(windows, spec):
  """The windows of a clip of 10 s in the middle."""
  count = min(spec.num_windows(CLIP_SECONDS), len(windows))
  start = (len(windows) - count) // 2
  return windows[start:start + count]


def _retrieval(task, whole, clip, own, min_pool):
  """Top 1 and 10 by what differs."""
  count = len(task.pool)
  held_out = count - sum(task.distractors.values())
  figures = dict(melody_pool=count, melody_queries=len(own),
                 melody_pool_queried=held_out)
  figures.update({f'melody_pool_from_{name}': n
                  for name, n in task.distractors.items()})
  lines = []
  for kind, title in dict(all='all queries', **KINDS).items():
    rows = np.array([kind == 'all' or kind in q.kinds for q in task.queries])
    figures[f'melody_{kind}_queries'] = rows.sum()
    if not rows.any():
      lines.append(report.Line(title, '-', '', 'no such query'))
      continue
    place, short = (
        retrieval.ranks(scores, own)[rows] for scores in (whole, clip))
    for k in (1, 10):
      figures[f'melody_{kind}_top{k}'] = np.mean(place < k)
      figures[f'melody_{kind}_{CLIP_SECONDS}s_top{k}'] = np.mean(short < k)
    lines.append(report.Line(
        title, f'{np.mean(place < 1):.2f}',
        f'top 10 {np.mean(place < 10):.2f}',
        f'{rows.sum()} queries; {CLIP_SECONDS} s of them: '
        f'{np.mean(short < 1):.2f} and {np.mean(short < 10):.2f}'))
  figures['melody_top1_chance'] = 1 / count
  figures['melody_top10_chance'] = min(10, count) / count
  lines.append(report.Line(
      'chance', f'{1 / count:.3f}', f'top 10 {min(10, count) / count:.3f}'))
  filled = ', '.join(f'{n} of {name}' for name, n in task.distractors.items())
  verdict = f'{held_out} of the tunes are queried' + (
      f', distractors: {filled}' if filled else '')
  if count < min_pool:
    verdict += f'; the corpus has no more, {min_pool} were wanted'
  return report.Section(
      f'Melody: top 1, the same tune among {count}', tuple(lines),
      verdict), figures


def _baseline(task, clip, own, limit, seed, say):
  """The same 10 s by chroma and DTW, in a part of the pool."""
  rng = np.random.default_rng(seed)
  rows = np.sort(rng.permutation(len(own))[:limit])
  others = np.setdiff1d(np.arange(len(task.pool)), own[rows])
  spare = max(0, _BASELINE_POOL - len(set(own[rows])))
  chosen = np.concatenate([
      np.unique(own[rows]), np.sort(rng.permutation(others)[:spare])])
  here = np.searchsorted(np.unique(own[rows]), own[rows])
  items = [chroma(_read(*task.pool[i]), task.split.sample_rate_hz)
           for i in chosen]
  scores = []
  for number in _counted(rows, say, 'chroma-DTW'):
    features = chroma(_read(task.split, task.queries[number].track),
                      task.split.sample_rate_hz)
    count = min(features.shape[1], CLIP_SECONDS * _CHROMA_RATE_HZ)
    start = (features.shape[1] - count) // 2
    scores.append([-dtw_cost(features[:, start:start + count], item)
                   for item in items])
    say(f'chroma-DTW: {len(scores)} of {len(rows)}')
  found = retrieval.ranks(np.array(scores), here)
  ours = retrieval.ranks(clip[rows][:, chosen], here)
  figures = dict(melody_baseline_queries=len(rows),
                 melody_baseline_pool=len(chosen))
  lines = []
  for name, title, place in (('chroma_dtw', 'chroma-DTW', found),
                             ('subset', 'the embedder', ours)):
    for k in (1, 10):
      figures[f'melody_{name}_top{k}'] = np.mean(place < k)
    lines.append(report.Line(title, f'{np.mean(place < 1):.2f}',
                             f'top 10 {np.mean(place < 10):.2f}'))
  lines.append(report.Line(
      'chance', f'{1 / len(chosen):.3f}',
      f'top 10 {min(10, len(chosen)) / len(chosen):.3f}'))
  return report.Section(
      f'Melody: top 1 of {CLIP_SECONDS} s, {len(rows)} of the queries among '
      f'{len(chosen)} of the tunes', tuple(lines)), figures


def chroma(audio: np.ndarray, rate: int) -> np.ndarray:
  """[12, T] float32 chroma of unit length, 5 frames a second."""
  import librosa  # pylint: disable=g-import-not-at-top
  hop = rate // (_CHROMA_RATE_HZ * 2)
  found = librosa.feature.chroma_stft(
      y=audio, sr=rate, n_fft=8192, hop_length=hop, tuning=0.0, norm=None)
  found = np.sqrt(found[:, :found.shape[1] // 2 * 2])
  found = found.reshape(12, -1, 2).mean(-1)
  return (found / (np.linalg.norm(found, axis=0) + 1e-6)).astype(np.float32)


def dtw_cost(query: np.ndarray, item: np.ndarray) -> float:
  """Mean cosine distance along the cheapest path, at the best transposition.

  Args:
    query: [12, Tq]; all of it is matched.
    item: [12, Ti]; a part of it is.
  """
  import librosa  # pylint: disable=g-import-not-at-top
  best = np.inf
  for shift in range(12):
    cost = 1.0 - np.roll(query, shift, axis=0).T @ item
    total = librosa.sequence.dtw(C=cost, subseq=True, backtrack=False)
    best = min(best, float(total[-1].min()) / query.shape[1])
  return best


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate melody`."""
  corpus, seed = asked.options.corpus, asked.options.seed
  if not corpus:
    raise errors.UserError(
        '`musiclm evaluate melody` wants --corpus DIR, tunes in several '
        'versions; `musiclm data folk_gm` makes one.')
  result = evaluate(asked.bundle, corpus, asked.options.clips, seed, asked.say,
                    asked.show)
  return runnable.Outcome(
      result.figures, result.sections, dict(corpus=corpus, seed=seed),
      f'The melody embedder of {asked.bundle.identity}',
      f'{result.figures["melody_queries"]:.0f} queries of {corpus}, seed '
      f'{seed}')
