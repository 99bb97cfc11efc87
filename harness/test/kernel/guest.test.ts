import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { KernelError } from "../../src/kernel/error.ts";
import { obtainGuest } from "../../src/kernel/guest.ts";
import { guestNeeds } from "../../src/kernel/needs.ts";
import { caseFolder } from "../support/folders.ts";

/** A vmlinux as far as is looked at: its magic, and the configuration that it was made with. */
function imageWith(options: readonly string[]): string {
  const path = join(caseFolder(), "vmlinux");
  const config = options.map((option) => `CONFIG_${option}=y\n`).join("");
  const parts = [Buffer.from("\x7fELF IKCFG_ST", "latin1"), gzipSync(config), Buffer.from("IKCFG_ED")];
  writeFileSync(path, Buffer.concat(parts));
  return path;
}

const obtain = (path: string) =>
  obtainGuest({
    spec: { kind: "file", text: path, path },
    modulesDirectory: null,
    program: new Uint8Array(),
    signal: new AbortController().signal,
  });

const all = guestNeeds.map(({ option }) => option);

describe("obtainGuest", () => {
  it("refuses by the option's name a kernel whose own configuration lacks something", async () => {
    const path = imageWith(all.filter((option) => option !== "X86_IOPL_IOPERM"));
    const refused = obtain(path);
    await expect(refused).rejects.toThrow(KernelError);
    await expect(refused).rejects.toThrow(
      `--guest-kernel ${path}: it cannot be a guest: CONFIG_X86_IOPL_IOPERM is off (iopl(2), by which`,
    );
  });

  it("takes one that has all, and one of which nothing is known", async () => {
    expect((await obtain(imageWith(all))).kernel.modules).toEqual([]);
    const unknown = join(caseFolder(), "vmlinux");
    writeFileSync(unknown, Buffer.from("\x7fELF", "latin1"));
    expect((await obtain(unknown)).kernel.config).toBeNull();
  });
});
