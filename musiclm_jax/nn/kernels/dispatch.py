"""Which form of an operation computes it: the model's own, or a platform's.

  nn/conv.py, nn/causal.py ...   plain jnp: what an operation is
  nn/kernels/cpu.py              forms of some operations that XLA:CPU is fast at
  nn/kernels/tpu.py              kernels for TPUs
  nn/kernels/cudnn.py            attention by cuDNN, for GPUs, on request

An operation is a function of the model with a decorator:

  @dispatch.operation
  def causal_conv(inputs, kernel, dilation=1): ...

and a form of it is a function of the same name in the FORMS of a platform's
module. It has the arguments of the plain one and, up to rounding, its results
and gradients (tests/nn/test_kernels.py compares each). What it was not made for,
such as sequences that are too long, it leaves to the plain one: it returns
NotImplemented.

The form is chosen while a program is traced, for the platform that the program
is for. That is the platform of the mesh in whose context it is traced, because
preflight traces on a CPU what is compiled for TPUs; without one it is jax's
default. `using` overrides that:

  with dispatch.using('jnp'):   # is a kernel at fault? compute without any
    loss = jitted(params, batch)

It is part of the key of jax's caches: what was compiled with one choice is not
taken for another. The environment variable MUSICLM_KERNELS=jnp chooses for a whole
process, whichever command it runs.
"""

from collections.abc import Callable
from collections.abc import Iterator
import contextlib
import functools
import os

import jax

from musiclm_jax import errors
from musiclm_jax.nn.kernels import cpu
from musiclm_jax.nn.kernels import cudnn
from musiclm_jax.nn.kernels import platforms
from musiclm_jax.nn.kernels import tpu

AUTO, PLAIN = 'auto', 'jnp'
ENVIRONMENT = 'MUSICLM_KERNELS'
# Of each platform that has its own forms, {name of the operation: function}; and
# of a library that is no platform's own choice.
FORMS = {'cpu': cpu.FORMS, 'tpu': tpu.FORMS, 'cudnn': cudnn.FORMS}
CHOICES = (AUTO, PLAIN, *FORMS)

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
  with _forced(_known(choice)):
    yield


def _known(choice):
  if choice not in CHOICES:
    raise errors.choice('kernels', choice, CHOICES)
  return choice


def operation(plain: Callable) -> Callable:
  """`plain`, or in its place the form of the platform that is traced for."""
  name = plain.__name__

  @functools.wraps(plain)
  def chosen(*args, **kwargs):
    choice = _forced.value
    if choice == AUTO:
      choice = _known(os.environ.get(ENVIRONMENT, AUTO))
    forms = FORMS.get(platforms.platform() if choice == AUTO else choice, {})
    result = forms.get(name, plain)(*args, **kwargs)
    return plain(*args, **kwargs) if result is NotImplemented else result

  return chosen
