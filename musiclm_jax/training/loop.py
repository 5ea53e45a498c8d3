"""The one training loop: it runs every model of the system.

  source.batches(step) -> prefetch -> update (jitted, sharded, state donated)
      -> metrics.csv, TensorBoard, progress
      -> checkpoints (Orbax, in the background) -> the same step again later

Everything random derives from (seed, step), the batches included, so a run that
is killed and started again computes what it would have computed. Where training
diverges the loop goes back to the last good checkpoint with lower learning
rates (training/health.py); run.json keeps the record.
"""

import contextlib
import dataclasses
import functools
import sys
import time

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
from musiclm_jax.training import run_record
from musiclm_jax.training import step as step_lib
from musiclm_jax.training import watchdog as watchdog_lib


@dataclasses.dataclass(frozen=True)
class Result:
  """How a run ended."""

  step: int  # updates done, over all starts
  reason: str  # 'finished', 'time' or the name of a signal
  metrics: dict  # last evaluation, {} if there was none
  state: object  # the final state, on device; None if nothing was left to do


def train(trainable, source, model_dir, num_steps, seed=0, mesh=(-1, 1),
          rules=(), eval_every=1000, checkpoint_every=1000, log_every=50,
          keep=3, max_minutes=None, prefetch=2, devices=None,
          recovery=health.Recovery(), preview_clips=2, hang_minutes=10.0,
          generator=step_lib.THREEFRY):
  """Trains until `num_steps`, from the newest checkpoint if there is one.

  Args:
    trainable: a `trainable.Trainable`.
    source: a `trainable.BatchSource`.
    model_dir: checkpoints, metrics and run.json go here.
    num_steps: updates of the whole run, earlier starts included.
    seed: decides the initial state and the randomness of every step; the
      source has a seed of its own.
    mesh: devices of each mesh axis, see training/mesh.
    rules: (logical axis, mesh axis or axes) pairs that go before those of
      `nn.partitioning.RULES`.
    eval_every: steps between evaluations; 0 evaluates never. The last step is
      evaluated as well.
    checkpoint_every: steps between checkpoints; 0 writes only the last.
    log_every: steps whose metrics are averaged into one row.
    keep: number of newest checkpoints to keep.
    max_minutes: wall-clock limit of this start, compilation included.
    prefetch: batches made ahead.
    devices: devices of the mesh; all by default.
    recovery: a `health.Recovery`: what to do when training diverges.
    preview_clips: examples that the trainable shows at each evaluation, if it
      offers previews, on one host; 0 shows none.
    hang_minutes: without a step for so long the run says which host is late;
      after twice that, one of several hosts ends. 0 never does.
    generator: of a step's random numbers, see `step.build`.
  Returns:
    A `Result`.
  Raises:
    UserError: bad settings, another model's directory, unreadable checkpoints.
    health.Diverged: training diverged, and rolling back did not help.
    gates.Tripped: a gate of the trainable stopped the run.
  """
  run = _Run(trainable, source, model_dir, num_steps, seed, mesh, rules,
             eval_every, checkpoint_every, log_every, keep, max_minutes,
             prefetch, devices, recovery, preview_clips, hang_minutes,
             generator)
  with disk.explained(model_dir):
    return run.start()


class _Run:
  """One start of a run: `start` reads as the order of events."""

  def __init__(self, trainable, source, model_dir, num_steps, seed, mesh,
               rules, eval_every, checkpoint_every, log_every, keep,
               max_minutes, prefetch, devices, recovery, preview_clips,
               hang_minutes, generator):
    if num_steps < 1 or log_every < 1:
      raise errors.UserError(
          f'num_steps is {num_steps} and log_every {log_every}; both must be '
          f'at least 1.')
    self.deadline = health.Deadline(max_minutes)
    self.trainable = trainable
    self.gates = trainable.gates() if hasattr(trainable, 'gates') else ()
    self.source = source
    self.model_dir = directory.place(model_dir)
    self.num_steps = num_steps
    self.seed = seed
    self.generator = generator
    self.eval_every = eval_every
    self.checkpoint_every = checkpoint_every
    self.log_every = log_every
    self.keep = keep
    self.prefetch = prefetch
    self.recovery = recovery
    self.preview_clips = preview_clips
    self.mesh = mesh_lib.make_mesh(mesh, devices)
    self.rules = partitioning.with_rules(rules)
    self.progress = progress_line.Progress(
        num_steps, self.deadline.seconds_left, consensus.stream())
    self.hang_seconds = 60.0 * hang_minutes

  def start(self):
    directory.check(self.model_dir)
    with directory.claimed(self.model_dir):
      return self._start()

  def _start(self):
    say = self.progress.say
    record = run_record.make(trainable=self.trainable, source=self.source,
                             seed=self.seed)
    run_record.check(self.model_dir, record, say)
    self.record, self.events = record, run_record.events(self.model_dir)
    with contextlib.ExitStack() as stack:
      stack.enter_context(step_lib.context(self.mesh, self.rules))
      self.checkpoints = stack.enter_context(
          checkpoints.Checkpoints(self.model_dir, self.keep))
      step = self.checkpoints.latest() or 0
      if step >= self.num_steps:
        say(f'{self.model_dir} is finished: step {step} of {self.num_steps}.')
        return Result(
            step, 'finished', metrics_writer.last(self.model_dir, 'eval'), None)
      stop = stack.enter_context(health.StopSignal())
      while True:
        step, state = self._begin()
        self._write_record()
        try:
          return self._run_from(step, state, stop)
        except health.Diverged as error:
          # The traceback holds the arrays of the state that is given up.
          trouble, state = error.with_traceback(None), None
        self._roll_back(trouble)

  def _run_from(self, step, state, stop):
    with contextlib.ExitStack() as stack:
      self.writer = stack.enter_context(
          metrics_writer.MetricsWriter(
              self.model_dir, step, writes=consensus.is_first()))
      if self._rollbacks() and self.events[-1].get('back_to') == step:
        self.writer.say(step, 'rollback', self.events[-1]['what'])
      batches = stack.enter_context(prefetch_lib.Prefetch(
          self.source.batches(step), self.program.place, self.prefetch))
      self.watchdog = stack.enter_context(watchdog_lib.Watchdog(
          self.model_dir, self.hang_seconds,
          lambda text: print(text, file=sys.stderr, flush=True)))
      return self._steps(step, state, batches, stop)

  # ---- before the first step ----

  def _begin(self):
    """(step, state): restored, or fresh at step 0. Compiles nothing yet."""
    batch = next(iter(self.source.batches(0)))
    rate_factor = self._rate_factor()
    trainable = optim.scale_rates(self.trainable, rate_factor)
    if rate_factor != 1.0:
      self.progress.say(
          f'learning rates are {rate_factor:g} of their settings, after '
          f'{self._rollbacks()} rollback(s).')
    self.program = step_lib.build(
        trainable, batch, self.mesh, self.rules, self.seed, self.generator)
    restored = self.checkpoints.restore(self.program.state, self.progress.say)
    if restored is not None:
      step, state, _ = restored
      self._set_aside(newer_than=step)
      self.progress.say(f'resuming {self.model_dir} at step {step}.')
      return step, state
    state = self.program.init(self.program.place(batch))
    self.progress.say(
        f'starting {type(trainable).__name__} in {self.model_dir}: '
        f'{_count(state):,} values in its state, {self.num_steps} steps, '
        f'{self.mesh.size} device(s).')
    return 0, state

  # ---- trouble ----

  def _rollbacks(self):
    return sum(e['kind'] == 'rollback' for e in self.events)

  def _rate_factor(self):
    factors = [e['rate_factor'] for e in self.events if 'rate_factor' in e]
    return factors[-1] if factors else 1.0

  def _roll_back(self, trouble):
    """Leaves the checkpoints and the record as the next attempt wants them.

    Raises:
      Diverged: there were rollbacks enough.
    """
    self.checkpoints.wait()
    steps, done = self.checkpoints.steps(), self._rollbacks()
    factor = self._rate_factor() * self.recovery.rate_factor
    scalable = optim.scale_rates(self.trainable, 0.5) is not self.trainable
    if done >= self.recovery.max_rollbacks or not scalable:
      self._happened('stop', trouble.step, trouble.what)
      raise self.recovery.give_up(trouble, done, steps[-1] if steps else None)
    # A checkpoint that led here before may be ill itself: the one before it.
    used = {e.get('back_to') for e in self.events}
    fresh = [step for step in steps if step not in used] or steps[-1:]
    back_to = fresh[-1] if fresh else 0
    self._set_aside(newer_than=back_to)
    self._happened('rollback', trouble.step, trouble.what, back_to=back_to,
                   rate_factor=factor)
    where = f'checkpoint {back_to}' if fresh else 'the beginning'
    self.progress.say(
        f'{trouble.what}; going back to {where} with learning rates at '
        f'{factor:g} of their settings (rollback {done + 1} of '
        f'{self.recovery.max_rollbacks}).')
    self.progress.restart()

  def _happened(self, kind, step, what, **more):
    """Adds an event to run.json."""
    self.events.append(dict(kind=kind, step=step, what=what, **more))
    self._write_record()

  def _write_record(self):
    if consensus.is_first():
      run_record.write(self.model_dir, self.record, self.events)

  def _set_aside(self, newer_than):
    consensus.first_does(
        'set_aside', lambda: self.checkpoints.set_aside(newer_than))
    self.checkpoints.reload()

  def _watch(self, split, step):
    """Looks at the gates of `split`; returns why to stop, or ''."""
    halt, rows = '', self.writer.rows(split) if self.gates else []
    for gate in self.gates:
      what = gate.tripped(rows) if gate.split == split else ''
      if not what:
        continue
      if gate.action == 'stop':
        halt = halt or what
        self._happened('stop', step, what, gate=gate.name)
      elif not gate.tripped(rows[:-1]):
        self.progress.say(f'step {step}: {what}')
        self._happened('warning', step, what, gate=gate.name)
    return halt

  # ---- the steps ----

  def _steps(self, step, state, batches, stop):
    """Runs updates until there is a reason to stop."""
    pending, reason, metrics, began = [], '', {}, time.monotonic()
    first = step
    while not reason:
      if step > first:
        self.watchdog.beat(step, watchdog_lib.WAITING)
      try:
        batch = next(batches)
      except StopIteration:
        raise errors.UserError(
            f'the data ended at step {step} of {self.num_steps}; a source '
            f'must repeat.') from None
      if step > first:  # the first one compiles
        self.watchdog.beat(step, watchdog_lib.COMPUTING)
      state, values = self.program.update(state, batch)
      step += 1
      pending.append(values)
      if len(pending) > 1:  # At most two steps in flight: honest rates.
        jax.block_until_ready(pending[-2])
      if step == first + 1:
        jax.block_until_ready(values)
        self.progress.say(f'first step after {time.monotonic() - began:.1f} s.')
      self.progress.mark(step)
      reason = self._reason(step, stop)
      evaluates = (not reason.startswith('SIG') and
                   self._is_due(self.eval_every, step, reason))
      saves = self._is_due(self.checkpoint_every, step, reason) or reason
      halt = ''
      if step % self.log_every == 0 or saves or evaluates:
        halt = self._log(step, pending, state)
        pending = []
      elif self.progress.due():
        self.progress.show(step, {'loss': float(values['loss'])})
      if evaluates:
        metrics = self._evaluate(step, state)
        halt = self._watch('eval', step) or halt
      if saves or halt:
        self._save(step, state)
      if halt:
        self.checkpoints.wait()
        raise gates.Tripped(f'stopped at step {step}: {halt}')
    self.checkpoints.wait()
    self._goodbye(step, reason)
    return Result(step, reason, metrics, state)

  def _reason(self, step, stop):
    """Why to stop after `step`, or ''."""
    if step >= self.num_steps:
      return 'finished'
    own = stop.name or ('time' if self.deadline.passed() else '')
    return consensus.reason(own, step)

  def _is_due(self, every, step, reason):
    """Whether an interval ends here, or the run does."""
    return bool(every) and (step % every == 0 or bool(reason))

  def _log(self, step, pending, state):
    """Checks and writes the mean of the metrics since the last row.

    Returns why a gate wants to stop, or ''.
    """
    rows = jax.device_get(pending)
    health.check_losses(step - len(rows), [r['loss'] for r in rows])
    if int(state.step) != step:
      raise ValueError(
          f'{type(self.trainable).__name__}.update left state.step at '
          f'{int(state.step)} after step {step}; it must add one.')
    means = {k: float(np.mean([r[k] for r in rows])) for k in rows[-1]}
    self.recovery.check_exploding(
        step, [r['loss'] for r in self.writer.rows('train')], means['loss'])
    means['steps_per_s'] = self.progress.rate()
    if self._rollbacks():
      means.update(rollbacks=self._rollbacks(),
                   rate_factor=self._rate_factor())
    self.writer.write(step, 'train', means)
    if self.progress.due() or step >= self.num_steps:
      self.progress.show(step, means)
    return self._watch('train', step)

  def _evaluate(self, step, state):
    """Writes and returns the metrics averaged over the evaluation batches."""
    totals = []
    for i, batch in enumerate(self.source.eval_batches()):
      self.watchdog.beat(step, watchdog_lib.EVALUATING)
      shardings = mesh_lib.batch_shardings(self.mesh, batch, strict=False)
      totals.append(self.program.evaluate(
          state, mesh_lib.put(batch, shardings), i))
      jax.block_until_ready(totals[-1])
    if not totals:
      return {}
    totals = jax.device_get(totals)
    means = {k: float(np.mean([t[k] for t in totals])) for k in totals[-1]}
    means.update(self.baselines)
    self.writer.write(step, 'eval', means)
    # One value for each of many levels is for the file, not for the eye.
    self.progress.say(f'step {step} eval  ' + '  '.join(
        f'{k} {v:.4g}' for k, v in means.items() if '/' not in k))
    self._show(step, state)
    return means

  @functools.cached_property
  def baselines(self):
    """What the source says that the evaluation has to beat."""
    make = getattr(self.source, 'baselines', dict)
    return make()

  def _show(self, step, state):
    """Sounds and pictures of a few held-out examples."""
    if not (self.preview_clips and consensus.is_alone() and
            hasattr(self.trainable, 'previews')):
      return
    if hasattr(self.source, 'preview_batch'):
      batch = self.source.preview_batch(self.preview_clips)
    else:
      first = next(iter(self.source.eval_batches()))
      batch = {k: v[:self.preview_clips] for k, v in first.items()}
    self.writer.show(step, self.trainable.previews(state, batch))

  def _save(self, step, state):
    self.watchdog.beat(step, watchdog_lib.SAVING)
    health.check_state(step, state)
    self.checkpoints.save(step, state, dict(
        step=step, seed=self.seed, devices=self.mesh.size))

  def _goodbye(self, step, reason):
    if reason == 'finished':
      self.progress.say(f'finished {self.model_dir} at step {step}.')
      return
    why = 'time is up' if reason == 'time' else f'stopped by {reason}'
    self.progress.say(
        f'{why} at step {step} of {self.num_steps}; the checkpoint is '
        f'written. Run the same command again to resume from '
        f'{self.model_dir}.')


def _count(state):
  return sum(int(jnp.size(x)) for x in jax.tree.leaves(state))
