"""A stage that knows its examples by heart is caught, one that does not is not."""

import json

import jax
import numpy as np
import pytest
import random_bundle
import tiny_stage

from musiclm_jax import bundle as bundle_lib
from musiclm_jax import errors
from musiclm_jax import records
from musiclm_jax.commands import cli
from musiclm_jax.decoding import sampler as sampler_lib
from musiclm_jax.evaluation import continuations
from musiclm_jax.evaluation import memorization
from musiclm_jax.evaluation.pages import charts
from musiclm_jax.metrics import memorization as metric
from musiclm_jax.metrics import transport
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import optim

_SIZE, _SECONDS, _CLIPS = 16, 6, 10
_GROUND = transport.distances(
    np.random.default_rng(9).standard_normal((_SIZE, 4)))


def _examples(seed, clips=_CLIPS):
  """Random codes: nobody can guess them."""
  rng = np.random.default_rng(seed)
  return continuations.Examples(
      dict(mulan=rng.integers(0, _SIZE, (clips, 1, 12)),
           semantic=rng.integers(0, _SIZE, (clips, _SECONDS * 25, 1))),
      [f'{seed}.{i}' for i in range(clips)],
      [f'{seed}.{i}' for i in range(clips)])


class _Parrot:
  """A sampler that knows some sequences by heart, and is silent after others."""

  def __init__(self, known, changed=0):
    stage = tiny_stage.stage_model('semantic', _SIZE, _SECONDS)
    self.stage, self.layout = stage, stage.layout
    self._known = self.layout.build(known.codes)
    self._changed = changed

  def sample(self, tokens, keys, prompt, stop, draw, rows):
    assert draw.temperature == 0 and stop - prompt == 125
    target, drawn = self.layout.target, np.array(tokens)
    assert (drawn[:, prompt:] == 0).all() and (drawn[:, :prompt] > 0).all()
    for row in drawn:
      same = (self._known[:, :prompt] == row[:prompt]).all(axis=1)
      row[prompt:stop] = target.first_id
      if same.any():
        row[prompt:stop] = self._known[same.argmax(), prompt:stop]
        row[prompt:prompt + self._changed] = target.first_id + 1
    return drawn


@pytest.mark.parametrize('changed, exact', [(0, 1.0), (6, 0.0)])
def test_a_parrot_is_caught(changed, exact):
  """Word for word; or, but for six tokens of 125, approximately."""
  examples, held = _examples(1), _examples(2)
  parrot = _Parrot(examples, changed)
  found = continuations.points(parrot, examples, _GROUND)
  assert [point.prompt for point in found] == [0, 25]
  threshold = metric.threshold(memorization.negatives(
      found, examples.tracks, _GROUND, most=60))
  assert threshold.count == 60
  curve = memorization.curve(found, examples.tracks, threshold)
  assert curve['exact'] == [exact] * 2
  assert curve['approximate'] == [1.0] * 2
  assert curve['exact_low'] == curve['exact_high'] == curve['exact']
  others = continuations.points(parrot, held, _GROUND)
  curve = memorization.curve(others, held.tracks, threshold)
  assert curve['exact'] == curve['approximate'] == [0.0] * 2
  assert max(curve['equal_tokens']) < 2
  told, figures = memorization.section(
      'train', found, examples.tracks, threshold, 'memorization')
  assert figures['memorization_exact_25'] == exact
  assert told.verdict == ('10 of 10 are continued word for word' if exact
                          else 'none is continued word for word')


def _overfit(examples, steps=160):
  """A small semantic stage, trained on these examples and nothing else."""
  stage = tiny_stage.stage_model(
      'semantic', _SIZE, _SECONDS, embed_dim=64, num_heads=4, head_dim=16,
      mlp_dim=128, num_layers=2, time_features=32)
  learner = trainer.StageTrainable(stage, optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=10, schedule='cosine',
      total_steps=steps))
  batch = tiny_stage.batch_of(stage.layout, examples.codes)
  update = jax.jit(learner.update)
  state = learner.init(jax.random.key(0), batch)
  for step in range(steps):
    state, metrics = update(state, batch, jax.random.key(step))
  return stage.with_params(state.params), float(metrics['loss'])


def test_a_stage_trained_too_long_on_ten_clips_is_caught():
  examples, held = _examples(1), _examples(2)
  trained, loss = _overfit(examples)
  assert loss < 0.05
  sampler = sampler_lib.Sampler(trained)
  found = {name: continuations.points(sampler, those, _GROUND)
           for name, those in (('train', examples), ('held', held))}
  threshold = metric.threshold(memorization.negatives(
      found['train'], examples.tracks, _GROUND))
  curves = {name: memorization.curve(those, examples.tracks, threshold)
            for name, those in found.items()}
  assert min(curves['train']['exact']) >= 0.9
  assert min(curves['train']['approximate']) >= 0.9
  assert curves['held']['exact'] == [0.0] * 2
  assert max(curves['held']['approximate']) <= 0.3


def test_as_many_prompts_as_a_crop_has_room_for():
  assert continuations.prompts_within(25, 15)[-1] == 250
  assert continuations.prompts_within(25, 14)[-1] == 200
  assert continuations.prompts_within(25, 5) == [0]
  assert continuations.prompts_within(25, 4) == []


@pytest.fixture(name='place', scope='module')
def _place(tmp_path_factory):
  """The random bundle, with a semantic stage of 6 s crops; and a corpus."""
  folder = tmp_path_factory.mktemp('memorization')
  random_bundle.write(folder / 'bundle')
  stage = tiny_stage.stage_model('semantic', _SIZE, _SECONDS, num_layers=1)
  bundle_lib.save_component(
      folder / 'bundle' / 'semantic', 'semantic', stage.config, stage.spec,
      tiny_stage.init(stage), {'steps': 0})
  bundle_lib.write_manifest(
      folder / 'bundle', random_bundle.tokens(), name='random')
  random_bundle.write_corpus(folder / 'corpus', seconds=9, tracks=(6, 4))
  return folder


def test_examples_are_crops_as_training_has_them(place):
  bundle = bundle_lib.Bundle(place / 'bundle')
  corpus = records.Corpus(place / 'corpus')
  found = continuations.cut(bundle, corpus, 'train', 3, seed=5)
  assert len(found) == 3 and len(set(found.ids)) == 3
  assert found.codes['semantic'].shape == (3, 150, 1)
  assert found.codes['mulan'].shape == (3, 1, 12)
  split = corpus.split('train')
  for row, name in enumerate(found.ids):
    track = next(t for t in split if t.id == name)
    whole = bundle.get('w2vbert').encode(split.read(track)[None])[0]
    start = found.clips.clip(name).facts['start_seconds']
    np.testing.assert_array_equal(
        found.codes['semantic'][row, :, 0], whole[start * 25:start * 25 + 150])
  starts = {found.clips.clip(n).facts['start_seconds'] for n in found.ids}
  assert starts <= {0, 1, 2, 3}


def test_from_the_shell(place, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  cli.main(['evaluate', 'memorization', '--bundle', str(place / 'bundle'),
            '--corpus', str(place / 'corpus'), '--clips', '4', '-o', 'out',
            '--json', 'm.json'])
  printed = capsys.readouterr().out
  assert 'exact matches of 125 tokens, 4 examples of train' in printed
  assert 'negatives, none passes' in printed
  assert (tmp_path / 'out' / 'memorization.png').read_bytes()[:4] == b'\x89PNG'
  figures = json.loads((tmp_path / 'm.json').read_text())
  assert figures['curves']['train']['prompt_tokens'] == [0, 25]
  assert set(figures['curves']) == {'train', 'test'}
  drawn = {chart.title: chart for chart in charts.from_json(
      figures['curves'], 'curves')}  # as a report reads them
  points = drawn['train'].lines['exact']
  assert [point.x for point in points] == [0, 25]
  assert [point.y for point in points] == [
      100 * share for share in figures['curves']['train']['exact']]
  assert figures['memorization_clips'] == 4
  assert figures['memorization_negatives'] == 2 * 4 * 3
  assert figures['provenance']['clips']['train']['used'] == 4
  for name in ('memorization_exact_0', 'memorization_held_out_exact_25'):
    assert 0 <= figures[name] <= 1


def test_what_cannot_be_asked(place, folder, tmp_path):
  with pytest.raises(errors.UserError, match='crops of 4 s; expected at least '
                     '5 s'):
    memorization.evaluate(
        bundle_lib.Bundle(folder / 'bundle'), place / 'corpus', 3)
  bundle = bundle_lib.Bundle(place / 'bundle')
  with records.Writer(tmp_path / 'quiet', 'quiet', 24_000) as writer:
    for i in range(3):
      writer.add('train', f'{i}', np.zeros(9 * 24_000))
  with pytest.raises(errors.UserError, match='has 0 tracks of 6 s or more with '
                     'sound in them'):
    memorization.evaluate(bundle, tmp_path / 'quiet', 3)
  with pytest.raises(errors.UserError, match='unknown split'):
    memorization.evaluate(bundle, place / 'corpus', 3, split='dev')
