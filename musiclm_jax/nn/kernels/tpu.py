"""Forms of operations that TPUs are fast at."""

from musiclm_jax.nn.kernels import tpu_decode

FORMS = dict(tpu_decode.FORMS)
