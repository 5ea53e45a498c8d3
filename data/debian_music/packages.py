"""Which packages, which of their files are music, and who may train on them.

The split is a property of the package, stated here once: a recording of a test
package is for testing whatever else is asked for.
"""

import dataclasses
import fnmatch

from musiclm_jax import errors

TRAIN, TEST = 'train', 'test'


@dataclasses.dataclass(frozen=True)
class Package:
  """A Debian package with recordings.

  Attributes:
    name: of the package.
    split: 'train' (some of its tracks become validation) or 'test'.
    music: patterns of its music's paths; sound effects and speech stay out. '*'
      also stands for '/'.
    minutes: of music in Debian 12, about; the shares of --hours follow it.
    licence: of its music, where debian/copyright is not machine-readable.
    archive: pattern of a zip file in which the music lies, or ''.
    kind: what it sounds like, where that is known.
  """

  name: str
  split: str
  music: tuple
  minutes: float
  licence: str = ''
  archive: str = ''
  kind: str = ''

  def is_music(self, path):
    """Whether an installed path is one of its recordings."""
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in self.music)

  def is_archive(self, path):
    return bool(self.archive) and fnmatch.fnmatchcase(path, self.archive)


_TABLE = (
    Package('warzone2100-music', TRAIN, ('*/music/*.opus', '*/music/*.ogg'),
            243, kind='electronic'),
    Package('planetblupi-music-ogg', TRAIN, ('*/music/*.ogg',), 163),
    Package('naev-data', TRAIN, ('*/snd/music/*.ogg',), 128),
    Package('supertux-data', TRAIN, ('*/music/*.ogg',), 99),
    Package('widelands-data', TRAIN, ('*/music/*.ogg',), 93),
    Package('hedgewars-data', TRAIN, ('*/Data/Music/*.ogg',), 94),
    Package('nexuiz-music', TRAIN, ('sound/cdtracks/*.ogg',), 84,
            licence='GPL-2+', archive='*/music.pk3'),
    Package('supertuxkart-data', TRAIN, ('*/data/music/*.ogg',), 59),
    Package('colobot-common-sounds', TRAIN, ('*/colobot/music/*.ogg',), 66),
    Package('0ad-data', TEST, ('audio/music/*.ogg',), 175,
            archive='*/public.zip', kind='orchestral, ethnic'),
    Package('wesnoth-1.16-music', TEST, ('*/core/music/*.ogg',), 127,
            licence='GPL-2+', kind='orchestral'),
    Package('singularity-music', TEST, ('*/music/*.ogg',), 64,
            licence='CC-BY-SA-3.0', kind='electronic'),
    Package('marsshooter-data', TEST, ('*/marsshooter/audio/*.ogg',), 59,
            kind='symphonic metal with vocals'),
    Package('hyperrogue-music', TEST, ('*/hyperrogue/music/*.ogg',), 24),
)
PACKAGES = {package.name: package for package in _TABLE}


def choose(names=None):
  """The packages of these names, test packages first.

  The order lets a recording that is in a test package be kept out of training
  when another package holds it too.

  Raises:
    UserError: an unknown name, or the same one twice.
  """
  chosen = list(PACKAGES) if names is None else list(names)
  for name in chosen:
    if name not in PACKAGES:
      raise errors.choice('package', name, PACKAGES)
  if len(set(chosen)) < len(chosen) or not chosen:
    raise errors.UserError(
        f'packages are {", ".join(chosen) or "none"}; expected some of them, '
        f'each once: {", ".join(PACKAGES)}.')
  return sorted((PACKAGES[name] for name in chosen),
                key=lambda package: package.split != TEST)


def quotas(packages, hours=None, test_minutes=None):
  """{name: seconds that may be taken, or None for all}.

  Args:
    packages: Packages.
    hours: for the training packages together, shared evenly; what a small one
      cannot give goes to the others. None: everything.
    test_minutes: for each test package. None: everything.
  """
  result = {p.name: None if test_minutes is None else test_minutes * 60.0
            for p in packages if p.split == TEST}
  training = sorted((p for p in packages if p.split == TRAIN),
                    key=lambda p: p.minutes)
  left = None if hours is None else hours * 3600.0
  for index, package in enumerate(training):
    share = None if left is None else min(
        package.minutes * 60.0, left / (len(training) - index))
    result[package.name] = share
    left = None if left is None else left - share
  return result
