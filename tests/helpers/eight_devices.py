"""Run by test_mesh.py under 8 fake CPU devices; prints JSON.

argv: scratch folder, 'short' or 'long'. Trains the toy and
a stage on several meshes and says how far each lands from the same run on one
device.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import tiny_stage
import toy_trainable

from musiclm_jax.nn import cross_entropy
from musiclm_jax.nn import partitioning
from musiclm_jax.systems.musiclm.stages import trainer
from musiclm_jax.training import loop
from musiclm_jax.training import mesh as mesh_lib
from musiclm_jax.training import optim
from musiclm_jax.training import step as step_lib

LONG = sys.argv[2] == 'long'
MIXTURE = {'data': 2, 'fsdp': 2, 'model': 2}
STAGE_MESHES = (
    {'data': 8}, {'fsdp': 8}, {'data': 4, 'model': 2}, {'model': 8}, MIXTURE
    ) if LONG else (MIXTURE,)
TOY_MESHES = ((-1, 1), (4, 2), (2, 4)) if LONG else ((4, 2),)


def distance(a, b):
  return max(float(np.max(np.abs(x - y))) for x, y in zip(
      jax.tree.leaves(jax.device_get(a)), jax.tree.leaves(jax.device_get(b))))


def toy(name, steps, mesh):
  return loop.train(
      toy_trainable.Toy(), toy_trainable.ToySource(), f'{sys.argv[1]}/{name}',
      steps, mesh=mesh, eval_every=0, log_every=20, checkpoint_every=20).state


def toys():
  """{mesh: where a parameter and its moment lie, and the distance}."""
  one, out = toy('one', 20, (1, 1)), {}
  for mesh in TOY_MESHES:
    state = toy(str(mesh), 20, mesh)
    w, mu = state.params['w'], state.opt_state[1][0].mu['w']
    out[str(mesh)] = dict(
        distance=distance(one, state), devices=len(w.sharding.device_set),
        shard=w.addressable_shards[0].data.shape,
        moment_shard=mu.addressable_shards[0].data.shape)
  toy('moved', 10, (8, 1))
  out['moved'] = dict(distance=distance(one, toy('moved', 20, (2, 2))))
  return out


def stage_program(mesh, rules=(), microbatch=0, **settings):
  """(Program, mesh, rules, batch) of a small stage on `mesh`."""
  stage = tiny_stage.stage_model(
      'coarse', seconds=1, num_heads=8, scan_layers=True, **settings)
  # A large epsilon: with a small one, gradients of 1e-9 become whole steps.
  trainable = trainer.StageTrainable(stage, optim.OptimizerConfig(
      learning_rate=1e-2, warmup_steps=1, eps=1e-3), microbatch)
  batch = tiny_stage.batch_of(
      stage.layout, tiny_stage.codes(stage.layout, batch=16))
  mesh = mesh_lib.make_mesh(mesh, jax.devices())
  rules = partitioning.with_rules(rules)
  return step_lib.build(trainable, batch, mesh, rules, 0), mesh, rules, batch


def stage(mesh, **more):
  """(state after three steps, compiled init)."""
  program, mesh, rules, batch = stage_program(mesh, **more)
  with step_lib.context(mesh, rules):
    batch = program.place(batch)
    init = program.init.lower(batch).compile()
    state = init(batch)
    for _ in range(3):
      state, _ = program.update(state, batch)
  return state, init


def scores():
  """{mesh: how far scores by blocks are from plain ones on one device}.

  Relative to the largest number, and how many collectives their gradient has.
  """
  draw = lambda seed, *shape: jax.random.normal(jax.random.key(seed), shape)
  hidden, tables = draw(0, 8, 21, 3, 16), draw(1, 3, 48, 16)
  labels = jax.random.randint(jax.random.key(2), hidden.shape[:3], 0, 48)
  weights = draw(3, 4, *labels.shape)

  def total(hidden, tables, labels, block):
    found = cross_entropy.scores(hidden, tables, labels, block)
    return (jnp.stack(found) * weights).sum()

  run = jax.jit(jax.value_and_grad(total, (0, 1)), static_argnums=3)
  one, out = run(hidden, tables, labels, 0), {}
  for shape in ({'data': 8}, MIXTURE, {'model': 8}):
    mesh = mesh_lib.make_mesh(shape, jax.devices())
    put = lambda x, *names: jax.device_put(x, jax.sharding.NamedSharding(
        mesh, mesh_lib.partition_spec(mesh, x.shape, names)))
    placed = (put(hidden, 'batch', None, None, 'embed'),
              put(tables, None, 'vocab', 'embed'),
              put(labels, 'batch', None, None))
    with step_lib.context(mesh, partitioning.with_rules(())):
      program = run.lower(*placed, 4).compile()
    text = program.as_text()
    out[json.dumps(shape)] = dict(
        distance=max(float(distance(a, b) / np.abs(a).max()) for a, b in zip(
            *map(jax.tree.leaves, (one, program(*placed))))),
        gathers=text.count(' all-gather('), sums=text.count(' all-reduce('))
  return out


def stages():
  """{mesh: the distance, and what a device holds}."""
  one, _ = stage({})
  total = sum(x.nbytes for x in jax.tree.leaves(one))
  runs = {json.dumps(mesh): dict(mesh=mesh) for mesh in STAGE_MESHES}
  # The loss by blocks is no other than that of all at once on one device.
  runs['loss_block'] = dict(mesh=MIXTURE, loss_block=64)
  if LONG:
    runs['rules'] = dict(mesh={'data': 8}, rules=[('embed', 'data')])
    runs['microbatch'] = dict(mesh={'data': 2, 'fsdp': 4}, microbatch=8)
  out = {}
  for name, settings in runs.items():
    state, init = stage(**settings)
    kernel = state.params['decoder']['layers']['mlp']['wi_0']['kernel']
    held = sum(x.addressable_shards[0].data.nbytes
               for x in jax.tree.leaves(state))
    memory = init.memory_analysis()
    out[name] = dict(
        distance=distance(one, state), held=held / total,
        shard=kernel.addressable_shards[0].data.shape,
        init_held=(memory.output_size_in_bytes + memory.temp_size_in_bytes) /
        total)
  return out


print(json.dumps(dict(toys=toys(), scores=scores(), stages=stages())))
