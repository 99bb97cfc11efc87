/**
 * Changes of JSON by its grammar: types, words, names, numbers, repetition, depth. What JSON cannot say itself (a member
 * twice, a number that is none, depth beyond any stack) is a `Raw` in the tree: text that is written as it is.
 */
import { hostileNumbers, hostileText, hostileTexts } from "./hostile.ts";
import type { Random } from "./random.ts";

/** Text in place of a value. */
export class Raw {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** An object whose members may have the same name. */
export class Members {
  readonly list: readonly (readonly [name: string, value: Tree])[];

  constructor(list: readonly (readonly [name: string, value: Tree])[]) {
    this.list = list;
  }
}

export type Tree = null | boolean | number | string | Raw | Members | readonly Tree[];

/** What JSON.parse returns, as a tree. */
export function treeOf(value: unknown): Tree {
  if (Array.isArray(value)) return value.map(treeOf);
  if (typeof value === "object" && value !== null) {
    return new Members(Object.entries(value).map(([name, one]) => [name, treeOf(one)]));
  }
  return value as Tree;
}

export function textOf(tree: Tree): string {
  if (tree instanceof Raw) return tree.text;
  if (tree instanceof Members) {
    return `{${tree.list.map(([name, value]) => `${JSON.stringify(name)}: ${textOf(value)}`).join(", ")}}`;
  }
  if (Array.isArray(tree)) return `[${tree.map(textOf).join(", ")}]`;
  return JSON.stringify(tree);
}

/** How many places the tree has: itself, and each value in it. */
export function sizeOf(tree: Tree): number {
  if (Array.isArray(tree)) return tree.reduce((sum: number, one: Tree) => sum + sizeOf(one), 1);
  if (tree instanceof Members) return tree.list.reduce((sum, [, one]) => sum + sizeOf(one), 1);
  return 1;
}

/** The tree with the value at a place (counted in the order of the text) replaced. */
export function replacedAt(tree: Tree, place: number, change: (one: Tree) => Tree): Tree {
  if (place === 0) return change(tree);
  let left = place - 1;
  const step = (one: Tree): Tree => {
    const size = left < 0 ? 0 : sizeOf(one);
    const here = left >= 0 && left < size ? replacedAt(one, left, change) : one;
    left -= size;
    return here;
  };
  if (Array.isArray(tree)) return tree.map(step);
  if (tree instanceof Members) return new Members(tree.list.map(([name, one]) => [name, step(one)]));
  return tree;
}

/** Words and subtrees of all seeds: what stands in one file is a plausible mistake in another. */
export type Dictionary = { readonly words: readonly string[]; readonly trees: readonly Tree[] };

export function dictionaryOf(values: readonly unknown[]): Dictionary {
  const words = new Set<string>();
  const trees: Tree[] = [];
  const visit = (value: unknown): void => {
    if (typeof value === "string" && value.length < 200) words.add(value);
    if (typeof value !== "object" || value === null) return;
    if (trees.length < 2000) trees.push(treeOf(value));
    for (const [name, one] of Object.entries(value)) {
      if (!Array.isArray(value)) words.add(name);
      visit(one);
    }
  };
  for (const value of values) visit(value);
  return { words: [...words], trees };
}

/** A word, nearly right. */
function misspelt(random: Random, word: string): string {
  const at = random.below(word.length + 1);
  switch (random.below(4)) {
    case 0:
      return word.slice(0, at) + word.slice(at + 1);
    case 1:
      return `${word.slice(0, at)}${random.pick(["x", "-", " ", ".", "#", "1", "\u00df"])}${word.slice(at)}`;
    case 2:
      return word.toUpperCase();
    default:
      return word.repeat(2);
  }
}

export function mutatedText(random: Random, text: string, { words }: Dictionary): string {
  const parts = text.split(" ");
  const at = random.below(parts.length);
  const put = (word: string): string => parts.map((part, index) => (index === at ? word : part)).join(" ");
  switch (random.below(8)) {
    case 0:
      return hostileText(random);
    case 1:
      return put(hostileText(random));
    case 2:
      return put(random.pick(hostileNumbers));
    case 3:
      return put(random.pick(words));
    case 4:
      return random.pick(words);
    case 5:
      return put(misspelt(random, parts[at] ?? ""));
    case 6:
      return text + random.pick(hostileTexts);
    default:
      return [...parts, ...parts].join(" ");
  }
}

const REPEATS: readonly number[] = [2, 3, 17, 65, 105, 257, 3000];
const DEPTHS: readonly number[] = [2, 8, 31, 32, 33, 100, 20_000];
const NAMES: readonly string[] = [
  "__proto__",
  "constructor",
  "toString",
  "",
  "unknown",
  "0",
  "-1",
  "id",
  "type",
];

/** As large as a file may be, nearly. */
const FILLED_BYTES = 250 * 1024;

/** An element or a member again and again, until the limit of the file's size is near: what is not linear is seen then. */
function filled(random: Random, tree: Tree): Tree {
  if (Array.isArray(tree)) {
    const one: Tree = random.pick([...tree, 0]);
    return Array.from({ length: Math.floor(FILLED_BYTES / (textOf(one).length + 2)) }, () => one);
  }
  if (!(tree instanceof Members)) return "w".repeat(FILLED_BYTES);
  const [name, value] = random.pick([...tree.list, ["a", 0] as const]);
  const isSame = random.oneIn(2);
  const many = Math.floor(FILLED_BYTES / (textOf(value).length + name.length + 12));
  return new Members([
    ...tree.list,
    ...Array.from({ length: many }, (_, index) => [isSame ? name : `${name}${index}`, value] as const),
  ]);
}

function nested(random: Random, tree: Tree): Raw {
  const depth = random.pick(DEPTHS);
  const [open, close] = random.pick([
    ["[", "]"],
    ['{"a":', "}"],
    ['[{"a":', "}]"],
  ] as const);
  const isCut = random.oneIn(4);
  return new Raw(open.repeat(depth) + textOf(tree) + (isCut ? "" : close.repeat(depth)));
}

function scalar(random: Random): Tree {
  switch (random.below(5)) {
    case 0:
      return null;
    case 1:
      return random.oneIn(2);
    case 2:
      return new Raw(random.pick(hostileNumbers));
    case 3:
      return random.pick([[], new Members([])]);
    default:
      return random.pick(hostileTexts);
  }
}

function mutatedMembers(random: Random, { list }: Members, dictionary: Dictionary): Tree {
  const at = random.below(list.length + 1);
  const [name = "id", value = null] = list[at] ?? [];
  const without = list.filter((_, index) => index !== at);
  const renamed = (to: string): Members =>
    new Members(list.map((member, index) => (index === at ? [to, member[1]] : member)));
  switch (random.below(7)) {
    case 0:
      return new Members(without);
    case 1:
      return new Members([...list, [name, value]]);
    case 2:
      return new Members([...list, [name, scalar(random)]]);
    case 3:
      return renamed(misspelt(random, name));
    case 4:
      return renamed(random.oneIn(2) ? random.pick(NAMES) : random.pick(hostileTexts));
    case 5:
      return new Members([...list, [random.pick(dictionary.words), random.pick(dictionary.trees)]]);
    default: {
      const many = Math.min(random.pick(REPEATS), 300);
      const copies = Array.from({ length: many }, (_, index) => [`${name}-${index}`, value] as const);
      return new Members([...without, ...copies]);
    }
  }
}

function mutatedList(random: Random, list: readonly Tree[], dictionary: Dictionary): Tree {
  const at = random.below(list.length + 1);
  switch (random.below(5)) {
    case 0:
      return list.filter((_, index) => index !== at);
    case 1: {
      const one = list[at] ?? scalar(random);
      const many = Math.max(2, Math.min(random.pick(REPEATS), Math.floor(20_000 / textOf(one).length)));
      return [...list, ...Array.from({ length: many }, () => one)];
    }
    case 2:
      return [...list.slice(0, at), scalar(random), ...list.slice(at)];
    case 3:
      return [...list.slice(0, at), random.pick(dictionary.trees), ...list.slice(at)];
    default:
      return [...list].reverse();
  }
}

function mutatedValue(random: Random, tree: Tree, dictionary: Dictionary): Tree {
  if (random.oneIn(12)) return nested(random, tree);
  if (random.oneIn(60)) return filled(random, tree);
  if (random.oneIn(8)) return scalar(random);
  if (random.oneIn(12)) return random.pick(dictionary.trees);
  if (Array.isArray(tree)) return mutatedList(random, tree, dictionary);
  if (tree instanceof Members) return mutatedMembers(random, tree, dictionary);
  if (typeof tree === "string") return mutatedText(random, tree, dictionary);
  if (typeof tree === "number") return new Raw(random.pick(hostileNumbers));
  return scalar(random);
}

/** The tree with one to four changes, more often few. */
export function mutatedTree(random: Random, tree: Tree, dictionary: Dictionary): Tree {
  let changed = tree;
  do {
    const place = random.below(sizeOf(changed));
    changed = replacedAt(changed, place, (one) => mutatedValue(random, one, dictionary));
  } while (random.oneIn(3));
  return changed;
}

/** The tree with a text replaced wherever it stands, as a name too: ids stay consistent. */
export function renamedEverywhere(tree: Tree, from: string, to: string): Tree {
  if (tree === from) return to;
  if (Array.isArray(tree)) return tree.map((one: Tree) => renamedEverywhere(one, from, to));
  if (!(tree instanceof Members)) return tree;
  return new Members(
    tree.list.map(([name, one]) => [name === from ? to : name, renamedEverywhere(one, from, to)]),
  );
}

/** Every text in the tree, names of members left out. */
export function textsIn(tree: Tree): readonly string[] {
  if (typeof tree === "string") return [tree];
  if (Array.isArray(tree)) return tree.flatMap(textsIn);
  return tree instanceof Members ? tree.list.flatMap(([, one]) => textsIn(one)) : [];
}
