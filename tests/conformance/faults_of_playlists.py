"""Faults in what a playlist says."""

import re

from tests.conformance import rules
from tests.conformance.faulty_server import Behaviour, Reply
from tests.conformance.seeds import Fault, rewritten


def of_variant_1(reply: Reply) -> bool:
    """Whether it is the second variant's."""
    return reply.variant == "1"


def of_every_other_version(reply: Reply) -> bool:
    """Whether it is a media playlist that ends at an even number."""
    return bool(reply.variant) and reply.last % 2 == 0


def falling(reply: Reply) -> str:
    """MEDIA-SEQUENCE goes down as the stream goes on."""
    return re.sub(r"(MEDIA-SEQUENCE:)\d+", rf"\g<1>{1000 - reply.last}", reply.text)


def renamed(reply: Reply) -> str:
    """Each version has other URIs."""
    return reply.text.replace(".ts", f".ts?{reply.last}")


def longer(reply: Reply) -> str:
    """Segments of a second."""
    return reply.text.replace("EXTINF:0.5", "EXTINF:1.0")


RULES = (
    Fault(
        "begins with a byte order mark",
        rules.a_playlist_is_well_formed,
        rewritten("^", "\ufeff"),
        "no #EXTM3U first",
    ),
    Fault("tears lines", rules.a_playlist_is_well_formed, rewritten("\n$", ""), "the last line is torn"),
    Fault(
        "changes TARGETDURATION",
        rules.versions_follow_the_rules,
        rewritten("(TARGETDURATION:)1", r"\g<1>2", of=of_every_other_version),
        "TARGETDURATION changed",
    ),
    Fault(
        "has too long segments",
        rules.versions_follow_the_rules,
        rewritten("EXTINF:0.5", "EXTINF:1.5"),
        "above TARGETDURATION",
    ),
    Fault("counts down", rules.versions_follow_the_rules, Behaviour(text=falling), "MEDIA-SEQUENCE fell"),
    Fault("reuses numbers", rules.versions_follow_the_rules, Behaviour(text=renamed), ": changed from"),
    Fault(
        "has no times",
        rules.versions_follow_the_rules,
        rewritten("#EXT-X-PROGRAM-DATE-TIME.*\n", ""),
        "no PROGRAM-DATE-TIME",
    ),
    Fault(
        "goes back in time",
        rules.versions_follow_the_rules,
        rewritten("T00:00:4", "T00:00:0"),
        "PROGRAM-DATE-TIME goes back",
    ),
    Fault(
        "does not count discontinuities",
        rules.versions_follow_the_rules,
        rewritten(r"(DISCONTINUITY-SEQUENCE:)\d+", r"\g<1>7"),
        "DISCONTINUITY-SEQUENCE rose by 0",
    ),
    Fault(
        "keeps discontinuities to itself",
        rules.the_discontinuity_sequence_is_there,
        rewritten("#EXT-X-DISCONTINUITY-SEQUENCE.*\n", ""),
        "EXT-X-DISCONTINUITY-SEQUENCE should be",
    ),
    Fault(
        "lists too few seconds",
        rules.a_sliding_window_is_long_enough,
        Behaviour(window=5),
        "2.500 s are listed",
    ),
    Fault(
        "lists too few segments",
        rules.a_sliding_window_is_long_enough,
        Behaviour(window=5, text=longer),
        "only 5 segments",
    ),
    Fault(
        "promises to remove nothing",
        rules.a_sliding_window_has_no_type,
        rewritten("(#EXT-X-MEDIA-SEQ)", r"#EXT-X-PLAYLIST-TYPE:EVENT\n\g<1>"),
        "EXT-X-PLAYLIST-TYPE",
    ),
    Fault(
        "has decimals in version 2",
        rules.the_version_covers_what_is_used,
        rewritten("VERSION:3", "VERSION:2"),
        "EXT-X-VERSION 2, 3 is needed",
    ),
    Fault(
        "has gaps in version 3",
        rules.the_version_covers_what_is_used,
        rewritten("(#EXTINF)", r"#EXT-X-GAP\n\g<1>"),
        "EXT-X-VERSION 3, 8 is needed",
    ),
    Fault(
        "holds back too little",
        rules.server_control_is_generous_enough,
        rewritten("HOLD-BACK=3", "HOLD-BACK=2"),
        "HOLD-BACK 2.0 s",
    ),
    Fault(
        "may skip too much",
        rules.server_control_is_generous_enough,
        Behaviour(skip_boundary=5),
        "CAN-SKIP-UNTIL 5.0 s",
    ),
    Fault(
        "has a TARGETDURATION per variant",
        rules.variants_agree,
        rewritten("(TARGETDURATION:)1", r"\g<1>2", of=of_variant_1),
        "EXT-X-TARGETDURATION: ",
    ),
    Fault(
        "has a SERVER-CONTROL per variant",
        rules.variants_agree,
        rewritten("HOLD-BACK=3", "HOLD-BACK=4", of=of_variant_1),
        "EXT-X-SERVER-CONTROL: ",
    ),
    Fault(
        "counts discontinuities per variant",
        rules.variants_agree,
        rewritten("(DISCONTINUITY-SEQUENCE:)", r"\g<1>9", of=of_variant_1),
        "discontinuity numbers: ",
    ),
    Fault(
        "lists segments too early",
        rules.listed_segments_answer,
        Behaviour(has_segment=lambda number, last: number < last - 3),
        "answers 404",
    ),
    Fault(
        "deletes segments too early",
        rules.listed_segments_answer,
        Behaviour(has_segment=lambda number, last: number > last - 20),
        "answers 404",
    ),
    Fault(
        "tells the bandwidth of something else",
        rules.bandwidth_is_the_peak,
        rewritten("BANDWIDTH=1000000", "BANDWIDTH=1000"),
        "BANDWIDTH is 1000",
    ),
    Fault(
        "does not say that it has I-frames only",
        rules.iframe_playlists_are_well_formed,
        rewritten("#EXT-X-I-FRAMES-ONLY\n", ""),
        "no EXT-X-I-FRAMES-ONLY",
    ),
    Fault(
        "has I-frames in version 3",
        rules.iframe_playlists_are_well_formed,
        rewritten("VERSION:4", "VERSION:3"),
        "EXT-X-VERSION 3, 4 is needed",
    ),
    Fault(
        "has whole segments for I-frames",
        rules.iframe_playlists_are_well_formed,
        rewritten("#EXT-X-BYTERANGE.*\n", ""),
        "no EXT-X-BYTERANGE",
    ),
    Fault(
        "has ranges without an offset",
        rules.iframe_playlists_are_well_formed,
        rewritten("@376", ""),
        "should be n@o",
    ),
    Fault(
        "has the tables in the range",
        rules.iframes_are_key_frames,
        rewritten("376@376", "752@0"),
        "the tables in it",
    ),
    Fault(
        "tears packets",
        rules.iframes_are_key_frames,
        rewritten("376@376", "370@380"),
        "not of whole transport packets",
    ),
    Fault(
        "has other pictures for I-frames",
        rules.iframes_are_key_frames,
        rewritten("376@376", "188@752"),
        "no key frame in the range",
    ),
    Fault(
        "has the end of I-frames",
        rules.iframes_are_key_frames,
        rewritten("376@376", "188@564"),
        "does not begin with a picture",
    ),
    Fault(
        "deletes I-frames too early",
        rules.iframes_are_key_frames,
        Behaviour(has_segment=lambda number, last: number > last - 20),
        "206 expected for a range, 404 seen",
    ),
)
