"""Music-like sound for tests of ingest, and folders of it."""

import hashlib
import pathlib

import numpy as np
import soundfile

RATE_HZ = 24_000


def tune(seed, seconds=8.0, rate_hz=RATE_HZ):
  """[N] float32: notes with overtones and noise, other ones for each seed."""
  rng = np.random.default_rng(seed)
  time = np.arange(int(seconds * rate_hz)) / rate_hz
  sound = np.zeros(len(time))
  for begin in np.arange(0, seconds, 0.2):
    note = time >= begin
    age = (time[note] - begin)
    hertz = 220 * 2 ** (rng.integers(0, 30) / 12)
    for partial in (1, 2, 3, 5):
      sound[note] += (rng.random() / partial * np.exp(-age * rng.uniform(2, 9)) *
                      np.sin(2 * np.pi * hertz * partial * age))
  sound += 0.01 * rng.normal(size=len(sound))
  return (0.6 * sound / np.max(np.abs(sound))).astype(np.float32)


def folder(place, count, seconds=3.2):
  """A folder with so many tunes as WAV; returns it."""
  place = pathlib.Path(place)
  place.mkdir(parents=True)
  for i in range(count):
    soundfile.write(place / f'{i:03d}.wav', tune(i, seconds), RATE_HZ)
  return place


def contents(place):
  """{path below a folder: digest of the file}, of all files."""
  return {path.relative_to(place).as_posix():
          hashlib.sha256(path.read_bytes()).hexdigest()
          for path in sorted(pathlib.Path(place).rglob('*')) if path.is_file()}
