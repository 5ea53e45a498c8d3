"""`musiclm serve`: a page and an HTTP API over one queue and one model.

  page, api ──asking──> jobs (bounded) ──> worker (owns the model) ──> files
                ^                                                        │
  uploads ──decoder (a process with limits)      player, downloads <─────┘

limits, asking, jobs, programs, sound, streams, uploads, decoder, warm and worker
need no web packages; api, docs, page, pieces and server are what turns them into
a site.
"""
