"""What each command can be asked, and how it is begun; it loads what it needs, and nothing of the others.

Each module has ``add_options(parser)``, and ``run(options, form)``, which gives the exit status; ``form`` is
that of its log. What cannot be done is raised, as BroadcasterError.
"""
