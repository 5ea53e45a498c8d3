"""Decodes one file that somebody sent, in a process with limits.

  python -m musiclm_jax.serving.decoder IN OUT RATE SECONDS MIB CPU_SECONDS NAME

Writes [N] float32 at RATE to OUT. Exit code REFUSED, and a line on stderr, for
a file that cannot be used; anything else but 0 means that a limit was met.
"""

import re
import resource
import sys

from musiclm_jax import errors

REFUSED = 3
SNIFFED_BYTES = 12
_KINDS = re.compile(
    rb'(RIFF|RF64)....WAVE|FORM....AIF[FC]|fLaC|OggS|ID3|'
    rb'\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]',
    re.DOTALL)


def is_sound(start: bytes) -> bool:
  """Whether a file begins like WAV, FLAC, OGG, AIFF or MP3."""
  return _KINDS.match(start) is not None


def limit(seconds: int, memory_mib: int, file_bytes: int) -> None:
  """From here on the process cannot take more."""
  for kind, most in ((resource.RLIMIT_AS, memory_mib << 20),
                     (resource.RLIMIT_CPU, seconds),
                     (resource.RLIMIT_FSIZE, file_bytes),
                     (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(kind, (most, most))


def decode(source: str, target: str, rate: int, most_seconds: int,
           name: str) -> None:
  """Writes the samples of `source`; UserError for what cannot be used."""
  from musiclm_jax import audio_stream  # pylint: disable=g-import-not-at-top
  count = 0
  with open(target, 'wb') as file, audio_stream.Source(source, rate) as sound:
    for block in sound.blocks(rate):
      count += len(block)
      if count > most_seconds * rate:
        raise errors.UserError(
            f'{name} is longer than {most_seconds} s, the limit of this '
            f'server; send a part of it.')
      file.write(block.tobytes())


def main(argv: list[str]) -> None:
  """Runs the command line above."""
  source, target, rate, seconds, memory, cpu_seconds, name = argv
  rate, seconds = int(rate), int(seconds)
  limit(int(cpu_seconds), int(memory), 4 * rate * (seconds + 2))
  try:
    decode(source, target, rate, seconds, name)
  except errors.UserError as error:
    print(' '.join(str(error).replace(source, name).split()), file=sys.stderr)
    sys.exit(REFUSED)


if __name__ == '__main__':
  main(sys.argv[1:])
