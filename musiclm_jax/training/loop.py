"""The one training loop: it runs every model of the system.

  source.batches(step) -> prefetch -> update (jitted, sharded, state donated)
      -> metrics.csv, TensorBoard, progress
      -> checkpoints (Orbax, in the background) -> the same step again later

Everything random derives from (seed, step), the batches included, so a run that
is killed and started again computes what it would have computed. Where training
diverges the loop goes back to the last good checkpoint with lower learning
rates (training/health.py); run.json keeps the record.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.nn import partitioning
from musiclm_jax.training import checkpoints
from musiclm_jax.training import consensus
from musiclm_jax.training import directory
from musiclm_jax.training import disk
from musiclm_jax.training import gates
from musiclm_jax.training import health
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import metrics_writer
from musiclm_jax.training import optim
from musiclm_jax.training import prefetch as prefetch_lib
from musiclm_jax.training import progress_line
from musiclm_jax.training import run_config
from musiclm_jax.training import run_record
from musiclm_jax.training import step as step_lib
from musiclm_jax.training import trainable as trainable_lib
from musiclm_jax.training import watchdog as watchdog_lib


@dataclasses.dataclass(frozen=True)
class Result:
  """How a run ended."""

  step: int  # updates done, over all starts
  reason: str  # 'finished', 'time' or the name of a signal
  metrics: dict  # last evaluation, {} if there was none
  state: object  # the final state, on device; None if nothing was left to do


def train(trainable: trainable_lib.Trainable,
          source: trainable_lib.BatchSource,
          model_dir: str | pathlib.Path,
          num_steps: int,
          seed: int = 0,
          mesh: Mapping[str, int] | tuple[int, int] = (-1, 1),
          rules: Sequence[tuple] = (),
          eval_every: int = 1000,
          checkpoint_every: int = 1000,
          log_every: int = 50,
          keep: int = 3,
          max_minutes: float | None = None,
          prefetch: int = 2,
          devices: Sequence[jax.Device] | None = None,
          recovery: health.Recovery = health.Recovery(),
          preview_clips: int = 2,
          hang_minutes: float = 10.0,
          generator: str = step_lib.THREEFRY) -> Result:
  """Trains until `num_steps`, from the newest checkpoint if there is one.

  `run_config.RunConfig` says what each argument means.

  Raises:
    UserError: bad settings, another model's directory, unreadable checkpoints.
    health.Diverged: training diverged, and rolling back did not help.
    gates.Tripped: a gate of the trainable stopped the run.
  """
  run = _Run(run_config.RunConfig(
      trainable=trainable, source=source, model_dir=model_dir,
      num_steps=num_steps, seed=seed, mesh=mesh, rules=rules,
      eval_every=eval_every, checkpoint_every=checkpoint_every,
      log_every=log_every, keep=keep, max_minutes=max_minutes,
      prefetch=prefetch, devices=devices, recovery=recovery,
      preview_clips=preview_clips, hang_minutes=hang_minutes,
      generator=generator))
  with disk.explained(model_dir):
    return run.start()


class _Run:
  """One start of a run; its methods stand in the order of events."""

  def __init__(self, config: run_config.RunConfig):
    self.config = config
    self.deadline = health.Deadline(config.max_minutes)
    self.gates = config.trainable.gates()
    self.model_dir = directory.place(config.model_dir)
    self.mesh = mesh_lib.make_mesh(config.mesh, config.devices)
    self.rules = partitioning.with_rules(config.rules)
    self.share = mesh_lib.own_share(self.mesh)
    self.progress = progress_line.Progress(
        config.num_steps, self.deadline.seconds_left, consensus.stream())
    self.say = self.progress.say

  def start(self) -> Result:
    """Claims the directory, and trains there until there is a reason to stop."""
    directory.check(self.model_dir)
    with contextlib.ExitStack() as stack:
      stack.enter_context(directory.claimed(self.model_dir))
      self.history = self._open_history()
      stack.enter_context(step_lib.context(self.mesh, self.rules))
      self.checkpoints = stack.enter_context(
          checkpoints.Checkpoints(self.model_dir, self.config.keep))
      step = self.checkpoints.latest() or 0
      if step >= self.config.num_steps:
        self.say(f'{self.model_dir} is finished: step {step} of '
                 f'{self.config.num_steps}.')
        return Result(
            step, 'finished', metrics_writer.last(self.model_dir, 'eval'), None)
      stop = stack.enter_context(health.StopSignal())
      while True:
        step, state = self._begin()
        self.history.write()
        try:
          return self._run_from(step, state, stop)
        except health.Diverged as error:
          # The traceback holds the arrays of the state that is given up.
          trouble, state = error.with_traceback(None), None
        self._roll_back(trouble)

  # ---- before the first step ----

  def _open_history(self) -> run_record.History:
    """The history of the run, whose directory must be this trainable's."""
    record = run_record.make(
        trainable=self.config.trainable, source=self.config.source,
        seed=self.config.seed)
    run_record.check(self.model_dir, record, self.say)
    return run_record.History(self.model_dir, record)

  def _begin(self) -> tuple[int, Any]:
    """(step, state): restored, or fresh at step 0. Compiles nothing yet."""
    batch = next(iter(self.config.source.batches(0, self.share)))
    rate_factor = self.history.rate_factor
    trainable = optim.scale_rates(self.config.trainable, rate_factor)
    if rate_factor != 1.0:
      self.say(f'learning rates are {rate_factor:g} of their settings, after '
               f'{self.history.rollbacks} rollback(s).')
    self.program = step_lib.build(
        trainable, self.share.described(batch), self.mesh, self.rules,
        self.config.seed, self.config.generator)
    restored = self.checkpoints.restore(self.program.state, self.say)
    if restored is not None:
      step, state, _ = restored
      self._set_aside(newer_than=step)
      self.say(f'resuming {self.model_dir} at step {step}.')
      return step, state
    state = self.program.init(self.program.place(batch, self.share))
    self.say(f'starting {type(trainable).__name__} in {self.model_dir}: '
             f'{_count(state):,} values in its state, {self.config.num_steps} '
             f'steps, {self.mesh.size} device(s).')
    return 0, state

  # ---- the steps ----

  def _run_from(self, step: int, state: Any, stop: health.StopSignal) -> Result:
    """Opens what the steps need, and runs them."""
    with contextlib.ExitStack() as stack:
      self.writer = stack.enter_context(metrics_writer.MetricsWriter(
          self.model_dir, step, writes=consensus.is_first()))
      trouble = self.history.rolled_back(step)
      if trouble:
        self.writer.say(step, 'rollback', trouble)
      batches = stack.enter_context(prefetch_lib.Prefetch(
          self.config.source.batches(step, self.share),
          functools.partial(self.program.place, share=self.share),
          self.config.prefetch))
      self.watchdog = stack.enter_context(watchdog_lib.Watchdog(
          self.model_dir, 60.0 * self.config.hang_minutes,
          lambda text: print(text, file=sys.stderr, flush=True)))
      return self._steps(step, state, batches, stop)

  def _steps(self, step: int, state: Any, batches: Iterator[Any],
             stop: health.StopSignal) -> Result:
    """Runs updates until there is a reason to stop."""
    config = self.config
    pending, reason, metrics, began = [], '', {}, time.monotonic()
    first = step
    while not reason:
      batch = self._next_batch(step, batches, first)
      state, values = self.program.update(state, batch)
      step += 1
      pending.append(values)
      if len(pending) > 1:  # At most two steps in flight: honest rates.
        jax.block_until_ready(pending[-2])
      if step == first + 1:
        jax.block_until_ready(values)
        self.say(f'first step after {time.monotonic() - began:.1f} s.')
      self.progress.mark(step)
      reason, halt = self._reason(step, stop), ''
      if config.logs(step, reason):
        halt = self._log(step, pending, state)
        pending = []
      elif self.progress.due():
        self.progress.show(step, {'loss': float(values['loss'])})
      if config.evaluates(step, reason):
        metrics = self._evaluate(step, state)
        halt = self._watch('eval', step) or halt
      if config.saves(step, reason) or halt:
        self._save(step, state)
      if halt:
        self.checkpoints.wait()
        raise gates.Tripped(f'stopped at step {step}: {halt}')
    self.checkpoints.wait()
    self._goodbye(step, reason)
    return Result(step, reason, metrics, state)

  def _next_batch(self, step: int, batches: Iterator[Any], first: int) -> Any:
    """The batch of `step`; the watchdog is told from the second one on."""
    compiled = step > first  # the first step compiles, however long that takes
    if compiled:
      self.watchdog.beat(step, watchdog_lib.WAITING)
    try:
      batch = next(batches)
    except StopIteration:
      raise errors.UserError(
          f'the data ended at step {step} of {self.config.num_steps}; a source '
          f'must repeat.') from None
    if compiled:
      self.watchdog.beat(step, watchdog_lib.COMPUTING)
    return batch

  def _reason(self, step: int, stop: health.StopSignal) -> str:
    """Why to stop after `step`, or ''."""
    if step >= self.config.num_steps:
      return 'finished'
    own = stop.name or ('time' if self.deadline.passed() else '')
    return consensus.reason(own, step)

  # ---- after a step ----

  def _log(self, step: int, pending: list, state: Any) -> str:
    """Checks and writes the mean of the metrics since the last row.

    Returns why a gate wants to stop, or ''.
    """
    rows = jax.device_get(pending)
    health.check_losses(step - len(rows), [r['loss'] for r in rows])
    if int(state.step) != step:
      raise ValueError(
          f'{type(self.config.trainable).__name__}.update left state.step at '
          f'{int(state.step)} after step {step}; it must add one.')
    means = {k: float(np.mean([r[k] for r in rows])) for k in rows[-1]}
    self.config.recovery.check_exploding(
        step, [r['loss'] for r in self.writer.rows('train')], means['loss'])
    means['steps_per_s'] = self.progress.rate()
    if self.history.rollbacks:
      means.update(rollbacks=self.history.rollbacks,
                   rate_factor=self.history.rate_factor)
    self.writer.write(step, 'train', means)
    if self.progress.due() or step >= self.config.num_steps:
      self.progress.show(step, means)
    return self._watch('train', step)

  def _evaluate(self, step: int, state: Any) -> dict[str, float]:
    """Writes and returns the metrics averaged over the evaluation batches."""
    totals = []
    for i, batch in enumerate(self.config.source.eval_batches(self.share)):
      self.watchdog.beat(step, watchdog_lib.EVALUATING)
      shardings = mesh_lib.batch_shardings(
          self.mesh, self.share.described(batch), strict=False)
      totals.append(self.program.evaluate(
          state, mesh_lib.put(batch, shardings, self.share), i))
      jax.block_until_ready(totals[-1])
    if not totals:
      return {}
    totals = jax.device_get(totals)
    means = {k: float(np.mean([t[k] for t in totals])) for k in totals[-1]}
    means.update(self._baselines)
    self.writer.write(step, 'eval', means)
    # One value for each of many levels is for the file, not for the eye.
    self.say(f'step {step} eval  ' + '  '.join(
        f'{k} {v:.4g}' for k, v in means.items() if '/' not in k))
    self._show(step, state)
    return means

  @functools.cached_property
  def _baselines(self) -> dict[str, float]:
    """What the evaluation has to beat; read from the data once."""
    return self.config.source.baselines()

  def _show(self, step: int, state: Any) -> None:
    """Sounds and pictures of a few held-out examples."""
    trainable, count = self.config.trainable, self.config.preview_clips
    if trainable.has_previews and count and consensus.is_alone():
      batch = self.config.source.preview_batch(count)
      self.writer.show(step, trainable.previews(state, batch))

  def _watch(self, split: str, step: int) -> str:
    """Looks at the gates of `split`; returns why to stop, or ''."""
    halt, rows = '', self.writer.rows(split) if self.gates else []
    for gate in self.gates:
      what = gate.tripped(rows) if gate.split == split else ''
      if not what:
        continue
      if gate.action == 'stop':
        halt = halt or what
        self.history.happened('stop', step, what, gate=gate.name)
      elif not gate.tripped(rows[:-1]):
        self.say(f'step {step}: {what}')
        self.history.happened('warning', step, what, gate=gate.name)
    return halt

  def _save(self, step: int, state: Any) -> None:
    self.watchdog.beat(step, watchdog_lib.SAVING)
    health.check_state(step, state)
    self.checkpoints.save(step, state, dict(
        step=step, seed=self.config.seed, devices=self.mesh.size))

  def _goodbye(self, step: int, reason: str) -> None:
    if reason == 'finished':
      self.say(f'finished {self.model_dir} at step {step}.')
      return
    why = 'time is up' if reason == 'time' else f'stopped by {reason}'
    self.say(f'{why} at step {step} of {self.config.num_steps}; the checkpoint '
             f'is written. Run the same command again to resume from '
             f'{self.model_dir}.')

  # ---- trouble ----

  def _roll_back(self, trouble: health.Diverged) -> None:
    """Leaves the checkpoints and the record as the next attempt wants them.

    Raises:
      Diverged: there were rollbacks enough.
    """
    self.checkpoints.wait()
    recovery, history = self.config.recovery, self.history
    steps, done = self.checkpoints.steps(), history.rollbacks
    factor = history.rate_factor * recovery.rate_factor
    trainable = self.config.trainable
    scalable = optim.scale_rates(trainable, 0.5) is not trainable
    if done >= recovery.max_rollbacks or not scalable:
      history.happened('stop', trouble.step, trouble.what)
      raise recovery.give_up(trouble, done, steps[-1] if steps else None)
    # A checkpoint that led here before may be ill itself: the one before it.
    fresh = [s for s in steps if not history.went_back_to(s)] or steps[-1:]
    back_to = fresh[-1] if fresh else 0
    self._set_aside(newer_than=back_to)
    history.happened('rollback', trouble.step, trouble.what, back_to=back_to,
                     rate_factor=factor)
    where = f'checkpoint {back_to}' if fresh else 'the beginning'
    self.say(f'{trouble.what}; going back to {where} with learning rates at '
             f'{factor:g} of their settings (rollback {done + 1} of '
             f'{recovery.max_rollbacks}).')
    self.progress.restart()

  def _set_aside(self, newer_than: int) -> None:
    consensus.first_does(
        'set_aside', lambda: self.checkpoints.set_aside(newer_than))
    self.checkpoints.reload()


def _count(state: Any) -> int:
  return sum(int(jnp.size(x)) for x in jax.tree.leaves(state))
