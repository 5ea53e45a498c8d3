"""The whole flow, from data to a WAV. Minutes on two cores: marked slow."""

import json
import pathlib

import numpy as np
import pytest
import soundfile

from musiclm_jax import bundle as bundle_lib
from musiclm_jax.commands import cli
from musiclm_jax.commands import demo

pytestmark = pytest.mark.slow

_TRAIN_STEPS = 20  # of every tiny leaf


def _check(out):
  """The bundle is complete and the WAV is not silence."""
  bundle = bundle_lib.Bundle(out / 'bundle')
  bundle.require(*(
      n for n in bundle_lib.COMPONENTS if n not in bundle_lib.OPTIONAL))
  sound, rate = soundfile.read(out / 'demo.wav')
  assert rate == 24_000 and len(sound) == 4 * 24_000
  assert np.sqrt(np.mean(sound**2)) > 1e-4


def test_smoke_and_again(tmp_path, capfd):
  out = tmp_path / 'out'
  arguments = ['demo', '--preset', 'smoke', '--out', str(out)]
  cli.main(arguments)
  _check(out)
  bundle = bundle_lib.Bundle(out / 'bundle')
  assert 'melody' in bundle.stored_spec('semantic')['conditions']
  spent = json.loads((out / 'demo.json').read_text())
  capfd.readouterr()
  cli.main(arguments)
  text = capfd.readouterr().out
  assert text.count(' is there') == 8  # the corpus and seven exports
  again = json.loads((out / 'demo.json').read_text())
  assert again['corpus'] == spent['corpus']
  _check(out)


def test_a_folder_without_captions(tmp_path):
  folder = tmp_path / 'music'
  folder.mkdir()
  rng = np.random.default_rng(0)
  for i in range(4):
    t = np.arange(40 * 44_100) / 44_100
    tone = np.sin(2 * np.pi * 220 * (i + 1) * t) * 0.3
    noise = rng.normal(size=(len(t), 2)) * 0.01
    soundfile.write(folder / f'{i}.flac', tone[:, None] + noise, 44_100)
  out = tmp_path / 'out'
  cli.main(['demo', '--preset', 'smoke', '--out', str(out), '--data',
            str(folder)])
  _check(out)
  shipped = pathlib.Path(bundle_lib.shipped()) / 'mulan'
  assert ((out / 'bundle' / 'mulan' / 'weights.safetensors').read_bytes() ==
          (shipped / 'weights.safetensors').read_bytes())


def test_minutes_end_with_a_bundle_and_go_on(tmp_path, capfd):
  out = tmp_path / 'out'
  arguments = ['demo', '--preset', 'smoke', '--out', str(out), '--minutes']
  cli.main([*arguments, '1'])
  _check(out)
  steps = _steps(out)
  capfd.readouterr()
  cli.main([*arguments, '6'])
  _check(out)
  said, after = capfd.readouterr().out, _steps(out)
  # A slow start spends a share; a fast machine may need no second run.
  left = {m for m in demo.NEED if steps[m] < _TRAIN_STEPS and
          f'{m}: its share of 6 minutes is spent' not in said}
  assert left or set(steps.values()) == {_TRAIN_STEPS}
  assert {m for m in demo.NEED if after[m] != steps[m]} == left
  assert all(after[m] >= steps[m] > 0 for m in demo.NEED)


def _steps(out):
  return {
      m: json.loads((out / 'bundle' / m / 'config.json').read_text())[
          'metadata']['steps'] for m in demo.NEED}
