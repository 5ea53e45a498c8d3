"""What the codec sounds and looks like while it trains."""

from collections.abc import Mapping

import jax
import numpy as np

from musiclm_jax import audio as audio_lib
from musiclm_jax.training import previews


def make(real: jax.Array, fakes: Mapping[int, jax.Array],
         sample_rate_hz: int) -> dict[str, previews.Audio | previews.Image]:
  """Sounds and one picture for each clip.

  Args:
    real: [B, N] audio.
    fakes: {levels: [B, N] audio reconstructed from the first levels}.
    sample_rate_hz: of all of them.

  Returns:
    {name: previews.Audio or previews.Image}; the picture has the log-mels of
    the recording on top and of the reconstructions below, fewest levels first.
  """
  spec = audio_lib.MelSpec(
      sample_rate_hz=sample_rate_hz, num_mels=80, window_samples=1024,
      hop_samples=480, fft_size=2048, low_hz=0.0, high_hz=sample_rate_hz / 2)
  signals = {'real': real}
  signals.update((f'levels_{n:02d}', fakes[n]) for n in sorted(fakes))
  mels = jax.device_get(jax.jit(
      lambda x: jax.tree.map(lambda s: audio_lib.log_mel(s, spec), x))(signals))
  shown = {}
  for clip in range(len(real)):
    for name, signal in signals.items():
      shown[f'clip_{clip + 1}/{name}'] = previews.Audio(
          np.asarray(signal[clip], np.float32), sample_rate_hz)
    shown[f'clip_{clip + 1}/log_mel'] = previews.panels(
        [mels[name][clip] for name in signals])
  return shown
