// Captions as the browser shows them: those of a playlist and those inside the picture alike become text tracks.

const isCaption = ({ kind }) => kind === "captions" || kind === "subtitles";
const listed = (video) => [...video.textTracks].filter(isCaption);

/**
 * Shows the one with the id `chosen` (null: none) as soon as it is there. `changed(list)` hears which there are, as
 * {id, label}; the answer chooses another. `signal` ends it.
 */
export function createCaptions(video, { chosen, changed, signal }) {
  function show(id) {
    chosen = id;
    for (const [index, track] of listed(video).entries()) {
      const mode = `${index}` === chosen ? "showing" : "disabled";
      if (track.mode !== mode) track.mode = mode;
    }
  }

  function update() {
    const list = listed(video).map(({ label, language }, index) =>
      Object.freeze({ id: `${index}`, label: label || language || `${index + 1}` }),
    );
    changed(Object.freeze(list));
    show(chosen);
  }

  video.textTracks.addEventListener("addtrack", update, { signal });
  video.textTracks.addEventListener("removetrack", update, { signal });
  update();
  return show;
}
