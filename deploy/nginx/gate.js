// The gate of a private event in nginx: who may pass is in a file that the service writes at each change. No request
// to the service is needed. For njs 0.7.9 or newer; docs/private-events.md says how to set it up.
import crypto from 'crypto';
import fs from 'fs';

const TOKEN = /^([0-9a-f]{8,10})\.([0-9a-f]{16})([0-9a-f]{64})$/;
const COOKIE = /(?:^|;\s*)broadcaster_access=([^;\s]*)/;
const PAGES = /^\/(recordings|watch\/[^\/]+|c\/[^\/]+)?$/; // that open in a browser's window
const OF_A_RECORDING = /^\/(?:watch\/([\w-]+)|recordings\/([\w-]+)\/(?:[\w-]+\/)*[\w-]+\.m3u8)$/;
const OF_THE_PAGE = /^\/(assets\/[\w.-]+|icon-\w+\.png|manifest\.json)$/;
const OWN = /^\/(access(\/.*)?|health)$/; // the service answers strangers there

/** Compares digests of the texts, which takes as long for any two. */
function isSame(secret, one, other) {
  const of = (text) => crypto.createHmac('sha256', secret).update(text).digest('hex');
  return of(one) === of(other);
}

/** Whether a token is valid now: its grant is one of these. */
function isValid(token, secretInHex, ends) {
  const found = TOKEN.exec(token), now = Date.now() / 1000;
  if (!found || now >= parseInt(found[1], 16)) return false;
  const end = ends[found[2]], secret = Buffer.from(secretInHex, 'hex');
  if (end === undefined || (end !== null && now >= end)) return false;
  const mac = crypto.createHmac('sha256', secret).update(`broadcaster access ${found[1]} ${found[2]}`).digest('hex');
  return isSame(secret, mac, found[3]);
}

/** Whether a browser's window opens a page: the service puts the token of its address into a cookie. */
function isOpened(r, path) {
  return r.method === 'GET' && PAGES.test(path) && (r.headersIn.Accept || '').includes('text/html')
    && (r.headersIn['Sec-Fetch-Dest'] || 'document') === 'document';
}

/** Whether strangers can ask for a path: the page of a recording that is opened, its playlists, the page's files. */
function isFree(r, path, opened) {
  if (r.uri !== path || !/^(GET|HEAD)$/.test(r.method) || !opened || opened.length === 0) return false;
  const found = OF_A_RECORDING.exec(path);
  return found ? opened.includes(found[1] || found[2]) : OF_THE_PAGE.test(path);
}

function known(file) {
  try { return JSON.parse(fs.readFileSync(file, 'utf8')); } catch (error) { return null; }
}

/**
 * Of a guest: where the token was, the key by which the service knows this gate, the token, how the doors are, and the
 * path without the token. Of a stranger who asks for what is opened: the same, with "open" and without a key.
 * Of anybody else: "-" and the path for which the service is asked, in which a guest who waits for the doors has his
 * token; "/t/-" stands for a token that is refused.
 */
function decide(r) {
  const asked = r.variables.request_uri.split('?')[0], inPath = /^\/t\/([^\/]*)(\/.*)?$/.exec(asked);
  const cookie = COOKIE.exec(r.headersIn.Cookie || ''), token = inPath ? inPath[1] : cookie ? cookie[1] : '';
  const found = known(r.variables.gate_file);
  if (!found || !token || !isValid(token, found.secret, found.grants) || (inPath && !`${r.uri}/`.startsWith(`/t/${token}/`))) {
    if (!inPath && found && isFree(r, asked, found.opened)) return `open - - ${found.doors} ${asked}`;
    if (!inPath && (!token || OWN.test(asked))) return `- ${asked}`;
    const waits = found && isValid(token, found.secret, found.waiting);
    return `- /t/${waits ? token : '-'}${inPath ? inPath[2] || '/' : asked}`;
  }
  const path = inPath ? r.uri.slice(token.length + 3) || '/' : r.uri;
  if (OWN.test(path) && path !== '/health') return `- ${path}`;
  if (inPath && isOpened(r, path)) return `- ${asked}`;
  return `${inPath ? 'path' : 'cookie'} ${found.key} ${token} ${found.doors} ${path}`;
}

export default { decide };
