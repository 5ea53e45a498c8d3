"""The compiled functions of a run: where their random numbers come from."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_trainable

from musiclm_jax import errors
from musiclm_jax.decoding import decoder
from musiclm_jax.nn import partitioning
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import step as step_lib


def trained(generator, steps=2):
  """(parameters at first, after some steps) of the toy."""
  mesh = mesh_lib.make_mesh((1, 1), jax.devices()[:1])
  rules = partitioning.with_rules(())
  batch = next(toy_trainable.ToySource().batches(0))
  with step_lib.context(mesh, rules):
    program = step_lib.build(
        toy_trainable.Toy(noise=1.0), batch, mesh, rules, 0, generator)
    state = program.init(program.place(batch))
    first = np.asarray(state.params['w'])
    for _ in range(steps):
      state, _ = program.update(state, program.place(batch))
  return first, np.asarray(state.params['w'])


def test_a_generator_changes_the_steps_and_not_the_beginning():
  first, last = trained('threefry2x32')
  same, other = trained('rbg')
  np.testing.assert_array_equal(first, same)
  assert np.abs(last - other).max() > 1e-3
  np.testing.assert_array_equal(trained('rbg')[1], other)


def test_an_unknown_generator_is_refused():
  with pytest.raises(errors.UserError, match='threefry2x32'):
    trained('dice')


def test_where_activations_lie_is_not_passed_over():
  """flax does so where it sees no mesh, and FSDP then sums activations."""
  mesh = mesh_lib.make_mesh((1, 1), jax.devices()[:1])
  constrained = lambda x: partitioning.with_sharding_constraint(
      2 * x, (partitioning.BATCH, partitioning.MLP))
  with step_lib.context(mesh, partitioning.RULES):
    text = jax.jit(constrained).lower(np.zeros((4, 4))).as_text()
  assert 'sharding_constraint' in text and '"fsdp"' in text


def test_embeddings_are_looked_up_where_their_features_lie():
  """And their gradient added up there: no device has a whole table's."""
  sizes = (2, 2, 2)
  look = lambda table: jnp.sin(decoder._looked_up(  # pylint: disable=protected-access
      table, jnp.zeros((8, 5), jnp.int32))).sum()

  def places(*rules):
    mesh = types.SimpleNamespace(abstract_mesh=jax.sharding.AbstractMesh(
        sizes, mesh_lib.AXES))
    with step_lib.context(mesh, partitioning.with_rules(rules)):
      made = jax.make_jaxpr(jax.grad(look))(jnp.zeros((32, 16)))
    return [tuple(e.params['sharding'].spec) for e in made.eqns
            if e.primitive.name == 'sharding_constraint']

  assert places() == [('data', None, 'fsdp')] * 2
  assert places(('vocab', 'fsdp')) == []
  sizes = (8, 1, 1)
  assert places() == []
