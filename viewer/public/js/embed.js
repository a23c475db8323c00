// Not a module, so that nothing else is ever painted: what is said waits for the settings. In an iframe with ?embed=1 there
// is the picture alone; a chat has its place from the first; whoever reads another language is not shown English first.
const { dataset } = document.documentElement;
const settings = document.getElementById("config")?.textContent;
const written = JSON.parse(settings || "{}");
dataset.unset = "";
if (new URLSearchParams(location.search).get("embed") === "1") dataset.embed = "";
else if (written.chatUrl) dataset.chat = "";
if (!/^en\b/i.test(navigator.language)) dataset.wordless = "";
// A stream's playlists come with the script that plays them, and not after it.
if (settings && !written.recording) import("./head-start.js").then(({ beginAhead }) => beginAhead(written)).catch(() => {});
