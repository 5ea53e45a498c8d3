"""A Chromium for the tests that are marked `web`."""

import contextlib
import shutil

import pytest


def _skip(found, name):
  if found is None:
    pytest.skip(f'there is no {name}')


@contextlib.contextmanager
def chromium(*more, need=_skip):
  """A playwright Browser.

  Args:
    *more: of Chromium's own arguments.
    need: (what was found or None, its name) -> what to do without.
  """
  try:
    from playwright import sync_api  # pylint: disable=g-import-not-at-top
  except ImportError:
    sync_api = None
  need(sync_api, 'playwright')
  path = shutil.which('chromium')
  need(path, 'chromium')
  with sync_api.sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=path, args=['--no-sandbox', *more])
    yield browser
    browser.close()
