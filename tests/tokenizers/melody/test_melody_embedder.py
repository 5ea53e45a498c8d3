"""Windows, tokens, the export, and the component in a bundle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tunes

from musiclm_jax import bundle
from musiclm_jax import errors
from musiclm_jax import specs
from musiclm_jax.commands import cli
from musiclm_jax.tokenizers.melody import model as melody_model
from musiclm_jax.tokenizers.melody import rvq
from musiclm_jax.tokenizers.melody import trainer

_CONFIG = melody_model.MelodyConfig(
    features='relative', hop_samples=320, frames_per_token=8, num_layers=1,
    num_heads=2, head_dim=8, dim=16, mlp_dim=32)


@pytest.fixture(scope='module')
def exported(corpus):
  trained = trainer.MelodyTrainable(_CONFIG, tokens=rvq.MelodyRvqConfig(
      num_windows=20, iters=2, report_pairs=4))
  state = jax.jit(trained.init)(jax.random.PRNGKey(0), dict(
      first=jnp.zeros((1, 96_000))))
  return trained.export(jax.device_get(state), corpus)


@pytest.fixture(scope='module')
def directory(exported, tmp_path_factory):
  path = tmp_path_factory.mktemp('bundle')
  bundle.save_component(path / 'melody', **exported)
  bundle.write_manifest(path, specs.TokenSpec(), name='sung')
  return path


@pytest.fixture(scope='module')
def melody(directory):
  return bundle.Bundle(directory).get('melody')


def _audio(seconds, rows=1):
  notes = tunes.version(tunes.tune(1, 100), 0.4, 0)
  audio = tunes.play(notes, (1.0, 0.4))[:int(seconds * 24_000)]
  return np.stack([np.roll(audio, 999 * r) for r in range(rows)])


@pytest.mark.parametrize('seconds, windows', [
    (1.0, 1), (4.0, 1), (6.99, 1), (7.0, 2), (9.999, 2), (10.0, 3),
    (12.3, 3), (29.99, 9), (30.0, 9), (30.1, 9)])
def test_windows_and_tokens_of_a_clip(melody, seconds, windows):
  audio = _audio(seconds)
  out = melody.embed_windows(audio)
  assert out.shape == (1, windows, 192)
  np.testing.assert_allclose(np.linalg.norm(out, axis=-1), 1.0, rtol=1e-4)
  codes = melody.encode(audio)
  assert codes.shape == (1, windows * 24) and codes.dtype == np.int32
  assert codes.min() >= 0 and codes.max() < 512
  if seconds >= 4:
    assert windows == specs.MelodySpec().num_windows(seconds)


def test_a_clip_of_ten_and_of_thirty_seconds(melody):
  assert melody.encode(_audio(10, 2)).shape == (2, 72)
  assert melody.encode(_audio(30)).shape == (1, 216)


def test_windows_equal_windows_cut_out(melody):
  audio = _audio(11.5, 2)
  out = melody.embed_windows(audio)
  for w in range(3):
    cut = audio[:, 3 * w * 24_000:(3 * w + 4) * 24_000]
    np.testing.assert_allclose(
        melody.embed_windows(cut)[:, 0], out[:, w], atol=1e-4)
  every = melody.embed_windows(audio, stride_seconds=1)
  assert every.shape == (2, 8, 192)
  np.testing.assert_allclose(every[:, ::3], out, atol=1e-4)


def test_codes_are_greedy_nearest_residuals_window_after_window(melody):
  audio = _audio(10)
  vectors = melody.embed_windows(audio)[0].astype(np.float64)
  codes = melody.encode(audio).reshape(3, 24)
  for vector, row in zip(vectors, codes):
    for level, code in enumerate(row):
      distance = np.square(vector - melody.codebooks[level]).sum(-1)
      assert distance[code] <= distance.min() + 1e-4
      vector = vector - melody.codebooks[level][code]


def test_short_audio_is_padded_and_none_is_refused(melody):
  padded = np.pad(_audio(1), ((0, 0), (0, 3 * 24_000)))
  np.testing.assert_allclose(melody.embed_windows(_audio(1)),
                             melody.embed_windows(padded), atol=1e-5)
  with pytest.raises(ValueError, match='N > 0'):
    melody.embed_windows(np.zeros((1, 0)))


def test_the_report_of_the_export(exported):
  report = exported['metadata']['rvq']
  assert report['vectors'] == 20 and len(report['distortion']) == 24
  assert report['distortion'] == sorted(report['distortion'], reverse=True)
  assert report['split'] == 'validation' and report['pairs'] == 4
  assert 0.0 <= report['equal_first_level'] <= 1.0
  assert exported['weights']['rvq']['codebooks'].shape == (24, 512, 192)


def test_inspect_counts_it_and_bundles_need_it_not(
    directory, tmp_path, capsys):
  cli.main(['inspect', 'bundle', str(directory)])
  shown = capsys.readouterr().out
  assert re_line(shown, 'melody').split()[1] == '2.37'  # with its codebooks
  bundle.write_manifest(tmp_path, specs.TokenSpec(), name='unsung')
  cli.main(['inspect', 'bundle', str(tmp_path)])
  assert 'not part of it' in re_line(capsys.readouterr().out, 'melody')
  assert 'melody' in bundle.OPTIONAL


def re_line(text, name):
  return next(line for line in text.splitlines() if line.split()[:1] == [name])


def test_another_spec_than_the_bundles_is_refused(exported, tmp_path):
  bundle.save_component(tmp_path / 'melody', **dict(
      exported, spec=specs.MelodySpec(num_codebooks=12)))
  bundle.write_manifest(tmp_path, specs.TokenSpec())
  with pytest.raises(errors.UserError, match='num_codebooks: 12, expected 24'):
    bundle.Bundle(tmp_path).get('melody')
