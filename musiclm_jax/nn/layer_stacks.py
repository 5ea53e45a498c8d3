"""The two layouts of a stack's parameters, and the way from one to the other.

  unrolled  {'layers_0': {...}, 'layers_1': {...}, ...}   one tree per layer
  stacked   {'layers': {...}}                              axis 0 of every array
                                                           counts the layers

A stack under `lax.scan` has the stacked layout: its program holds one layer
whatever their number, unless `scan_unroll` has it hold more. Bundles store the
unrolled one, which decodes faster.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

STACKED = 'layers'
_PREFIX = 'layers_'


def layer(params: dict, index: int) -> dict:
  """The parameters of one layer, out of either layout."""
  if STACKED in params:
    return jax.tree.map(lambda x: x[index], params[STACKED])
  return params[f'{_PREFIX}{index}']


def unroll(tree: Any, split: Callable = lambda x: list(x)) -> Any:
  """`tree` with every stack in it unrolled.

  Args:
    tree: nested dicts, sequences and dataclasses of arrays, such as parameters
      or a training state with its moments.
    split: array -> the list of its layers' arrays.

  >>> unroll({'layers': {'w': [1, 2]}, 'norm': 3}, list)
  {'layers_0': {'w': 1}, 'layers_1': {'w': 2}, 'norm': 3}
  """
  def convert(node):
    if STACKED not in node:
      return node
    leaves, structure = jax.tree.flatten(
        node[STACKED], is_leaf=lambda x: isinstance(x, list))
    parts = [structure.unflatten(part) for part in zip(*map(split, leaves))]
    layers = {f'{_PREFIX}{i}': part for i, part in enumerate(parts)}
    return {**layers, **{k: v for k, v in node.items() if k != STACKED}}
  return _walk(tree, convert)


def stack(tree: Any, join: Callable = jnp.stack) -> Any:
  """The inverse of `unroll`; `join` makes one array of a list of them.

  >>> stack({'layers_0': {'w': 1}, 'layers_1': {'w': 2}, 'norm': 3}, list)
  {'layers': {'w': [1, 2]}, 'norm': 3}
  """
  def convert(node):
    count = sum(k.startswith(_PREFIX) and k[len(_PREFIX):].isdigit()
                for k in node)
    if not count:
      return node
    names = [f'{_PREFIX}{i}' for i in range(count)]
    if len({str(jax.tree.structure(node[n])) for n in names}) > 1:
      return node  # layers that differ have one layout only
    stacked = jax.tree.map(
        lambda *xs: join(list(xs)), *[node[n] for n in names])
    rest = {k: v for k, v in node.items() if k not in names}
    return {STACKED: stacked, **rest}
  return _walk(tree, convert)


def other_layout(abstract: Any) -> tuple[Any, Callable]:
  """The same arrays in the layout that they do not have.

  Args:
    abstract: tree of ShapeDtypeStructs with or without shardings.

  Returns:
    (tree likewise, the function that leads from its arrays back).
  """
  if is_stacked(abstract):
    return unroll(abstract, _split_described), stack
  return stack(abstract, _join_described), unroll


def _split_described(x):
  part = _described(x, x.shape[1:], lambda spec: spec[1:])
  return [part] * (x.shape or (1,))[0]


def _join_described(parts):
  x = parts[0]
  return _described(x, (len(parts),) + x.shape, lambda spec: (None, *spec))


def _described(x, shape, respec):
  sharding = x.sharding
  if isinstance(sharding, jax.sharding.NamedSharding):
    spec = jax.sharding.PartitionSpec(*respec(tuple(sharding.spec)))
    sharding = jax.sharding.NamedSharding(sharding.mesh, spec)
  return jax.ShapeDtypeStruct(shape, x.dtype, sharding=sharding)


def is_stacked(tree: Any) -> bool:
  """Whether a stack of `tree` has the stacked layout."""
  found = []
  _walk(tree, lambda node: found.append(STACKED in node) or node)
  return any(found)


def _walk(tree, convert):
  """Applies `convert` to every dict, the inner ones first."""
  again = functools.partial(_walk, convert=convert)
  if isinstance(tree, dict):
    return convert({k: again(v) for k, v in tree.items()})
  if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
    return dataclasses.replace(tree, **{
        f.name: again(getattr(tree, f.name))
        for f in dataclasses.fields(tree)})
  if isinstance(tree, tuple) and hasattr(tree, '_fields'):
    return type(tree)(*map(again, tree))
  if isinstance(tree, (list, tuple)):
    return type(tree)(map(again, tree))
  return tree
