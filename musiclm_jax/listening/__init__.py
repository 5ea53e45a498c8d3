"""The listening test: people say which of two clips fits a description better.

  folders ──build──> TEST_DIR ──server <── desk <── design (who hears what next)
                     audio, key    │        │
                                  page    store (SQLite) ──results──> report

`build` makes the folder, `server` shows it to raters, `results` reads what they
said. Who made a clip stands in `key.json` alone, which the server never sends.
"""
