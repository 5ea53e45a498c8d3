"""The quick evaluation: which part of a bundle is weak?

  held-out clips ──> codec ──────────> SI-SDR, mel distance
                 ──> stages ─────────> losses against unigram and bigram
                 ──> the ladder ─────> which stage loses the music
  captions ──> MuLan ────────────────> retrieval
           ──> all stages ──> audio ─> similarity to own and shuffled prompts,
                                       the instrument family that is heard

Sections are made one after the other and handed on as they are done. A bundle
that lacks a part gets the figures that the others allow.

  musiclm evaluate quick [--bundle DIR] [--corpus DIR] [--clips 24]

--out or --report has spectrograms and token maps beside the numbers. Without
--corpus a small folk_gm is made once and kept in the user's cache.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from musiclm_jax import errors
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import joint as joint_lib
from musiclm_jax.evaluation import ladder as ladder_lib
from musiclm_jax.evaluation import ladder_report
from musiclm_jax.evaluation import pictures
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import stage_losses
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.listeners import musicnn
from musiclm_jax.metrics import family
from musiclm_jax.metrics import token_baselines
from musiclm_jax.systems.musiclm import settings

EVALUATION = {
    'help': 'on held-out music, which part is weak?',
    'clips': 24,
    'pictures': True,
    'record': True,
    'order': 0,
}

LADDER_SECONDS = 10
_TRAIN_CLIPS = 160
_TAGGED_CLIPS = 96  # training clips that tell musicnn's usual level
_LISTEN_CLIPS = 4  # that the page has players for


@dataclasses.dataclass
class Evaluation(report.Evaluation):
  """What came out.

  Attributes:
    data: the held_out.HeldOut it was measured on.
    ladder: the ladder.Ladder, or None without a codec.
    stages: StageReports.
  """

  data: held_out.HeldOut
  ladder: ladder_lib.Ladder | None
  stages: list


def evaluate(
    bundle: Any, corpus: str | pathlib.Path, clips: int = 24, seed: int = 0,
    say: report.Say | None = None, show: report.Show | None = None,
    seconds: int | None = None) -> Evaluation:
  """Runs every part.

  Args:
    bundle: a bundle.Bundle.
    corpus: a corpus's directory.
    clips: held-out clips to judge.
    seed: of the sampling.
    say: None or a function of a line of progress.
    show: None or a function of each finished Section.
    seconds: whole seconds of each clip that are judged; default 10.

  Returns:
    An `Evaluation`.

  Raises:
    UserError: nothing in the bundle can be judged, or the corpus cannot.
  """
  seconds = seconds or LADDER_SECONDS
  if not (bundle.has('codec') or bundle.has('mulan')):
    raise errors.UserError(
        f'the bundle {bundle.directory} has neither a codec nor MuLan; export '
        f'one of them first.')
  say, show = say or (lambda line: None), show or (lambda section: None)
  rate = bundle.tokens.audio.sample_rate_hz
  longest = max([bundle.get(s).spec.crop_seconds for s in settings.STAGES
                 if bundle.has(s)] + [seconds])
  data = held_out.load(corpus, clips, longest, _TRAIN_CLIPS, rate)
  result = Evaluation(dict(clips=len(data.clips)), [], data, None, [])

  add = functools.partial(result.add, show)
  say(f'{len(data.clips)} clips of {data.corpus}, split {data.split}')
  judge_families = bundle.has('codec') and data.train is not None and (
      len(set(data.train.families)) > 1)
  tagger = _tagger(say) if judge_families else None
  streams = streams_lib.encode(bundle, data.clips)
  train = data.train and streams_lib.encode(bundle, data.train, joint=False)
  if bundle.has('mulan') and any(data.pool.captions):
    add(*_retrieval(bundle.get('mulan'), data.pool))
  for name in settings.STAGES:
    if _can_judge(bundle, name):
      say(f'loss of the {name} stage')
      joint = bundle.get('mulan') if bundle.has('mulan') else None
      result.stages.append(stage_losses.report(
          bundle.get(name), streams, train, joint))
  if result.stages:
    add(*_stages(result.stages))
  if bundle.has('codec'):
    result.ladder = ladder_lib.climb(
        bundle, data.clips, streams, seconds, seed,
        lambda rung, stage, done, total: say(
            f'ladder, {rung}: {stage} {done}/{total} s'))
    add(*_codec(result.ladder, streams, bundle.tokens.codec))
    add(*ladder_report.section(result.ladder))
    for rung in ladder_lib.DRAWN:
      if rung in result.ladder.rungs:
        add(*ladder_report.prompts(result.ladder, rung))
    if judge_families:
      say('instrument families')
      add(*_families(bundle, data, train, result.ladder, tagger))
  return result


def _tagger(say):
  return musicnn.MusicNN.load_if_there(
      say, 'no musicnn, so the classifier judges alone')


def _can_judge(bundle, name):
  """Whether the stage and the tokenizers of its sequence are there."""
  if not bundle.has(name):
    return False
  spec = bundle.get(name).spec
  maker = dict(mulan='mulan', semantic='w2vbert', coarse='codec',
               fine='codec')
  return all(bundle.has(maker[part])
             for part in spec.conditions + (spec.target,)
             if part != 'melody')


def _retrieval(joint, pool):
  """Captions against 10 s clips of the whole split."""
  rows = [i for i, caption in enumerate(pool.captions) if caption]
  audio = streams_lib.by_batch(joint.embed_audio, pool.audio[rows], 16)
  text = joint.embed_text([pool.captions[i] for i in rows])
  captions = np.array([pool.captions[i] for i in rows])
  figures, lines = joint_lib.recalls(
      'retrieval', text @ audio.T, captions[:, None] == captions)
  figures['retrieval_clips'] = len(rows)
  return report.Section(f'MuLan: caption to audio, among {len(rows)} clips',
                        tuple(lines)), figures


def _stages(stages):
  """Losses beside the baselines."""
  figures, lines = {}, []
  for stage in stages:
    mine = stage.figures()
    figures.update(mine)
    get = lambda key, mine=mine, name=stage.name: mine.get(f'{name}_{key}')
    bigram = get('bigram_entropy')
    against = f'unigram {get("unigram_entropy"):.2f}' + (
        f', bigram {bigram:.2f}' if bigram is not None else '')
    lines.append(report.Line(
        stage.name, f'{get("loss"):.2f}', against, stage.verdict()))
    lines.append(report.Line(
        '  other conditions', f'{get("loss_shuffled"):.2f}', '',
        f'targets use {get("usage"):.0%} of the codes, {get("repeats"):.0%} '
        f'repeat the frame before'))
  return report.Section(
      'Stages: nats per token on held-out targets', tuple(lines)), figures


def _codec(ladder, streams, spec):
  """What the codec alone loses, and how it uses its codes."""
  size = spec.codebook_size
  use = token_baselines.usage(streams.acoustic, size)
  entropy = token_baselines.entropy(streams.acoustic, size)
  mel = ladder.rungs['codec'].mel_distance_db.mean()
  chance = ladder.chance()[0]
  figures = dict(
      codec_si_sdr_db=ladder.si_sdr_db.mean(), codec_mel_distance_db=mel,
      codec_coarse_mel_distance_db=ladder.coarse_db.mean(),
      shuffled_mel_distance_db=chance, codec_usage=use.mean(),
      codec_perplexity=np.exp(entropy).mean(),
      codec_bitrate_efficiency=entropy.mean() / np.log(size))
  levels = ' '.join(f'{u:.0%}' for u in use)
  return report.Section(f'Codec at {len(use)} levels', (
      report.Line('SI-SDR', f'{ladder.si_sdr_db.mean():.1f} dB',
                  'silence and noise 0 or less'),
      report.Line('mel distance', f'{mel:.1f} dB',
                  f'unrelated recordings {chance:.1f}'),
      report.Line(f'of {spec.coarse_codebooks} levels',
                  f'{ladder.coarse_db.mean():.1f} dB',
                  'the coarse ones alone'),
      report.Line('codes in use', f'{use.mean():.0%}', f'by level {levels}'),
      report.Line('code entropy', f'{entropy.mean() / np.log(size):.0%}',
                  f'of {np.log2(size):.0f} bits'),
  )), figures


def _families(bundle, data, train, ladder, tagger):
  """Whether the instrument family asked for is the one heard.

  Two judges, neither of which the bundle has trained: musicnn's tags, for the
  families that have one, and a classifier fitted on the corpus's training
  clips, as recorded and through the codec. Beside them: guessing among the
  families asked for, and the same answers in another order, with the share of
  10,000 orders that agree as well (p).
  """
  rate = bundle.tokens.audio.sample_rate_hz
  asked = np.array(data.clips.families)
  heard_from = {'real': ladder.real, **{
      name: ladder.rungs[name].audio for name in ('codec', *ladder_lib.DRAWN)
      if name in ladder.rungs}}
  judges = []
  if tagger is not None:
    judge = family.TagJudge(
        tagger.tags, tagger.tag(data.train.audio[:_TAGGED_CLIPS], rate))
    judges.append(('musicnn', 'family', family.is_judged(asked),
                   lambda audio: judge.predict(tagger.tag(audio, rate))))
  decoded = streams_lib.by_batch(
      bundle.get('codec').decode, np.maximum(train.acoustic, 0), 16)
  labels = np.array(data.train.families)
  classifier = family.TimbreClassifier(rate).fit(
      np.concatenate([data.train.audio, decoded]),
      np.concatenate([labels, labels]))
  judges.append(('classifier', 'family_classifier', asked != '',
                 classifier.predict))
  figures, lines = {}, []
  for title, prefix, rows, predict in judges:
    if not rows.any():
      continue
    heard = {name: np.array(predict(audio[rows]))
             for name, audio in heard_from.items()}
    found = {name: family.agreement(asked[rows], h)
             for name, h in heard.items()}
    chance = 1 / len(set(asked[rows]))
    figures.update({
        f'{prefix}_chance': chance, f'{prefix}_clips': int(rows.sum()),
        f'{prefix}_real': found['real'], f'{prefix}_codec': found['codec']})
    for last in [n for n in ladder_lib.DRAWN if n in heard] or ['codec']:
      plain = last == 'unguided'
      shuffled = family.chance(asked[rows], heard[last])
      p_value = family.p_value(asked[rows], heard[last])
      figures.update({ladder_report.named(f'{prefix}_{name}', plain): value
                      for name, value in dict(
                          agreement=found[last], shuffled=shuffled,
                          p_value=p_value).items()})
      lines.append(report.Line(
          f'{title}, without guidance' if plain else title,
          f'{found[last]:.2f}',
          f'guessing {chance:.2f}, shuffled {shuffled:.2f}, p {p_value:.3f}',
          f'{rows.sum()} clips; recordings {found["real"]:.2f}, through the '
          f'codec {found["codec"]:.2f}'))
  title = ('drawn clips' if 'all' in heard_from else
           'clips through the codec (nothing was drawn)')
  return report.Section(
      f'Instrument family asked for and heard: {title}', tuple(lines)), figures


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate quick`."""
  bundle, seed = asked.bundle, asked.options.seed
  result = evaluate(bundle, asked.corpus, asked.options.clips, seed, asked.say,
                    asked.show)
  data = result.data
  return runnable.Outcome(
      result.figures, result.sections,
      dict(corpus=data.corpus, split=data.split, seed=seed),
      f'Quick evaluation of {bundle.identity}',
      f'{len(data.clips)} clips of {data.corpus}, split {data.split}, seed '
      f'{seed}',
      lambda folder: pictures.draw(
          folder, data.clips, result.ladder, result.stages),
      _sounds(bundle, result))


def _sounds(bundle, result):
  """Rows for the report's players."""
  if result.ladder is None:
    return ()
  rate = bundle.tokens.audio.sample_rate_hz
  columns = [('recording', result.ladder.real)] + [
      (name, rung.audio) for name, rung in result.ladder.rungs.items()]
  clips = result.data.clips
  return [(clips.captions[i] or clips.ids[i],
           [(title, audio[i], rate) for title, audio in columns])
          for i in range(min(_LISTEN_CLIPS, len(clips)))]
