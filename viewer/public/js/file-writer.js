// Where a file that is downloaded goes: to the disk as it comes, where the browser lets a page write there, else into a
// Blob, which the browser saves as a whole.

const MOST = 1e9; // bytes of a Blob
const REVOKE_AFTER = 60000; // ms for the browser to begin with a Blob

/**
 * {anywhere: whether bytes may be written at any position, write({position, data}), close(), abort(): leaves nothing}.
 * Null when the viewer thinks better of it. `type` is a media type, `extension` has its dot.
 */
export async function openFile({ name, type, extension, window }) {
  if (window.showSaveFilePicker === undefined) return intoBlob({ name: name + extension, type, window });
  try {
    const types = [{ accept: { [type]: [extension] } }];
    return await openOnDisk(await window.showSaveFilePicker({ suggestedName: name + extension, types }));
  } catch (error) {
    if (error?.name === "AbortError") return null;
    throw error;
  }
}

async function openOnDisk(handle) {
  const isNew = (await handle.getFile()).size === 0; // one that was there before stays as it was
  const file = await handle.createWritable();
  return {
    anywhere: true,
    write: ({ position, data }) => file.write({ type: "write", position, data }),
    close: () => file.close(),
    abort: async () => {
      await file.abort();
      if (isNew) await handle.remove?.();
    },
  };
}

function intoBlob({ name, type, window }) {
  let parts = [];
  let size = 0;
  return {
    anywhere: false,
    write: async ({ data }) => {
      size += data.byteLength;
      if (size > MOST) throw new Error("too large for a Blob", { cause: "downloadLarge" });
      parts.push(new Blob([data]));
    },
    close: async () => {
      const href = URL.createObjectURL(new Blob(parts, { type }));
      Object.assign(window.document.createElement("a"), { href, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(href), REVOKE_AFTER);
    },
    abort: async () => {
      parts = [];
    },
  };
}
