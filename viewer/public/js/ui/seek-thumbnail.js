// The picture at a place of the seek bar. What it takes is fetched when somebody points there.
import { dateAt } from "../timeline.js";

/** Whether the browser decodes single pictures, and its user does not save data. */
const isAble = () => "VideoDecoder" in window && !navigator.connection?.saveData;

export function createSeekThumbnail({ canvas, able = isAble, load = () => import("../seek-thumbnails.js") }) {
  let loading = null;
  let thumbnails = null; // of `address`
  let address = null;
  let asked = 0;

  function draw(picture) {
    canvas.hidden = picture === null;
    if (picture === null) return;
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  function hide() {
    asked += 1;
    thumbnails?.forget();
    draw(null);
  }

  return Object.freeze({
    hide,
    /** Not where the connection has enough to do with the stream itself. */
    async show({ playlist, timeline, slow, status }, position) {
      const date = timeline === null ? null : dateAt(timeline.anchors, position);
      if (playlist === null || date === null || slow || status === "buffering" || !able()) return hide();
      asked += 1;
      const mine = asked;
      loading ??= load();
      try {
        const { createSeekThumbnails } = await loading;
        if (mine !== asked) return;
        if (address !== playlist) {
          thumbnails?.forget(); // what is still on its way there is not to be drawn
          [thumbnails, address] = [createSeekThumbnails({ playlist }), playlist];
        }
        thumbnails.show(date, draw);
      } catch (error) {
        console.error(error);
        loading = null; // the next one tries again
      }
    },
  });
}
