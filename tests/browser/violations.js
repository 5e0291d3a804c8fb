// What a person with a screen reader or a keyboard lacks, by a walk over the page as it was built.
() => {
  const found = [];
  const text = (element) => element.textContent.trim();
  const nameOf = (element) =>
    element.getAttribute("aria-label")
    || [...(element.labels || [])].map(text).join(" ")
    || text(element);
  if (document.documentElement.lang !== "en") found.push("the language is not told");
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.querySelectorAll("main").length !== 1) found.push("not one main");
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    const its = Number(heading.tagName[1]);
    if (its > level + 1) found.push(`${text(heading)}: h${its} after h${level}`);
    level = its;
  }
  const controls = "input, select, textarea, button, a[href], progress";
  for (const field of document.querySelectorAll(controls))
    if (field.type !== "hidden" && !field.hidden && !nameOf(field))
      found.push(`without a name: ${field.outerHTML.slice(0, 90)}`);
  for (const picture of document.querySelectorAll("svg, img"))
    if (!picture.hasAttribute("aria-hidden") && !picture.getAttribute("aria-label") && !picture.alt)
      found.push("a picture without words");
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption) found.push("a table without a caption");
    for (const cell of table.querySelectorAll("th"))
      if (!cell.scope) found.push(`a heading of nothing: ${text(cell)}`);
  }
  for (const box of document.querySelectorAll("*"))
    if (box.scrollWidth > box.clientWidth + 1
        && ["auto", "scroll"].includes(getComputedStyle(box).overflowX)
        && box.tabIndex < 0)
      found.push(`no key scrolls ${box.className || box.tagName}`);
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids))
    if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`two elements are called ${id}`);
  for (const element of document.querySelectorAll("[style], [onclick], style, script:not([src])"))
    found.push(`inline: ${element.outerHTML.slice(0, 90)}`);
  return found;
}
