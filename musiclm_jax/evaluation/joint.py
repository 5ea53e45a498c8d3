"""The joint embedding alone: do captions and recordings find each other?

  recordings, the first 30 s ──> windows of 10 s ──> their mean ──> M_A
  all captions of each ────────────────────────────────────────────> M_T

  M_T and M_A    retrieval in both directions, the modality gap
  tags as text   zero-shot tagging
  windows        what the RVQ leaves over, and how much of it is in use

Recordings that carry a caption word for word are all right answers to it, and
each of its captions is a right answer to a recording. Captions that only mean
the same are wrong ones: figures of a corpus with many alike are low.

  musiclm evaluate joint [--bundle DIR] [--corpus DIR] [--clips 200]

--corpus is a corpus, of which the test split counts, or a folder of audio files
with captions. Without it a small folk_gm is made once and kept in the user's
cache.
"""

from collections.abc import Iterator
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import zero_shot
from musiclm_jax.metrics import retrieval
from musiclm_jax.nn import quantize
from musiclm_jax.tokenizers.mulan import gap
from musiclm_jax.tokenizers.mulan import rvq

EVALUATION = {
    'help': "do captions and recordings find each other in MuLan's space?",
    'components': ['mulan'],
    'clips': 200,
    'clips_help': 'recordings',
    'corpus_help': 'a corpus, or a folder of audio files with captions',
}

MIN_TRACKS = 2
_CLIP_SECONDS = 30  # of a recording that are heard, as by the semantic stage
_SAY_EVERY = 25
_FOLDER = 'files'  # what the split of a folder is called


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Recordings and their captions.

  Attributes:
    name: of the split.
    split: the records.Split.
    tracks: [A] records.Tracks of it.
    captions: [T] different strings.
    right: [T, A] bool: the recordings that carry a caption.
  """

  name: str
  split: records.Split
  tracks: list
  captions: list
  right: np.ndarray

  @property
  def shared(self) -> int:
    """Captions of several recordings."""
    return int((self.right.sum(axis=1) > 1).sum())


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """All of length 1.

  Attributes:
    audio: [A, D] of the recordings.
    vectors: [M, D] of their windows and the running means of them.
    text: [T, D] of the captions.
  """

  audio: np.ndarray
  vectors: np.ndarray
  text: np.ndarray


@dataclasses.dataclass
class Evaluation(report.Evaluation):
  """What came out, and of what."""

  pairs: Pairs


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 200,
    say: report.Say | None = None,
    show: report.Show | None = None) -> Evaluation:
  """Every figure of a bundle's joint embedding.

  Args:
    bundle: a bundle.Bundle with 'mulan'.
    corpus: a corpus's directory, or a folder of audio files; with captions.
    clips: recordings, at most.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.

  Returns:
    An `Evaluation`.

  Raises:
    UserError: no captions, or a corpus of another rate.
  """
  bundle.require('mulan')
  say, show = say or (lambda line: None), show or (lambda section: None)
  joint = bundle.tokenizer('joint')
  with choose(corpus, clips, bundle.tokens.audio.sample_rate_hz) as pairs:
    say(f'{len(pairs.captions)} captions of {len(pairs.tracks)} recordings, '
        f'split {pairs.name}')
    if pairs.name not in held_out.SPLITS:
      say(f'nothing is held out in {corpus}: a bundle that was trained on it '
          f'knows these recordings')
    found = embed(joint, pairs, say)
  result = Evaluation(dict(
      joint_clips=len(pairs.tracks), joint_captions=len(pairs.captions),
      joint_shared_captions=pairs.shared), [], pairs)

  add = functools.partial(result.add, show)
  scores = found.text @ found.audio.T
  add(*_directions(pairs, scores))
  asked = zero_shot.tags(pairs.tracks)
  if asked:
    add(*_tags(asked, found.audio, joint.embed_text(
        [tag.prompt for tag in asked])))
  else:
    say(f'zero-shot tagging is left out: no tag that at least '
        f'{zero_shot.MIN_TRACKS} of the recordings have and as many have not')
  add(*_rvq(joint, found))
  add(*_gap(joint, pairs, found))
  return result


@contextlib.contextmanager
def choose(place: str | pathlib.Path, count: int, rate: int) -> Iterator[Pairs]:
  """`Pairs` to judge: of a corpus what is held out, of a folder all of it.

  Args:
    place: the directory. A folder of audio files is made a corpus, which is
      there within the context.
    count: recordings, at most; families in turn.
    rate: samples a second that the bundle works at.

  Raises:
    UserError: no directory, another rate, or fewer than two recordings with
      captions.
  """
  if (pathlib.Path(place) / 'manifest.json').is_file():
    corpus = held_out.corpus_at(place, rate)
    held = [name for name in held_out.SPLITS if name in corpus.splits]
    rest = [name for name in corpus.splits if name not in held]
    yield _pairs(place, count, [(n, corpus.split(n)) for n in held + rest])
    return
  from musiclm_jax.data import audio_folder  # pylint: disable=g-import-not-at-top
  from musiclm_jax.data.audio_folder import labels  # pylint: disable=g-import-not-at-top
  if pathlib.Path(place).is_dir() and labels.locate(place) is None:
    raise _no_captions(place)
  with tempfile.TemporaryDirectory() as made:
    made = pathlib.Path(made, 'corpus')
    audio_folder.build(place, made)
    corpus = held_out.corpus_at(made, rate)
    yield _pairs(place, count, [(_FOLDER, records.join(
        _FOLDER, [corpus.split(name) for name in corpus.splits]))])


def _pairs(place, count, splits):
  """`Pairs` of the first of (name, split) with enough captions."""
  for name, split in splits:
    tracks = held_out.in_turn(
        (t for t in split if t.captions and t.num_samples),
        lambda t: t.meta.get('family', ''))[:count]
    if len(tracks) >= MIN_TRACKS:
      break
  else:
    raise _no_captions(place)
  captions = list(dict.fromkeys(c for t in tracks for c in t.captions))
  row = {caption: i for i, caption in enumerate(captions)}
  right = np.zeros((len(captions), len(tracks)), bool)
  for column, track in enumerate(tracks):
    right[[row[c] for c in track.captions], column] = True
  return Pairs(name, split, tracks, captions, right)


def _no_captions(place):
  return errors.UserError(
      f'{place} has fewer than {MIN_TRACKS} recordings with captions; put '
      f'captions.csv (file,caption) beside the audio files and give their '
      f'folder, or choose another --corpus.')


def embed(joint: Any, pairs: Pairs, say: report.Say) -> Embeddings:
  """`Embeddings` of `Pairs`."""
  split, vectors, audio = pairs.split, [], []
  longest = _CLIP_SECONDS * split.sample_rate_hz
  for number, track in enumerate(pairs.tracks, 1):
    clip = split.read(track, 0, min(longest, track.num_samples))
    vectors.append(rvq.clip_vectors(joint.embed_audio_windows(clip[None])[0]))
    audio.append(vectors[-1][-1])  # the mean of all windows
    if not number % _SAY_EVERY or number == len(pairs.tracks):
      say(f'recordings: {number} of {len(pairs.tracks)}')
  text = joint.embed_text(pairs.captions)
  say(f'captions: {len(text)}')
  return Embeddings(np.stack(audio), np.concatenate(vectors), text)


def recalls(
    prefix: str, scores: np.ndarray,
    right: np.ndarray) -> tuple[dict[str, float], list[report.Line]]:
  """({figure: value}, report.Lines) of retrieval in one direction.

  Args:
    prefix: of the figures' names.
    scores: [n, items].
    right: [n, items] bool.
  """
  figures, lines = {}, []
  items, count = scores.shape[1], right.sum(axis=1)

  def add(name, title, value, chance):
    figures[f'{prefix}_{name}'] = value
    figures[f'{prefix}_{name}_chance'] = chance
    lines.append(report.Line(title, f'{value:.3f}', f'chance {chance:.3f}'))

  for k in (1, 5, 10):
    add(f'r{k}', f'R@{k}', retrieval.recall(scores, k, right),
        retrieval.recall_chance(items, k, count))
  add('map', 'mAP', retrieval.mean_average_precision(scores, right),
      retrieval.average_precision_chance(items, count))
  return figures, lines


def _directions(pairs, scores):
  """Retrieval by text and by audio."""
  figures, lines = {}, []
  for prefix, title, table, right in (
      ('text_to_audio', 'text to audio', scores, pairs.right),
      ('audio_to_text', 'audio to text', scores.T, pairs.right.T)):
    mine, rows = recalls(prefix, table, right)
    figures.update(mine)
    lines += [dataclasses.replace(row, name=f'{title}, {row.name}')
              for row in rows]
  alike = (f'{pairs.shared} captions stand word for word at several '
           f'recordings, which are then all right' if pairs.shared else
           'no caption stands at two recordings')
  return report.Section(
      f'Retrieval: {len(pairs.captions)} captions, {len(pairs.tracks)} '
      f'recordings', tuple(lines),
      f'{alike}; captions that only mean the same count as wrong, and so does '
      f'a tie'), figures


def _tags(asked, audio, text):
  """Areas under the ROC curve, by group."""
  areas = zero_shot.areas(asked, audio, text)
  groups = np.array([tag.group for tag in asked])
  low, high = (retrieval.bootstrap_interval(areas) if len(areas) > 1
               else (areas[0], areas[0]))
  figures = dict(zero_shot_auc=areas.mean(), zero_shot_auc_low=low,
                 zero_shot_auc_high=high, zero_shot_auc_chance=0.5,
                 zero_shot_tags=len(areas))
  lines = [report.Line(
      'all tags', f'{areas.mean():.3f}', 'chance 0.500',
      f'{len(areas)} tags, 95 % interval of their mean {low:.3f} to '
      f'{high:.3f}')]
  for group in dict.fromkeys(groups):
    mine = np.flatnonzero(groups == group)
    figures[f'zero_shot_{group}_auc'] = areas[mine].mean()
    figures[f'zero_shot_{group}_tags'] = len(mine)
    best, worst = (asked[mine[f(areas[mine])]].prompt
                   for f in (np.argmax, np.argmin))
    ends = f'; best "{best}", worst "{worst}"' if len(mine) > 1 else ''
    lines.append(report.Line(
        group, f'{areas[mine].mean():.3f}', 'chance 0.500',
        f'{len(mine)} tag{"s" if len(mine) > 1 else ""}{ends}'))
  return report.Section(
      f'Zero-shot tags, each of {zero_shot.MIN_TRACKS} recordings or more: '
      f'area under the ROC curve', tuple(lines)), figures


def _rvq(joint, found):
  """Distortion and usage by level."""
  size = joint.codebooks.shape[1]
  left, text = (
      quantize.level_report(vectors, joint.codebooks)['distortion']
      for vectors in (found.vectors, found.text))
  usage = np.asarray(quantize.usage(joint.quantize(found.vectors), size))
  figures, lines = {'rvq_vectors': len(found.vectors)}, []
  for level, row in enumerate(zip(left, text, usage), 1):
    for name, value in zip(
        ('rvq_distortion', 'rvq_text_distortion', 'rvq_usage'), row):
      figures[f'{name}_{level:02d}'] = value
    lines.append(report.Line(
        f'level {level}', f'{row[0]:.1%}', f'text {row[1]:.1%}',
        f'usage {row[2]:.0%}'))
  return report.Section(
      'RVQ: variance left after each level', tuple(lines),
      f'usage of the {size} entries, in % of what {len(found.vectors)} evenly '
      f'spread vectors would use'), figures


def _gap(joint, pairs, found):
  """How far the cloud of texts lies from that of recordings."""
  figures = gap.measure(joint, found.audio, found.text, pairs.right)
  return report.Section('Modality gap: captions and their recordings', (
      report.Line('equal first token',
                  f'{figures["equal_first_level"]:.3f}',
                  f'shuffled {figures["equal_first_level_shuffled"]:.3f}'),
      report.Line('cosine', f'{figures["positive_cosine"]:.3f}',
                  f'shuffled {figures["shuffled_cosine"]:.3f}'),
      report.Line('cosine of the means', f'{figures["means_cosine"]:.3f}',
                  '1: no gap'),
  )), figures


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate joint`."""
  result = evaluate(asked.bundle, asked.corpus, asked.options.clips, asked.say,
                    asked.show)
  return runnable.Outcome(
      result.figures, result.sections,
      dict(corpus=str(asked.corpus), split=result.pairs.name),
      f'The joint embedding of {asked.bundle.identity}',
      f'{len(result.pairs.tracks)} recordings of {asked.corpus}, split '
      f'{result.pairs.name}')
