"""With and without the semantic stage: what is compared, and what cannot be."""

import json

import numpy as np
import pytest
import random_bundle
import tiny_bundle
import tiny_stage

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax.commands import cli
from musiclm_jax.evaluation import ablation
from musiclm_jax.systems.musiclm import model as model_lib


@pytest.fixture(name='without', scope='module')
def _without(folder, tmp_path_factory):
  """The random bundle without a semantic stage, M -> A."""
  place = tmp_path_factory.mktemp('without')
  for part in (folder / 'bundle').iterdir():
    if part.is_dir() and part.name not in ('coarse', 'semantic'):
      (place / part.name).symlink_to(part)
  stage = tiny_bundle.stages('coarse', ('mulan',))
  bundle_lib.save_component(
      place / 'coarse', 'coarse', stage.config, stage.spec,
      tiny_stage.init(stage), {'steps': 0})
  bundle_lib.write_manifest(place, random_bundle.tokens(), name='without')
  return bundle_lib.Bundle(place)


def test_from_the_shell(folder, without, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'ablation', '--bundle', str(folder / 'bundle'),
            '--without', str(without.directory), '--corpus',
            str(folder / 'corpus'), '--clips', '3', '--measures', 'none',
            '--json', 'a.json'])
  printed = capsys.readouterr().out
  for line in ('with the semantic stage', 'without it', 'other recordings',
               'semantic, with the semantic stage', 'coarse, without it'):
    assert line in printed
  figures = json.loads((tmp_path / 'a.json').read_text())
  assert figures['ablation_clips'] == 3
  assert figures['provenance']['without']['bundle'] == 'without'
  for name in ('mulan', 'mel_db'):
    low, gain, high = (figures[f'ablation_{name}_gain{end}']
                       for end in ('_low', '', '_high'))
    assert low <= gain <= high
  assert figures['ablation_mulan_gain'] == pytest.approx(
      figures['ablation_with_mulan'] - figures['ablation_with_mulan_shuffled'] -
      figures['ablation_without_mulan'] +
      figures['ablation_without_mulan_shuffled'], abs=1e-6)
  assert figures['ablation_with_coarse_nats_per_second'] == pytest.approx(
      200 * figures['ablation_with_coarse_nats'])


def test_music_of_a_bundle_without_semantic_tokens(without):
  """By `musiclm generate` too, and what it says of the tokens."""
  model = model_lib.Model(without)
  audio = model.generate('a jig', seconds=2)
  assert audio.shape == (48_000,) and np.abs(audio).max() > 0


def test_bundles_that_do_not_belong_together(folder, without):
  ours = bundle_lib.Bundle(folder / 'bundle')
  with pytest.raises(errors.UserError, match='--without .* is conditioned on '
                     'mulan, semantic; expected one without semantic tokens'):
    ablation.check(ours, ours)
  with pytest.raises(errors.UserError, match='--bundle .* is conditioned on '
                     'mulan; expected one with semantic tokens'):
    ablation.check(without, without)


def test_a_measure_that_there_is_not(folder, without, capsys):
  assert ablation.asked_measures('') is None
  assert ablation.asked_measures('none') == []
  assert ablation.asked_measures('fad, kad') == ['fad', 'kad']
  with pytest.raises(SystemExit) as stopped:
    cli.main(['evaluate', 'ablation', '--bundle', str(folder / 'bundle'),
              '--without', str(without.directory), '--corpus',
              str(folder / 'corpus'), '--clips', '2', '--measures', 'nope'])
  assert stopped.value.code == 2
  assert "unknown measure 'nope'" in capsys.readouterr().err
