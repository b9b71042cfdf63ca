// The page "Try it": lists and storage around engine.js and controls.js. Whatever comes from the model or from
// storage enters the document as text, never as markup.
(function () {
  "use strict";

  const MEASURE = "try-it: rating to recommendations";
  const STEP = 10; // films in a list, and how many "more" adds
  const FEW = 6; // similar films
  const ASKED = 3; // questions at a time
  const SETTLE = 250; // ms: no row moves between a press on another one and its release

  const root = document.getElementById("try-it-tool");
  if (!root) return;
  // Pages on a disk share one storage: without a name of its own, each keeps its ratings under its address.
  const STORE = root.dataset.store || `recsys-helpers.try-it ${location.pathname}`;

  // An element with attributes, listeners (names that start with "on") and children; strings become text.
  function h(tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const message = h("div", { class: "try-it-message", role: "alert" });
  root.replaceChildren(message);

  function tell(text) {
    message.append(h("p", null, text));
  }

  let engine, model;
  try {
    engine = window.TryItEngine;
    for (const [part, file] of [[engine, "engine.js"], [window.TryItControls, "controls.js"]]) {
      if (!part) throw new Error(`The file ${file} did not load, so this page cannot compute. Load the page again.`);
    }
    if (!window.TRY_IT_MODEL) {
      throw new Error(
        "The model file model.js did not load, so there is nothing to recommend from. Load the page again. " +
          "If that does not help, write the file again: in the book, with " +
          "python -m recsys_helpers.serving.export book/_static/try_it/model.js"
      );
    }
    try {
      model = engine.decode(window.TRY_IT_MODEL);
    } catch (error) {
      throw new Error(`The model file model.js cannot be used: ${error.message}. Export it again, or load the page again.`);
    }
  } catch (error) {
    tell(error.message);
    return;
  }

  const [noun, nouns] = model.noun;
  const aNoun = `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
  const capital = (word) => word[0].toUpperCase() + word.slice(1);
  // The dial: how many of the most rated films to leave out.
  const SKIPS = [0, 25, 50, 100, 200, 400, 800, 1600].filter((skip) => skip === 0 || skip < model.n);
  // Ratings of a film below which its prediction is mostly guesswork; fewer where few films have as many.
  const ENOUGH = [10, 5, 3, 2].find((least) => model.counts[model.order[Math.min(model.n, 30) - 1]] >= least) || 1;

  // The index of titles is built after the first paint, or at the first query if that comes earlier.
  let index = null;
  function search(text) {
    index = index || engine.searcher(model);
    return index(text);
  }

  // ---- state and storage -------------------------------------------------------------------------

  let ratings = new Map(); // film -> { value, time }, in the order in which they came
  let hidden = new Set();
  let unseen = new Set(); // asked about, and not seen: never asked about again
  let shown = STEP;
  let ratingsShown = 2 * STEP;
  let asked = []; // the films that are asked about, in their places
  let answering = null; // the one of them that somebody rates: it stays until the focus leaves
  let pinned = null; // a recommended film in whose row somebody rates: it stays until the focus leaves
  let storageWorks = true;
  let byLikes = Boolean(model.likes); // which model ranks: lists are what the one of likes is good at

  function load(text) {
    const kept = engine.readKept(text, model);
    ({ ratings, hidden, unseen } = kept);
    if (kept.by) byLikes = kept.by === "likes";
    if (kept.unreadable) {
      tell("What this browser had stored for this page could not be read. It was dropped, and you start afresh.");
    } else if (kept.dropped) {
      const many = kept.dropped === 1 ? "1 stored entry" : `${kept.dropped} stored entries`;
      tell(`${many} made no sense to this page and ${kept.dropped === 1 ? "was" : "were"} left out. The rest is here.`);
    }
    return kept.unreadable || kept.dropped > 0;
  }

  const by = () => (model.likes ? (byLikes ? "likes" : "ratings") : undefined);

  const anything = () => ratings.size || hidden.size || unseen.size;

  function save() {
    try {
      if (anything()) localStorage.setItem(STORE, engine.keep(model, ratings, hidden, unseen, by()));
      else localStorage.removeItem(STORE);
    } catch {
      if (storageWorks) tell("This browser does not let the page store ratings. They last until you close it.");
      storageWorks = false;
    }
  }

  // ---- words ---------------------------------------------------------------------------------------

  const status = h("div", { class: "try-it-unseen", role: "status" });
  let speech = 0;
  // Only the last of a quick series is spoken.
  function announce(text) {
    clearTimeout(speech);
    speech = setTimeout(() => (status.textContent = text), 900);
  }

  const number = (value) => value.toFixed(model.scale.digits).replace("-", "\u2212");
  const signed = (value) => `${value < 0 ? "" : "+"}${number(value)}`;
  const LEAST = 0.5 * 10 ** -model.scale.digits; // what is shown as more than nothing
  const valueOf = (film) => (ratings.has(film) ? ratings.get(film).value : null);
  const { control, show, own: ownWords } = window.TryItControls(h, model, valueOf, rate);
  const list = (items) => (items.length < 2 ? items.join("") : `${items.slice(0, -1).join(", ")} and ${items.at(-1)}`);

  function genreText(film) {
    const names = model.genres[film].map((g) => model.genreNames[g]).join(", ");
    return names || (model.genreNames.length ? "no genre listed" : "");
  }

  // Why a film is there, in terms of the likes that speak for it.
  function likeReason(person, film) {
    const people = model.likes.likedBy[film];
    if (!person.theta) return `${people} ${people === 1 ? "person likes" : "people like"} it.`;
    const { parts } = engine.explain(model, person, film);
    const name = (part) => `your ${ownWords(part.value, model.titles[part.film])} (+${part.contribution.toFixed(2)})`;
    const telling = parts.filter((part) => part.contribution >= 0.005).slice(0, 3).map(name);
    if (!telling.length) return "No like of yours speaks for it much.";
    const text = `${list(telling)} ${telling.length > 1 ? "speak" : "speaks"} for it.`;
    return text[0].toUpperCase() + text.slice(1);
  }

  // Why a film is there, in terms of the ratings that moved it most.
  function reason(person, film) {
    if (person.likes) return likeReason(person, film);
    const { baseline, parts } = engine.explain(model, person, film);
    const telling = parts.filter((part) => Math.abs(part.contribution) >= LEAST);
    const name = (part) => `your ${ownWords(part.value, model.titles[part.film])} (${signed(part.contribution)})`;
    const up = telling.filter((part) => part.contribution > 0).slice(0, 3).map(name);
    const down = telling.filter((part) => part.contribution < 0).slice(0, 2).map(name);
    const level = `Its level for everybody is ${number(baseline)}.`;
    const pulls = (names, way) => `${list(names)} ${names.length > 1 ? "pull" : "pulls"} it ${way}`;
    const sentence = [up.length && pulls(up, "up"), down.length && pulls(down, "down")].filter(Boolean).join("; ");
    return sentence ? `${level} ${sentence[0].toUpperCase()}${sentence.slice(1)}.` : `${level} No rating of yours moves it much.`;
  }

  // ---- parts of a row --------------------------------------------------------------------------------

  function similarFilms(film) {
    const place = h("ul", { class: "try-it-films try-it-similar" });
    const details = h("details", {
      ontoggle: () => {
        if (!details.open || place.firstChild) return;
        const found = engine.similar(model, film, FEW, 2 * ENOUGH, byLikes ? model.likes : model);
        if (!found.length) place.append(h("li", null, `Too little is known of this ${noun} to say.`));
        for (const { film: other } of found) place.append(h("li", null, heading(other), control(other)));
      },
    }, h("summary", null, `Similar ${nouns}`, h("span", { class: "try-it-unseen" }, ` to ${model.titles[film]}`)), place);
    return details;
  }

  function heading(film) {
    return h("span", { class: "try-it-film" },
      h("span", { class: "try-it-title" }, model.titles[film]), " ",
      genreText(film) ? h("span", { class: "try-it-genres" }, genreText(film)) : null);
  }

  function button(text, about, onclick) {
    return h("button", { type: "button", class: "try-it-button", onclick },
      text, about ? h("span", { class: "try-it-unseen" }, ` ${about}`) : null);
  }

  // ---- the parts of the page ---------------------------------------------------------------------------

  const query = h("input", {
    id: "try-it-query", type: "search", autocomplete: "off", spellcheck: "false",
    placeholder: "A title, or a part of it", oninput: () => showCandidates(),
  });
  const candidates = h("ul", { class: "try-it-films", "aria-label": `${capital(nouns)} to rate` });
  const candidatesNote = h("p", { class: "try-it-note" });
  const unknown = noun === "film" ? "Not seen" : "Not known";
  const none = button("None of these", "", () => skip(asked.filter((film) => !ratings.has(film))));

  const genre = h("select", { id: "try-it-genre", onchange: () => { shown = STEP; update(); } },
    h("option", { value: -1 }, "All genres"), ...model.genreNames.map((name, at) => h("option", { value: at }, name)));
  const dial = h("input", {
    id: "try-it-dial", type: "range", min: 0, max: SKIPS.length - 1, step: 1, value: 0,
    oninput: () => { shown = STEP; showDial(); update(); },
  });
  const switches = [["likes", "Likes alone"], ["ratings", "Predicted ratings"]].map(([value, text]) =>
    h("label", null,
      h("input", { type: "radio", name: "try-it-by", value, onchange: () => rankBy(value) }), h("span", null, text)));
  const switchField = h("fieldset", { class: "try-it-buttons try-it-switch", hidden: !model.likes },
    h("legend", null, "Rank by"), ...switches);
  const switchNote = h("p", { class: "try-it-note", hidden: !model.likes });
  const genreField = h("span", { class: "try-it-field", hidden: !model.genreNames.length },
    h("label", { for: "try-it-genre" }, "Genre"), genre);
  const dialText = h("span", { class: "try-it-note", "aria-hidden": "true" });
  const rare = h("input", { id: "try-it-rare", type: "checkbox", onchange: () => { shown = STEP; update(); } });
  const recommendations = h("ol", { class: "try-it-films try-it-recommendations", "aria-labelledby": "try-it-for-you" });
  const spreadNote = h("p", { class: "try-it-note" },
    "The number after \u00b1 is one standard deviation of the rating you would give: about two of three such ratings lie " +
      "that close to the prediction. It holds both what your ratings leave open and how much ratings vary anyway.");
  const recommendationsNote = h("p", { class: "try-it-note" });
  const more = button("Show ten more", "recommendations", () => {
    shown += STEP;
    update();
  });
  const forYou = h("h2", { id: "try-it-for-you", tabindex: -1 }, "Recommended for you");

  const own = h("ul", { class: "try-it-films", "aria-labelledby": "try-it-own" });
  const ownTitle = h("h2", { id: "try-it-own", tabindex: -1 });
  const ownMore = button("Show all", "of your ratings", () => {
    ratingsShown = Infinity;
    showOwn(true);
    ownTitle.focus();
  });
  const download = button("Save as CSV", "", saveCsv);
  const forget = button("Forget everything", "", forgetAll);
  const hiddenTitle = h("summary");
  const hiddenList = h("ul", { class: "try-it-films" });
  const hiddenPart = h("details", { class: "try-it-hidden" }, hiddenTitle, hiddenList);

  root.append(
    status,
    h("section", { class: "try-it-choose" },
      h("h2", null, `Rate a few ${nouns}`),
      h("label", { for: "try-it-query" }, `Find ${aNoun}`), query, candidatesNote, candidates, none),
    h("section", { class: "try-it-result" },
      forYou, switchField, switchNote,
      h("div", { class: "try-it-filters" },
        genreField,
        h("span", { class: "try-it-field", hidden: SKIPS.length < 2 },
          h("label", { for: "try-it-dial" }, "Leave out the best known"), dial, dialText),
        h("span", { class: "try-it-field try-it-check", hidden: ENOUGH < 2 }, rare,
          h("label", { for: "try-it-rare" }, `Include ${nouns} with fewer than ${ENOUGH} ratings`))),
      spreadNote, recommendationsNote, recommendations, more),
    h("section", { class: "try-it-yours" },
      ownTitle, own, ownMore, h("div", { class: "try-it-actions" }, download, forget), hiddenPart)
  );

  function showDial() {
    const skip = SKIPS[dial.value];
    const text = skip ? `without the ${skip.toLocaleString("en")} most rated ${nouns}` : "none left out";
    dial.setAttribute("aria-valuetext", text);
    dialText.textContent = text;
  }

  function showCandidates() {
    const text = query.value.trim();
    none.hidden = Boolean(text);
    if (!text) {
      candidates.replaceChildren();
      showQuestions();
      return;
    }
    const films = search(text);
    candidatesNote.textContent =
      films.length ? "" : `No ${noun} of that name among those the model knows. Try one word of the title.`;
    candidates.replaceChildren(...films.map((film) => h("li", null, heading(film), control(film))));
    announce(films.length ? `${films.length} ${nouns} found. The first: ${model.titles[films[0]]}.` : `No ${noun} found.`);
  }

  function questionRow(film) {
    const element = h("li", {
      "data-film": film,
      onfocusout: (event) => {
        if (element.contains(event.relatedTarget)) return;
        if (answering === film) answering = null;
        setTimeout(showQuestions, SETTLE);
      },
    }, heading(film), control(film), button(unknown, model.titles[film], () => skip([film])));
    return element;
  }

  // The questions that tell most, among what is neither answered nor hidden. One that stays among them keeps its place.
  function showQuestions() {
    if (query.value.trim()) return;
    const told = Array.from(ratings.keys()).filter((film) => film !== answering);
    const next = engine.ask(model, { rated: told, unseen: Array.from(unseen), n: ASKED, exclude: (film) => hidden.has(film) });
    const places = asked.map((film) => (film === answering || next.includes(film) ? film : null));
    for (const film of next.filter((one) => !places.includes(one))) {
      const free = places.indexOf(null);
      if (free >= 0) places[free] = film;
      else if (places.length < ASKED) places.push(film);
    }
    asked = places.filter((film) => film !== null);
    asked.forEach((film, at) => {
      const row = candidates.children[at];
      if (row && Number(row.dataset.film) === film) return;
      if (row) row.replaceWith(questionRow(film));
      else candidates.append(questionRow(film));
    });
    while (candidates.children.length > asked.length) candidates.lastElementChild.remove();
    none.hidden = !asked.length;
    candidatesNote.textContent = asked.length
      ? `Or answer here. Of the ${nouns} that you may well know, these would tell most about your taste:`
      : "";
  }

  // Not seen: the next question takes the place, and the focus.
  function skip(films) {
    const place = asked.indexOf(films[0]);
    for (const film of films) unseen.add(film);
    answering = null;
    save();
    showQuestions();
    showForget();
    const row = candidates.children[Math.min(Math.max(place, 0), asked.length - 1)];
    (row ? row.querySelector("input") : query).focus();
  }

  // Rows are kept while their film stays in the list, so that focus and open details survive an update.
  let rows = new Map();

  function recommendationRow(film) {
    const score = h("data", { class: "try-it-score" });
    const spread = h("data", { class: "try-it-spread" });
    const what = h("span");
    const why = h("p", { class: "try-it-why" });
    const element = h("li", {
      "data-film": film,
      onfocusout: (event) => {
        if (pinned === film && !element.contains(event.relatedTarget)) {
          pinned = null;
          // After the focus has arrived where it goes.
          setTimeout(update);
        }
      },
    },
    h("div", { class: "try-it-line" }, heading(film), h("span", { class: "try-it-predicted" }, what, " ", score, " ", spread)),
    why,
    h("div", { class: "try-it-line" },
      h("span", { class: "try-it-seen" }, "Seen it? ", control(film)),
      button("Not interested", `in ${model.titles[film]}`, () => hide(film))),
    similarFilms(film));
    return { element, score, spread, what, why };
  }

  // The reader folded in, or nobody; null where the model cannot tell, as without penalties after one rating.
  function reader() {
    const mine = Array.from(ratings, ([film, { value }]) => [film, value]);
    try {
      return byLikes ? engine.likeIn(model, mine) : engine.foldIn(model, mine);
    } catch {
      return null;
    }
  }

  // Somebody without ratings, as any penalties make them: the average.
  const nobody = engine.foldIn({ ...model, reg: 1, biasReg: 1, weighted: false }, []);

  function showRecommendations() {
    const person = ratings.size ? reader() : null;
    const silent = ratings.size && !person;
    const found = person
      ? engine.recommend(model, person, {
        n: shown + 1, genre: Number(genre.value), skip: SKIPS[dial.value],
        atLeast: rare.checked ? 0 : ENOUGH,
        exclude: (film) => film === pinned || ratings.has(film) || hidden.has(film),
      })
      : [];
    const places = shown - (pinned !== null && !ratings.has(pinned) ? 1 : 0);
    more.hidden = found.length <= places;
    const films = found.slice(0, places);
    const someone = person || (byLikes ? engine.likeIn(model, []) : nobody);
    const unliked = byLikes && ratings.size && !someone.theta;
    // The scores of likes are no ratings: shares of one, or, as long as there is no like, numbers of people.
    const digits = unliked ? 0 : byLikes ? 2 : model.scale.digits;
    if (pinned !== null && rows.has(pinned)) {
      const at = Array.from(rows.keys()).indexOf(pinned);
      films.splice(at, 0, { film: pinned, score: engine.scores(model, someone)[pinned] });
    }
    const next = new Map();
    for (const { film, score } of films) {
      const row = rows.get(film) || recommendationRow(film);
      row.score.value = score.toFixed(6);
      row.score.textContent = score.toFixed(digits).replace("-", "\u2212");
      showSpread(row.spread, someone, film);
      row.what.textContent = byLikes ? (unliked ? "liked by" : "score") : "predicted";
      row.why.textContent = film === pinned && ratings.has(film)
        ? "Now among your ratings; it leaves this list when you go on."
        : reason(someone, film);
      next.set(film, row);
    }
    let at = recommendations.firstElementChild;
    for (const [film, row] of rows) {
      if (next.has(film)) continue;
      if (row.element === at) at = at.nextElementSibling;
      row.element.remove();
    }
    for (const row of next.values()) {
      if (row.element === at) at = at.nextElementSibling;
      else recommendations.insertBefore(row.element, at);
    }
    rows = next;
    recommendationsNote.textContent = !ratings.size
      ? `Rate ${aNoun}, and your list appears here at once.`
      : unliked ? `None of your ratings is a like: these are what most people like. A like is ${likeWords()}.`
      : silent ? "With so few ratings this model cannot tell one taste from another. Rate a few more."
      : films.length ? "" : `No ${noun} passes these filters. Allow more.`;
    if (ratings.size) {
      announce(films.length ? `Recommendations updated. The first: ${model.titles[films[0].film]}.` : recommendationsNote.textContent);
    }
  }

  // Whether a prediction has a \u00b1: a score of likes is no rating, and has none.
  const spreads = () => model.noise !== null && !byLikes;

  function showSpread(element, person, film) {
    if (!spreads()) return;
    const value = engine.deviation(model, person, film);
    element.value = value.toFixed(6);
    element.textContent = `\u00b1 ${number(value)}`;
  }

  function likeWords() {
    const { low, high, kind, step, decimals } = model.scale;
    if (!(model.likes.threshold > low)) return "any rating";
    const steps = step && Math.ceil((model.likes.threshold - low) / step - 1e-6);
    const least = Number((step ? low + steps * step : model.likes.threshold).toFixed(decimals));
    if (kind === "thumbs") return "a thumb up";
    return least >= high ? `a rating of ${high}` : `a rating of ${least} or more`;
  }

  function rankBy(value) {
    byLikes = value === "likes";
    shown = STEP;
    pinned = null;
    showSwitch();
    rows = new Map();
    recommendations.replaceChildren();
    update();
    save();
  }

  function showSwitch() {
    spreadNote.hidden = !spreads();
    for (const label of switches) label.firstChild.checked = label.firstChild.value === by();
    if (model.likes) {
      switchNote.textContent = byLikes
        ? `What people with your likes like as well. A like is ${likeWords()}; what you disliked plays no part.`
        : `What you would rate highest, were you to rate it; dislikes count as likes do.`;
    }
  }

  function ownRow(film) {
    return h("li", { "data-film": film }, heading(film), control(film),
      button("Remove", model.titles[film], () => {
        const row = own.querySelector(`li[data-film="${film}"]`);
        const neighbor = row.nextElementSibling || row.previousElementSibling;
        row.remove();
        rate(film, null);
        (neighbor ? neighbor.querySelector("button") : ownTitle).focus();
      }));
  }

  // Newest first. A row whose rating was taken back stays, so that the slider does not vanish under the hand.
  function showOwn(rebuild) {
    const newest = Array.from(ratings.keys()).reverse().slice(0, ratingsShown);
    if (rebuild) own.replaceChildren(...newest.map(ownRow));
    else if (newest.length && !own.querySelector(`li[data-film="${newest[0]}"]`)) own.prepend(ownRow(newest[0]));
    ownTitle.textContent = ratings.size ? `Your ratings (${ratings.size})` : "Your ratings";
    ownMore.hidden = newest.length >= ratings.size;
    download.disabled = !ratings.size;
    showForget();
  }

  function showForget() {
    forget.disabled = !anything();
  }

  function showHidden() {
    hiddenPart.hidden = !hidden.size;
    hiddenTitle.textContent = `Not interested (${hidden.size})`;
    hiddenList.replaceChildren(...Array.from(hidden, (film) =>
      h("li", null, heading(film), button("Bring back", model.titles[film], () => {
        hidden.delete(film);
        save();
        showHidden();
        update();
        showQuestions();
        (hiddenPart.hidden ? ownTitle : hiddenTitle).focus();
      }))));
  }

  // ---- what happens ------------------------------------------------------------------------------------

  function update() {
    showRecommendations();
    showForget();
  }

  function rate(film, value, event) {
    const origin = event && event.target.closest(".try-it-recommendations > li");
    pinned = origin ? Number(origin.dataset.film) : null;
    const before = answering;
    answering = event && event.target.closest(".try-it-choose li[data-film]") ? film : null;
    if (value !== null) ratings.set(film, { value, time: Math.floor(Date.now() / 1000) });
    else ratings.delete(film);
    for (const box of root.querySelectorAll(`.try-it-rate[data-film="${film}"]`)) show(box);
    update();
    // Another value for the same film changes no question: only which films are rated does.
    if (answering === null || answering !== before) showQuestions();
    showOwn();
    if (event) measure(event.timeStamp);
    save();
  }

  // From the reader's action to the frame that shows its effect; read by benchmarks/serving.py.
  function measure(start) {
    requestAnimationFrame(() => {
      const painted = new MessageChannel();
      painted.port1.onmessage = () => performance.measure(MEASURE, { start, end: performance.now() });
      painted.port2.postMessage(null);
    });
  }

  function hide(film) {
    const row = rows.get(film).element;
    const neighbor = row.nextElementSibling || row.previousElementSibling;
    hidden.add(film);
    if (pinned === film) pinned = null;
    save();
    showHidden();
    update();
    showQuestions();
    const next = neighbor && neighbor.isConnected ? neighbor.querySelector(".try-it-button") : forYou;
    next.focus();
  }

  function saveCsv() {
    const address = URL.createObjectURL(new Blob([engine.toCsv(model, ratings)], { type: "text/csv" }));
    const link = h("a", { href: address, download: "my_ratings.csv" });
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  function forgetAll() {
    if (!window.confirm(`Forget all your ratings, answers and hidden ${nouns} on this device?`)) return;
    ratings = new Map();
    hidden = new Set();
    unseen = new Set();
    save();
    showEverything();
    announce("Everything forgotten.");
    query.focus();
  }

  function showEverything() {
    pinned = null;
    asked = [];
    answering = null;
    rows = new Map();
    recommendations.replaceChildren();
    showDial();
    showSwitch();
    showCandidates();
    showOwn(true);
    showHidden();
    update();
  }

  let text = null;
  try {
    text = localStorage.getItem(STORE);
  } catch {
    storageWorks = false;
    tell("This browser does not let the page store ratings. They last until you close it.");
  }
  if (load(text)) save();
  showEverything();
  setTimeout(() => search(""), 200);
  // Another tab changed the ratings: follow it, or the next rating here would undo what was done there.
  window.addEventListener("storage", (event) => {
    if (event.key !== STORE && event.key !== null) return;
    load(event.newValue);
    showEverything();
  });
})();
