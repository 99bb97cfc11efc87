/** Builds of a source of three files, with the real make: what is done in which order, and everything that can go wrong on the way. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeEach, describe, expect, it } from "vitest";
import { buildKernel, requireRoom } from "../../../src/kernel/build/build.ts";
import { lastWords } from "../../../src/kernel/build/step.ts";
import { requireBuildTools } from "../../../src/kernel/build/tools.ts";
import { KernelError } from "../../../src/kernel/error.ts";
import { caseFolder } from "../../support/folders.ts";
import { writeTinySource } from "../../support/tiny-source.ts";

const hasMake = ["make", "tar", "xz", "nice"].every((tool) =>
  (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, tool))),
);

let folder = "";

/** The archive of a source whose last object is made by `kind`. */
function archive(kind: string): string {
  const image = 'echo "$$KBUILD_BUILD_USER $$KBUILD_BUILD_TIMESTAMP"';
  return writeTinySource(folder, { name: "linux-source-6.99", kind, image });
}

type Tried = { readonly said: readonly string[]; readonly work: string; readonly log: () => string };

function build(
  kind: string,
  fragment = "CONFIG_DEVMEM=y\n",
  signal: AbortSignal = new AbortController().signal,
): Tried & { readonly built: ReturnType<typeof buildKernel> } {
  const said: string[] = [];
  const work = join(folder, "work");
  mkdirSync(work);
  const logPath = join(folder, "log");
  const options = { archivePath: archive(kind), fragment, directory: work, logPath, signal };
  const built = buildKernel({ ...options, progress: (text) => said.push(text) });
  return { said, work, built, log: () => readFileSync(logPath, "utf8") };
}

describe.skipIf(!hasMake)("buildKernel (needs make, tar, xz)", () => {
  beforeEach(() => {
    folder = caseFolder();
  });

  it("configures, compiles, and says how far it is; the same for everybody", async () => {
    const { said, work, built } = build("true");
    const { imagePath, configPath } = await built;
    expect(readFileSync(imagePath, "utf8")).toBe("daxfault 1970-01-01\n");
    expect(readFileSync(configPath, "utf8")).toBe("CONFIG_TINY=y\nCONFIG_DEVMEM=y\n");
    expect(said).toEqual([
      "unpacking the sources",
      "making its configuration",
      "1: CC init/main.o",
      "2: CC fs/dax.o",
    ]);
    expect(readdirSync(join(work, "sources/linux-source-6.99/Documentation/mm"))).toEqual([]);
    expect(existsSync(join(work, "sources/linux-source-6.99/Documentation/Kconfig"))).toBe(true);
  });

  it("refuses a source that does not take what is asked for", async () => {
    const { built } = build("true", "CONFIG_GONE=y\nCONFIG_DEVMEM=y\n");
    await expect(built).rejects.toThrow("this source does not take CONFIG_GONE=y");
  });

  it("ends with the compiler's last words, and where the others are", async () => {
    const { built, log } = build("echo 'fs/dax.c:12:3: error: expected expression' >&2; false");
    const error = await built.then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(KernelError);
    expect(String(error)).toMatch(
      /^KernelError: nice make O=\S+ -j[0-9]+ bzImage ended with 2 \(.*log\):\nfs\/dax\.c:12:3: error: expected expression/,
    );
    expect(log()).toContain("  CC      fs/dax.o\n");
  });

  it("ends whatever runs when it is interrupted", async () => {
    const interruption = new AbortController();
    const mark = join(folder, "pid");
    const { built } = build(`sh -c 'echo $$$$ > ${mark}; exec sleep 60'`, undefined, interruption.signal);
    const rejected = expect(built).rejects.toThrow("the build was interrupted");
    while (!existsSync(mark) || readFileSync(mark, "utf8") === "") await sleep(20);
    const pid = Number(readFileSync(mark, "utf8"));
    interruption.abort();
    await rejected;
    await expect.poll(() => existsSync(`/proc/${pid}/exe`)).toBe(false);
  });

  it("does not begin when it has been interrupted", async () => {
    await expect(build("true", undefined, AbortSignal.abort()).built).rejects.toThrow("interrupted");
  });
});

describe("requireRoom", () => {
  it("says how much it takes, and how much there is", () => {
    expect(() => requireRoom("/", 2 ** 60)).toThrow(
      /^no room to compile a kernel: it takes 1073741824\.0 GiB, \/ has [0-9.]+ GiB$/,
    );
    expect(() => requireRoom("/", 1)).not.toThrow();
  });
});

describe("requireBuildTools", () => {
  it("names what is missing, and the packages that have it", () => {
    const bin = join(caseFolder(), "bin");
    mkdirSync(bin);
    for (const tool of ["gcc", "ld", "make", "bc", "tar", "xz"]) symlinkSync("/bin/true", join(bin, tool));
    expect(() => requireBuildTools({ patched: false }, { PATH: bin })).toThrow(
      /^this kernel is compiled here, and there is no flex, bison(, libelf\.h)? \(sudo apt-get install flex bison( libelf-dev)?\)$/,
    );
    for (const tool of ["flex", "bison"]) symlinkSync("/bin/true", join(bin, tool));
    writeFileSync(join(bin, "libelf.h"), "");
    expect(() => requireBuildTools({ patched: false }, { PATH: bin, CPATH: bin })).not.toThrow();
  });
});

describe("lastWords", () => {
  it.each([
    [
      ["  CC  a.o", "a.c:1: error: x", "  1 | int", "    | ^", "make: *** [a.o] Error 1"],
      "a.c:1: error: x\n  1 | int\n    | ^",
    ],
    [["tar: a: Cannot write: No space left on device"], "tar: a: Cannot write: No space left on device"],
    [["one", "two", ""], "two"],
    [[], ""],
  ])("of %j", (lines, text) => {
    expect(lastWords(lines)).toBe(text);
  });
});
