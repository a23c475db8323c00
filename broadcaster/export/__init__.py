"""``broadcaster export``: a recording, a clip or the live window as one file, without transcoding.

``job`` reads the playlists into a ``plan``, downloads its objects into a folder beside the file and can
resume, ``remux`` writes the file in a process of its own. That process needs few modules, so importers name
the module that they need.
"""
