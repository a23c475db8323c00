// The choice of the sound, where it has playlists of its own: a key that means the same in the next player, and stream.
import { Hls } from "./engine.js";

const keyOf = ({ lang = "", name }) => `${lang} ${name}`;

/** The index of the chosen track: the very same, else one of its language, else -1 (the stream's own choice). */
function matchAudioTrack(tracks, key) {
  if (key === null) return -1;
  const same = tracks.findIndex((track) => keyOf(track) === key);
  const [language] = key.split(" ");
  return same >= 0 || language === "" ? same : tracks.findIndex(({ lang }) => lang === language);
}

/**
 * Plays the track with the key `chosen` (null: the stream's own choice) as soon as it is there. `changed(list)` hears
 * which there are, as {id, lang, name, on: whether it is played}; the answer chooses another.
 */
export function createAudioTracks(hls, { chosen, changed }) {
  const describe = (track, index) =>
    Object.freeze({ id: keyOf(track), lang: track.lang ?? null, name: track.name, on: index === hls.audioTrack });
  const tell = () => changed(Object.freeze(hls.audioTracks.map(describe)));

  function choose(key) {
    chosen = key;
    const index = matchAudioTrack(hls.audioTracks, key);
    if (index >= 0 && index !== hls.audioTrack) hls.audioTrack = index;
  }
  hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => {
    choose(chosen);
    tell();
  });
  hls.on(Hls.Events.AUDIO_TRACK_SWITCHING, tell);
  return choose;
}
