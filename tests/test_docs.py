"""The pages: their links lead somewhere, and their commands are commands."""

import pathlib
import re
import shlex

import pytest
import yaml

from musiclm_jax.commands import cli

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / 'docs').glob('*.md'))
PAGES = [ROOT / 'README.md', *DOCS] + [ROOT / name for name in (
    'CONTRIBUTING.md', 'CHANGELOG.md', 'examples/README.md')]
COMMAND = re.compile(r'^(?:bash launch/local\.sh|musiclm) (.*)$')


def _commands(page):
  """Command lines of the fenced blocks, those for reading only left out."""
  found = []
  for block in page.read_text().split('```')[1::2]:
    for line in block.replace('\\\n', ' ').splitlines():
      line = re.split(r'\s{3,}', line.strip())[0]  # what follows explains
      match = COMMAND.match(line)
      if match and not re.search(r'\[|\.\.\.|\b(test|t5x)\b', match[1]):
        found.append(match[1])
  return found


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
  for link in re.findall(r'\]\(([^)#:]+)\)', page.read_text()):
    assert (page.parent / link).exists(), link


@pytest.mark.parametrize('page', PAGES, ids=lambda p: p.name)
def test_commands_parse(page):
  for command in _commands(page):
    args, module = cli._parse(shlex.split(command, comments=True))  # pylint: disable=protected-access
    assert args is not None and hasattr(module, 'run'), command


def test_commands_are_found():
  assert len(_commands(ROOT / 'README.md')) > 5


def test_the_readme_is_short_and_names_every_page():
  text = PAGES[0].read_text()
  assert len(text.splitlines()) <= 150
  for page in PAGES[1:]:
    assert f'({page.relative_to(ROOT)})' in text, page.name


def test_the_site_has_every_page():
  nav = yaml.safe_load((ROOT / 'mkdocs.yml').read_text())['nav']
  listed = {ROOT / path for path in _paths(nav)}
  assert set(PAGES) <= listed and all(path.is_file() for path in listed)


def _paths(nav):
  """All paths of a nav, which is lists of paths and of {title: path or nav}."""
  for entry in nav:
    for value in entry.values() if isinstance(entry, dict) else [entry]:
      yield from [value] if isinstance(value, str) else _paths(value)


def test_architecture_names_the_folders_that_are_there():
  """Of the package, with rows for those alone."""
  text = (ROOT / 'docs/architecture.md').read_text().split('## ')[0]
  rows = re.findall(r'^\| `([\w/]+)` \|', text, re.MULTILINE)
  package = ROOT / 'musiclm_jax'
  folders = {path.name for path in package.iterdir() if path.is_dir()
             and not path.name.startswith(('_', '.'))}
  assert all((package / row).is_dir() for row in rows), rows
  assert {row.split('/')[0] for row in rows} == folders
