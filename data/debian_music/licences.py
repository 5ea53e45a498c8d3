"""The licence of a file, as debian/copyright states it.

A machine-readable notice (Debian's copyright format 1.0) has paragraphs of
patterns and a licence; the last one that fits counts. Its patterns are about
the source tree, the files at hand lie in the installed one, so a pattern may
fit from any of its folders on, as long as that still names music.
"""

import fnmatch
import pathlib
import re

_FORMAT = re.compile(r'^Format:.*copyright-format', re.IGNORECASE)
_MUSIC = re.compile(r'(^|/)(music|audio|snd|cdtracks)(/|$)|\.(ogg|opus|oga)$',
                    re.IGNORECASE)


def find(notice, path):
  """The short name of a file's licence, or '' where the notice has no say.

  Args:
    notice: text of debian/copyright.
    path: of the file, as installed.
  """
  lines = notice.splitlines()
  if not any(_FORMAT.match(line) for line in lines[:5]):
    return ''
  result = ''
  for patterns, licence in _paragraphs(lines):
    if licence and any(_fits(pattern, path) for pattern in patterns):
      result = licence
  return result


def _paragraphs(lines):
  """Yields (patterns, licence) of each paragraph about files."""
  fields, name = {}, None
  for line in lines + ['']:
    if not line.strip():
      if 'files' in fields:
        yield (' '.join(fields['files']).split(),
               fields.get('license', [''])[0].strip())
      fields, name = {}, None
    elif line[0] in ' \t':
      if name:
        fields[name].append(line)
    elif ':' in line:
      name, value = line.split(':', 1)
      name = name.lower()
      fields[name] = [value]


def _fits(pattern, path):
  """Whether a source pattern is about an installed path."""
  if pattern == '*':
    return True
  parts = pathlib.PurePosixPath(pattern).parts
  for start in range(len(parts)):
    rest = '/'.join(parts[start:])
    if start and not _MUSIC.search(rest):
      return False
    if fnmatch.fnmatchcase('/' + path, '*/' + rest):
      return True
  return False
