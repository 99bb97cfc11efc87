/** A user's name for a kernel: `arch/x86/boot/bzImage`, `debian:6.1`, `debian:backports`, `host`, `small`. Pure. */

export type KernelSpec =
  /** A file; its modules, where it has any, are named separately (`--modules`). */
  | { readonly kind: "file"; readonly text: string; readonly path: string }
  /** The kernel that is running. */
  | { readonly kind: "host"; readonly text: string }
  /** Compiled here from Debian's source package, with a configuration of ours: a Linux guest's alone. */
  | { readonly kind: "small"; readonly text: string }
  /** The newest package of Debian's archive whose version begins so. */
  | { readonly kind: "debian-version"; readonly text: string; readonly version: string }
  /** The newest package of a suite of Debian's archive, by the archive's name for it. */
  | { readonly kind: "debian-suite"; readonly text: string; readonly suite: string };

export type SpecProblem = { readonly kind: "problem"; readonly message: string };

/** Short names of suites whose name in the archive is longer. */
const suiteAliases: Readonly<Record<string, string>> = { backports: "stable-backports" };

const FORMS = "a path of a bzImage or vmlinux, debian:VERSION, debian:SUITE, host or, of a guest, small";

/** Reads a SPEC. Anything without a colon, or with a slash before it, is a path. */
export function parseKernelSpec(text: string): KernelSpec | SpecProblem {
  if (text === "host" || text === "small") return { kind: text, text };
  const [, distribution, what] = /^([a-z]+):(.*)$/.exec(text) ?? [];
  if (distribution === undefined || what === undefined) {
    if (text === "") return { kind: "problem", message: `a kernel is ${FORMS}, not an empty word` };
    return { kind: "file", text, path: text };
  }
  if (distribution !== "debian") {
    const message = `kernel ${JSON.stringify(text)}: of distributions only debian is known; a kernel is ${FORMS}`;
    return { kind: "problem", message };
  }
  if (/^[0-9][0-9A-Za-z.+~-]*$/.test(what)) return { kind: "debian-version", text, version: what };
  if (/^[a-z][a-z-]*$/.test(what)) {
    return { kind: "debian-suite", text, suite: suiteAliases[what] ?? what };
  }
  return {
    kind: "problem",
    message: `kernel ${JSON.stringify(text)}: ${JSON.stringify(what)} is neither a version such as 6.12 nor a suite such as backports`,
  };
}
