"""A hook of mkdocs: the site's pages stand where they stand in the repository.

So the links that work on GitHub, from README.md to docs/ and from there to the
READMEs of other folders, work on the site as well, and nothing is written twice.
"""

import pathlib
import re

from mkdocs.structure import files as files_lib

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_LINK = re.compile(r'\]\(([^)#:]+)[)#]')


def on_files(files, config):
  """Gives mkdocs the pages of its nav, and the files that they link to."""
  for file in list(files):
    if file.src_dir == config.docs_dir:
      files.remove(file)
  pages = sorted(_pages(config.nav))
  linked = set()
  for name in pages:
    page = _ROOT / name
    text = page.read_text(encoding='utf-8')
    files.append(files_lib.File.generated(config, name, content=text))
    linked |= {(page.parent / link).resolve() for link in _LINK.findall(text)}
  for path in sorted(linked - {_ROOT / name for name in pages}):
    files.append(files_lib.File.generated(
        config, path.relative_to(_ROOT).as_posix(), content=path.read_bytes()))
  return files


def _pages(nav):
  """All paths of a nav, which is lists of paths and of {title: path or nav}."""
  for entry in nav:
    for value in entry.values() if isinstance(entry, dict) else [entry]:
      yield from [value] if isinstance(value, str) else _pages(value)
