"""``broadcaster export``: a recording, a clip or the live window as one file, without transcoding.

``playlists`` reads the playlists into a ``plan``, ``job`` downloads its objects into a folder beside the file
and can resume, ``remux_process`` starts a process (``__main__``) that writes the file with ``remux``. That
process needs few modules, so importers name the module that they need.
"""
