"""What several tests use. A helper with one user lies beside that user.

``waiting`` waits for events, ``length`` chooses the short or the full form of a test (``make soak``),
``documents`` reads README and docs/, ``pacing`` holds tests back while the machine is busy.

``fakes/``: stand-ins within the process of the test, and made-up input.
    The pipeline's neighbours: ``pipeline_parts``, ``ffmpeg``, ``multipart_uploads``, ``owncast_api``,
    ``systemd``, ``clock``, ``event_source``, ``webtorrent_clients``, ``playback_reports``.
    Input: ``hls_writer`` writes an HLS folder by hand, ``owncast_folder`` lives as an Owncast's folder
    does, ``mediamtx_folder`` as MediaMTX's, both by a ``timetable``; ``playout`` is an encoder that costs
    nothing, ``encoded_recording`` is a recording in a folder,
    ``mpegts`` and ``timed_media`` make segments.
    The stream: ``channel`` is the pure machine with an owner that executes everything at once,
    ``encoder_and_players`` are who makes segments and who polls playlists.
    Parts of the service: ``catalog_fixture`` is a channel with its catalog, ``recorder_fixture`` adds a
    bucket in memory and the recorder, ``viewer_app`` is the viewers' application around a channel,
    ``viewers_channel`` is what viewers see of a channel, ``old_catalog`` is the catalog's first schema.
``servers/``: what listens on loopback, on a free port, and is stopped again.
    ``end_to_end`` is everything: Owncast, bucket, service and a strict viewer. Its parts:
    ``shared_bucket``, ``service``, ``viewer_process``.
    ``fake_origin`` serves playlists and segments for the page alone, ``viewer_app_server`` those of a long
    window; ``relay`` and the ``relay_origin`` that it follows; ``edge`` is nginx, ``edge_fixture`` an
    application behind it; ``r2_rules`` refuses what R2 refuses, ``upload_fixture`` is the admin's listener
    before it; ``counting_proxy`` (of the bucket), ``counted_origin`` (of the service), ``static_site``,
    ``network`` (a network namespace), ``chromium``, ``built_page``, ``clips``.
``faults/``: what goes wrong on purpose.
    ``fault_proxy`` (of the bucket), ``delay_proxy``, ``slow_clients``, ``small_disk``, ``hanging_mount``,
    ``broken_files``, ``other_user``.
``judges/``: what decides whether a result is right.
    ``playlist_rules`` are the rules of a live playlist, ``watcher`` holds a service to them,
    ``simulated_pages`` ask for what pages ask for, ``origin_costs`` is what they cost the origin,
    ``page`` and ``page_layout`` are what a viewer sees, ``start_requests`` what a visit costs,
    ``scanner_judge`` what a scan of the folder found, ``check_command`` what ``broadcaster check`` prints.
"""

import pytest

for _name in ("fakes", "servers", "faults", "judges"):  # so that a failure says what was found
    pytest.register_assert_rewrite(f"{__name__}.{_name}")
