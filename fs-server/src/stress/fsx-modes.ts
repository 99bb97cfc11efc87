/** The mounts on which random operations run, and how often the host changes the file there. */
import { join } from "node:path";
import type { FsxPlace } from "./fsx.ts";

export type FsxMode = {
  readonly name: string;
  /** Options of serve-main. */
  readonly args: readonly string[];
  readonly host: { readonly each: number; readonly attributesMs: number } | null;
  readonly coherent: boolean;
};

const CACHED_MS = 10;

export const fsxModes: readonly FsxMode[] = [
  {
    name: "uncached",
    args: ["--entry-timeout", "0", "--attr-timeout", "0"],
    host: { each: 8, attributesMs: 0 },
    coherent: false,
  },
  {
    // Each change is followed by the time-out, so there are few.
    name: "cached",
    args: ["--attr-timeout", String(CACHED_MS)],
    host: { each: 500, attributesMs: CACHED_MS },
    coherent: false,
  },
  {
    name: "passthrough",
    args: ["--passthrough", "--entry-timeout", "0", "--attr-timeout", "0"],
    host: { each: 8, attributesMs: 0 },
    coherent: true,
  },
  {
    name: "io_uring",
    args: ["--io-uring", "--entry-timeout", "0", "--attr-timeout", "0"],
    host: { each: 8, attributesMs: 0 },
    coherent: false,
  },
  { name: "writeback", args: ["--writeback"], host: null, coherent: false },
];

/** The file `name` on a mount of `source` at `folder` in this mode. */
export function fsxPlace(
  { host, coherent }: FsxMode,
  at: { readonly source: string; readonly folder: string },
  name: string,
): FsxPlace {
  const path = join(at.folder, name);
  return { path, coherent, host: host === null ? null : { ...host, path: join(at.source, name) } };
}
