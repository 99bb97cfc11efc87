/**
 * The folder in which one input is carried out, and what must be left of it. `case/` is the working directory with the
 * input's files; `tmp/` is TMPDIR; `outside/` stands for the rest of the machine. Nothing but named outputs may change.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { FuzzEntry } from "./input.ts";

const ENTRIES_MAX = 2000;
const SECRET = '{ "id": "secret" }\n';

/** By path, relative to the folder: what is there. Links are not followed. */
export type Listing = ReadonlyMap<string, string>;

export class Place {
  readonly root: string;
  readonly folder: string;
  readonly temporary: string;
  readonly #outside: string;
  /** What the input has put down: by path the entry, in the order in which it was put down. */
  #placed: ReadonlyMap<string, FuzzEntry> = new Map();

  constructor(root: string) {
    this.root = root;
    this.folder = join(root, "case");
    this.temporary = join(root, "tmp");
    this.#outside = join(root, "outside");
    for (const folder of [this.folder, this.temporary, this.#outside]) mkdirSync(folder, { recursive: true });
    this.#restore();
  }

  #restore(): void {
    writeFileSync(join(this.#outside, "secret.json"), SECRET);
  }

  /** One FIFO, made once, has as many names as are wanted. */
  #fifo(path: string): void {
    const first = join(this.root, "fifo");
    if (!existsSync(first)) execFileSync("mkfifo", [first]);
    linkSync(first, path);
  }

  /** Puts the input's files into an empty folder. */
  fill(entries: readonly FuzzEntry[]): void {
    for (const name of readdirSync(this.folder))
      rmSync(join(this.folder, name), { recursive: true, force: true });
    const placed = new Map<string, FuzzEntry>();
    this.#placed = placed;
    for (const entry of entries) {
      const path = join(this.folder, entry.path);
      if (entry.path.includes("/")) mkdirSync(dirname(path), { recursive: true });
      if (existsSync(path)) continue;
      placed.set(entry.path, entry);
      switch (entry.kind) {
        case "file":
          writeFileSync(path, Buffer.from(entry.base64, "base64"));
          break;
        case "link":
          symlinkSync(entry.to, path);
          break;
        case "folder":
          mkdirSync(path);
          break;
        case "fifo":
          this.#fifo(path);
          break;
      }
    }
  }

  /** Everything below the root, as it is right after `fill`: nothing is read for it. */
  expected(): Listing {
    const found = new Map<string, string>([["outside/secret.json", digest(SECRET)]]);
    for (const [path, entry] of this.#placed) {
      const steps = path.split("/").slice(0, -1);
      for (const end of steps.keys()) found.set(`case/${steps.slice(0, end + 1).join("/")}`, "folder");
      found.set(`case/${path}`, whatOf(entry));
    }
    return found;
  }

  /**
   * Is there a name in the working directory that was not put there, or one too few? Costs one call: what was written by
   * ways that `write-watch.ts` does not see is missed below that, until the next whole listing.
   */
  isOtherwise(): boolean {
    const names = new Set([...this.#placed.keys()].map((path) => path.split("/")[0]));
    const present = readdirSync(this.folder);
    return present.length !== names.size || !present.every((name) => names.has(name));
  }

  /** Everything below the root. */
  listing(): Listing {
    const found = new Map<string, string>();
    const visit = (path: string): void => {
      for (const name of readdirSync(join(this.root, path))) {
        if (found.size >= ENTRIES_MAX) return;
        const one = path === "" ? name : `${path}/${name}`;
        const status = lstatSync(join(this.root, one));
        if (status.isDirectory()) {
          found.set(one, "folder");
          visit(one);
        } else if (status.isSymbolicLink()) found.set(one, `link to ${readlinkSync(join(this.root, one))}`);
        else if (status.isFile()) found.set(one, digest(readFileSync(join(this.root, one))));
        else found.set(one, "special");
      }
    };
    for (const name of ["case", "tmp", "outside"]) visit(name);
    return found;
  }

  /** Takes away what an input left where nothing may be left, so that the next one is not blamed. */
  clean(): void {
    for (const folder of [this.temporary, this.#outside]) {
      chmodSync(folder, 0o700);
      for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true });
    }
    this.#restore();
  }
}

function digest(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

function whatOf(entry: FuzzEntry): string {
  switch (entry.kind) {
    case "file":
      return digest(Buffer.from(entry.base64, "base64"));
    case "link":
      return `link to ${entry.to}`;
    case "folder":
      return "folder";
    case "fifo":
      return "special";
  }
}

export type Wanted = {
  /** Relative to the working directory. */
  readonly outputs: readonly string[];
  /** 64: nothing was done, so nothing may have changed. */
  readonly isRefused: boolean;
};

/** What is otherwise than before, and may not be; each one sentence. */
export function changeProblems(
  before: Listing,
  after: Listing,
  { outputs, isRefused }: Wanted,
): readonly string[] {
  const isOutput = (path: string): boolean =>
    !isRefused && outputs.some((output) => path === `case/${output}` || path.startsWith(`case/${output}/`));
  const problems: string[] = [];
  for (const [path, what] of after) {
    const earlier = before.get(path);
    if (earlier === what || isOutput(path)) continue;
    problems.push(earlier === undefined ? `${path} was written (${what})` : `${path} was changed`);
  }
  for (const path of before.keys()) {
    if (!after.has(path) && !isOutput(path)) problems.push(`${path} was taken away`);
  }
  return problems;
}
