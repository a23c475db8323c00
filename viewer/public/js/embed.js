// Not a module, so that nothing else is ever painted. In an iframe with ?embed=1 there is the picture alone; whoever
// reads another language is not shown English first.
if (new URLSearchParams(location.search).get("embed") === "1") document.documentElement.dataset.embed = "";
if (!/^en\b/i.test(navigator.language)) document.documentElement.dataset.wordless = "";
