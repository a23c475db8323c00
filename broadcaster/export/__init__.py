"""``broadcaster export``: a recording, a clip or the live window as one file; nothing is encoded again.

``playlists`` finds out what there is to be read, ``plan`` is what of it is wanted and is kept until the file
is there, ``work`` does it all by an ``attempt``, in a folder beside the file from which the next one goes on.
A process of its own (``remuxing``, ``__main__``) puts it into the file: ``remux``, with the times of
``timeline``. That one needs little of all this, so each is imported from where it is.
"""
