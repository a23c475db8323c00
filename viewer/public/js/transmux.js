// Pictures and sound out of segments into an MP4, as they are. Loaded when somebody wants one.
import {
  BufferSource,
  EncodedAudioPacketSource,
  EncodedPacketSink,
  EncodedVideoPacketSource,
  Input,
  MP4,
  MPEG_TS,
  Mp4OutputFormat,
  Output,
  StreamTarget,
} from "../vendor/mediabunny.mjs";

/** `file` as openFile() has it. A discontinuity begins where what comes before it has ended; a gap is time. */
export function createTransmuxer(file) {
  const target = new StreamTarget(new WritableStream({ write: (chunk) => file.write(chunk) }));
  const format = new Mp4OutputFormat({ fastStart: file.anywhere ? false : "fragmented" });
  const output = new Output({ format, target });
  let tracks = null; // by kind: {source, end in seconds}
  let shift = null; // seconds; null before a run

  async function begin(found) {
    tracks = {};
    for (const [kind, track] of Object.entries(found)) {
      const Source = kind === "video" ? EncodedVideoPacketSource : EncodedAudioPacketSource;
      const source = new Source(await track.getCodec());
      tracks[kind] = { source, end: null };
      if (kind === "video") output.addVideoTrack(source);
      else output.addAudioTrack(source);
    }
    await output.start();
  }

  /** No track begins before it has ended, and all are moved by the same: they stay together. */
  function place(packets, gap) {
    const starts = Object.entries(packets).filter(([, list]) => list.length > 0);
    const first = ([, list]) => Math.min(...list.slice(0, 20).map(({ timestamp }) => timestamp));
    const behind = starts.filter(([kind]) => tracks[kind].end !== null).map((sample) => tracks[sample[0]].end - first(sample));
    shift = behind.length > 0 ? Math.max(...behind) + gap : -Math.min(...starts.map(first));
  }

  async function add(bytes, { discontinuity, gap }) {
    const input = new Input({ source: new BufferSource(bytes), formats: [MPEG_TS, MP4] });
    try {
      const [video, audio] = [await input.getPrimaryVideoTrack(), await input.getPrimaryAudioTrack()];
      const found = Object.fromEntries(Object.entries({ video, audio }).filter(([, track]) => track !== null));
      if (Object.keys(found).length === 0) return;
      if (tracks === null) await begin(found);
      const packets = {};
      for (const [kind, track] of Object.entries(found)) {
        if (tracks[kind] === undefined) continue; // the beginning has none: the file has no place for it
        packets[kind] = [];
        for await (const packet of new EncodedPacketSink(track).packets()) packets[kind].push(packet);
      }
      if (shift === null || discontinuity) place(packets, gap);
      for (const [kind, list] of Object.entries(packets)) {
        const decoderConfig = await found[kind].getDecoderConfig();
        for (const packet of list) {
          const timestamp = packet.timestamp + shift;
          tracks[kind].end = Math.max(tracks[kind].end ?? 0, timestamp + packet.duration);
          await tracks[kind].source.add(packet.clone({ timestamp }), { decoderConfig });
        }
      }
    } finally {
      input.dispose();
    }
  }

  return Object.freeze({ add, finish: () => output.finalize(), cancel: () => output.cancel() });
}
