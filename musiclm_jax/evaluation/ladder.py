"""The oracle ladder: one stage after another takes over from the truth.

  real    the recording
  codec   true A                              what the codec alone loses
  fine    true A(1..4), A(5..12) drawn        ... and the fine stage
  coarse  true M and S, A drawn               ... and the coarse stage
  all     M of the caption, the rest drawn    ... and text and semantic stage
  unguided  the same without guidance, where the bundle is drawn with it

Each rung changes one thing, so where the figures fall is where the bundle is
weak. The last rung is other music than the recording even when all is well: its
mel distance is to be read beside that of unrelated music, and its similarity to
the caption is what counts. Clips are drawn as the bundle's defaults say; where these
leave the fine stage out, only its own rung has it.

  musiclm evaluate ladder [--bundle DIR] [--corpus DIR | --data FOLDER
                          --captions CSV] [--clips 12] [--seconds 10]

--data is any folder of recordings; without captions the ladder ends at `coarse`.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import errors
from musiclm_jax.codecs import losses
from musiclm_jax.evaluation import any_music
from musiclm_jax.evaluation import held_out
from musiclm_jax.evaluation import ladder_report
from musiclm_jax.evaluation import provenance
from musiclm_jax.evaluation import report
from musiclm_jax.evaluation import runnable
from musiclm_jax.evaluation import streams as streams_lib
from musiclm_jax.metrics import retrieval
from musiclm_jax.systems.musiclm import pipeline as pipeline_lib
from musiclm_jax.systems.musiclm import settings as settings_lib

EVALUATION = {
    'help': 'which stage loses the music, on any recordings?',
    'order': 3,
    'components': ['codec'],
    'clips': 12,
    'clips_help': 'recordings',
    'groups': ['folder'],
    'arguments': {
        '--seconds': {
            'type': 'int', 'default': 10, 'metavar': 'S',
            'help': 'of each recording (default: %(default)s)'}},
}

RUNGS = ('codec', 'fine', 'coarse', 'all', 'unguided')
DRAWN = ('all', 'unguided')  # for captions, not after a recording
_NEEDS = dict(codec=('codec',), fine=('codec', 'fine'),
              coarse=('codec', 'mulan', 'w2vbert', 'coarse', 'fine'),
              all=('codec', 'mulan', 'semantic', 'coarse', 'fine'),
              unguided=('codec', 'mulan', 'semantic', 'coarse', 'fine'))
# ours: 80 bands, 50 ms, 20 ms; bands under the floor (some 70 dB below a full
# scale sine) count as silent, since nobody hears them differ.
MEL = audio_lib.MelSpec(
    sample_rate_hz=24_000, num_mels=80, window_samples=1200, hop_samples=480,
    fft_size=2048, low_hz=40.0, high_hz=11_000.0, floor=0.1)
_DB = 20.0 / np.log(10.0)
_BATCH = 8  # clips that are decoded at once
MAX_SECONDS = 60
_LISTEN_CLIPS = 4  # that the page has players for
_SHIFTS = 4  # unrelated pairs that the mel distance of chance is taken from


@dataclasses.dataclass(frozen=True)
class Rung:
  """One rung over all clips.

  Attributes:
    name: of RUNGS.
    audio: [n, N] float32.
    codes: {segment: [n, T, Q]} that were decoded, where there are any.
    mel_distance_db: [n] to the recording.
    to_audio: [n] MuLan similarity to the recording; None without MuLan.
    to_text: [n] to the caption; None without MuLan or captions.
  """

  name: str
  audio: np.ndarray
  codes: dict
  mel_distance_db: np.ndarray
  to_audio: np.ndarray | None
  to_text: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Ladder:
  """All rungs, with the recordings and what chance would give.

  Attributes:
    real: [n, N] the recordings.
    rungs: {name: Rung}, in order, the first is 'codec'.
    si_sdr_db: [n] of the codec's rung.
    audio_embeddings: {'real' or rung: [n, D]}; empty without MuLan.
    text_embeddings: [n, D], or None.
    coarse_db: [n] mel distance of the codec's coarse levels alone.
  """

  real: np.ndarray
  rungs: dict
  si_sdr_db: np.ndarray
  audio_embeddings: dict
  text_embeddings: np.ndarray | None
  coarse_db: np.ndarray | None = None

  def chance(self, rung: str = 'real') -> tuple[float, float | None]:
    """(mel distance, similarity) of the recordings to other clips' `rung`.

    With 'codec': what unrelated music gets once the codec has blurred it, and
    so what a stage that ignores its conditions should get. The similarity is
    None without MuLan.
    """
    audio = self.real if rung == 'real' else self.rungs[rung].audio
    shifts = range(1, min(len(audio), _SHIFTS + 1))
    mel = float(np.mean([
        mel_distance_db(self.real, np.roll(audio, shift, axis=0))
        for shift in shifts]))
    if not self.audio_embeddings:
      return mel, None
    scores = self.audio_embeddings['real'] @ self.audio_embeddings[rung].T
    return mel, retrieval.own_and_shuffled(scores)[1].mean()

  def lost_by_rung(self) -> dict[str, float | None]:
    """{rung: the share of what the rung before still had that is lost on it}.

    0: as good as the rung before. 1: at chance, which for the codec is another
    recording and for the stages another clip through the codec. Mean of the
    share by mel distance and by similarity to the recording. The last rung is
    not meant to repeat the recording: there it is how much nearer the clips are
    to their own caption than to others. None: nothing was left to lose.
    """
    result, before, last = {}, (0.0, 1.0), 'real'
    for name, rung in self.rungs.items():
      if name in DRAWN:
        if rung.to_text is not None:
          result[name] = _lost(self._heeded(last), self._heeded(name), 0.0, 0.01)
        continue
      chance = self.chance('real' if name == 'codec' else 'codec')
      now = (rung.mel_distance_db.mean(),
             None if rung.to_audio is None else rung.to_audio.mean())
      shares = [_lost(-before[0], -now[0], -chance[0], 0.1)]
      if now[1] is not None:
        shares.append(_lost(before[1], now[1], chance[1], 0.01))
      shares = [s for s in shares if s is not None]
      result[name] = float(np.mean(shares)) if shares else None
      before, last = now, name
    return result

  def _heeded(self, rung):
    """How much nearer a rung's clips are to their own caption than to others."""
    scores = self.audio_embeddings[rung] @ self.text_embeddings.T
    own, others = retrieval.own_and_shuffled(scores)
    return own.mean() - others.mean()


def _lost(before, now, chance, least):
  """Share of `before - chance` that is gone, 0..1; None when under `least`."""
  if before - chance < least:
    return None
  return float(np.clip((before - now) / (before - chance), 0.0, 1.0))


def climb(
    bundle: Any, clips: held_out.Clips, streams: streams_lib.Streams,
    seconds: int, seed: int = 0,
    progress: Callable[[str, str, int, int], None] | None = None) -> Ladder:
  """Renders every rung for which the bundle has the parts.

  Args:
    bundle: a bundle.Bundle with a codec.
    clips: held_out.Clips.
    streams: their Streams.
    seconds: how much of each clip.
    seed: of the sampling.
    progress: None or a function of (rung, stage, seconds done, in all).
  """
  rate = bundle.tokens.audio.sample_rate_hz
  real = clips.first(seconds, rate)
  codes = _true_codes(bundle, clips, streams, seconds)
  joint = bundle.tokenizer('joint') if bundle.has('mulan') else None
  text = None
  if joint is not None and all(clips.captions):
    text = joint.embed_text(list(clips.captions))
  pipeline = pipeline_lib.Pipeline(bundle)
  usual = settings_lib.make(defaults=bundle.defaults)
  draws = usual.draws()
  plain = {stage: dataclasses.replace(draw, guidance=())
           for stage, draw in draws.items()}
  decode = lambda codes: streams_lib.by_batch(
      bundle.tokenizer('codec').decode, codes, _BATCH)
  embeddings = {'real': joint.embed_audio(real)} if joint else {}
  rungs = {}
  for name in RUNGS:
    if not all(bundle.has(n) for n in _NEEDS[name]):
      continue
    if name in DRAWN and text is None or name == 'unguided' and (
        draws == plain):
      continue
    given = _given(name, codes, joint, text)
    report = progress and functools.partial(progress, name)
    if name == 'codec':  # a bundle need not have stages
      drawn, audio = given, decode(np.concatenate(
          [codes['coarse'], codes['fine']], axis=-1))
    else:
      drawn, audio = pipeline.complete(
          given, seconds, seed, progress=report,
          draws=plain if name == 'unguided' else draws,
          levels=0 if name == 'fine' else usual.levels)
    audio = audio[:, :real.shape[1]]
    if joint:
      embeddings[name] = joint.embed_audio(audio)
    rungs[name] = Rung(
        name, audio, drawn, mel_distance_db(real, audio),
        _cosine(embeddings, name, embeddings.get('real')),
        _cosine(embeddings, name, text))
  coarse = decode(codes['coarse'])[:, :real.shape[1]]
  return Ladder(
      real=real, rungs=rungs, coarse_db=mel_distance_db(real, coarse),
      si_sdr_db=np.asarray(losses.si_sdr_each(real, rungs['codec'].audio)),
      audio_embeddings=embeddings, text_embeddings=text)


def mel_distance_db(real: np.ndarray, other: np.ndarray) -> np.ndarray:
  """[B, N], [B, N] at 24 kHz -> [B] mean absolute log-mel difference in dB."""
  return np.asarray(_mel_distance(real, other)) * _DB


def mel_image(audio: np.ndarray) -> np.ndarray:
  """[N] -> [80, T] log mels in dB, for pictures."""
  return np.asarray(_log_mel(audio[None]))[0].T * _DB


_mel_distance = jax.jit(lambda a, b: losses.mel_distance_each(a, b, MEL))
_log_mel = jax.jit(lambda a: audio_lib.log_mel(a, MEL))


def _true_codes(bundle, clips, streams, seconds):
  """{segment: [n, T, Q]} of the recordings; silence past a clip's end."""
  spec, result = bundle.tokens, {}
  filled = lambda x: np.maximum(x, 0)
  acoustic = filled(streams.acoustic[:, :seconds * spec.codec.frame_rate_hz])
  result['coarse'] = acoustic[..., :spec.codec.coarse_codebooks]
  result['fine'] = acoustic[..., spec.codec.coarse_codebooks:]
  if streams.semantic is not None:
    result['semantic'] = filled(
        streams.semantic[:, :seconds * spec.semantic.frame_rate_hz])
  if streams.windows is not None:
    embedding = streams_lib.crop_embedding(
        streams.windows, clips.seconds, 0, seconds, spec.joint)
    result['mulan'] = bundle.tokenizer('joint').quantize(embedding)[:, None]
  return result


def _given(name, codes, joint, text):
  """The streams that a rung takes from the truth."""
  if name == 'codec':
    return codes
  if name == 'fine':
    return {k: v for k, v in codes.items() if k != 'fine'}
  if name == 'coarse':
    return {k: codes[k] for k in ('mulan', 'semantic')}
  return {'mulan': joint.quantize(text)[:, None]}


def _cosine(embeddings, name, other):
  """[n] row-wise similarity of unit vectors, or None."""
  if name not in embeddings or other is None:
    return None
  return (embeddings[name] * other).sum(axis=-1)


def evaluate(
    bundle: Any, music: any_music.Music, seconds: int, seed: int = 0,
    say: report.Say | None = None, show: report.Show | None = None
) -> tuple[report.Evaluation, Ladder]:
  """The ladder on any clips, and what is drawn from captions where there are.

  Args:
    bundle: a bundle.Bundle with a codec.
    music: clips of `seconds`.
    seconds: of each.
    seed: of the draws.
    say: takes a line of progress.
    show: takes each finished Section.
  """
  say, show = say or (lambda line: None), show or (lambda section: None)
  say(f'{len(music.clips)} clips of {music.name}, {music.split}')
  found = climb(
      bundle, music.clips, streams_lib.encode(bundle, music.clips), seconds,
      seed, lambda rung, stage, done, total: say(
          f'{rung}: {stage} {done}/{total} s'))
  result = report.Evaluation(dict(ladder_clips=float(len(music.clips))), [])
  result.add(show, *ladder_report.section(found, music.tracks))
  for rung in DRAWN:
    if rung in found.rungs:
      result.add(show, *ladder_report.prompts(found, rung))
  return result, found


def run(asked: runnable.Asked) -> runnable.Outcome:
  """`musiclm evaluate ladder`."""
  options, bundle = asked.options, asked.bundle
  any_music.check(options.corpus, options.data, options.captions)
  if not 1 <= options.seconds <= MAX_SECONDS:
    raise errors.UserError(
        f'--seconds is {options.seconds}; expected 1 to {MAX_SECONDS}.')
  rate = bundle.tokens.audio.sample_rate_hz
  place = options.data or asked.corpus
  music = any_music.load(place, options.data, options.captions, options.clips,
                         options.seconds, rate)
  result, found = evaluate(bundle, music, options.seconds, options.seed,
                           asked.say, asked.show)
  rows = [('recording', found.real)] + [
      (name, rung.audio) for name, rung in found.rungs.items()]
  sounds = [(caption or name, [(title, audio[i], rate) for title, audio in rows])
            for i, (name, caption) in enumerate(zip(
                music.clips.ids, music.clips.captions))][:_LISTEN_CLIPS]
  return runnable.Outcome(
      result.figures, result.sections,
      dict(provenance=provenance.of(
          bundle, options.seed, {'recordings': music.set}, music=str(place),
          split=music.split, seconds=options.seconds,
          settings=dict(bundle.defaults))),
      f'The oracle ladder of {bundle.identity}',
      f'{len(music.clips)} clips of {place}, seed {options.seed}',
      sounds=sounds)
