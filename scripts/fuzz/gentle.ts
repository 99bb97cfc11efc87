/**
 * Changes of JSON that a reader often accepts: a value for another value of the same place in some seed, a word for another
 * word of the same place in a sentence, a number near by, elements in another order, twice, or fewer. Not every result is
 * valid; json.ts has the changes that hardly ever are.
 */
import { Members, Raw, replacedAt, sizeOf, type Tree, textOf } from "./json.ts";
import type { Random } from "./random.ts";

/** Members whose own members have names that the file's author chose; and whose members' members have, too. */
const OPEN: ReadonlySet<string> = new Set(["actors", "bystanders", "counters", "events", "defects"]);
const OPEN_TWICE: ReadonlySet<string> = new Set(["accesses", "host", "accessMs", "rows", "each"]);

/** Where in a file a value is, without indices and the author's names: `*.steps[]`. The last two members tell enough. */
type Path = readonly string[];

function below(path: Path, name: string): Path {
  const [inner = "", outer = ""] = path.slice(-2).reverse();
  const isOpen = OPEN.has(inner) || OPEN_TWICE.has(inner) || (inner === "*" && OPEN_TWICE.has(outer));
  return [...path, isOpen ? "*" : name];
}

function elementOf(path: Path): Path {
  return [...path.slice(0, -1), `${path.at(-1) ?? ""}[]`];
}

const placeOf = (path: Path): string => path.slice(-2).join(".");

function visit(tree: Tree, path: Path, see: (tree: Tree, place: string) => void): void {
  see(tree, placeOf(path));
  if (Array.isArray(tree)) for (const one of tree) visit(one, elementOf(path), see);
  else if (tree instanceof Members) for (const [name, one] of tree.list) visit(one, below(path, name), see);
}

/** Of a seed's place so many values are kept. */
const VALUES_MAX = 200;
const VALUE_LENGTH_MAX = 400;

/** By place: the values that stand there in the seeds, each once. */
export type Grammar = ReadonlyMap<string, readonly Tree[]>;

export function grammarOf(seeds: readonly Tree[]): Grammar {
  const found = new Map<string, Map<string, Tree>>();
  for (const seed of seeds) {
    visit(seed, [], (tree, place) => {
      const values = found.get(place) ?? new Map<string, Tree>();
      found.set(place, values);
      if (values.size >= VALUES_MAX) return;
      const text = textOf(tree);
      if (text.length <= VALUE_LENGTH_MAX) values.set(text, tree);
    });
  }
  return new Map([...found].map(([place, values]) => [place, [...values.values()]]));
}

const placeholdersIn = (text: string): string => (text.match(/\{[^}]*\}/g) ?? []).join(" ");

/** A word of the sentence becomes the word that stands there in another sentence that begins alike. */
function swappedWord(random: Random, text: string, others: readonly Tree[]): string {
  const words = text.split(" ");
  const alike = others.filter((other): other is string => {
    if (typeof other !== "string" || other === text) return false;
    const parts = other.split(" ");
    return parts.length === words.length && (parts[0] === words[0] || words.length === 1);
  });
  if (alike.length === 0) return text;
  const other = random.pick(alike).split(" ");
  const at = random.below(words.length);
  return words.map((word, index) => (index === at ? (other[index] ?? word) : word)).join(" ");
}

function otherText(random: Random, text: string, others: readonly Tree[]): string {
  // A placeholder means something in its own file only.
  const fitting = others.filter((other) => {
    return typeof other === "string" && placeholdersIn(other) === placeholdersIn(text);
  });
  if (random.oneIn(2)) return swappedWord(random, text, fitting);
  const texts = fitting.filter((other): other is string => typeof other === "string");
  return texts.length === 0 ? text : random.pick(texts);
}

function otherNumber(random: Random, value: number, others: readonly Tree[]): number {
  const numbers = others.filter((other): other is number => typeof other === "number");
  if (random.oneIn(2) && numbers.length > 0) return random.pick(numbers);
  return random.pick([value + 1, Math.max(0, value - 1), value * 2, 0, 1]);
}

function shuffled<Item>(random: Random, list: readonly Item[]): readonly Item[] {
  const left = [...list];
  return list.map(() => left.splice(random.below(left.length), 1)[0] as Item);
}

function otherList(random: Random, list: readonly Tree[], others: readonly Tree[]): Tree {
  const at = random.below(Math.max(1, list.length));
  switch (random.below(5)) {
    case 0:
      return list.length > 1 ? list.filter((_, index) => index !== at) : list;
    case 1:
      return [...list.slice(0, at + 1), ...list.slice(at)];
    case 2:
      return shuffled(random, list);
    case 3: {
      const lists = others.filter((other): other is readonly Tree[] => Array.isArray(other));
      return lists.length === 0 ? list : random.pick(lists);
    }
    default: {
      const other = random.pick([...others, list]);
      const more = Array.isArray(other) && other.length > 0 ? [random.pick<Tree>(other)] : [];
      return [...list, ...more];
    }
  }
}

function otherMembers(random: Random, { list }: Members, others: readonly Tree[]): Tree {
  const other = random.oneIn(4) ? random.pick<Tree>([...others, null]) : null;
  if (!(other instanceof Members)) return new Members(shuffled(random, list));
  const names = new Set(list.map(([name]) => name));
  return new Members([...list, ...other.list.filter(([name]) => !names.has(name)).slice(0, 1)]);
}

function otherValue(random: Random, tree: Tree, others: readonly Tree[]): Tree {
  if (tree instanceof Raw) return tree;
  if (Array.isArray(tree)) return otherList(random, tree, others);
  if (tree instanceof Members) return otherMembers(random, tree, others);
  switch (typeof tree) {
    case "string":
      return otherText(random, tree, others);
    case "number":
      return otherNumber(random, tree, others);
    case "boolean":
      return !tree;
    default:
      return others.length === 0 ? tree : random.pick(others);
  }
}

/** The tree with one change or a few that may well be valid. */
export function gentlyMutated(random: Random, tree: Tree, grammar: Grammar): Tree {
  let changed = tree;
  do {
    const place = random.below(sizeOf(changed));
    const places: string[] = [];
    visit(changed, [], (_one, name) => places.push(name));
    const others = grammar.get(places[place] ?? "") ?? [];
    changed = replacedAt(changed, place, (one) => otherValue(random, one, others));
  } while (random.oneIn(3));
  return changed;
}
