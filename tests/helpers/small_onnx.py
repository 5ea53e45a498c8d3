"""ONNX files of a few operations, written byte by byte.

The `onnx` package is not needed: a model is a protocol buffer, whose fields and
numbers are those of onnx.proto.
"""

import numpy as np


def _varint(value):
  parts = bytearray()
  while True:
    value, low = value >> 7, value & 127
    parts.append(low | (128 if value else 0))
    if not value:
      return bytes(parts)


def _number(field, value):
  return _varint(field << 3) + _varint(value)


def _bytes(field, value):
  value = value.encode() if isinstance(value, str) else value
  return _varint(field << 3 | 2) + _varint(len(value)) + value


def _value_info(name, shape):
  """A float input or output; names in `shape` are open dimensions."""
  dims = b''.join(_bytes(1, _bytes(2, d) if isinstance(d, str) else
                         _number(1, d)) for d in shape)
  tensor = _number(1, 1) + _bytes(2, dims)
  return _bytes(1, name) + _bytes(2, _bytes(1, tensor))


def _tensor(name, array):
  kind = {np.dtype('float32'): 1, np.dtype('int64'): 7}[array.dtype]
  return (b''.join(_number(1, d) for d in array.shape) + _number(2, kind)
          + _bytes(8, name) + _bytes(9, array.tobytes()))


def write(path, nodes, inputs, outputs, constants):
  """Writes a model.

  Args:
    path: of the file.
    nodes: [(operation, input names, output names)].
    inputs: {name: shape} of float tensors.
    outputs: {name: shape}.
    constants: {name: array}.
  """
  graph = b''.join(
      _bytes(1, b''.join([*(_bytes(1, i) for i in takes),
                          *(_bytes(2, o) for o in gives), _bytes(4, kind)]))
      for kind, takes, gives in nodes)
  graph += _bytes(2, 'small')
  graph += b''.join(_bytes(5, _tensor(n, a)) for n, a in constants.items())
  graph += b''.join(_bytes(11, _value_info(*i)) for i in inputs.items())
  graph += b''.join(_bytes(12, _value_info(*o)) for o in outputs.items())
  path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13)))
  return path


def linear(path, matrix, batch='batch', name='audio'):
  """[batch, N] -> [batch, D] by an [N, D] matrix."""
  matrix = np.asarray(matrix, np.float32)
  size, dimensions = matrix.shape
  return write(
      path, [('MatMul', [name, 'matrix'], ['embedding'])],
      {name: (batch, size)}, {'embedding': (batch, dimensions)},
      {'matrix': matrix})


def of_examples(path, matrix):
  """[batch, 96, 64] log-mels -> [batch, D], the frames' sum by [64, D]."""
  matrix = np.asarray(matrix, np.float32)
  return write(
      path, [('ReduceSum', ['mels', 'axis', ], ['summed']),
             ('Reshape', ['summed', 'shape'], ['rows']),
             ('MatMul', ['rows', 'matrix'], ['embedding'])],
      {'mels': ('batch', 96, 64)}, {'embedding': ('batch', matrix.shape[1])},
      {'matrix': matrix, 'axis': np.array([1]), 'shape': np.array([-1, 64])})
