/**
 * A user's name for a kernel: `arch/x86/boot/bzImage`, `debian:6.1`, `debian:backports`, `host`, `small`; the kernels that can
 * be built here with patches: `debian:6.12+final-efault`, `debian:6.12+./my.patch`, `small+a+b`. Pure.
 */

/** A kernel of Debian's archive. */
export type DebianSpec =
  /** The newest package whose version begins so. */
  | { readonly kind: "debian-version"; readonly text: string; readonly version: string }
  /** The newest package of a suite, by the archive's name for it. */
  | { readonly kind: "debian-suite"; readonly text: string; readonly suite: string };

/** Compiled here from Debian's source package, with a configuration of ours: a Linux guest's alone. */
export type SmallSpec = { readonly kind: "small"; readonly text: string };

/** A patch as a SPEC names it. */
export type PatchRef =
  /** A folder of fixtures/kernels. */
  | { readonly kind: "proposal"; readonly text: string }
  /** A file of the user's. */
  | { readonly kind: "file"; readonly text: string };

/** Built here from the sources of `base`, with the patches applied in this order. */
export type PatchedSpec = {
  readonly kind: "patched";
  readonly text: string;
  readonly base: DebianSpec | SmallSpec;
  readonly patches: readonly PatchRef[];
};

export type KernelSpec =
  /** An image, whose modules, if any, are named by `--modules`; or a built kernel tree. */
  | { readonly kind: "file"; readonly text: string; readonly path: string }
  /** The kernel that is running. */
  | { readonly kind: "host"; readonly text: string }
  | DebianSpec
  | SmallSpec
  | PatchedSpec;

/** The kernel of a Linux guest, as it was asked for. */
export type GuestAsked = {
  readonly spec: KernelSpec;
  /** For an image in a file: where its modules are; null if it needs none. */
  readonly modulesDirectory: string | null;
};

/** Where none was. */
export const usualGuest: GuestAsked = {
  spec: { kind: "debian-version", text: "debian:6.12", version: "6.12" },
  modulesDirectory: null,
};

const KERNEL_PREFIX = "kernel:";

/** The SPEC of `kernel:SPEC`; null for the name of an engine. */
export function kernelOfName(name: string): string | null {
  return name.startsWith(KERNEL_PREFIX) ? name.slice(KERNEL_PREFIX.length) : null;
}

export type SpecProblem = { readonly kind: "problem"; readonly message: string };

/** Short names of suites whose name in the archive is longer. */
const suiteAliases: Readonly<Record<string, string>> = { backports: "stable-backports" };

const FORMS =
  "a path of a bzImage, a vmlinux or a built tree, debian:VERSION, debian:SUITE, host or, of a guest, small; " +
  "+PATCH behind debian:.. or small: the name of a proposal, ./FILE or FILE.patch";

/**
 * Debian's versions have a + themselves: 6.12.117+deb12-amd64, 7.2.11-1~bpo13+1, 6.1.192-2+b1. What stands behind such a +
 * begins with a figure, `deb` and a figure, or `b` and a figure; a patch does not.
 */
const patchBegins = /\+(?!(?:deb|b)?[0-9])/;

function patchRef(text: string): PatchRef | null {
  if (text.includes("/") || /\.(?:patch|diff)$/.test(text)) return { kind: "file", text };
  return /^[a-z][a-z0-9-]*$/.test(text) ? { kind: "proposal", text } : null;
}

function problem(text: string, why: string): SpecProblem {
  return { kind: "problem", message: `kernel ${JSON.stringify(text)}: ${why}` };
}

function withPatches(
  text: string,
  base: DebianSpec | SmallSpec,
  words: readonly string[],
): KernelSpec | SpecProblem {
  const refs = words.map(patchRef);
  const wrong = words.find((_word, index) => refs[index] === null);
  if (wrong !== undefined) {
    return problem(
      text,
      `${JSON.stringify(wrong)} behind a + is no patch: one is the name of a proposal, ./FILE or FILE.patch; ` +
        "+1, +b1 and +deb12 belong to a version",
    );
  }
  const patches = refs.filter((ref) => ref !== null);
  return patches.length === 0 ? base : { kind: "patched", text, base, patches };
}

function debianSpec(text: string, what: string): DebianSpec | null {
  if (/^[0-9][0-9A-Za-z.+~-]*$/.test(what)) return { kind: "debian-version", text, version: what };
  if (!/^[a-z][a-z-]*$/.test(what)) return null;
  return { kind: "debian-suite", text, suite: suiteAliases[what] ?? what };
}

/** Reads a SPEC. Anything else than `small` without a colon, or with a slash before it, is a path. */
export function parseKernelSpec(text: string): KernelSpec | SpecProblem {
  if (text === "host") return { kind: "host", text };
  const [first = "", ...words] = text.split(patchBegins);
  if (first === "small") return withPatches(text, { kind: "small", text: first }, words);
  const [, distribution, what] = /^([a-z]+):(.*)$/.exec(first) ?? [];
  if (distribution === undefined || what === undefined) {
    if (text === "") return { kind: "problem", message: `a kernel is ${FORMS}, not an empty word` };
    if (first === "host")
      return problem(text, "the running kernel cannot be built here: debian:VERSION+PATCH");
    return { kind: "file", text, path: text };
  }
  if (distribution !== "debian") {
    return problem(text, `of distributions only debian is known; a kernel is ${FORMS}`);
  }
  const base = debianSpec(first, what);
  if (base !== null) return withPatches(text, base, words);
  return problem(
    text,
    `${JSON.stringify(what)} is neither a version such as 6.12 nor a suite such as backports`,
  );
}
