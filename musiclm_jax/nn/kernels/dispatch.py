"""Which form of an operation computes it: the model's own, or a platform's.

  nn/conv.py, nn/causal.py ...   plain jnp: what an operation is
  nn/kernels/cpu.py              forms of some operations that XLA:CPU is fast at
  nn/kernels/tpu.py              and those for TPUs; on a CPU, where `using` may
                                 force them, Pallas interprets their kernels

An operation is a function of the model with a decorator:

  @dispatch.operation
  def causal_conv(inputs, kernel, dilation=1): ...

and a form of it is a function of the same name in the FORMS of a platform's
module. It has the arguments of the plain one and, up to rounding, its results
and gradients (tests/nn/test_kernels.py compares each). Where it is of no use,
because of shapes or of a mesh, it returns NotImplemented, and the plain one
computes.

The form is chosen while a program is traced, for the platform that the program
is for. That is the platform of the mesh in whose context it is traced, because
preflight traces on a CPU what is compiled for TPUs; without one it is jax's
default. `using` overrides that:

  with dispatch.using('jnp'):   # is a kernel at fault? compute without any
    loss = jitted(params, batch)

It is part of the key of jax's caches: what was compiled with one choice is not
taken for another.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools

import jax

from musiclm_jax import errors
from musiclm_jax.nn.kernels import cpu
from musiclm_jax.nn.kernels import program
from musiclm_jax.nn.kernels import tpu

AUTO, PLAIN = 'auto', 'jnp'
# Of each platform that has its own forms, {name of the operation: function}.
FORMS = {'cpu': cpu.FORMS, 'tpu': tpu.FORMS}
CHOICES = (AUTO, PLAIN, *FORMS)

platform = program.platform
_forced = jax.make_user_context(AUTO)


@contextlib.contextmanager
def using(choice: str) -> Iterator[None]:
  """A context in which the forms of one platform are traced, or none.

  Args:
    choice: 'auto', 'jnp' for the plain forms, or a platform of FORMS; what has
      no form there is computed by the plain one.

  Raises:
    UserError: an unknown choice.
  """
  if choice not in CHOICES:
    raise errors.choice('kernels', choice, CHOICES)
  with _forced(choice):
    yield


def operation(plain: Callable) -> Callable:
  """`plain`, or in its place the form of the platform that is traced for."""
  name = plain.__name__

  @functools.wraps(plain)
  def chosen(*args, **kwargs):
    choice = _forced.value
    forms = FORMS.get(platform() if choice == AUTO else choice, {})
    result = forms.get(name, plain)(*args, **kwargs)
    return plain(*args, **kwargs) if result is NotImplemented else result

  return chosen
