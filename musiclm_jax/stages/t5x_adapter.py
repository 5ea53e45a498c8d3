"""A stage under T5X: the only file that imports it.

  gin/runs/t5x.gin   T5X's own pretrain.gin, then these objects in its places:
    T5XStage           the model: our parameters, loss, optimiser and sampler
    task               our seqio task, registered from the leaf's SOURCE
    learning_rate_fn   our schedule, which T5X logs
    logical_axis_rules our table of shardings

The leaf is the same under either launcher. What T5X does itself: the loop, its
checkpoints (which `musiclm export` converts), the order of the data.
"""

import jax
import jax.numpy as jnp
import optax
from clu import metrics as clu_metrics
from flax import core
from t5x import metrics as t5x_metrics
from t5x import models
from t5x import optimizers

from musiclm_jax import configs
from musiclm_jax.nn import partitioning
from musiclm_jax.tokens import cache as cache_lib
from musiclm_jax.tokens import feature_converter
from musiclm_jax.tokens import source as source_lib
from musiclm_jax.tokens import tasks
from musiclm_jax.tokens import vocabularies
from musiclm_jax.training import hosts
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import spikes

# T5X reads a leaf with gin's own paths; ours are known from here on.
configs.add_search_path()
# It loads this file before it asks for devices, so launch/ works with it too.
hosts.join()


class T5XStage(models.BaseModel):
  """A `stages.trainer.StageTrainable` in T5X's interface.

  T5X takes parameter shardings from the `params_axes` collection, which our
  layers write, and sums the gradients of microbatches, where we average.
  """

  FEATURE_CONVERTER_CLS = feature_converter.StageFeatureConverter

  def __init__(self, trainable, decode_fn=None, microbatches=None):
    """Wraps a trainable.

    Args:
      trainable: the StageTrainable: a model and its optimiser.
      decode_fn: `generation.continuation.continuation` with its draw, called
        with (model, params, tokens, rng); without it nothing can be predicted.
      microbatches: of `num_microbatches`.
    """
    super().__init__(optimizer(trainable.optimizer))
    self._stage = trainable.model
    self._decode_fn = decode_fn
    self._microbatches = microbatches or 1

  @property
  def input_vocabulary(self):
    return vocabularies.stage_vocabulary(self._stage.spec)

  @property
  def output_vocabulary(self):
    return self.input_vocabulary

  def get_initial_variables(self, rng, input_shapes, input_types=None):
    """Fresh `params` and `params_axes`; the shapes are the stage's own."""
    del input_shapes, input_types
    tokens = jnp.zeros((1, self._stage.layout.length), jnp.int32)
    variables = core.unfreeze(self._stage.decoder.init(rng, tokens))
    variables['params'] = self._stage.started(variables['params'], rng)
    return core.freeze(variables)

  def loss_fn(self, params, batch, dropout_rng):
    """(mean loss of the batch's target tokens, metrics that add up)."""
    if not self._stage.config.dropout_rate:
      dropout_rng = None
    loss, means = self._stage.loss(params, batch, dropout_rng)
    count = jnp.sum(batch['decoder_loss_weights'])
    metrics = {name: clu_metrics.Average(total=mean * count, count=count)
               for name, mean in means.items()}
    rows = jnp.array(len(batch['decoder_target_tokens']))
    rate = t5x_metrics.TimeRate.from_model_output
    metrics.update({
        'timing/steps_per_second': t5x_metrics.StepsPerTime.from_model_output(),
        'timing/seconds': t5x_metrics.Time(),
        'timing/seqs_per_second': rate(numerator=rows),
        'timing/target_tokens_per_second': rate(numerator=count)})
    return loss / self._microbatches, metrics

  def score_batch(self, params, batch, return_intermediates=False):
    """[B] log-likelihood of each target, in nats."""
    if return_intermediates:
      raise ValueError('a stage has no intermediates to return.')
    return self._stage.log_likelihood(params, batch)

  def predict_batch_with_aux(self, params, batch, rng=None):
    """([B, T * Q] target tokens drawn after the conditions, {'scores': [B]}).

    The scores are the log-likelihoods of what was drawn. Without `rng` the seed
    is 0.
    """
    tokens = self.predict_batch(params, batch, rng)
    target = self._stage.layout.target
    sequence = jnp.asarray(batch['decoder_target_tokens'])
    drawn = sequence.at[:, target.start:target.stop].set(tokens)
    weights = jnp.zeros(sequence.shape).at[:, target.start:target.stop].set(1.0)
    shifted = jnp.pad(drawn, ((0, 0), (1, 0)))[:, :-1]
    scores = self._stage.log_likelihood(params, dict(
        decoder_input_tokens=shifted, decoder_target_tokens=drawn,
        decoder_loss_weights=weights))
    return tokens, {'scores': scores}

  def predict_batch(self, params, batch, rng=None):
    """[B, T * Q] target tokens, drawn after the conditions in `batch`."""
    if self._decode_fn is None:
      raise ValueError(
          'no decode_fn; bind t5x_adapter.T5XStage.decode_fn to '
          '@continuation.continuation, as gin/runs/t5x.gin does.')
    rng = jax.random.PRNGKey(0) if rng is None else rng
    return self._decode_fn(
        self._stage, params, batch['decoder_target_tokens'], rng)


def optimizer(config):
  """An `optim.OptimizerConfig` as T5X takes it; the schedule is inside."""
  return optimizers.OptaxWrapper(config.make())


def learning_rate_fn(trainable):
  """The schedule of the trainable, for T5X's logs."""
  return trainable.optimizer.schedule_fn()


def logical_axis_rules(mesh, rules=()):
  """Our table of shardings for T5X's mesh, whose axes are 'data' and 'model'.

  A state that is split over 'fsdp' is split over all of 'data' there.

  Args:
    mesh: devices of each axis, as `training.mesh.make_mesh` takes them.
    rules: (logical axis, mesh axis or axes) pairs that go before ours.
  """
  split = mesh_lib.mesh_sizes(mesh, jax.device_count())[1] > 1
  places = {partitioning.DATA: 'data', partitioning.MODEL: 'model',
            partitioning.FSDP: 'data' if split else None}
  first = lambda axes: axes if isinstance(axes, str) else (axes or [None])[0]
  return [(name, places.get(first(axes)))
          for name, axes in partitioning.with_rules(rules)]


def num_partitions(mesh):
  """Devices that share one copy of the model: `mesh`'s 'model' axis."""
  return mesh_lib.mesh_sizes(mesh, jax.device_count())[-1]


def num_microbatches(trainable, source):
  """How many parts T5X makes of a batch; None for one.

  T5X takes the mean over the parts, we over their tokens: the same where no
  sequence is padded.
  """
  if not trainable.microbatch:
    return None
  return source.batch_size // trainable.microbatch


def task(source, training=False):
  """The seqio task of a leaf's SOURCE.

  Args:
    source: a `tokens.source.TaskBatches`.
    training: whether melodies are dropped as in training.

  Returns:
    In training the task itself; else its name, registered.
  """
  cache = source.cache  # refuses what does not fit
  if training:
    return tasks.stage_task(cache, source.stage, source.melody_dropout)
  tasks.register(source.cache_dir, [source.stage])
  return cache_lib.task_name(source.stage)


def feature_lengths(source):
  """TASK_FEATURE_LENGTHS of a leaf's SOURCE."""
  return source_lib.feature_lengths(source.stage)


def _factored_axes(state, params_axes):
  """Adafactor's sums of rows and columns are small: replicated."""
  del params_axes
  return jax.tree.map(lambda _: None, state)


def _spike_axes(state, params_axes):
  """The optimiser within as ever; what losses were usual are scalars."""
  inner = optimizers.OptaxStatePartitionRules.derive_optax_logical_axes(
      state.inner, params_axes)
  return spikes.SpikeState(inner, None, None, None, None)


# T5X knows no rule for these (it has an Adafactor of its own). It hands no loss
# to an optimiser, so that under it the norm of the gradients decides what a spike
# is (training/spikes.py).
# pylint: disable-next=protected-access
_AXES = optimizers.OptaxStatePartitionRules._RULES
_AXES.setdefault(optax.FactoredState, _factored_axes)
_AXES.setdefault(spikes.SpikeState, _spike_axes)
