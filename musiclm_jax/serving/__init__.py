"""`musiclm serve`: a page and an HTTP API over one queue and one model.

  page, api ──asking──> jobs (bounded) ──> worker (owns the model) ──> files
                ^                                                        │
  uploads ──decoder (a process with limits)      player, downloads <─────┘

Requests (asking) and answers are pydantic's models, which come with the web
packages. limits, programs, sound, streams, decoder and warm need none of these;
api, docs, page, markup, mount and server make a site of the rest.
"""
