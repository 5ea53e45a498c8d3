"""What do the semantic tokens know? Linear probes on frozen w2v-BERT.

  clips of 10 s ──> log-mel ───────────┐ clip: mean, deviation      instrument
               ──> untrained network ──┤   (tokens: histogram) ──>  family,
               ──> w2v-BERT features ──┤                            rhythm type
               ──> semantic tokens ────┘ every 40 ms, as it is ──>  the melody's
                                                                    pitch class

Each probe is fitted on training clips, its penalty chosen on validation, and
judged on test clips of other tunes; intervals draw tunes. Log-mel is what the
model is given, and random blocks already mix it over time: features that know
no more than those of the same network before its training have learned nothing
for the task. Beside the tokens stands a k-means of log-mel frames with as many
clusters. Chance is the best constant answer.

  musiclm evaluate semantic [--bundle DIR] [--corpus DIR] [--clips 300]

--corpus says what the families and rhythms are, as folk_gm does; without it a
small folk_gm is made once and kept in the user's cache. A training run is judged
like a bundle, once `musiclm export` has made it one.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax import progress
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import semantic_clips
from musiclm_jax.metrics import probes
from musiclm_jax.nn import kmeans
from musiclm_jax.nn import lloyd
from musiclm_jax.tokenizers.w2vbert import model as w2vbert_model
from musiclm_jax.tokenizers.w2vbert import tokenizer as tokenizer_lib

EVALUATION = {
    'help': "what do w2v-BERT's features and tokens know?",
    'components': ['w2vbert'],
    'packages': ['sklearn'],
    'clips': 300,
    'clips_help': 'test clips, and validation clips',
    'arguments': {
        '--train-clips': {
            'type': 'int', 'default': 1_500, 'metavar': 'N',
            'help': 'clips that the classifiers learn from (default: '
                    '%(default)s)'}},
}

FRAMES_PER_CLIP = 20  # of those with a note, for the pitch class
_BATCH = 8
INPUTS = dict(features='w2v-BERT features', tokens='semantic tokens',
              untrained='untrained network', mel='log-mel',
              mel_tokens='k-means of log-mels')
# What each is held against.
BASELINES = dict(
    features=dict(mel='log-mel', untrained='the untrained network'),
    tokens=dict(mel='log-mel', untrained='the untrained network',
                mel_tokens='k-means of log-mels'))
_IDS = ('tokens', 'mel_tokens')
_MEL_VECTORS, _MEL_ITERS = 100_000, 20  # ours
CLIP_TASKS = dict(family='instrument family', rhythm='rhythm type')
TASKS = dict(CLIP_TASKS, pitch='pitch class of the melody, every 40 ms')
SPLITS = ('train', 'validation', 'test')


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 300,
    train_clips: int = 1_500, seed: int = 0, say: report.Say | None = None,
    show: report.Show | None = None) -> report.Evaluation:
  """Probes of a bundle's semantic tokenizer.

  Args:
    bundle: a bundle.Bundle with 'w2vbert'.
    corpus: a corpus's directory.
    clips: test clips, and validation clips, at most.
    train_clips: training clips, at most.
    seed: draws the frames of the pitch class and the untrained network.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.

  Returns:
    A `report.Evaluation`.

  Raises:
    UserError: no w2v-BERT, or a corpus that states nothing to be probed for.
  """
  bundle.require('w2vbert')
  say, show = say or (lambda line: None), show or (lambda section: None)
  chosen = semantic_clips.choose(
      corpus, bundle.tokens.audio.sample_rate_hz, clips, train_clips)
  tasks = _tasks(chosen, corpus)
  tokenizer = bundle.get('w2vbert')
  say(', '.join(f'{len(chosen[s])} {s} clips' for s in SPLITS))
  untrained = _untrained(tokenizer, seed)
  clusters = _mel_clusters(tokenizer, chosen['train'], seed, say)
  heard = {name: _hear(tokenizer, untrained, clusters, chosen[name], seed, say,
                       name) for name in SPLITS}
  result = report.Evaluation(
      {f'semantic_{name}_clips': float(len(chosen[name])) for name in SPLITS},
      [])
  for task in tasks:
    say(f'probes: {TASKS[task]}')
    result.add(show, *_probe(task, heard))
  return result


def _tasks(chosen, corpus):
  """The tasks that the training and test clips have labels of."""
  several = lambda clips, name: len(
      {c.track.meta.get(name) for c in clips} - {None, ''}) > 1
  tasks = [t for t in CLIP_TASKS if several(chosen['train'], t) and any(
      c.track.meta.get(t) for c in chosen['test'])]
  if all(any(c.track.meta.get('melody') for c in clips)
         for clips in chosen.values()):
    tasks.append('pitch')
  if not tasks:
    raise errors.UserError(
        f'the tracks of {corpus} state no `family`, `rhythm` or `melody` to be '
        f'probed for; `musiclm data folk_gm` makes a corpus that does.')
  return tasks


@dataclasses.dataclass(frozen=True)
class _Heard:
  """What the probes are given of one split; rows are clips, or frames.

  Attributes:
    clips: [Clip].
    pooled: {input: [n, D] of clips}.
    frames: {input: [m, D] of frames with a note}; ids are sparse.
    pitches: [m] pitch classes.
    pieces: [m] the tune of each frame.
  """

  clips: list
  pooled: dict
  frames: dict
  pitches: np.ndarray
  pieces: np.ndarray

  def examples(self, task, name):
    """`probes.Examples` of a task from one of `INPUTS`."""
    if task == 'pitch':
      return probes.Examples(self.frames[name], self.pitches, self.pieces)
    labels = np.array([c.track.meta.get(task) or '' for c in self.clips])
    known = labels != ''
    pieces = np.array([semantic_clips.piece(c.track) for c in self.clips])
    return probes.Examples(
        self.pooled[name][known], labels[known], pieces[known])


def _untrained(tokenizer, seed):
  """The features of the tokenizer's network with random weights."""
  module = w2vbert_model.W2vBert(tokenizer.config)
  init = jax.jit(functools.partial(module.init, method='features'))
  rate = tokenizer.config.input_rate_hz
  params = init(jax.random.key(seed), np.zeros((1, rate), np.float32))['params']
  return tokenizer_lib.FeatureExtractor(tokenizer.config, params)


def _mel_clusters(tokenizer, clips, seed, say):
  """[B, T, D] log-mel -> [B, T] ids: as many clusters as there are tokens.

  Fitted on training clips as the tokens' own are (nn/kmeans.py).
  """
  say('k-means of log-mels')
  per_clip = semantic_clips.CLIP_SECONDS * tokenizer.spec.frame_rate_hz
  most = -(-_MEL_VECTORS // per_clip)
  some = clips[::max(1, len(clips) // most)]
  with kmeans.VectorFile() as vectors:
    for start in range(0, len(some), _BATCH):
      rows = some[start:start + _BATCH]
      mels = _mels(tokenizer, _audio(rows))[:len(rows)]
      vectors.append(mels.reshape(-1, mels.shape[-1]))
    fitted = kmeans.fit(vectors, len(tokenizer.centroids), seed, _MEL_ITERS,
                        1e-4, _MEL_VECTORS, progress.seldom(say))
  return lambda mels: np.asarray(lloyd.nearest(
      ((mels - fitted.mean) / fitted.std).reshape(-1, mels.shape[-1]),
      fitted.centroids)).reshape(mels.shape[:-1])


def _hear(tokenizer, untrained, clusters, clips, seed, say, split):
  """`_Heard` of some clips."""
  rng = np.random.default_rng([seed, SPLITS.index(split)])
  size = len(tokenizer.centroids)
  pooled, frames = ({name: [] for name in INPUTS} for _ in range(2))
  pitches, pieces = [], []
  for start in range(0, len(clips), _BATCH):
    if start and not start % (10 * _BATCH):
      say(f'{split}: {start} of {len(clips)} clips')
    rows = clips[start:start + _BATCH]
    made = _inputs(tokenizer, untrained, clusters, rows)
    for row, clip in enumerate(rows):
      mine = {name: made[name][row] for name in INPUTS}
      known = clip.pitch_classes(
          len(mine['tokens']), 1 / tokenizer.spec.frame_rate_hz)
      drawn = np.sort(rng.permutation(np.flatnonzero(known >= 0))[
          :FRAMES_PER_CLIP])
      for name in INPUTS:
        pooled[name].append(_pooled(mine[name], size))
        frames[name].append(mine[name][drawn])
      pitches.append(known[drawn])
      pieces += [semantic_clips.piece(clip.track)] * len(drawn)
  flat = {name: np.concatenate(parts) for name, parts in frames.items()}
  for name in _IDS:
    flat[name] = _one_hot(flat[name], size)
  return _Heard(clips, {n: np.stack(x) for n, x in pooled.items()}, flat,
                np.concatenate(pitches), np.array(pieces))


def _pooled(stream, size):
  """[D] of a clip: mean and deviation of [T, D], or of [T] tokens a histogram.

  A histogram's roots have length 1, and their products compare histograms.
  """
  if stream.ndim == 1:
    return np.sqrt(np.bincount(stream, minlength=size) / len(stream))
  return np.concatenate([stream.mean(0), stream.std(0)])


def _one_hot(tokens, size):
  """[n] -> [n, size], sparse."""
  from scipy import sparse  # pylint: disable=g-import-not-at-top
  count = len(tokens)
  return sparse.csr_matrix(
      (np.ones(count, np.float32), (np.arange(count), tokens)), (count, size))


def _inputs(tokenizer, untrained, clusters, clips):
  """{name of INPUTS: [B, T, D], or of ids [B, T]} of clips."""
  audio = _audio(clips)
  features, mels = tokenizer.features(audio), _mels(tokenizer, audio)
  return dict(
      features=features, tokens=tokenizer.quantize(features),
      untrained=np.asarray(untrained(
          audio, np.full(len(audio), audio.shape[1]))),
      mel=mels, mel_tokens=clusters(mels))


def _audio(clips):
  """[_BATCH, N]: one shape for all; rows beyond the clips are silent."""
  samples = semantic_clips.CLIP_SECONDS * clips[0].split.sample_rate_hz
  audio = np.zeros((_BATCH, samples), np.float32)
  for row, clip in enumerate(clips):
    audio[row] = clip.split.read(clip.track, clip.start, samples)
  return audio


def _mels(tokenizer, audio):
  return np.asarray(_log_mel(
      audio, tokenizer.config.mel_spec(), tokenizer.spec.subsampling,
      tokenizer.config.input_rate_hz))


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _log_mel(audio, spec, per_token, rate):
  """[B, N] -> [B, T, per_token * mels]: the log-mel frames of each token."""
  mels = audio_lib.log_mel(
      audio_lib.resample(audio, rate, spec.sample_rate_hz), spec)
  return mels.reshape(len(mels), -1, per_token * spec.num_mels)


def _probe(task, heard):
  """One task by every input: (report.Section, figures)."""
  found = {}
  for name in INPUTS:
    splits = [heard[split].examples(task, name) for split in SPLITS]
    found[name] = probes.probe(*splits, standardise=name not in _IDS)
  train, _, test = splits
  key = f'semantic_{task}'
  count, pieces = len(test.labels), len(np.unique(test.groups))
  figures = {
      f'{key}_chance': found['mel'].chance, f'{key}_examples': count,
      f'{key}_tunes': pieces, f'{key}_classes': len(np.unique(train.labels)),
      f'{key}_train_examples': len(train.labels)}
  lines = []
  for name, result in found.items():
    low, high = result.interval()
    figures.update({f'{key}_{name}': result.accuracy, f'{key}_{name}_low': low,
                    f'{key}_{name}_high': high})
    said = [f'95 % interval {low:.2f} to {high:.2f}']
    for other, title in BASELINES.get(name, {}).items():
      gained = _gain(result, found[other])
      figures.update(zip(
          (f'{key}_{name}_over_{other}{x}' for x in ('', '_low', '_high')),
          gained))
      said.append(
          'over {} {:+.2f}, {:+.2f} to {:+.2f}'.format(title, *gained))
    lines.append(report.Line(INPUTS[name], f'{result.accuracy:.2f}',
                             '; '.join(said)))
  lines.append(report.Line('chance', f'{found["mel"].chance:.2f}',
                           'the most frequent answer'))
  return report.Section(
      f'{TASKS[task]}: share named rightly, {count} '
      f'{"frames" if task == "pitch" else "clips"} of {pieces} tunes',
      tuple(lines), _verdict(figures, key)), figures


def _gain(result, other):
  """(mean, low, high) of what one probe names rightly more than another."""
  more = result.correct.astype(float) - other.correct
  return (more.mean(), *probes.grouped_interval(more, result.groups))


def _verdict(figures, key):
  """What the intervals allow to say."""
  said = []
  for name, others in BASELINES.items():
    if figures[f'{key}_{name}_low'] <= figures[f'{key}_chance']:
      said.append(f'the {name} cannot be told from chance')
      continue
    against = [f'{_side(figures, f"{key}_{name}_over_{other}")} {title}'
               for other, title in others.items()]
    said.append(f'the {name} know more than chance, '
                f'{", ".join(against[:-1])} and {against[-1]}')
  return '; '.join(said)


def _side(figures, key):
  if figures[f'{key}_low'] > 0:
    return 'more than'
  return 'less than' if figures[f'{key}_high'] < 0 else 'about as much as'


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate semantic`."""
  options = asked.options
  held_out.check_train_clips(options.train_clips)
  result = evaluate(asked.bundle, asked.corpus, options.clips,
                    options.train_clips, options.seed, asked.say, asked.show)
  return runnable.Outcome(
      result.figures, result.sections,
      dict(corpus=str(asked.corpus), seed=options.seed),
      f'The semantic tokens of {asked.bundle.identity}',
      f'{result.figures["semantic_test_clips"]:.0f} clips of {asked.corpus}, '
      f'seed {options.seed}')
