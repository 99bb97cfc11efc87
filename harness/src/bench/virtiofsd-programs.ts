/** The programs of `bench virtiofsd --programs`: Debian's fio, find and tar, for the guest. */
import { basename, dirname } from "node:path";
import type { Progress } from "../kernel/store.ts";
import { obtainProgram } from "../kernel/unpacked-program.ts";

/** In the order of the guest's program (harness/bench/guest-files.c). */
const PACKAGES = [
  { name: "fio", program: "fio" },
  { name: "findutils", program: "find" },
  { name: "tar", program: "tar" },
] as const;

export type GuestPrograms = {
  /** Has a folder of each. */
  readonly folder: string;
  readonly folderNames: readonly string[];
  /** Packages and versions. */
  readonly origins: readonly string[];
};

/** Loads those that the cache does not have. Throws a KernelError. */
export async function obtainGuestPrograms(signal: AbortSignal, progress: Progress): Promise<GuestPrograms> {
  const found = [];
  for (const { name, program } of PACKAGES) {
    const wanted = { name, suites: ["stable"], suite: "stable", programPath: `usr/bin/${program}`, kept: [] };
    found.push(await obtainProgram(wanted, signal, progress));
  }
  return {
    folder: dirname(found[0]?.folder ?? ""),
    folderNames: found.map(({ folder }) => basename(folder)),
    origins: found.map(({ origin }) => origin),
  };
}
