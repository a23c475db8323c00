// In an iframe with ?embed=1 there is the picture alone. Not a module, so that nothing else is ever painted.
if (new URLSearchParams(location.search).get("embed") === "1") document.documentElement.dataset.embed = "";
