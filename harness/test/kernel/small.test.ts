/** The small guest kernel, from Debian's sources to the cache, and everything that can go wrong on the way, with an apt that is a shell script. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readyKernels } from "../../src/cli/ready-kernels.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { obtainKernel } from "../../src/kernel/cache.ts";
import type { KernelSpec } from "../../src/kernel/spec.ts";
import { cacheDirectory, type Kernel } from "../../src/kernel/store.ts";
import { caseFolder } from "../support/folders.ts";
import { bootImage } from "../support/kernels.ts";
import { writeTinySource } from "../support/tiny-source.ts";

const name = "linux-source-6.12";
const version = "6.12.99-1";
const small = { kind: "small", text: "small" } as const;
const has = (program: string): boolean =>
  ["/usr/bin", "/bin"].some((place) => existsSync(join(place, program)));
const canBuild = ["dpkg-deb", "make", "gcc", "tar", "xz"].every(has);

const aptGet = `#!/bin/sh
echo "$*" >> "$MIRROR/calls"
case "$*" in
*indextargets*) printf 'http://mirror.invalid/\\tstable\\tDebian\\tDebian\\tmain\\n' ;;
*" update") [ ! -e "$MIRROR/unreachable" ] || {
    echo "E: Failed to fetch http://mirror.invalid/InRelease  Could not connect to mirror.invalid:80" >&2
    exit 100
  } ;;
*" download "*) cp "$MIRROR"/*.deb . ;;
esac
`;

let mirror = "";
let bin = "";

function writeProgram(path: string, text: string): void {
  writeFileSync(path, text);
  chmodSync(path, 0o755);
}

/** Puts sources on the mirror whose last object is made by `kind`. */
function publish(kind = "true"): void {
  const tree = join(mirror, "tree");
  mkdirSync(join(tree, "DEBIAN"), { recursive: true });
  mkdirSync(join(tree, "usr/src"), { recursive: true });
  writeFileSync(join(mirror, "bzImage"), bootImage({ release: "6.12.99-daxfault-small" }));
  writeTinySource(join(tree, "usr/src"), { name, kind, image: `cat ${join(mirror, "bzImage")}` });
  const control = [`Package: ${name}`, `Version: ${version}`, "Architecture: all"];
  const rest = ["Maintainer: Nobody <nobody@localhost>", "Description: sources for tests", ""];
  writeFileSync(join(tree, "DEBIAN/control"), [...control, ...rest].join("\n"));
  rmSync(join(mirror, "linux.deb"), { force: true });
  execFileSync("dpkg-deb", ["--root-owner-group", "-Znone", "-b", tree, join(mirror, "linux.deb")]);
  rmSync(tree, { recursive: true });
  const numbers = ["Installed-Size: 100", "Size: 1000", `SHA256: ${"a".repeat(64)}`, ""];
  writeFileSync(join(mirror, "stanzas"), [...control, ...numbers].join("\n"));
}

const obtain = (signal = new AbortController().signal, said: string[] = []): Promise<Kernel> =>
  obtainKernel(small, null, signal, "guest", (text) => said.push(text));

const readyGuest = (guestKernel: KernelSpec | null): Promise<number | null> =>
  readyKernels({ kernels: [], guestKernel });

const calls = (what: string): number =>
  readFileSync(join(mirror, "calls"), "utf8")
    .split("\n")
    .filter((line) => line.includes(what)).length;

const inCache = (): readonly string[] => {
  const folder = join(cacheDirectory(), "kernels");
  return existsSync(folder) ? readdirSync(folder) : [];
};

describe.skipIf(!canBuild)("--guest-kernel small (needs dpkg-deb, gcc, make, tar, xz)", () => {
  beforeEach(() => {
    const folder = caseFolder();
    mirror = join(folder, "mirror");
    bin = join(folder, "bin");
    mkdirSync(bin);
    mkdirSync(mirror);
    writeProgram(join(bin, "apt-get"), aptGet);
    writeProgram(join(bin, "apt-cache"), '#!/bin/sh\n/bin/cat "$MIRROR/stanzas"\n');
    // The tiny source needs none of them.
    for (const tool of ["flex", "bison", "bc"]) symlinkSync("/bin/true", join(bin, tool));
    writeFileSync(join(bin, "libelf.h"), "");
    vi.stubEnv("PATH", `${bin}:${process.env.PATH}`);
    vi.stubEnv("CPATH", bin);
    vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
    vi.stubEnv("MIRROR", mirror);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it("is compiled once, and kept by its configuration and the version of its source", async () => {
    publish();
    const said: string[] = [];
    const kernel = await obtain(undefined, said);
    expect(kernel).toMatchObject({
      name: "small",
      release: "6.12.99-daxfault-small",
      modules: [],
      nestedModules: [],
    });
    expect(kernel.origin).toBe(`${name} ${version}`);
    expect(readFileSync(kernel.imagePath)).toEqual(bootImage({ release: "6.12.99-daxfault-small" }));
    expect(said.at(0)).toBe(`loading ${name} ${version}`);
    expect(said.at(-1)).toBe("2: CC fs/dax.o");
    const again: string[] = [];
    expect(await obtain(undefined, again)).toEqual(kernel);
    expect([again, calls(" download ")]).toEqual([[], 1]);
    expect(inCache()).toEqual([expect.stringMatching(new RegExp(`^small-[0-9a-f]{12}_${version}$`))]);
    expect(existsSync(join(cacheDirectory(), "build-small.log"))).toBe(false);
  });

  it("is refused with the compiler's last words, which a log keeps, and leaves nothing else", async () => {
    publish("echo 'fs/dax.c:1:1: error: no' >&2; false");
    await expect(obtain()).rejects.toThrow(/build-small\.log\):\nfs\/dax\.c:1:1: error: no/);
    expect(readFileSync(join(cacheDirectory(), "build-small.log"), "utf8")).toContain("error: no");
    expect(inCache()).toEqual([]);
  });

  it("is given up on Ctrl-C, and leaves the cache whole", async () => {
    publish();
    const kernel = await obtain();
    rmSync(kernel.imagePath);
    const mark = join(mirror, "compiling");
    publish(`touch ${mark}; sleep 60`);
    const abort = new AbortController();
    const obtained = expect(obtain(abort.signal)).rejects.toThrow("the build was interrupted");
    await vi.waitFor(() => expect(existsSync(mark)).toBe(true), 20_000);
    abort.abort();
    await obtained;
    expect(inCache()).toHaveLength(1);
  });

  it("is no kernel under test", async () => {
    publish();
    await expect(obtainKernel(small, null)).rejects.toThrow("(--guest-kernel small)");
  });

  it("ends a command with a message and 64 where a tool is missing, before anything is loaded", async () => {
    publish();
    rmSync(join(bin, "libelf.h"));
    vi.stubEnv("PATH", bin);
    const ready = readyGuest(small);
    await expect(ready).rejects.toThrow(UsageError);
    await expect(ready).rejects.toThrow(
      /^--guest-kernel small: this kernel is compiled here, and there is no gcc, /,
    );
    expect(calls(" download ")).toBe(0);
  });

  it("ends a command likewise where the archive is out of reach, or has no such source", async () => {
    publish();
    writeFileSync(join(mirror, "unreachable"), "");
    await expect(readyGuest(small)).rejects.toThrow(
      /^--guest-kernel small: Debian's archive cannot be read: .*Could not connect/,
    );
    rmSync(join(mirror, "unreachable"));
    writeFileSync(join(mirror, "stanzas"), "");
    await expect(readyGuest(small)).rejects.toThrow(
      "--guest-kernel small: no sources linux-source-6.12 in Debian's archive",
    );
  });

  it("is nothing to make ready where another kernel was asked for", async () => {
    expect(await readyGuest(null)).toBeNull();
    expect(await readyGuest({ kind: "host", text: "host" })).toBeNull();
    expect(existsSync(join(mirror, "calls"))).toBe(false);
  });
});
