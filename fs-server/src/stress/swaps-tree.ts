/**
 * The source and what lies outside of it, for attempts to get from one to the other: outside has the names that the source
 * has, and some that the source has not. Its folder is open to all, but lies in one that only root may enter, so that a
 * client which follows a link itself ends there.
 */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

/** Content of every file outside. */
export const SECRET = "what lies outside of the source\n";

/** Names that exist outside only. */
export const VICTIMS = { file: "victim", folder: "victim-folder" } as const;

/** Folders of the source, and of what is outside. */
export const FOLDERS: readonly string[] = ["a", "b", "a/inner", "b/inner"];

/** A name in a folder of the source, which the host has open: it follows no link itself. */
type Name = { readonly folder: "." | "a" | "b" | "a/inner"; readonly name: string };

/** What the host exchanges. A folder may be a link at any time, so may each folder in it, and each file. */
export const EXCHANGES: readonly (readonly [Name, Name])[] = [
  [
    { folder: ".", name: "a" },
    { folder: ".", name: "a-link" },
  ],
  [
    { folder: ".", name: "b" },
    { folder: ".", name: "b-link" },
  ],
  [
    { folder: "a", name: "inner" },
    { folder: "a", name: "inner-link" },
  ],
  [
    { folder: "b", name: "inner" },
    { folder: "b", name: "inner-link" },
  ],
  [
    { folder: "a", name: "canary" },
    { folder: "a", name: "canary-link" },
  ],
  [
    { folder: "a/inner", name: "canary" },
    { folder: "a/inner", name: "canary-link" },
  ],
  // From one depth to another: what `..` would mean changes.
  [
    { folder: "a", name: "inner" },
    { folder: ".", name: "b" },
  ],
];

/** Files that nothing happens to: with few descriptors, looking at them closes those of others. */
export const MANY = 600;

function fill(folder: string, content: string): void {
  for (const name of FOLDERS) {
    mkdirSync(join(folder, name));
    chmodSync(join(folder, name), 0o777);
    writeFileSync(join(folder, name, "canary"), content);
    chmodSync(join(folder, name, "canary"), 0o666);
  }
}

/** Makes the tree outside and the source's; returns the folder outside. */
export function makeSwapTrees(base: string, source: string): string {
  const locked = join(base, "locked");
  const outside = join(locked, "outside");
  mkdirSync(outside, { recursive: true });
  chmodSync(locked, 0o700);
  chmodSync(outside, 0o777);
  fill(outside, SECRET);
  for (const name of FOLDERS) {
    writeFileSync(join(outside, name, VICTIMS.file), SECRET);
    chmodSync(join(outside, name, VICTIMS.file), 0o666);
    mkdirSync(join(outside, name, VICTIMS.folder));
  }
  fill(source, "inside\n");
  chmodSync(source, 0o777);
  for (const [real, link] of EXCHANGES) {
    const path = join(real.folder, real.name);
    // A relative one means something else at each depth; from the top it leads to the same place.
    const target = path === "b" ? `../locked/outside/${path}` : join(outside, path);
    if (link.name.endsWith("-link")) symlinkSync(target, join(source, link.folder, link.name));
  }
  mkdirSync(join(source, "many"));
  for (let i = 0; i < MANY; i += 1) writeFileSync(join(source, "many", String(i)), "inside\n");
  return outside;
}

/** Everything about what is outside that a change would change: times of the inode, too. */
export function fingerprint(outside: string): readonly string[] {
  const names = ["", ...readdirSync(outside, { recursive: true, encoding: "utf8" })].sort();
  return names.map((name) => {
    const path = join(outside, name);
    const { ino, mode, uid, nlink, size, ctimeNs } = lstatSync(path, { bigint: true });
    const content = (mode & 0o170000n) === 0o100000n ? readFileSync(path, "utf8") : "";
    return `${name} ${ino} ${mode.toString(8)} ${uid} ${nlink} ${size} ${ctimeNs} ${JSON.stringify(content)}`;
  });
}

/** Inode numbers of what is outside. */
export function inodesOf(outside: string): readonly bigint[] {
  const names = ["", ...readdirSync(outside, { recursive: true, encoding: "utf8" })];
  return names.map((name) => lstatSync(join(outside, name), { bigint: true }).ino);
}
