"""`musiclm report`: what evaluations left in a folder, as one HTML page.

  a folder ──> folder.Folder ──> measured.Evaluation ──┐   cells, charts,
     JSON, metrics.csv, sounds   runs.Run              ├─> players, provenance ──> page
                                 players.SoundSet    ──┘   beside: a second folder

Every text of a file goes through markup.tag, which escapes it. A new kind of
thing in the JSON is a key in measured.py and a function that draws it.
"""
