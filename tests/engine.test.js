// Unit tests of recsys_helpers/serving/static/try_it/engine.js: node --test tests/engine.test.js (test_try_it.py runs it).
"use strict";
const { test } = require("node:test");
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const root = path.join(__dirname, "..");
const engine = require(path.join(root, "recsys_helpers", "serving", "static", "try_it", "engine.js"));

function pack(type, values) {
  const array = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, uint32: Uint32Array }[type].from(values);
  return { type, data: Buffer.from(array.buffer).toString("base64") };
}

// Five films with one factor; steps turn the integers into 1, 1, 1, -1, -1 and biases of 0, .5, 0, -.5, 0.
function file(changes = {}) {
  return {
    format: "recsys_helpers.try_it", version: 3, data: "toy", factors: 1, mean: 3.5, reg: 1, bias_reg: 2,
    weighted: false, scale: [0.5, 5], step: 0.5, steps: [0.5, 0.25],
    noun: ["film", "films"], columns: ["userId", "movieId"], reader: 0,
    films: pack("int16", [2, 0, 2, 2, 2, 0, -2, -2, -2, 0]),
    item_ids: pack("uint16", [10, 1, 1, 300, 1]), counts: pack("uint8", [9, 50, 9, 1, 30]),
    first_year: 1979, years: pack("uint8", [1, 7, 0, 0, 25]),
    genres: ["Comedy", "Horror"], genre_sets: [[], [1], [0, 1]], genre_of: pack("uint8", [1, 2, 1, 0, 2]),
    titles: ["Alien", "Brazil", "Carrie", "Duel", "Elf"], ...changes,
  };
}
const toy = engine.decode(file());

// A model with the given titles, for the search.
function titled(titles, counts = titles.map(() => 10)) {
  const zeros = titles.map(() => 0);
  return engine.decode(file({
    titles, films: pack("int16", [...zeros, ...zeros]), item_ids: pack("uint16", titles.map(() => 1)),
    counts: pack("uint16", counts), years: pack("uint8", zeros), genre_of: pack("uint8", zeros),
  }));
}
const find = (titles, query, counts) => {
  const model = titled(titles, counts);
  return engine.searcher(model)(query).map((film) => model.titles[film]);
};

// ---- decode ----------------------------------------------------------------------------------------

test("decode gives the arrays back", () => {
  assert.deepEqual([toy.n, toy.k], [5, 1]);
  assert.deepEqual(Array.from(toy.x), [1, 0, 1, 0.5, 1, 0, -1, -0.5, -1, 0]);
  assert.deepEqual(Array.from(toy.ids), [10, 11, 12, 312, 313]);
  assert.deepEqual(toy.titles, ["Alien (1979)", "Brazil (1985)", "Carrie", "Duel", "Elf (2003)"]);
  assert.deepEqual(toy.genres[1], [0, 1]);
  assert.deepEqual(Array.from(toy.order), [1, 4, 0, 2, 3]); // most rated first, equal counts in order
  assert.equal(toy.popularityRank[3], 4);
  assert.equal(toy.codeOf.get(312), 3);
});

const damaged = {
  "nothing": [undefined, /not a model/],
  "another format": [file({ format: "x" }), /not a model/],
  "a later version": [file({ version: 4 }), /version is 4.*reads version 3/],
  "an id that is no text": [file({ item_ids: ["a", "b", 3, "d", "e"] }), /ids are damaged/],
  "a scale upside down": [file({ scale: [5, 1] }), /scale is damaged/],
  "steps larger than the scale": [file({ step: 9 }), /scale is damaged/],
  "no factors": [file({ films: undefined }), /films is missing/],
  "another type": [file({ counts: { type: "float64", data: "" } }), /counts is missing/],
  "half a number": [file({ films: { type: "int16", data: "AAAA" } }), /cut off/],
  "a factor too few": [file({ films: pack("int16", [1, 2, 3]) }), /incomplete/],
  "a title too few": [file({ titles: ["Alien"] }), /different lengths, 5 and 1/],
  "no mean": [file({ mean: null }), /a number in it is missing/],
};
for (const [name, [content, words]] of Object.entries(damaged)) {
  test(`decode refuses ${name}`, () => assert.throws(() => engine.decode(content), words));
}

// ---- least squares ------------------------------------------------------------------------------------

test("cholesky and solve, by hand", () => {
  const l = engine.cholesky(Float64Array.from([4, 2, 2, 5]), 2);
  assert.deepEqual([l[0], l[2], l[3]], [2, 1, 2]);
  assert.deepEqual(Array.from(engine.solve(l, 2, [8, 14])), [0.75, 2.5]); // 4 x + 2 y = 8, 2 x + 5 y = 14
  assert.throws(() => engine.cholesky(Float64Array.from([0]), 1), /no unique solution/);
});

// Alien 5, Duel 1: targets 1.5 and -2 with x = (1, 1), (-1, 1). The system is
// (2 + 1, 0; 0, 2 + 2) (p, b) = (1.5 + 2, 1.5 - 2), so p = 3.5 / 3 and b = -0.125.
const person = engine.foldIn(toy, [[0, 5], [3, 1]]);
const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-12, `${a} is not ${b}`);

test("fold-in, by hand", () => {
  close(person.theta[0], 3.5 / 3);
  close(person.theta[1], -0.125);
});

test("without penalties, too few ratings have no solution, rather than a wild one", () => {
  const free = engine.decode(file({ reg: 0, bias_reg: 0 }));
  assert.throws(() => engine.foldIn(free, [[0, 5]]), /no unique solution/);
  assert.throws(() => engine.foldIn(free, []), /no unique solution/);
  assert.ok(Number.isFinite(engine.foldIn(free, [[0, 5], [3, 1]]).theta[0]));
});

test("weighted penalties count in ratings", () => {
  const heavy = engine.foldIn(engine.decode(file({ weighted: true })), [[0, 5], [3, 1]]);
  close(heavy.theta[0], 3.5 / 4);
  close(heavy.theta[1], -0.5 / 6);
});

test("without ratings a person is the average", () => {
  assert.deepEqual(Array.from(engine.foldIn(toy, []).theta), [0, 0]);
});

test("scores and explanations add up", () => {
  const scores = engine.scores(toy, person);
  close(scores[1], 3.5 - 0.125 + 0.5 + 3.5 / 3);
  for (let film = 0; film < toy.n; film++) {
    const { baseline, parts } = engine.explain(toy, person, film);
    close(baseline + parts.reduce((sum, part) => sum + part.contribution, 0), scores[film]);
    assert.ok(Math.abs(parts[0].contribution) >= Math.abs(parts[1].contribution));
  }
  // For Brazil: x = (1, 1), A^-1 x = (1/3, 1/4), weights 7/12 and -1/12, times targets 1.5 and -2.
  assert.deepEqual(engine.explain(toy, person, 1).parts.map((part) => [part.film, part.value]), [[0, 5], [3, 1]]);
  close(engine.explain(toy, person, 1).parts[1].contribution, 2 / 12);
});

// Likes of one factor 1, 1, 1, -1, -1, weight 0.5: Q'Q = 5. Alien liked, from 4 on: (0.5 * 5 + 1 + 0.1 * (1 + 0.5 * 5)) p
// = 1.5, so p = 1.5 / 3.85, and the whole score of Carrie comes from Alien.
const likes = {
  factors: 1, steps: [0.5], films: pack("int16", [2, 2, 2, -2, -2]), liked_by: pack("uint8", [4, 9, 0, 1, 2]),
  threshold: 4, weight: 0.5, reg: 0.1, exponent: 1,
};
const liking = engine.decode(file({ likes }));

test("likes, by hand", () => {
  const me = engine.likeIn(liking, [[0, 5], [3, 1]]);
  close(me.theta[0], 1.5 / 3.85);
  assert.deepEqual(Array.from(engine.scores(liking, me), (s) => Math.sign(s)), [1, 1, 1, -1, -1]);
  const { baseline, parts } = engine.explain(liking, me, 2);
  assert.deepEqual([baseline, parts.length, parts[0].film, parts[0].value], [0, 1, 0, 5]);
  close(parts[0].contribution, 1.5 / 3.85);
});

test("without a like the list is what most people like", () => {
  const me = engine.likeIn(liking, [[3, 1]]);
  assert.deepEqual(Array.from(engine.scores(liking, me)), [4, 9, 0, 1, 2]);
  assert.deepEqual(engine.explain(liking, me, 1), { baseline: 0, parts: [] });
});

test("without a threshold every rating is a like", () => {
  const all = engine.decode(file({ likes: { ...likes, threshold: null } }));
  assert.equal(engine.likeIn(all, [[0, 5], [3, 0.5]]).films.length, 2);
});

test("damaged likes are refused", () => {
  assert.throws(() => engine.decode(file({ likes: { ...likes, films: pack("int16", [2]) } })), /likes are incomplete/);
  assert.throws(() => engine.decode(file({ likes: { ...likes, weight: null } })), /number in its likes/);
  assert.equal(toy.likes, null);
});

// Asked about are Brazil and Elf, the most rated; 0.1 more of the people know Brazil.
const knowing = { factors: 1, mean: 0.5, reg: 1, bias_reg: 1, steps: [0, 0.1], films: pack("int16", [0, 1, 0, 0]) };

test("questions go to the films in the file, the ones not seen left out", () => {
  const model = engine.decode(file({ noise: 0.8, knowing, prior: [1, 0, 2] }));
  assert.deepEqual(engine.ask(model, { n: 9 }).sort(), [1, 4]);
  assert.deepEqual(engine.ask(model, { unseen: [1], n: 9 }), [4]);
  assert.deepEqual(engine.ask(model, { rated: [1, 4] }), []);
  assert.deepEqual(engine.ask(toy, { n: 9 }).length, 5);
});

test("a deviation, by hand", () => {
  // Of nobody: A is diag(1, 2), so 1 + x' A^-1 x = 1 + 1 + 1 / 2.
  const model = engine.decode(file({ noise: 2 }));
  close(engine.deviation(model, engine.foldIn(model, []), 0), 2 * Math.sqrt(2.5));
  assert.equal(toy.noise, null);
});

test("questions that are damaged are refused", () => {
  assert.throws(() => engine.decode(file({ prior: [1, 0] })), /prior is damaged/);
  assert.throws(() => engine.decode(file({ prior: [1, 0, null] })), /prior is damaged/);
  assert.throws(() => engine.decode(file({ knowing: { ...knowing, mean: null } })), /number in its model of what people know/);
  assert.throws(() => engine.decode(file({ knowing: { ...knowing, films: pack("int16", [1, 2, 3]) } })), /know is incomplete/);
});

test("the choice of a model is kept where there is one", () => {
  const text = engine.keep(liking, new Map(), new Set([1]), new Set(), "ratings");
  assert.equal(engine.readKept(text, liking).by, "ratings");
  assert.equal(engine.readKept(text, toy).by, null);
  assert.equal(engine.readKept(text.replace('"ratings","r', '"x","r'), liking).by, null);
});

test("recommend: order, ties, filters", () => {
  const films = (options) => engine.recommend(toy, person, options).map(({ film }) => film);
  assert.deepEqual(films({}), [1, 0, 2, 4, 3]); // Alien and Carrie tie, the smaller code first
  assert.deepEqual(films({ n: 2 }), [1, 0]);
  assert.deepEqual(films({ exclude: (film) => film < 2 }), [2, 4, 3]);
  assert.deepEqual(films({ genre: 0 }), [1, 4]);
  assert.deepEqual(films({ skip: 2 }), [0, 2, 3]);
  assert.deepEqual(films({ atLeast: 30 }), [1, 4]);
  assert.deepEqual(films({ genre: 0, skip: 5 }), []);
});

test("similar films", () => {
  assert.deepEqual(engine.similar(toy, 0, 9, 1).map(({ film, score }) => [film, score]), [[1, 1], [2, 1], [3, -1], [4, -1]]);
  assert.deepEqual(engine.similar(toy, 0, 9, 20).map(({ film }) => film), [1, 4]);
  assert.deepEqual(engine.similar(titled(["A", "B"]), 0), []); // no direction, no neighbors
});

// ---- search ----------------------------------------------------------------------------------------------

const shelf = [
  "Matrix, The", "Shawshank Redemption, The", "Amelie (Fabuleux destin d'Amélie Poulain, Le)", "Star Wars: Episode IV",
  "WALL·E", "Spider-Man 2", "Godfather, The", "Godfather: Part II, The", "L.A. Confidential", "Schindler's List",
];
const wanted = {
  "the matrix": "Matrix, The", "matrix the": "Matrix, The", "MATIRX": "Matrix, The", "matr": "Matrix, The",
  "shawshenk redemtion": "Shawshank Redemption, The", "redemption shawshank": "Shawshank Redemption, The",
  "amelie": "Amelie (Fabuleux destin d'Amélie Poulain, Le)", "Amélie": "Amelie (Fabuleux destin d'Amélie Poulain, Le)",
  "fabuleux destin d’amelie": "Amelie (Fabuleux destin d'Amélie Poulain, Le)",
  "starwars": "Star Wars: Episode IV", "star wars 4": "Star Wars: Episode IV",
  "wall-e": "WALL·E", "walle": "WALL·E", "spiderman": "Spider-Man 2", "spider man": "Spider-Man 2",
  "godfather": "Godfather, The", "godfather 2": "Godfather: Part II, The",
  "la confidential": "L.A. Confidential", "schindlers list": "Schindler's List", "schindler": "Schindler's List",
};
for (const [query, title] of Object.entries(wanted)) {
  test(`search: ${query}`, () => assert.equal(find(shelf, query)[0], title));
}

test("search finds every film of the book by its title, and nearly every one in spite of a slip", () => {
  const window = {};
  new Function("window", fs.readFileSync(path.join(root, "book", "_static", "try_it", "model.js"), "utf8"))(window);
  const model = engine.decode(window.TRY_IT_MODEL);
  const search = engine.searcher(model);
  const lost = model.titles.filter((title, film) => !search(title).includes(film));
  assert.deepEqual(lost, []);
  // Two letters swapped in the longest word, for the better known films.
  const missed = Array.from(model.order.slice(0, 400)).filter((film, n) => {
    const title = engine.words(model.titles[film]);
    const longest = title.reduce((a, b) => (b.length > a.length ? b : a));
    const at = 1 + (n % (longest.length - 2 || 1));
    const slip = longest.slice(0, at) + (longest[at + 1] || "") + longest[at] + longest.slice(at + 2);
    return longest.length > 4 && !search(title.join(" ").replace(longest, slip)).includes(film);
  });
  assert.ok(missed.length < 8, missed.map((film) => model.titles[film]).join("; "));
});

test("search finds nothing for nothing, and survives odd queries", () => {
  for (const query of ["", "   ", "?!", "xqzzwvk", "\u0000", "[", "constructor", "__proto__"]) {
    assert.deepEqual(find(shelf, query), [], query);
  }
  assert.ok(find(shelf, "the").length); // an article alone is a word
  assert.doesNotThrow(() => find(shelf, "long ".repeat(5000)));
});

test("the better known film comes first, an exact word before both", () => {
  assert.equal(find(["Alien Nation", "Alien Abduction"], "alien", [5, 500])[0], "Alien Abduction");
  assert.equal(find(["Aliens", "Alien"], "alien", [20, 20])[0], "Alien");
});

test("distance to a beginning, by hand", () => {
  for (const [token, word, edits] of [
    ["matrix", "matrix", 0], ["matr", "matrix", 0], ["matirx", "matrix", 1], ["mtrix", "matrix", 1],
    ["maatrix", "matrix", 1], ["mabrix", "matrix", 1], ["abc", "xyz", 2], ["", "word", 0],
  ]) assert.equal(engine.prefixDistance(token, word, 1), edits, `${token} ${word}`);
});

// ---- storage ------------------------------------------------------------------------------------------------

test("what is kept comes back", () => {
  const ratings = new Map([[3, { value: 1.5, time: 7 }], [0, { value: 5, time: 8 }]]);
  const text = engine.keep(toy, ratings, new Set([2]), new Set([1, 4]));
  const back = engine.readKept(text, toy);
  assert.deepEqual(back, { ratings, hidden: new Set([2]), unseen: new Set([1, 4]), by: null, dropped: 0, unreadable: false });
  assert.deepEqual(engine.readKept(null, toy).ratings, new Map());
});

for (const text of ["", "{", "null", "[]", "7", '"text"', "{}", '{"version":2,"ratings":[],"hidden":[]}',
  '{"version":1,"ratings":{},"hidden":[]}', '{"version":1,"ratings":[]}']) {
  test(`unreadable: ${text}`, () => {
    const kept = engine.readKept(text, toy);
    assert.equal(kept.unreadable, true);
    assert.equal(kept.ratings.size + kept.hidden.size, 0);
  });
}

test("entries that make no sense are left out one by one", () => {
  const ratings = [
    [10, 4.5, 1], [10, 3, 2], [11, 9, 1], [11, 0, 1], [11, 2.7, 1], [11, "5", 1], [11, null, 1], [999, 4, 1],
    ["10", 4, 1], [12, 4, -1], [12, 4, 1.5], [12, 4], [12, 4, 1e300], null, 7, {}, [], ["<img src=x>", 4, 1], [313, 0.5, 0],
  ];
  const kept = engine.readKept(JSON.stringify({ version: 1, ratings, hidden: [11, 999, "11", null, [11]] }), toy);
  assert.deepEqual(Array.from(kept.ratings), [[0, { value: 4.5, time: 1 }], [4, { value: 0.5, time: 0 }]]);
  assert.deepEqual(Array.from(kept.hidden), [1]);
  assert.equal(kept.dropped, 21);
});

test("a flood of entries is cut", () => {
  const hidden = new Array(50000).fill(10);
  const kept = engine.readKept(JSON.stringify({ version: 1, ratings: [], hidden }), toy);
  assert.equal(kept.dropped, 30000);
});

// ---- other ids, other scales --------------------------------------------------------------------------------

const books = engine.decode(file({
  item_ids: ["0123", "123", 'a "b", c', "18446744073709551615", "x\ny"], columns: ["User-ID", "ISBN"], reader: "me",
  scale: [1, 10], step: 1,
}));

test("ids of text stay apart, in what is kept and in the table", () => {
  const ratings = new Map([[0, { value: 7, time: 1 }], [2, { value: 10, time: 2 }], [3, { value: 1, time: 3 }]]);
  assert.deepEqual(engine.readKept(engine.keep(books, ratings, new Set([1, 4]), new Set()), books).ratings, ratings);
  const text = JSON.stringify({ version: 1, ratings: [[123, 7, 1], ["123", 7.5, 1], ["123", 11, 1]], hidden: [123, "123"] });
  const kept = engine.readKept(text, books);
  assert.deepEqual([kept.ratings.size, Array.from(kept.hidden), kept.dropped], [0, [1], 4]);
  assert.equal(
    engine.toCsv(books, ratings),
    'User-ID,ISBN,rating,timestamp\nme,0123,7,1\nme,"a ""b"", c",10,2\nme,18446744073709551615,1,3\n'
  );
});

for (const [low, high, step, kind, count, digits, decimals] of [
  [0.5, 5, 0.5, "stars", 10, 2, 1], [1, 5, 1, "stars", 5, 2, 0], [1, 5, 0.5, "stars", 9, 2, 1],
  [0, 5, 1, "buttons", 6, 2, 0], [1, 10, 1, "buttons", 10, 2, 0], [0, 10, 1, "buttons", 11, 2, 0],
  [0, 1, 1, "thumbs", 2, 3, 0], [-1, 1, 2, "thumbs", 2, 3, 0], [-1, 1, 1, "buttons", 3, 3, 0],
  [0, 100, 1, "slider", 0, 1, 0], [-10, 10, 0.01, "slider", 0, 2, 1], [-10, 10, null, "slider", 0, 2, 1],
  [0, 1, null, "slider", 0, 3, 2], [1, 10, 0.5, "slider", 0, 2, 1], [0, 1e6, null, "slider", 0, 0, 0],
]) {
  test(`scale from ${low} to ${high} in steps of ${step}`, () => {
    const scale = engine.ratingScale(low, high, step);
    assert.deepEqual([scale.kind, scale.values.length, scale.digits, scale.decimals], [kind, count, digits, decimals]);
    assert.ok((high - low) / scale.grid <= 400 && (high - low) / scale.grid >= 1);
    assert.ok(scale.values.every((value) => engine.isRating(scale, value)));
    assert.equal(scale.values.at(-1) ?? high, high);
    assert.ok(engine.isRating(scale, low) && engine.isRating(scale, high));
    for (const wrong of [low - 1, high + 1, NaN, "1", null, undefined]) assert.ok(!engine.isRating(scale, wrong));
    assert.equal(engine.isRating(scale, low + (step || 1) * 0.3), step === null);
  });
}

test("csv", () => {
  const ratings = new Map([[3, { value: 1.5, time: 7 }], [0, { value: 5, time: 8 }]]);
  assert.equal(engine.toCsv(toy, ratings), "userId,movieId,rating,timestamp\n0,312,1.5,7\n0,10,5,8\n");
});
