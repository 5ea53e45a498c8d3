"""Sound to codes and back; `musiclm codec` keeps them in files."""

import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax import bundle

codec = bundle.Bundle(bundle.shipped()).get('codec')
rate = codec.spec.sample_rate_hz
audio = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
codes = codec.encode(audio[None].astype(np.float32))  # [1, frames, levels]
again = np.asarray(codec.decode(codes[..., :4]))[0]  # of the coarse levels alone
audio_lib.write('again.wav', audio_lib.limit_peak(again), rate)
print(f'{codes.shape[1]} frames of {codes.shape[2]} codes')
