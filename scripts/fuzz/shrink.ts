/** Makes an input smaller that breaks a promise, as long as it breaks the same: files, lines, members, bytes, words. */
import { type FuzzInput, fileEntry } from "./input.ts";
import { Members, type Tree, textOf, treeOf } from "./json.ts";

/** Does the smaller input break the same promise? */
export type Breaks = (input: FuzzInput) => Promise<boolean>;

const TRIES_MAX = 250;

/** What makes two findings the same: the sentence without figures, names and quotations. */
export function signatureOf(problem: string): string {
  const frame = /\n\s+at ([^\n]*)/.exec(problem)?.[1] ?? "";
  const head = problem.split("\n")[0] ?? "";
  return `${head} ${frame}`
    .replaceAll(/"(?:[^"\\]|\\.)*"?/g, "..")
    .replaceAll(/\?\d+/g, "")
    .replaceAll(/\d+(?:\.\d+)?/g, "N")
    .slice(0, 160);
}

class Shrinker {
  readonly #breaks: Breaks;
  input: FuzzInput;
  #tries = 0;

  constructor(input: FuzzInput, breaks: Breaks) {
    this.input = input;
    this.#breaks = breaks;
  }

  async accept(smaller: FuzzInput): Promise<boolean> {
    if (this.#tries >= TRIES_MAX) return false;
    this.#tries += 1;
    const isSame = await this.#breaks(smaller);
    if (isSame) this.input = smaller;
    return isSame;
  }

  /** Takes parts away, large ones first. */
  async reduce<Part>(
    parts: readonly Part[],
    make: (parts: readonly Part[]) => FuzzInput,
  ): Promise<readonly Part[]> {
    let left = parts;
    for (let size = Math.ceil(left.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < left.length; ) {
        const without = [...left.slice(0, at), ...left.slice(at + size)];
        if (await this.accept(make(without))) left = without;
        else at += size;
      }
      if (size <= 1) break;
    }
    return left;
  }
}

function withFile(input: FuzzInput, path: string, text: string): FuzzInput {
  return {
    ...input,
    entries: input.entries.map((entry) => (entry.path === path ? fileEntry(path, text) : entry)),
  };
}

/** The trees that are one step smaller: an element or member less, or one of them in its place. */
function* smallerTrees(tree: Tree): Generator<Tree> {
  if (Array.isArray(tree)) {
    for (const [index, one] of tree.entries()) {
      yield tree.filter((_, other) => other !== index);
      for (const smaller of smallerTrees(one))
        yield tree.map((each, other) => (other === index ? smaller : each));
    }
  } else if (tree instanceof Members) {
    for (const [index, [name, value]] of tree.list.entries()) {
      yield new Members(tree.list.filter((_, other) => other !== index));
      for (const smaller of smallerTrees(value)) {
        yield new Members(tree.list.map((member, other) => (other === index ? [name, smaller] : member)));
      }
    }
  }
}

async function shrinkTree(shrinker: Shrinker, path: string, text: string): Promise<boolean> {
  let tree: Tree;
  try {
    tree = treeOf(JSON.parse(text));
  } catch {
    return false;
  }
  for (let isSmaller = true; isSmaller; ) {
    isSmaller = false;
    for (const smaller of smallerTrees(tree)) {
      if (!(await shrinker.accept(withFile(shrinker.input, path, textOf(smaller))))) continue;
      tree = smaller;
      isSmaller = true;
      break;
    }
  }
  return true;
}

async function shrinkFile(shrinker: Shrinker, path: string, text: string): Promise<void> {
  const make = (separator: string) => (parts: readonly string[]) =>
    withFile(shrinker.input, path, parts.join(separator));
  const lines = await shrinker.reduce(text.split("\n"), make("\n"));
  const now = lines.join("\n");
  if (await shrinkTree(shrinker, path, now)) return;
  await shrinker.reduce(now.split(/(?<=[,{}[\]])/), make(""));
}

/** At most TRIES_MAX tries. */
export async function shrink(input: FuzzInput, breaks: Breaks): Promise<FuzzInput> {
  const shrinker = new Shrinker(input, breaks);
  await shrinker.reduce(input.entries, (entries) => ({ ...shrinker.input, entries }));
  for (const entry of shrinker.input.entries) {
    if (entry.kind === "file") {
      await shrinkFile(shrinker, entry.path, Buffer.from(entry.base64, "base64").toString("utf8"));
    }
  }
  if (input.call.kind === "command") {
    await shrinker.reduce(input.call.argv, (argv) => ({ ...shrinker.input, call: { ...input.call, argv } }));
  }
  return shrinker.input;
}
