
"use strict";
(() => {
  const AT_ONCE = 60;
  const get = id => document.getElementById(id);

  // on paper the pictures are unfolded
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll("details.chapter:not([open])")];
    for (const chapter of unfolded) chapter.open = true;
  });
  addEventListener("afterprint", () => { for (const chapter of unfolded) chapter.open = false; });

  // what has to be scrolled can be reached by keyboard, and nothing else stops the tabulator
  const canvases = new ResizeObserver(entries => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0; else target.removeAttribute("tabindex");
    }
  });
  for (const canvas of document.querySelectorAll(".canvas")) canvases.observe(canvas);

  const form = get("filters");
  if (!form) return;
  const runs = [...document.querySelectorAll(".run")].map(section => ({
    section,
    items: [...section.querySelectorAll("li")].map(item => ({ item, text: item.textContent.toLowerCase() })),
  }));
  const facets = ["data", "student", "strategy", "class", "step"].map(name => ({ name, select: get(`by-${name}`) }));
  const total = runs.reduce((sum, run) => sum + run.items.length, 0);
  const more = get("more");
  let most = AT_ONCE;

  const matches = (wanted, data) => Object.entries(wanted).every(([name, value]) => !value || data[name] === value);
  // offered is what some sample has that the other filters let pass
  const narrow = wanted => {
    const there = facets.map(() => new Set());
    for (const { section, items } of runs) {
      for (const { item } of items) {
        const data = { ...section.dataset, ...item.dataset };
        const misses = facets.filter(({ name }) => wanted[name] && data[name] !== wanted[name]);
        if (misses.length > 1) continue;
        facets.forEach((facet, i) => { if (!misses.length || misses[0] === facet) there[i].add(data[facet.name]); });
      }
    }
    facets.forEach(({ select }, i) => {
      for (const option of select.options) {
        option.hidden = option.disabled = option.value !== "" && !option.selected && !there[i].has(option.value);
      }
    });
  };
  const update = () => {
    const [ofRun, ofSample] = [facets.slice(0, 3), facets.slice(3)]
      .map(own => Object.fromEntries(own.map(({ name, select }) => [name, select.value])));
    narrow({ ...ofRun, ...ofSample });
    const text = get("by-text").value.trim().toLowerCase();
    let found = 0, shown = 0;
    for (const { section, items } of runs) {
      const here = matches(ofRun, section.dataset), before = shown;
      for (const sample of items) {
        const match = here && matches(ofSample, sample.item.dataset) && sample.text.includes(text);
        found += match;
        sample.item.hidden = !match || found > most;
        shown += !sample.item.hidden;
      }
      section.hidden = shown === before;
    }
    get("count").textContent = `${found} of ${total} samples match` + (shown < found ? `, the first ${shown} are shown` : "");
    more.hidden = shown === found;
  };
  const restart = () => { most = AT_ONCE; update(); };

  form.addEventListener("input", restart);
  form.addEventListener("submit", event => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(restart));
  more.addEventListener("click", () => {
    const items = runs.flatMap(run => run.items.map(sample => sample.item));
    const visible = new Set(items.filter(item => !item.hidden));
    most += AT_ONCE;
    update();
    // the button may be gone: a keyboard goes on at the first sample that is new
    const first = items.find(item => !item.hidden && !visible.has(item));
    if (first) { first.tabIndex = -1; first.focus(); }
  });
  form.hidden = false;
  update();
})();
