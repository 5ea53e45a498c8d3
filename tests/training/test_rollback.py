"""Training that diverges: back to a checkpoint, slower, and on."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax.training import health
from musiclm_jax.training import loop
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import optim
from musiclm_jax.training import trainable as trainable_lib

FAST = optim.OptimizerConfig(learning_rate=0.3, warmup_steps=5)
SLOW = dataclasses.replace(FAST, learning_rate=0.15)
# NaN at step 13 unless the rate was lowered.
ILL = toy_trainable.Toy(optimizer=FAST, nan_at=13, harmless_rate=0.2)


def _train(model_dir, num_steps, trainable=ILL, **kwargs):
  kwargs = dict(eval_every=0, checkpoint_every=10, log_every=1) | kwargs
  return loop.train(trainable, toy_trainable.ToySource(), str(model_dir),
                    num_steps, **kwargs)


def _events(model_dir):
  return json.loads((model_dir / 'run.json').read_text()).get('events', [])


def _assert_same(a, b):
  for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a),
                          jax.tree.leaves(b)):
    np.testing.assert_array_equal(x, y, err_msg=jax.tree_util.keystr(path))


def _as_users_compile(check, folder):
  """Calls a function of this module on a folder, in a process of its own.

  Two programs, a rate of 0.15 in one and half of 0.3 in the other, give the
  same bits by XLA:CPU's usual emitters, not by those of tests/conftest.py.
  """
  script = ('import pathlib, sys; '
            'import test_rollback; '
            'getattr(test_rollback, sys.argv[1])(pathlib.Path(sys.argv[2]))')
  done = subprocess.run(
      [sys.executable, '-c', script, check.__name__, str(folder)],
      cwd=pathlib.Path(__file__).parent,
      env=dict(os.environ, XLA_FLAGS=''), capture_output=True, text=True,
      timeout=300, check=False)
  assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(name='recovered', scope='module')
def _recovered(tmp_path_factory):
  model_dir = tmp_path_factory.mktemp('recovered')
  return model_dir, _train(model_dir, 30)


def recovered_equals_by_hand(folder):
  result = _train(folder / 'recovered', 30)
  assert (result.step, result.reason) == (30, 'finished')
  # The same by hand: ten steps, then the others at half the rate.
  _train(folder / 'by_hand', 10, toy_trainable.Toy(optimizer=FAST))
  by_hand = _train(folder / 'by_hand', 30, toy_trainable.Toy(optimizer=SLOW))
  _assert_same(result.state, by_hand.state)


def test_nan_goes_back_to_the_checkpoint_at_half_the_rate(tmp_path):
  _as_users_compile(recovered_equals_by_hand, tmp_path)


def test_record_and_metrics_say_so(recovered):
  model_dir = recovered[0]
  event, = _events(model_dir)
  assert 'nan at step 13' in event.pop('what')
  assert event == dict(kind='rollback', step=13, back_to=10, rate_factor=0.5)
  rows = metrics_writer.read(model_dir, 'train')
  assert [float(r['id']) for r in rows] == list(range(30))
  assert not any('rollbacks' in r for r in rows[:10])
  assert all((r['rollbacks'], r['rate_factor']) == ('1', '0.5')
             for r in rows[10:])


def test_a_resumed_run_keeps_the_lowered_rate(recovered, tmp_path, capsys):
  _train(tmp_path, 12)  # before the trouble
  assert not _events(tmp_path)
  _train(tmp_path, 17)  # through it
  capsys.readouterr()
  result = _train(tmp_path, 30)
  assert '0.5 of their settings, after 1 rollback' in capsys.readouterr().err
  # A checkpoint at 12 is where this one went back to.
  assert [e['back_to'] for e in _events(tmp_path)] == [12]
  other = _train(tmp_path / 'whole', 12) and _train(tmp_path / 'whole', 30)
  _assert_same(result.state, other.state)


def test_stopped_between_rollback_and_next_checkpoint(recovered, tmp_path):
  """What a kill there leaves: run.json with the event, checkpoint 10."""
  _train(tmp_path, 10)
  record = json.loads((tmp_path / 'run.json').read_text())
  record['events'] = _events(recovered[0])
  (tmp_path / 'run.json').write_text(json.dumps(record))
  _assert_same(_train(tmp_path, 30).state, recovered[1].state)
  assert len(_events(tmp_path)) == 1


def test_it_gives_up_after_three(tmp_path):
  hopeless = dataclasses.replace(ILL, nan_at=23, harmless_rate=0.0)
  with pytest.raises(health.NotFinite) as caught:
    _train(tmp_path, 30, hopeless)
  message = str(caught.value)
  assert isinstance(caught.value, errors.UserError) and '\n' not in message
  for words in ('nan at step 23', 'after 3 rollback(s)', 'step 20'):
    assert words in message
  # The second time the newest checkpoint is under suspicion.
  assert [(e['kind'], e.get('back_to'), e.get('rate_factor'))
          for e in _events(tmp_path)] == [
              ('rollback', 20, 0.5), ('rollback', 10, 0.25),
              ('rollback', 20, 0.125), ('stop', None, None)]
  assert sorted(os.listdir(tmp_path / 'checkpoints')) == ['10', '20']
  # Another start does not begin to count anew.
  with pytest.raises(health.NotFinite, match='after 3 rollback'):
    _train(tmp_path, 30, hopeless)


def begun_again_equals_slow(folder):
  result = _train(folder / 'again', 20, dataclasses.replace(ILL, nan_at=4))
  assert [e['back_to'] for e in _events(folder / 'again')] == [0]
  slow = _train(folder / 'slow', 20, toy_trainable.Toy(optimizer=SLOW))
  _assert_same(result.state, slow.state)


def test_before_the_first_checkpoint_it_begins_again(tmp_path, capsys):
  _as_users_compile(begun_again_equals_slow, tmp_path)
  _train(tmp_path, 20, dataclasses.replace(ILL, nan_at=4))
  assert 'going back to the beginning' in capsys.readouterr().err


def test_a_spoilt_state_goes_back_too(tmp_path):
  # Step 19 spoils the parameters after its loss was taken; the save sees it.
  ill = dataclasses.replace(ILL, nan_at=-1, nan_params_at=19)
  assert _train(tmp_path, 30, ill).reason == 'finished'
  event, = _events(tmp_path)
  assert event['back_to'] == 10 and 'NaN or infinite' in event['what']


def test_an_exploding_loss_goes_back(tmp_path):
  ill = dataclasses.replace(ILL, nan_at=-1, leap_at=15)
  result = _train(tmp_path, 30, ill)
  event, = _events(tmp_path)
  assert (event['step'], event['back_to']) == (17, 10)
  assert 'more than 10 times its recent' in event['what']
  losses = [float(r['loss']) for r in metrics_writer.read(tmp_path, 'train')]
  assert max(losses[15:]) < max(losses[:5])
  assert result.reason == 'finished'
  # With the gate off the same run carries on with what it has.
  _train(tmp_path / 'off', 18, ill,
         recovery=health.Recovery(explode_factor=0.0))
  assert not _events(tmp_path / 'off')


def test_explosions_are_told_from_noise():
  check = health.Recovery(explode_factor=10.0).check_exploding
  learned = [5.0, 4.0, 3.0, 2.0, 1.0] + [0.01] * 30
  check(36, learned, 4.9)  # far above the last ones, no worse than untrained
  check(4, [5.0, 4.0, 3.0], 1e6)  # too early to know what is usual
  check(36, [5.0] * 30, 49.0)
  for before, loss in ((learned, 5.1), ([5.0] * 30, 51.0)):
    with pytest.raises(health.Exploded) as caught:
      check(36, before, loss)
    assert caught.value.step == 36


@pytest.mark.parametrize('kwargs', [
    dict(rate_factor=0.0), dict(rate_factor=2.0), dict(explode_factor=0.5)])
def test_bad_settings_are_user_errors(kwargs):
  with pytest.raises(errors.UserError):
    health.Recovery(**kwargs)


@dataclasses.dataclass(frozen=True)
class _Fixed(trainable_lib.Trainable):
  """A toy whose rate nobody can lower: none of its fields is an optimiser."""

  @property
  def _toy(self):
    return dataclasses.replace(ILL, harmless_rate=0.0)

  def init(self, rng, batch):
    return self._toy.init(rng, batch)

  def update(self, state, batch, rng):
    return self._toy.update(state, batch, rng)

  def evaluate(self, state, batch, rng):
    return self._toy.evaluate(state, batch, rng)

  def export(self, state, corpus):
    return self._toy.export(state, corpus)


def test_without_a_rate_to_lower_it_gives_up_at_once(tmp_path):
  with pytest.raises(health.NotFinite, match='gave up and the last good'):
    _train(tmp_path, 20, _Fixed())
