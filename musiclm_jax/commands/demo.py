"""The whole of MusicLM on one machine: from data to a WAV.

  musiclm demo --preset smoke --out /tmp/smoke
  musiclm demo --preset cpu --minutes 120 --out runs/demo
  musiclm demo --preset smoke --data ~/music --out /tmp/mine

smoke: tiny models, minutes on two cores, noise that proves the flow.
cpu:   models of the size of the shipped bundle, whose own recipe is
       launch/train_demo.sh.
gpu:   the same with larger models and batches.

Every step is skipped when its output is complete, so the same command goes on
after any interruption. --minutes is the time for all of it, counted over every
run into the same --out: it is divided among the models by their need, each is
stopped cleanly when its share is spent, and a bundle and a WAV always come out.
Run again with more minutes, and every model goes on from where it stopped.

  OUT/corpus  OUT/train/<model>  OUT/bundle/<model>  OUT/cache  OUT/demo.wav
"""

import argparse
import dataclasses
import functools
import pathlib
import shutil
import subprocess
import sys
import time

from musiclm_jax import errors
from musiclm_jax import files
from musiclm_jax import text
from musiclm_jax.systems.musiclm import settings

PROMPT = 'a lively irish jig on fiddle with hand drums'
TOKENIZERS = ('codec', 'w2vbert', 'mulan', 'melody')
LEAVES = {'codec': 'framecodec'}  # where a leaf is not named like its model

# Shares of the training time: what each model needs to become useful (ours).
NEED = {'codec': 30, 'w2vbert': 12, 'mulan': 12, 'melody': 10,
        'semantic': 12, 'coarse': 20, 'fine': 16}
# Shares of --minutes for what is not training.
_CORPUS_SHARE = 0.10
_TRAINING_SHARE = 0.75
_CORPUS_HOURS_PER_MINUTE = 1.2  # made in one minute on two slow cores
_MIN_HOURS = 0.1
_WRITTEN = ('corpus', 'train', 'bundle', 'cache', 'demo.json', 'demo.wav')
_LEAST_MINUTES = 0.1  # a start of less only compiles


@dataclasses.dataclass(frozen=True)
class Preset:
  """What one preset makes. `bindings` are gin macros, by model."""

  size: str
  hours: float
  storage: dict  # of the tokenizers and of the stages
  seconds: float
  bindings: dict = dataclasses.field(default_factory=dict)


_EXACT = {'tokenizers': 'float32', 'stages': 'float32'}
_COMPACT = {'tokenizers': 'float16', 'stages': 'int8'}
PRESETS = {
    'smoke': Preset('tiny', 0.15, _EXACT, 4.0),
    'cpu': Preset('demo', 20.0, _COMPACT, 10.0),
    'gpu': Preset('gpu', 60.0, _COMPACT, 10.0),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The options of `musiclm demo`."""
  parser.add_argument('--preset', choices=sorted(PRESETS), default='smoke')
  parser.add_argument('--out', required=True, metavar='DIR')
  parser.add_argument('--data', metavar='FOLDER',
                      help='train on these audio files instead of folk_gm')
  parser.add_argument('--minutes', type=float, metavar='M',
                      help='time for all of it, over all runs into --out '
                      '(default: as long as the preset takes)')
  parser.add_argument('--prompt', default=PROMPT)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--hours', type=float,
                      help="hours of folk_gm to make (default: the preset's)")


def run(args: argparse.Namespace) -> None:
  """Checks the arguments, then runs every step that is not complete."""
  if args.minutes is not None and not 1 <= args.minutes <= 100_000:
    raise errors.UserError(
        f'--minutes is {args.minutes:g}; expected 1 to 100000.')
  if args.hours is not None and not 0.02 <= args.hours <= 1000:
    raise errors.UserError(
        f'--hours is {args.hours:g}; expected 0.02 to 1000.')
  if text.is_blank(args.prompt):
    raise errors.UserError('the --prompt is empty; describe the music.')
  if args.data and not pathlib.Path(args.data).is_dir():
    raise errors.UserError(f'--data {args.data} is not a folder.')
  Demo(args).run()


class Demo:
  """One demo directory, and the steps that fill it."""

  def __init__(self, args: argparse.Namespace):
    self.args = args
    self.preset = PRESETS[args.preset]
    self.out = pathlib.Path(args.out)
    self.corpus = self.out / 'corpus'
    self.bundle = self.out / 'bundle'
    self.cache = self.out / 'cache'
    self._check_out()
    self.log = _Log(self.out / 'demo.json')

  def _check_out(self):
    """Refuses a directory that another preset or other data began."""
    files.check_folder(self.out, '--out')
    if not self.out.parent.is_dir():
      raise errors.UserError(
          f'the folder {self.out.parent} for --out does not exist.')
    began = self.out / 'began.json'
    mine = dict(preset=self.args.preset, seed=self.args.seed,
                data=str(pathlib.Path(self.args.data).resolve())
                if self.args.data else None)
    if began.is_file():
      found = files.read_json(began, 'choose another --out')
      if found != mine:
        raise errors.UserError(
            f'{self.out} was begun with {found}, now {mine}; choose another '
            f'--out.')
      return
    for name in _WRITTEN:
      if (self.out / name).exists():
        raise errors.UserError(
            f'--out {self.out} holds {name} and no {began.name}, so it is no '
            f'demo of this program; choose another folder.')
    self.out.mkdir(exist_ok=True)
    files.write_json(began, mine)

  def run(self) -> None:
    """All steps, in the order of the data flow."""
    with files.claimed(self.out, '--out'):
      self._steps()

  def _steps(self):
    start = time.monotonic()
    self._make_corpus()
    for model in TOKENIZERS:
      if model in self._models:
        self._train_and_export(model)
    if 'mulan' not in self._models:
      self._borrow_mulan()
    self._precompute()
    for model in settings.STAGES:
      self._train_and_export(model)
    self._manifest()
    self._generate()
    _say(f'done in {(time.monotonic() - start) / 60:.1f} minutes: '
         f'{self.out / "demo.wav"}, bundle {self.bundle}')

  # ---- the steps ----

  def _make_corpus(self):
    if (self.corpus / 'manifest.json').is_file():
      _say(f'corpus: {self.corpus} is there')
      return
    if self.args.data:
      self._call('corpus', 'cli', 'ingest', self.args.data,
                 '--out', str(self.corpus))
      return
    hours = self.args.hours or self.preset.hours
    if self.args.minutes is not None and not self.args.hours:
      hours = min(hours, max(_MIN_HOURS, self.args.minutes * _CORPUS_SHARE *
                             _CORPUS_HOURS_PER_MINUTE))
    self._call('corpus', 'cli', 'data', 'folk_gm', '--hours', f'{hours:.3f}',
               '--seed', str(self.args.seed), '--out', str(self.corpus))

  @functools.cached_property
  def _models(self):
    """Those that can learn from this corpus."""
    from musiclm_jax import records  # pylint: disable=g-import-not-at-top
    from musiclm_jax.tokenizers.melody import pairs  # pylint: disable=g-import-not-at-top
    train = records.Corpus(self.corpus).split('train')
    models = [*TOKENIZERS, *settings.STAGES]
    if not any(track.captions for track in train):
      models.remove('mulan')
    if len(set(pairs.clusters(pairs.versions(train)))) < 2:
      models.remove('melody')
      _say('melody: no tune of the corpus is there twice, so the bundle will '
           'take no --melody')
    return models

  def _borrow_mulan(self):
    """Without captions no joint embedding can be learned: take a trained one."""
    from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
    target = self.bundle / 'mulan'
    if (target / 'config.json').is_file():
      _say('mulan: the borrowed one is there')
      return
    source = bundle_lib.shipped() / 'mulan'
    if not (source / 'config.json').is_file():
      raise errors.UserError(
          f'{self.corpus} has no captions and there is no shipped MuLan to '
          f'borrow; add captions.csv (file,caption) to the folder.')
    self.bundle.mkdir(exist_ok=True)
    with files.whole_folder(target) as partial:
      shutil.copytree(source, partial, dirs_exist_ok=True)
    bundle_lib.enter(self.bundle, 'mulan')
    _say('mulan: no captions in the corpus, so the shipped one is used')

  def _train_and_export(self, model):
    self._train(model)
    steps = _checkpoint_step(self.out / 'train' / model)
    if (self.bundle / model / 'config.json').is_file():
      from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
      about = bundle_lib.load_component(self.bundle / model).metadata
      if about.get('steps') == steps:
        _say(f'{model}: the export of step {steps} is there')
        return
    self.bundle.mkdir(exist_ok=True)
    storage = self.preset.storage[
        'stages' if model in settings.STAGES else 'tokenizers']
    self._call(f'export {model}', 'export', *self._gin(model),
               '--corpus', str(self.corpus), '--storage', storage,
               '--out', str(self.bundle / model))

  def _train(self, model):
    minutes = None
    if self.args.minutes is not None:
      share = NEED[model] / sum(NEED[m] for m in self._models)
      minutes = (self.args.minutes * _TRAINING_SHARE * share -
                 self.log.minutes(f'train {model}'))
      has_checkpoint = _checkpoint_step(self.out / 'train' / model) is not None
      if minutes < _LEAST_MINUTES and has_checkpoint:
        _say(f'{model}: its share of {self.args.minutes:g} minutes is spent')
        return
      minutes = max(minutes, _LEAST_MINUTES)
    extra = {} if minutes is None else {'MAX_MINUTES': round(minutes, 3)}
    self._call(f'train {model}', 'train', *self._gin(model, extra))

  def _precompute(self):
    self._manifest()
    self._call('precompute', 'precompute', '--bundle', str(self.bundle),
               '--corpus', str(self.corpus), '--cache', str(self.cache),
               '--replace')

  def _manifest(self):
    from musiclm_jax import bundle as bundle_lib  # pylint: disable=g-import-not-at-top
    from musiclm_jax import figures  # pylint: disable=g-import-not-at-top
    from musiclm_jax import records  # pylint: disable=g-import-not-at-top
    manifest = records.Corpus(self.corpus).manifest
    bundle_lib.write_manifest(
        self.bundle, bundle_lib.Bundle(self.bundle).tokens,
        name=f'musiclm-{self.args.preset}',
        corpus={k: manifest.get(k) for k in ('name', 'licence', 'splits')},
        git_commit=figures.git_commit())

  def _generate(self):
    self._call('generate', 'cli', 'generate', self.args.prompt,
               '-o', str(self.out / 'demo.wav'),
               '--seconds', f'{self.preset.seconds:g}',
               '--seed', str(self.args.seed), '--bundle', str(self.bundle))

  # ---- how a step is run ----

  def _gin(self, model, extra=None):
    """The gin arguments of one model's leaf in this directory."""
    bindings = dict(self.preset.bindings.get(model, {}),
                    MODEL_DIR=str(self.out / 'train' / model),
                    SEED=self.args.seed)
    if model in settings.STAGES:
      bindings['CACHE_DIR'] = str(self.cache)
    else:
      bindings['CORPUS_DIR'] = str(self.corpus)
    bindings.update(extra or {})
    leaf = LEAVES.get(model, model)
    if model == 'semantic' and 'melody' in self._models:
      leaf = 'semantic_melody'
    return [f'--gin_file={leaf}_{self.preset.size}'] + [
        f'--gin.{name}={value!r}' for name, value in bindings.items()]

  def _call(self, step, module, *arguments):
    """Runs one step in a process of its own; its memory goes with it."""
    _say(f'{step} ...')
    start = time.monotonic()
    with subprocess.Popen([
        sys.executable, '-m', f'musiclm_jax.commands.{module}',
        *arguments]) as process:
      try:
        code = process.wait()
      except BaseException:  # whoever ends us ends the step, which may save
        process.terminate()
        process.wait()
        raise
    self.log.add(step, (time.monotonic() - start) / 60)
    if code == 2:
      raise errors.UserError(
          f'the step "{step}" stopped (see the line above); mend that and run '
          f'the same command again.')
    if code:
      raise SystemExit(
          f'musiclm: the step "{step}" failed with code {code}.')


class _Log:
  """Minutes spent on each step, over all runs."""

  def __init__(self, path):
    self.path = path
    self._minutes = {}
    if path.is_file():
      self._minutes = files.read_json(path, 'remove it')

  def minutes(self, step):
    return self._minutes.get(step, 0.0)

  def add(self, step, minutes):
    self._minutes[step] = round(self.minutes(step) + minutes, 3)
    files.write_json(self.path, self._minutes)


def _checkpoint_step(model_dir):
  """The newest checkpoint's step, or None."""
  from musiclm_jax.training import checkpoints  # pylint: disable=g-import-not-at-top
  if not model_dir.is_dir():
    return None
  with checkpoints.Checkpoints(model_dir, read_only=True) as store:
    return store.latest()


def _say(text):
  print(f'[demo] {text}', flush=True)
