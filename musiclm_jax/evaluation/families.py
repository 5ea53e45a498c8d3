"""Does the instrument family that a caption names reach the tokens?

  training clips ──> semantic tokens ──> a classifier of token histograms ─┐
  held-out recordings ──> their tokens ────────────────────────────────────┤
  their captions ──> MuLan ──> codes ──> the semantic stage ──> tokens ────┴─> family
                       └─────────┴── the same question asked of embeddings and
                                     codes, by classifiers of their own

A family may get lost on the way from a caption to what is heard. Each place of
the way is asked with a logistic regression that is fitted on training clips, so
the first place that cannot name the family is where it is lost. Recordings'
tokens say how far the classifier of tokens can be trusted. Beside each stands
what the same answers get in another order (shuffled), and below them the share
of the most frequent family (chance).

  musiclm evaluate families [--bundle DIR] [--corpus DIR] [--clips 96]
                            [--train-clips 700]

--corpus says what the families are and has captions that name them, as folk_gm
does; without it a small folk_gm is made once and kept in the user's cache.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.decoding import categorical
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import family
from musiclm_jax.metrics import probes
from musiclm_jax.metrics import retrieval
from musiclm_jax.nn import quantize
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib
from musiclm_jax.systems.musiclm import settings as settings_lib
from musiclm_jax.systems.musiclm import tracks

EVALUATION = {
    'help': 'does the instrument family of a caption reach the tokens?',
    'components': ['codec', 'w2vbert', 'mulan', 'semantic', 'coarse'],
    'packages': ['sklearn'],
    'clips': 96,
    'clips_help': 'held-out recordings, and clips drawn from their captions',
    'arguments': {
        '--train-clips': {
            'type': 'int', 'default': 700, 'metavar': 'N',
            'help': 'clips that the classifiers learn from (default: '
                    '%(default)s)'}},
    'order': 2,
}

SECONDS = 10  # of each clip
_BATCH = 8
# ours: weak penalties, since the inputs are short vectors of length about 1.
_INVERSE_PENALTY, _ITERATIONS = 20.0, 300


@dataclasses.dataclass(frozen=True)
class Named:
  """What a classifier says of the held-out clips.

  Attributes:
    title: what it was shown.
    heard: [n] families.
    note: what else the line says.
  """

  title: str
  heard: np.ndarray
  note: str = ''


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 96,
    train_clips: int = 700, seed: int = 0,
    say: Callable[[str], None] | None = None,
    show: Callable[[report.Section], None] | None = None) -> report.Evaluation:
  """Asks for the family at every place from a caption to drawn tokens.

  Args:
    bundle: a bundle.Bundle with what EVALUATION names.
    corpus: a corpus's directory with families, captions and a train split.
    clips: held-out recordings.
    train_clips: clips of 10 s that the classifiers learn from.
    seed: of the drawn tokens.
    say: takes a line of progress.
    show: takes each finished Section.

  Raises:
    UserError: the corpus lacks families, captions or a train split.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  rate = bundle.tokens.audio.sample_rate_hz
  data = held_out.load(corpus, clips, SECONDS, train_clips, rate)
  train, test = (_known(part, corpus) for part in (data.train, data.clips))
  asked = np.array(test.families)
  say(f'{len(test)} clips of {data.corpus}, split {data.split}, {len(train)} '
      f'to learn from')
  result = report.Evaluation(dict(
      families_clips=float(len(test)), families_train_clips=float(len(train)),
      families_classes=float(len(set(train.families))),
      families_chance=probes.most_frequent(asked)), [])
  found = _tokens(bundle, train, test, seed, say)
  result.add(show, *section('semantic tokens', found, asked))
  say('embeddings and codes')
  found = _embeddings(bundle.get('mulan'), train, test)
  result.add(show, *section("MuLan's vectors", found, asked))
  return result


def _known(clips: held_out.Clips | None, corpus) -> held_out.Clips:
  """Those of `clips` with a family and a caption."""
  rows = np.flatnonzero([
      bool(name and caption) for name, caption in zip(
          clips.families, clips.captions)] if clips else [])
  if clips is None or len({clips.families[row] for row in rows}) < 2:
    raise errors.UserError(
        f'{corpus} has no two instrument families with captions in its train '
        f'and held-out splits; `musiclm data folk_gm` makes a corpus that has.')
  pick = lambda names: tuple(names[row] for row in rows)
  return held_out.Clips(
      clips.audio[rows], clips.seconds[rows], pick(clips.ids),
      pick(clips.captions), pick(clips.families))


def _tokens(bundle, train, test, seed, say) -> dict[str, Named]:
  """What recordings' tokens and drawn ones are named."""
  tokenizer = bundle.get('w2vbert')
  size = tokenizer.spec.codebook_size
  say('tokens of recordings')
  shown = [histograms(streams_lib.by_batch(
      tokenizer.encode, clips.audio, _BATCH), size) for clips in (train, test)]
  classifier = fit(shown[0], train.families)
  found = {'recordings': Named(
      'of the recordings', classifier.predict(shown[1]))}
  joint = bundle.get('mulan')
  codes = np.asarray(joint.quantize(joint.embed_text(list(test.captions))))
  usual = settings_lib.make(defaults=bundle.defaults).draws(melody=False)
  plain = dict(usual, semantic=dataclasses.replace(
      usual['semantic'], guidance=()))
  pipeline = pipeline_lib.Pipeline(bundle)
  for name, title, draws in (
      ('drawn_unguided', 'drawn from captions, guidance 1', plain),
      ('drawn', f'drawn, guidance {_scale(usual)}', usual)):
    if name == 'drawn' and usual == plain:
      continue
    say(title)
    drawn = draw(pipeline, codes, draws, seed)
    found[name] = Named(title, classifier.predict(histograms(drawn, size)))
  return found


def _scale(draws: Mapping[str, categorical.Draw]) -> str:
  return ', '.join(f'{scale:g}' for _, scale in draws['semantic'].guidance)


def draw(
    pipeline: pipeline_lib.Pipeline, codes: np.ndarray,
    draws: Mapping[str, categorical.Draw], seed: int) -> np.ndarray:
  """[n, T] semantic tokens of 10 s for [n, Q] codes of MuLan."""
  made = []
  for first in range(0, len(codes), pipeline_lib.MAX_ROWS):
    part = codes[first:first + pipeline_lib.MAX_ROWS]
    request = tracks.Request(
        seconds=SECONDS, seed=seed, samples=first + np.arange(len(part)),
        codes={'mulan': part[:, None]},
        rows=sampler_lib.padded_rows(pipeline_lib.MAX_ROWS))
    generation = pipeline.start(
        request, draws, pipeline.codec.spec.coarse_codebooks)
    generation.draw(('semantic',))
    made.append(np.asarray(generation.codes['semantic'])[..., 0])
  return np.concatenate(made)


def _embeddings(joint, train, test) -> dict[str, Named]:
  """What embeddings and codes are named, each by a classifier of its own."""
  found = {}
  embed = dict(
      text=lambda clips: np.asarray(joint.embed_text(list(clips.captions))),
      audio=lambda clips: streams_lib.by_batch(
          joint.embed_audio, clips.audio, _BATCH))
  for kind, title in (('text', 'captions'), ('audio', 'recordings')):
    vectors = [embed[kind](clips) for clips in (train, test)]
    named = lambda inputs: fit(inputs[0], train.families).predict(inputs[1])
    found[kind] = Named(f'embeddings of {title}', named(vectors))
    codes = [np.asarray(joint.quantize(x)) for x in vectors]
    levels = [named([
        np.asarray(quantize.rvq_decode(c[:, :level], joint.codebooks[:level]))
        for c in codes]) for level in range(1, codes[0].shape[1] + 1)]
    right = [np.mean(heard == np.array(test.families)) for heard in levels]
    found.update({f'{kind}_level{level:02d}': Named('', heard)
                  for level, heard in enumerate(levels, 1)})
    found[f'{kind}_codes'] = Named(
        f'codes of {title}', levels[-1],
        'by level ' + ' '.join(f'{share:.2f}' for share in right))
  return found


def histograms(tokens: np.ndarray, size: int) -> np.ndarray:
  """[n, T] tokens -> [n, size] square roots of their shares.

  These vectors have length 1, and their products compare histograms.
  """
  counts = np.stack([np.bincount(row, minlength=size) for row in tokens])
  return np.sqrt(counts / tokens.shape[1])


def fit(inputs: np.ndarray, names: Sequence[str]) -> Any:
  """A logistic regression of [n] names from [n, D] inputs."""
  from sklearn import linear_model  # pylint: disable=g-import-not-at-top
  import threadpoolctl  # pylint: disable=g-import-not-at-top
  with threadpoolctl.threadpool_limits(1):
    return linear_model.LogisticRegression(
        C=_INVERSE_PENALTY, max_iter=_ITERATIONS).fit(inputs, np.array(names))


def section(what: str, found: Mapping[str, Named], asked: np.ndarray
            ) -> tuple[report.Section, dict[str, float]]:
  """(Section, figures) of answers beside [n] families that were asked for."""
  figures, lines, lost, shares = {}, [], [], {}
  chance = probes.most_frequent(asked)
  for name, named in found.items():
    right = (named.heard == asked).astype(float)
    low, high = retrieval.bootstrap_interval(right)
    shuffled = family.chance(asked, named.heard)
    key = f'families_{name}'
    figures.update({key: right.mean(), f'{key}_low': low, f'{key}_high': high,
                    f'{key}_shuffled': shuffled})
    if not named.title:  # figures alone
      continue
    lines.append(report.Line(
        named.title, f'{right.mean():.2f}',
        f'95 % interval {low:.2f} to {high:.2f}, shuffled {shuffled:.2f}',
        named.note))
    shares[named.title] = right.mean()
    if low <= max(chance, shuffled):
      lost.append(named.title)
  lines.append(report.Line(
      'chance', f'{chance:.2f}', 'the most frequent family'))
  # Half of what the best place knows, above chance: told, but hardly.
  enough = chance + (max(shares.values(), default=chance) - chance) / 2
  faint = [title for title, share in shares.items() if share < enough]
  verdict = (
      f'cannot be told from chance: {"; ".join(lost)}' if lost else
      f'most of it is lost in: {"; ".join(faint)}' if faint else
      'the family is in all of them')
  return report.Section(
      f'Instrument family: share named rightly from {what}, {len(asked)} clips',
      tuple(lines), verdict), figures


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate families`."""
  options = asked.options
  held_out.check_train_clips(options.train_clips)
  result = evaluate(asked.bundle, asked.corpus, options.clips,
                    options.train_clips, options.seed, asked.say, asked.show)
  return runnable.Outcome(
      result.figures, result.sections,
      dict(corpus=str(asked.corpus), seed=options.seed),
      f'Instrument families in {asked.bundle.identity}',
      f'{result.figures["families_clips"]:.0f} clips of {asked.corpus}, seed '
      f'{options.seed}')
