"""Foreign models in place of a bundle's components: `musiclm precompute`."""

import argparse
from collections.abc import Callable
import dataclasses
import pathlib
from typing import Any

from musiclm_jax import bundle
from musiclm_jax import records
from musiclm_jax.tokenizers.adapters import fits
from musiclm_jax.tokenizers.adapters import hub
from musiclm_jax.tokenizers.adapters import options as options_lib
from musiclm_jax.tokenizers.adapters import waveforms

# Roles that foreign models can take, by the component that each replaces.
COMPONENTS = {role: bundle.component_for(role) for role in options_lib.KINDS}
HELP = {
    'codec': 'EnCodec, DAC or Mimi of a local directory: hf:DIR[:codebooks=8]'
             '[:coarse=4]',
    'semantic': 'w2v-BERT 2.0, HuBERT, MERT ... with a k-means fitted to the '
                'corpus: hf:DIR:layer=7[:rate=25][:clusters=1024]',
    'joint': 'CLAP with an RVQ fitted to the corpus: hf:DIR[:codebooks=12]'
             '[:entries=1024]',
}


@dataclasses.dataclass(frozen=True)
class Adapted:
  """A tokenizer, its role and its hash.

  The role is `part`, the field of the TokenSpec that it fills. The hash covers
  configuration, weights, options and the fit.
  """

  tokenizer: Any
  part: str
  hash: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """--codec, --semantic and --joint."""
  for kind, text in HELP.items():
    parser.add_argument(f'--{kind}', metavar='hf:DIR', help=(
        f'instead of the bundle\'s {COMPONENTS[kind]}: {text}'))


def parse(args: argparse.Namespace) -> dict[str, Any]:
  """{kind: options} of those that were given."""
  given = {kind: getattr(args, kind) for kind in COMPONENTS}
  return {kind: options_lib.parse(kind, text)
          for kind, text in given.items() if text}


def adapt(choices: dict[str, Any], corpus: records.Corpus, corpus_hash: str,
          cache_dir: str | pathlib.Path,
          say: Callable[[str], None] | None = None, replace: bool = False,
          audio_rate_hz: int = waveforms.RATE_HZ) -> dict[str, Adapted]:
  """Loads foreign models, and fits or reads what they lack.

  Args:
    choices: {kind: options}, as `parse` gives them.
    corpus: `records.Corpus`; fits are made on its train split.
    corpus_hash: what identifies it.
    cache_dir: where fits are kept.
    say: a function of one line of text.
    replace: whether a cache of other parts may be there.
    audio_rate_hz: of the system, which the models' own rates need not be.

  Returns:
    {component: `Adapted`}.

  Raises:
    UserError: packages, checkpoints or options that do not work, or a cache
      that was made with other parts.
  """
  say = say or (lambda line: None)
  keys = {}
  for kind, options in choices.items():
    hub.model_type(options.directory, _models(kind), f'--{kind}')
    parts = dataclasses.asdict(options)
    del parts['directory']
    parts['model'] = hub.fingerprint(options.directory)
    keys[kind] = fits.key(
        kind=kind, corpus='' if kind == 'codec' else corpus_hash, **parts)
    if not replace:
      fits.refuse_other(cache_dir, COMPONENTS[kind], keys[kind])
  hub.package('torch'), hub.package('transformers')
  # All load before any is fitted: what is wrong shows first.
  loaded = {kind: _build(kind, options, audio_rate_hz)
            for kind, options in choices.items()}
  return {COMPONENTS[kind]: _finish(
      kind, loaded[kind], options, keys[kind], corpus, cache_dir, say)
          for kind, options in choices.items()}


def _models(kind):
  return _module(kind).MODELS


def _module(kind):
  from musiclm_jax.tokenizers.adapters import codecs  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import joint  # pylint: disable=g-import-not-at-top
  from musiclm_jax.tokenizers.adapters import semantic  # pylint: disable=g-import-not-at-top
  return {'codec': codecs, 'semantic': semantic, 'joint': joint}[kind]


def _build(kind, options, audio_rate_hz):
  names = {'codec': 'Codec', 'semantic': 'SemanticTokenizer',
           'joint': 'JointEmbedder'}
  return getattr(_module(kind), names[kind])(options, audio_rate_hz)


def _finish(kind, tokenizer, options, key, corpus, cache_dir, say):
  """`tokenizer` with its fit, as `Adapted`."""
  if kind == 'codec':
    return Adapted(tokenizer, kind, key)
  component = COMPONENTS[kind]
  fitted = fits.load(cache_dir, component, key)
  if fitted is None:
    what = 'k-means' if kind == 'semantic' else 'RVQ'
    say(f'fitting the {what} of {options.directory} to {corpus.directory}')
    if kind == 'semantic':
      fitted, report = fits.fit_semantic(
          tokenizer, options, corpus.split('train'))
    else:
      fitted, report = fits.fit_joint(tokenizer, options, corpus)
    fits.save(cache_dir, component, key, fitted, report)
    say(f'fitted: {_short(report)}')
    fitted = fits.load(cache_dir, component, key)
  tokenizer.use(**fitted)
  return Adapted(tokenizer, kind, f'{key}-{fits.digest(fitted)}')


def _short(report):
  return ', '.join(f'{k} {v:.4g}' for k, v in report.items())
