/**
 * Readers that no command line reaches with a file of the user's choice: data that comes with the package or between our
 * own processes, and kernels and modules, which a case opens. Called as their callers do; each may throw only the errors
 * that its callers turn into messages.
 */
import { pathToFileURL } from "node:url";
import type { ReaderName } from "./input.ts";

type Reader = {
  /** Below `dist/`. */
  readonly module: string;
  readonly call: (module: Readonly<Record<string, unknown>>, argv: readonly string[]) => void;
  /** The name of the error that is a message for the user. */
  readonly refusal: string;
};

type Loader = (path: string) => unknown;

const load =
  (name: string): Reader["call"] =>
  (module, argv) => {
    (module[name] as Loader)(argv[0] ?? "");
  };

const readers: Readonly<Record<ReaderName, Reader>> = {
  errata: { module: "language/src/read.js", call: load("loadErrata"), refusal: "KindsError" },
  documented: { module: "language/src/read.js", call: load("loadDocumented"), refusal: "KindsError" },
  observed: {
    module: "harness/src/compare/observed.js",
    call: load("readObserved"),
    refusal: "ObservedError",
  },
  "server-options": {
    module: "fs-server/src/serve/options.js",
    call: (module, argv) => {
      (module.serveOptions as (args: readonly string[]) => unknown)(argv);
    },
    refusal: "UsageError",
  },
  "kernel-image": { module: "harness/src/kernel/image.js", call: load("readImage"), refusal: "KernelError" },
  modules: {
    module: "harness/src/kernel/modules.js",
    call: (module, [directory = "", ...wanted]) => {
      const Tree = module.ModuleTree as new (
        directory: string,
      ) => { loadOrder(names: readonly string[]): unknown };
      new Tree(directory).loadOrder(wanted);
    },
    refusal: "KernelError",
  },
};

/** What became of the call: 0, or 64 with the message; a stack where it threw anything else. */
export type ReaderAnswer = { readonly code: number; readonly stderr: string };

export async function callReader(
  dist: string,
  name: ReaderName,
  argv: readonly string[],
): Promise<ReaderAnswer> {
  const { module, call, refusal } = readers[name];
  const loaded = (await import(pathToFileURL(`${dist}/${module}`).href)) as Readonly<Record<string, unknown>>;
  const encode = (await import(pathToFileURL(`${dist}/harness/src/report/encode.js`).href)) as {
    readonly messageText: (text: string) => string;
  };
  try {
    call(loaded, argv);
    return { code: 0, stderr: "" };
  } catch (error) {
    if (error instanceof Error && error.name === refusal)
      return { code: 64, stderr: `daxfault: ${encode.messageText(error.message)}\n` };
    return { code: 70, stderr: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
