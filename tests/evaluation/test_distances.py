"""FAD, KAD and MAUVE of clip sets, and statistics in place of a reference."""

import json

import numpy as np
import pytest
import small_onnx

from musiclm_jax import errors
from musiclm_jax.evaluation import clip_sets
from musiclm_jax.evaluation import embeddings
from musiclm_jax.evaluation import measures
from musiclm_jax.evaluation import reference_statistics
from musiclm_jax.evaluation.measures import fad
from musiclm_jax.evaluation.measures import kad
from musiclm_jax.evaluation.measures import mauve
from musiclm_jax.listeners import embedders
from musiclm_jax.metrics import frechet
from musiclm_jax.metrics import kernel_distance

_RATE, _WINDOW, _SIZE = 16_000, 32, 4
_MEASURES = (fad, kad, mauve)


def _matrix():
  return np.random.default_rng(9).normal(
      size=(_WINDOW, _SIZE)).astype(np.float32)


@pytest.fixture(name='model')
def _model(tmp_path):
  _describe(tmp_path, _WINDOW)
  return small_onnx.linear(tmp_path / 'tiny.onnx', _matrix())


def _describe(folder, hop):
  (folder / 'tiny.json').write_text(json.dumps(dict(
      sample_rate_hz=_RATE, window_samples=_WINDOW, hop_samples=hop)))


class _Counting:
  """A clip's sound, and how often it was read."""

  def __init__(self, audio):
    self.audio, self.reads = audio, 0

  def __call__(self, rate_hz):
    assert rate_hz == _RATE
    self.reads += 1
    return self.audio


def _set(name, seed, count=40, scale=1.0, windows=3):
  rng = np.random.default_rng(seed)
  return clip_sets.ClipSet(name, [
      clip_sets.Clip(f'{i}', f'track{i // 2}', _Counting(
          scale * rng.normal(size=windows * _WINDOW).astype(np.float32)))
      for i in range(count)])


def _vectors(clips):
  """By hand: every whole window of every clip through the matrix."""
  return np.concatenate([
      c.sound.audio.reshape(-1, _WINDOW) @ _matrix() for c in clips.clips])


def _context(model, **settings):
  return measures.Context(
      listeners={'embedder': (str(model),)}, **settings)


def _taken(context, *rows):
  made = [m.begin(context) for m in _MEASURES]
  return [{f.name: f for m in made for f in m(row)} for row in rows]


def test_figures_are_those_of_the_vectors(model):
  reference, row, same = _set('ref', 0), _set('row', 1, scale=1.5), _set('s', 2)
  far, near = _taken(_context(model, reference=reference), row, same)
  one, other = _vectors(row), _vectors(reference)
  assert far['fad_tiny'].value == pytest.approx(frechet.distance(
      frechet.Moments.of(one), frechet.Moments.of(other)), rel=1e-4)
  assert far['kad_tiny'].value == pytest.approx(
      kernel_distance.distance(one, other), rel=1e-3, abs=1e-3)
  assert far['mauve_tiny'].note == '12 clusters'
  for name in ('fad_tiny', 'fad_inf_tiny', 'kad_tiny', 'mauve_tiny'):
    figure = far[name]
    assert figure.count == 40 and figure.low < figure.value < figure.high
  assert far['fad_half_tiny'].value > far['fad_tiny'].value
  assert near['fad_inf_tiny'].value < near['fad_tiny'].value
  # All of them tell the far set from the near one.
  for name in ('fad_tiny', 'fad_inf_tiny', 'kad_tiny'):
    assert far[name].value > near[name].value and far[name].better == 'lower'
  assert far['fad_inf_tiny'].note.startswith('line in 1/n')


def test_each_set_is_listened_to_once(model):
  reference, row = _set('ref', 0), _set('row', 1)
  context = _context(model, reference=reference)
  _taken(context, row)
  assert {c.sound.reads for c in (*reference.clips, *row.clips)} == {1}
  assert context.provenance['tiny'] == embedders.by_name(str(model)).about()
  assert context.provenance['tiny']['hop_samples'] == _WINDOW


def test_unusable_clips_are_in_no_figure(model):
  reference, whole = _set('ref', 0), _set('row', 1)
  broken = clip_sets.ClipSet('row', [*whole.clips, *(
      clip_sets.Clip(n, n, lambda rate, a=a: a) for n, a in (
          ('nan', np.full(99, np.nan)), ('silent', np.zeros(99)),
          ('empty', np.zeros(0))))])
  one, other = _taken(_context(model, reference=reference), whole, broken)
  assert one == other and one['fad_tiny'].count == 40
  assert broken.counted() == {'nan': 1, 'silent': 1, 'empty': 1}


def test_too_few_clips_for_full_rank_say_so(model):
  row = _set('row', 1, count=4, windows=1)
  (found,) = _taken(_context(model, reference=_set('ref', 0)), row)
  assert found['fad_tiny'].value > 0 and found['fad_tiny'].low is None
  assert ('the row has 4 vectors for 4 dimensions, too few for a covariance of '
          'full rank: see KAD') in found['fad_tiny'].note
  assert '2 tracks' in found['fad_inf_tiny'].note
  assert found['fad_inf_tiny'].value is None
  assert found['kad_tiny'].value is not None
  assert 'too few to tell rows apart' in found['mauve_tiny'].note
  (found,) = _taken(_context(model, reference=_set('ref', 0)),
                    _set('row', 1, count=1, windows=1))
  assert {f.value for f in found.values()} == {None}
  assert '1 vectors from 1 usable clips' in found['kad_tiny'].note


def test_saved_statistics_give_the_same_figures(model, tmp_path):
  reference, row = _set('ref', 0), _set('row', 1, scale=1.5)
  context = _context(model, reference=reference)
  path = tmp_path / 'ref.npz'
  embeddings.save_statistics(path, context)
  stored = _context(model, reference=None, statistics=path)
  assert _taken(stored, row) == _taken(context, row)
  known = embeddings.of(stored).reference(embeddings.of(stored).embedders[0])
  assert (known.name, known.clips, known.moments.count) == ('ref', 40, 120)


def test_statistics_of_many_vectors_keep_a_draw(model, monkeypatch):
  monkeypatch.setattr(reference_statistics, '_MOST_VECTORS', 50)
  vectors = _vectors(_set('ref', 0))
  known = reference_statistics.Known.of('ref', vectors, 40)
  assert len(known.vectors) == 50
  assert len(np.unique(known.vectors, axis=0)) == 50
  assert known.moments.count == 120
  np.testing.assert_allclose(known.moments.mean, vectors.mean(0), rtol=1e-5)


def test_another_embedder_is_refused(model, tmp_path):
  path = tmp_path / 'ref.npz'
  embeddings.save_statistics(path, _context(model, reference=_set('ref', 0)))
  _describe(tmp_path, _WINDOW // 2)
  with pytest.raises(errors.UserError, match=(
      'by tiny with hop_samples 32, which now is 16; make the statistics')):
    fad.begin(_context(model, reference=None, statistics=path))
  _describe(tmp_path, _WINDOW)
  small_onnx.linear(model, _matrix() + 1)
  with pytest.raises(errors.UserError, match='by tiny with digest'):
    kad.begin(_context(model, reference=None, statistics=path))
  with pytest.raises(errors.UserError, match='statistics by tiny, none by my'):
    mauve.begin(_context(f'my={model}', reference=None, statistics=path))


@pytest.mark.parametrize('write', [
    lambda path: path.write_bytes(b'PK nothing'),
    lambda path: np.savez(path, mean=np.zeros(3)),
    lambda path: np.savez(path, about=np.array('{"tiny": 5}')),
    lambda path: np.savez(path, about=np.array('[]'))])
def test_files_that_are_no_statistics(model, tmp_path, write):
  path = tmp_path / 'bad.npz'
  write(path)
  with pytest.raises(errors.UserError, match='bad.npz'):
    fad.begin(_context(model, reference=None, statistics=path))


def test_a_cut_file_is_refused(model, tmp_path):
  path = tmp_path / 'ref.npz'
  embeddings.save_statistics(path, _context(model, reference=_set('ref', 0)))
  path.write_bytes(path.read_bytes()[:-200])
  with pytest.raises(errors.UserError, match='holds no statistics'):
    fad.begin(_context(model, reference=None, statistics=path))


def test_statistics_are_written_whole_or_not_at_all(model, tmp_path):
  context = _context(model, reference=_set('ref', 0))
  with pytest.raises(errors.UserError, match='.npz'):
    embeddings.save_statistics(tmp_path / 'ref.txt', context)
  silent = clip_sets.of_arrays(
      'mute', _set('x', 0).clips, [np.zeros(99)] * 40, _RATE)
  with pytest.raises(errors.UserError, match='0 usable clips; expected two'):
    embeddings.save_statistics(
        tmp_path / 'ref.npz', _context(model, reference=silent))
  assert not list(tmp_path.glob('*.npz'))


def test_without_reference_or_package_the_measure_says_so(monkeypatch):
  with pytest.raises(measures.Unavailable, match='need a reference'):
    fad.begin(measures.Context(reference=None))

  def missing(name):
    raise errors.UserError(f'{name} is not installed; run `pip install it`.')

  monkeypatch.setattr(embedders, 'by_name', missing)
  with pytest.raises(measures.Unavailable, match='pip install it'):
    kad.begin(measures.Context(reference=_set('ref', 0)))
  # What was asked for by name has to be there.
  with pytest.raises(errors.UserError) as found:
    kad.begin(measures.Context(
        reference=_set('ref', 0), listeners={'embedder': ('x',)}))
  assert not isinstance(found.value, measures.Unavailable)


def test_two_embedders_stand_side_by_side(model):
  context = measures.Context(reference=_set('ref', 0), listeners={
      'embedder': (str(model), f'other={model}')})
  assert [f.name for f in kad.begin(context)(_set('row', 1))] == [
      'kad_tiny', 'kad_other']
  with pytest.raises(errors.UserError, match='two embedders are called tiny'):
    kad.begin(measures.Context(reference=_set('ref', 0), listeners={
        'embedder': (str(model), str(model))}))
