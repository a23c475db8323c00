"""Pages that send other viewers what is not the stream, and a witness of what reaches a viewer's decoder."""

# The page's uploads, with one bit of each larger piece turned round. Commands of the protocol are small.
WRONG_BYTES = """
const { send } = RTCDataChannel.prototype;
RTCDataChannel.prototype.send = function (data) {
  if (data.byteLength > 2000) {
    const wrong = new Uint8Array(ArrayBuffer.isView(data) ? data.slice() : data.slice(0));
    wrong[wrong.length - 100] ^= 1;
    data = wrong;
  }
  return send.call(this, data);
};
"""

# The page announces each segment's true or a false length, sends so much of it, forged, and falls silent: the
# viewer's library fetches the rest from the bucket, or takes what it has for the whole. It sends slowly: the
# viewer is to need the segment before it gives this peer up. `forged` counts the sends of each kind.
SILENT_FORGER = """
const KINDS = [  // of the true length: what is announced, what is sent
  { name: "most", announced: 1, sent: 0.9 },
  { name: "all but a little", announced: 1, sent: 0.99 },
  { name: "all, but never says so", announced: 1, sent: 1 },
  { name: "half, as if it were all", announced: 0.5, sent: 0.5 },
  { name: "all, as if there were more", announced: 1.5, sent: 1 },
  { name: "nothing of too much", announced: 1.5, sent: 0 },
];
const PIECES = 5, PAUSE = 500; // ms
const DATA = 2, COMPLETED = 3; // commands of the library's protocol
const { send } = RTCDataChannel.prototype;
const uploads = new WeakMap(); // channel → what of its present segment is sent
let turn = 0;
window.forged = {};

const commandOf = (bytes) => (String.fromCharCode(...bytes.slice(0, 4)) === "cstr" ? bytes[4] : null);

/** Changes the length in a command, a number named "s": its own length in four bits, then its bytes. */
function announce(bytes, share) {
  const at = bytes.findIndex((byte, index) => index > 4 && byte === 115 && bytes[index + 1] < 9) + 2;
  const end = at + bytes[at - 1];
  const length = bytes.slice(at, end).reduce((value, byte) => 256 * value + byte, 0);
  let claim = Math.round(share * length);
  for (let index = end - 1; index >= at; index -= 1) {
    bytes[index] = claim % 256;
    claim = Math.floor(claim / 256);
  }
  return length;
}

async function dribble(channel, bytes, upload) {
  const part = bytes.slice(0, Math.round(bytes.length * upload.sent)).map((byte) => byte ^ 1);
  const size = Math.ceil(part.length / PIECES) || 1;
  for (let at = 0; at < part.length; at += size) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (uploads.get(channel) !== upload || channel.readyState !== "open") return;
    send.call(channel, part.slice(at, at + size));
  }
}

RTCDataChannel.prototype.send = function (data) {
  const bytes = new Uint8Array(ArrayBuffer.isView(data) ? data.slice() : data.slice(0));
  const command = commandOf(bytes);
  if (command === DATA) {
    const kind = KINDS[turn++ % KINDS.length];
    forged[kind.name] = (forged[kind.name] ?? 0) + 1;
    uploads.set(this, { ...kind, length: announce(bytes, kind.announced), whole: [] });
  } else if (command === COMPLETED) {
    return;
  } else if (command === null) {
    const upload = uploads.get(this);
    upload.whole.push(...bytes);
    if (upload.whole.length >= upload.length) dribble(this, Uint8Array.from(upload.whole), upload);
    return;
  }
  send.call(this, bytes);
};
"""

# The page asks each peer for the same segment again and again, fifty times a second. After five hundred times
# its console says so.
GREEDY = """
const REQUEST = 1; // a command of the library's protocol
const { send } = RTCDataChannel.prototype;
let asked = 0;
RTCDataChannel.prototype.send = function (data) {
  const bytes = new Uint8Array(ArrayBuffer.isView(data) ? data.slice() : data.slice(0));
  if (String.fromCharCode(...bytes.slice(0, 4)) === "cstr" && bytes[4] === REQUEST && !this.asks) {
    this.asks = setInterval(() => {
      if (this.readyState !== "open") return clearInterval(this.asks);
      send.call(this, bytes);
      if (++asked === 500) console.info("asked");
    }, 20);
  }
  return send.call(this, data);
};
"""

# `decoded` has the SHA-256 of every segment that hls.js hands to its worker.
WITNESS = """
const { postMessage } = Worker.prototype;
window.decoded = [];
Worker.prototype.postMessage = function (message, ...more) {
  if (message?.cmd === "demux" && message.data.byteLength > 0) {
    crypto.subtle.digest("SHA-256", message.data.slice(0)).then((digest) => {
      decoded.push(Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join(""));
    });
  }
  return postMessage.call(this, message, ...more);
};
"""
