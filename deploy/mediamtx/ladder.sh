#!/bin/sh
# Two qualities of a path of MediaMTX (runOnReady), as HLS in one folder for each and a multivariant playlist.
# MediaMTX sets MTX_PATH and RTSP_PORT. The first quality is the publisher's own, the second is encoded.
set -eu
out=${LADDER_DIR:-/var/lib/mediamtx/ladder}
run=$(date +%s)
mkdir -p "$out/0" "$out/1"
exec ffmpeg -nostdin -hide_banner -loglevel warning -rtsp_transport tcp \
    -i "rtsp://127.0.0.1:${RTSP_PORT:-8554}/${MTX_PATH:-live}" \
    -map 0:v:0 -map 0:a:0? -map 0:v:0 -map 0:a:0? \
    -c:v:0 copy -c:a:0 copy \
    -c:v:1 libx264 -preset:v:1 veryfast -filter:v:1 scale=-2:360 -b:v:1 600k -maxrate:v:1 660k -bufsize:v:1 1200k \
    -force_key_frames:v:1 "expr:gte(t,n_forced*2)" -sc_threshold:v:1 0 -c:a:1 aac -b:a:1 96k \
    -f hls -hls_time 2 -hls_list_size 10 -hls_delete_threshold 10 \
    -hls_flags program_date_time+independent_segments+omit_endlist+delete_segments \
    -var_stream_map "v:0,a:0 v:1,a:1" -master_pl_name stream.m3u8 \
    -hls_segment_filename "$out/%v/stream-$run-%d.ts" "$out/%v/stream.m3u8"
