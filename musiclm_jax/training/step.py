"""The compiled functions of a run and where their arrays lie.

The loop runs them; preflight compiles them for machines that are not there.
Both get them here, so what preflight measures is what will run.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from musiclm_jax import errors
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import shares
from musiclm_jax.training import trainable as trainable_lib

THREEFRY, RBG = GENERATORS = ('threefry2x32', 'rbg')


@dataclasses.dataclass(frozen=True)
class Program:
  """What `build` makes; to be called or lowered within `context`.

  Attributes:
    state: the training state as ShapeDtypeStructs with shardings.
    batch: a batch, likewise.
    init: batch -> state, made where it lies: no device, and no host, ever holds
      what is not its own.
    update: (state, batch) -> (state, metrics); the given state is donated.
    evaluate: (state, batch, number of the batch) -> metrics.
  """

  state: Any
  batch: Any
  init: Callable
  update: Callable
  evaluate: Callable

  def place(self, batch: trainable_lib.HostBatch,
            share: shares.Share = shares.WHOLE) -> dict[str, jax.Array]:
    """A host's `share` of a batch -> device arrays of all of it."""
    return mesh_lib.put(
        batch, {k: v.sharding for k, v in self.batch.items()}, share)


@contextlib.contextmanager
def context(mesh: jax.sharding.Mesh, rules: Sequence[tuple]) -> Iterator[None]:
  """Where the functions of a `Program` are traced.

  The abstract mesh, and not the mesh as a context: without one flax passes over
  the constraints of activations; a mesh that is set would have to be there.
  """
  with (jax.sharding.use_abstract_mesh(mesh.abstract_mesh),
        nn.logical_axis_rules(rules)):
    yield


def build(trainable: trainable_lib.Trainable, batch: Mapping[str, Any],
          mesh: jax.sharding.Mesh, rules: Sequence[tuple], seed: int,
          generator: str = THREEFRY) -> Program:
  """The `Program` of a trainable.

  Args:
    trainable: a `trainable.Trainable`.
    batch: {name: [B, ...]}, arrays or ShapeDtypeStructs.
    mesh: of `mesh.make_mesh`; its devices may be described only.
    rules: of `partitioning.with_rules`.
    seed: decides the initial state and the randomness of every step.
    generator: of the random numbers of a step. 'threefry2x32': the same on any
      mesh and machine. 'rbg': made by the hardware, each device its own;
      faster on TPUs, where threefry's dropout is much of a stage's step.

  Raises:
    UserError: the batch does not divide over the mesh; unknown generator.
  """
  if generator not in GENERATORS:
    raise errors.choice('generator', generator, GENERATORS)
  batch = _described(batch, mesh_lib.batch_shardings(mesh, batch))
  state = abstract_state(trainable, batch)
  shardings = mesh_lib.state_shardings(
      mesh, state, trainable.logical_axes(state), rules)
  replicated = jax.sharding.NamedSharding(mesh, mesh_lib.P())
  keys = lambda: jax.random.split(jax.random.key(seed), 3)

  def init(batch):
    return trainable.init(keys()[0], batch)

  def update(state, batch):
    rng = jax.random.fold_in(_key(keys()[1], generator), state.step)
    return trainable.update(state, batch, rng)

  def evaluate(state, batch, index):
    return trainable.evaluate(
        state, batch, jax.random.fold_in(keys()[2], index))

  return Program(
      _described(state, shardings), batch,
      init=jax.jit(init, out_shardings=shardings),
      update=jax.jit(update, donate_argnums=0,
                     out_shardings=(shardings, replicated),
                     compiler_options=_options(mesh, generator)),
      evaluate=jax.jit(evaluate, out_shardings=replicated))


def _key(key, generator):
  """A key of threefry as one of `generator`."""
  if generator == THREEFRY:
    return key
  data = jax.random.key_data(key)
  return jax.random.wrap_key_data(jnp.concatenate([data, data]), impl=generator)


def _options(mesh, generator):
  """Lets every TPU make its own part of the random numbers."""
  if generator == THREEFRY or mesh.devices.flat[0].platform != 'tpu':
    return None
  return {'xla_tpu_spmd_rng_bit_generator_unsafe': True}


def abstract_state(
    trainable: trainable_lib.Trainable, batch: Mapping[str, Any]) -> Any:
  """The shapes and types of the state, with nothing computed."""
  return jax.eval_shape(trainable.init, jax.random.key(0), batch)


def _described(tree, shardings):
  return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=s),
      tree, shardings)
