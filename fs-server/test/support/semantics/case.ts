/** What a case of "the same calls on the mount and in the folder" is, and what several of them use. */
import { lstatSync, statSync, writeFileSync } from "node:fs";
import type { User } from "../calls.ts";

export type Place = {
  /** Path of a name in this case's folder, on the mount or in a plain folder. */
  at(name: string): string;
  /** Path of the same name for the host: below the mount. The same as `at` in a plain folder. */
  host(name: string): string;
};

/** Does something and returns what can be compared: the same on the mount as in a folder. */
export type Case = (place: Place) => unknown;
export type Cases = Readonly<Record<string, Case>>;

export const USER: User = { uid: 4711, gid: 4711 };
export const OTHER: User = { uid: 4712, gid: 4712 };

/** Mode, uid and gid. */
export function mode(path: string): string {
  const { mode: bits, uid, gid } = lstatSync(path);
  return `${bits.toString(8)} ${uid} ${gid}`;
}

export function size(path: string): number {
  return statSync(path).size;
}

export function made(path: string, content: string | Uint8Array = ""): string {
  writeFileSync(path, content);
  return path;
}
